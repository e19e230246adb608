"""The pipeline as AWS Lambda functions: one a stage, which a Step Functions state machine calls in turn."""
