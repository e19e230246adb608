# The functions' code: one zip for all three, kept in a bucket because Lambda takes none of this size directly.

resource "aws_s3_bucket" "code" {
  #checkov:skip=CKV_AWS_18:Only Terraform writes here, and Lambda reads
  #checkov:skip=CKV_AWS_144:The package can be built again, byte for byte, from the repository
  #checkov:skip=CKV_AWS_145:Encrypted with keys of S3; the package holds no secret
  #checkov:skip=CKV2_AWS_62:Nothing waits for a package
  bucket        = "${local.name}-code-${local.account}"
  force_destroy = true # it holds packages only
}

resource "aws_s3_bucket_versioning" "code" {
  bucket = aws_s3_bucket.code.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "code" {
  bucket = aws_s3_bucket.code.id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_ownership_controls" "code" {
  bucket = aws_s3_bucket.code.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_public_access_block" "code" {
  bucket                  = aws_s3_bucket.code.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_lifecycle_configuration" "code" {
  bucket = aws_s3_bucket.code.id

  rule {
    id     = "versions"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days = var.noncurrent_days
    }

    expiration {
      expired_object_delete_marker = true
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }

  depends_on = [aws_s3_bucket_versioning.code]
}

data "aws_iam_policy_document" "code" {
  statement {
    sid       = "OnlyEncryptedConnections"
    effect    = "Deny"
    actions   = ["S3:*"]
    resources = [aws_s3_bucket.code.arn, "${aws_s3_bucket.code.arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_policy" "code" {
  bucket = aws_s3_bucket.code.id
  policy = data.aws_iam_policy_document.code.json

  # After the first package: emulators that read a Deny without its condition would refuse to take it.
  depends_on = [aws_s3_bucket_public_access_block.code, aws_s3_object.package]
}

# The key has the content's hash, so another package is another object, and the functions see that it is.
resource "aws_s3_object" "package" {
  #checkov:skip=CKV_AWS_186:Encrypted with keys of S3; the package holds no secret
  bucket      = aws_s3_bucket.code.id
  key         = "totes-${filesha256(var.package)}.zip"
  source      = var.package
  source_hash = filesha256(var.package)

  # An object takes 10 tags where other resources take 50, and this one needs none.
  override_provider {
    default_tags {
      tags = {}
    }
  }

  depends_on = [aws_s3_bucket_versioning.code, aws_s3_bucket_server_side_encryption_configuration.code]
}

locals {
  package = {
    bucket         = aws_s3_object.package.bucket
    key            = aws_s3_object.package.key
    python_version = var.python_version
    architecture   = var.architecture
  }

  # Settings demand both URLs, so each function gets both names; only its own policy lets it read what is behind one.
  environment = merge({ TOTES_LAKE__CHECKPOINTS = "true" }, var.settings, {
    TOTES_PROJECT__NAME     = var.project
    TOTES_SOURCE__URL       = local.secret_urls.source
    TOTES_SOURCE__SCHEMA    = var.schemas.source
    TOTES_LAKE__INGESTION   = "s3://${aws_s3_bucket.lake["ingestion"].bucket}"
    TOTES_LAKE__PROCESSED   = "s3://${aws_s3_bucket.lake["processed"].bucket}"
    TOTES_WAREHOUSE__URL    = local.secret_urls.warehouse
    TOTES_WAREHOUSE__SCHEMA = var.schemas.warehouse
  })

  # For the functions inside the VPC, if there is one.
  environment_inside = merge(
    local.environment,
    local.secrets_address == null ? {} : { AWS_ENDPOINT_URL_SECRETS_MANAGER = "https://${local.secrets_address}" },
  )

  pipeline_roles = [
    module.ingest.role_arn,
    module.process.role_arn,
    module.load.role_arn,
    module.watch.role_arn,
    aws_iam_role.pipeline.arn,
    aws_iam_role.schedule.arn,
  ]
}
