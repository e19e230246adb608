# Load: from the processed lake into the warehouse. It reads one bucket and one secret.

data "aws_iam_policy_document" "load" {
  statement {
    sid       = "KnowTheWarehouse"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = [local.secrets.warehouse.arn]
  }

  statement {
    sid       = "ListTheProcessedLake"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.lake["processed"].arn]
  }

  statement {
    sid       = "ReadTheProcessedLake"
    actions   = ["s3:GetObject"]
    resources = ["${aws_s3_bucket.lake["processed"].arn}/*"]
  }
}

module "load" {
  source = "./modules/stage_lambda"

  stage              = "load"
  name               = local.name
  description        = "Loads batches of the processed lake into the warehouse, each in one transaction"
  package            = local.package
  memory_megabytes   = var.memory_megabytes.load
  storage_megabytes  = var.storage_megabytes
  timeout_seconds    = var.timeout_seconds
  environment        = local.environment_inside
  policy             = data.aws_iam_policy_document.load.json
  network            = local.network
  metric_namespace   = local.namespace
  log_retention_days = var.log_retention_days
  kms_key_arn        = var.kms_key_arn
  boundary_arn       = var.permissions_boundary_arn
}
