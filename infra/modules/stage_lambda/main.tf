# One function: its log, its role, the code, and the alias of the version that is called.

locals {
  name = "${var.name}-${var.stage}"
}

# Before the function: one that Lambda made by itself would be kept for ever.
resource "aws_cloudwatch_log_group" "function" {
  #checkov:skip=CKV_AWS_158:Encrypted with keys of CloudWatch; secrets are masked before a line is written
  #checkov:skip=CKV_AWS_338:How long logs are kept is the variable log_retention_days
  name              = "/aws/lambda/${local.name}"
  retention_in_days = var.log_retention_days
}

data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "function" {
  name               = local.name
  description        = "What the ${var.stage} stage may do"
  assume_role_policy = data.aws_iam_policy_document.trust.json

  permissions_boundary = var.boundary_arn
}

# Lambda names the streams of a log, so a name can stand for the log only.
data "aws_iam_policy_document" "log" {
  statement {
    sid       = "WriteItsLog"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.function.arn}:log-stream:*"]
  }
}

resource "aws_iam_role_policy" "log" {
  name   = "log"
  role   = aws_iam_role.function.id
  policy = data.aws_iam_policy_document.log.json
}

resource "aws_iam_role_policy" "data" {
  name   = "data"
  role   = aws_iam_role.function.id
  policy = var.policy
}

# What is encrypted with the key is read and written by S3 and Secrets Manager in the role's name.
data "aws_iam_policy_document" "key" {
  count = var.kms_key_arn == null ? 0 : 1

  statement {
    sid       = "UseTheKey"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [var.kms_key_arn]
  }
}

resource "aws_iam_role_policy" "key" {
  count = var.kms_key_arn == null ? 0 : 1

  name   = "key"
  role   = aws_iam_role.function.id
  policy = data.aws_iam_policy_document.key[0].json
}

resource "aws_iam_role_policy" "network" {
  count = var.network == null ? 0 : 1

  name   = "network"
  role   = aws_iam_role.function.id
  policy = var.network.policy
}

resource "aws_lambda_function" "stage" {
  #checkov:skip=CKV_AWS_50:The execution history and the log tell what ran and how long; traces would need a permission without a name
  #checkov:skip=CKV_AWS_115:The state machine calls one at a time; reserving would take from the account's other functions
  #checkov:skip=CKV_AWS_116:Called by the state machine only, which waits for the result and tells of failures
  #checkov:skip=CKV_AWS_117:In a VPC where the variable vpc names one; a public database needs none
  #checkov:skip=CKV_AWS_173:The environment holds names of secrets, never their values
  #checkov:skip=CKV_AWS_272:The package comes from a bucket that only Terraform writes to
  function_name = local.name
  description   = var.description
  role          = aws_iam_role.function.arn

  s3_bucket     = var.package.bucket
  s3_key        = var.package.key
  runtime       = "python${var.package.python_version}"
  architectures = [var.package.architecture]
  handler       = "totes.aws.handlers.${var.stage}"

  # Each change is a version of its own, so that `make rollback` has one to go back to.
  publish = true

  memory_size = var.memory_megabytes
  timeout     = var.timeout_seconds

  ephemeral_storage {
    size = var.storage_megabytes
  }

  environment {
    variables = merge({
      POWERTOOLS_LOG_LEVEL         = "INFO"
      POWERTOOLS_METRICS_NAMESPACE = var.metric_namespace
      POWERTOOLS_SERVICE_NAME      = local.name
      TOTES_LAKE__CACHE            = "/tmp/totes"
      # The engine's buffers; Python, the drivers and rows on their way need the rest.
      TOTES_LAKE__MEMORY = "${floor(var.memory_megabytes * 0.4)}MB"
    }, var.environment)
  }

  dynamic "vpc_config" {
    for_each = var.network[*]

    content {
      subnet_ids         = vpc_config.value.subnet_ids
      security_group_ids = [vpc_config.value.security_group_id]
    }
  }

  depends_on = [aws_iam_role_policy.log, aws_iam_role_policy.data, aws_iam_role_policy.key, aws_iam_role_policy.network]
}

# The newest version, from each apply on; `make rollback` points it at the one before.
resource "aws_lambda_alias" "live" {
  name             = "live"
  description      = "The version that the state machine calls"
  function_name    = aws_lambda_function.stage.function_name
  function_version = aws_lambda_function.stage.version
}
