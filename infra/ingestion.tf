# Ingest: from the source into the ingestion lake. It reads one secret and writes one bucket.

data "aws_iam_policy_document" "ingest" {
  statement {
    sid       = "KnowTheSource"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = [local.secrets.source.arn]
  }

  statement {
    sid       = "ListTheIngestionLake"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.lake["ingestion"].arn]
  }

  statement {
    sid       = "ReadAndAddToTheIngestionLake"
    actions   = ["s3:GetObject", "s3:PutObject"]
    resources = ["${aws_s3_bucket.lake["ingestion"].arn}/*"]
  }
}

module "ingest" {
  source = "./modules/stage_lambda"

  stage              = "ingest"
  name               = local.name
  description        = "Reads what is new in the source, and adds it to the ingestion lake as a batch"
  package            = local.package
  memory_megabytes   = var.memory_megabytes.ingest
  storage_megabytes  = var.storage_megabytes
  timeout_seconds    = var.timeout_seconds
  environment        = local.environment_inside
  policy             = data.aws_iam_policy_document.ingest.json
  network            = local.network
  metric_namespace   = local.namespace
  log_retention_days = var.log_retention_days
  kms_key_arn        = var.kms_key_arn
  boundary_arn       = var.permissions_boundary_arn
}
