# Process: from the ingestion lake into the processed lake. It knows no database.

data "aws_iam_policy_document" "process" {
  statement {
    sid       = "ListTheLake"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.lake["ingestion"].arn, aws_s3_bucket.lake["processed"].arn]
  }

  statement {
    sid       = "ReadTheLake"
    actions   = ["s3:GetObject"]
    resources = ["${aws_s3_bucket.lake["ingestion"].arn}/*", "${aws_s3_bucket.lake["processed"].arn}/*"]
  }

  statement {
    sid       = "AddToTheProcessedLake"
    actions   = ["s3:PutObject"]
    resources = ["${aws_s3_bucket.lake["processed"].arn}/*"]
  }

  # A changed model is computed with a batch in which nothing was captured, where the source has nothing new.
  statement {
    sid       = "AddAnEmptyBatch"
    actions   = ["s3:PutObject"]
    resources = ["${aws_s3_bucket.lake["ingestion"].arn}/batches/*"]
  }
}

module "process" {
  source = "./modules/stage_lambda"

  stage              = "process"
  name               = local.name
  description        = "Makes rows of the star schema from the ingestion lake, and adds them to the processed lake"
  package            = local.package
  memory_megabytes   = var.memory_megabytes.process
  storage_megabytes  = var.storage_megabytes
  timeout_seconds    = var.timeout_seconds
  environment        = local.environment_inside
  policy             = data.aws_iam_policy_document.process.json
  network            = local.network
  metric_namespace   = local.namespace
  log_retention_days = var.log_retention_days
  kms_key_arn        = var.kms_key_arn
  boundary_arn       = var.permissions_boundary_arn
}
