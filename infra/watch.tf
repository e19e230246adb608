# Watch: after the stages, it publishes what began or ended, and checks that the lake is as it was. It knows no database.

data "aws_iam_policy_document" "watch" {
  statement {
    sid       = "ListTheLake"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.lake["ingestion"].arn, aws_s3_bucket.lake["processed"].arn]
  }

  statement {
    sid     = "ReadManifestsAndHealth"
    actions = ["s3:GetObject"]
    resources = [
      "${aws_s3_bucket.lake["ingestion"].arn}/batches/*",
      "${aws_s3_bucket.lake["processed"].arn}/batches/*",
      "${aws_s3_bucket.lake["processed"].arn}/health/*",
    ]
  }

  statement {
    sid       = "RecordHealth"
    actions   = ["s3:PutObject"]
    resources = ["${aws_s3_bucket.lake["processed"].arn}/health/*"]
  }

  statement {
    sid       = "PublishAlerts"
    actions   = ["sns:Publish"]
    resources = [aws_sns_topic.alerts.arn]
  }
}

module "watch" {
  source = "./modules/stage_lambda"

  stage              = "watch"
  name               = local.name
  description        = "Publishes what began or ended with an execution, and checks the lake's manifests"
  package            = local.package
  memory_megabytes   = 1024
  storage_megabytes  = 512
  timeout_seconds    = var.timeout_seconds
  environment        = merge(local.environment, { ALERT_TOPIC_ARN = aws_sns_topic.alerts.arn })
  policy             = data.aws_iam_policy_document.watch.json
  network            = null # it reaches S3 and SNS, and no database
  metric_namespace   = local.namespace
  log_retention_days = var.log_retention_days
  kms_key_arn        = var.kms_key_arn
  boundary_arn       = var.permissions_boundary_arn
}
