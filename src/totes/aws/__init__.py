"""The pipeline as AWS Lambda functions: one per stage, called in turn by a Step Functions state machine."""
