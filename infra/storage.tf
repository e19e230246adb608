# The lake's two buckets, which take each object once, and the bucket that the functions' code comes from.

locals {
  stores = toset(["ingestion", "processed"])

  # What would change or remove what is in the lake, or the rules that keep it.
  forbidden_actions = [
    "s3:BypassGovernanceRetention",
    "s3:DeleteBucket",
    "s3:DeleteBucketPolicy",
    "s3:DeleteObject",
    "s3:DeleteObjectTagging",
    "s3:DeleteObjectVersion",
    "s3:DeleteObjectVersionTagging",
    "s3:PutBucketAcl",
    "s3:PutBucketObjectLockConfiguration",
    "s3:PutBucketOwnershipControls",
    "s3:PutBucketPolicy",
    "s3:PutBucketPublicAccessBlock",
    "s3:PutBucketVersioning",
    "s3:PutEncryptionConfiguration",
    "s3:PutLifecycleConfiguration",
    "s3:PutObjectAcl",
    "s3:PutObjectTagging",
    "s3:PutObjectVersionAcl",
    "s3:PutReplicationConfiguration",
  ]
}

resource "aws_s3_bucket" "lake" {
  #checkov:skip=CKV_AWS_18:Every object is named in a manifest with its sha256; who wrote it is in the functions' logs
  #checkov:skip=CKV_AWS_144:A copy elsewhere is made by `totes backup`, which verifies every object
  #checkov:skip=CKV_AWS_145:Encrypted with keys of S3, or with the key that the variable kms_key_arn names
  #checkov:skip=CKV2_AWS_62:Nothing waits for an object; the state machine says what comes next
  for_each = local.stores

  bucket = "${local.name}-${each.key}-${local.account}"

  # It costs nothing until something is locked, and older buckets are enabled by the configuration below.
  object_lock_enabled = true

  # The history is in them. No change of a variable removes it; `make remove` leaves them.
  lifecycle {
    prevent_destroy = true
    ignore_changes  = [object_lock_enabled]
  }
}

resource "aws_s3_bucket_versioning" "lake" {
  for_each = local.stores

  bucket = aws_s3_bucket.lake[each.key].id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "lake" {
  for_each = local.stores

  bucket = aws_s3_bucket.lake[each.key].id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm     = var.kms_key_arn == null ? "AES256" : "aws:kms"
      kms_master_key_id = var.kms_key_arn
    }

    bucket_key_enabled = var.kms_key_arn != null # one call of KMS for many objects
  }
}

# Whoever may delete for good, may not until this time is over, without a permission of its own (s3:BypassGovernanceRetention).
resource "aws_s3_bucket_object_lock_configuration" "lake" {
  for_each = var.object_lock_days > 0 ? local.stores : []

  bucket = aws_s3_bucket.lake[each.key].id

  rule {
    default_retention {
      mode = "GOVERNANCE"
      days = var.object_lock_days
    }
  }

  depends_on = [aws_s3_bucket_versioning.lake]
}

resource "aws_s3_bucket_ownership_controls" "lake" {
  for_each = local.stores

  bucket = aws_s3_bucket.lake[each.key].id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_public_access_block" "lake" {
  for_each = local.stores

  bucket                  = aws_s3_bucket.lake[each.key].id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_lifecycle_configuration" "lake" {
  for_each = local.stores

  bucket = aws_s3_bucket.lake[each.key].id

  # Objects of batches are kept for ever: they are the history.
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

  # What a cold function picks up instead of reading the lake from its beginning. It can be made again at any time.
  rule {
    id     = "checkpoints"
    status = "Enabled"

    filter {
      prefix = "checkpoints/"
    }

    expiration {
      days = 7
    }

    noncurrent_version_expiration {
      noncurrent_days = 1
    }
  }

  # What the watch knows from one execution to the next; it writes a new record each time.
  rule {
    id     = "health"
    status = "Enabled"

    filter {
      prefix = "health/"
    }

    expiration {
      days = 7
    }

    noncurrent_version_expiration {
      noncurrent_days = 1
    }
  }

  depends_on = [aws_s3_bucket_versioning.lake]
}

# AWS reads the names of actions without regard to case. Emulators do not, and take a Deny that they recognise for every
# request, whatever its condition says: hence S3 in those of all buckets.
data "aws_iam_policy_document" "lake" {
  for_each = local.stores

  statement {
    sid       = "OnlyEncryptedConnections"
    effect    = "Deny"
    actions   = ["S3:*"]
    resources = [aws_s3_bucket.lake[each.key].arn, "${aws_s3_bucket.lake[each.key].arn}/*"]

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

  # An object is put only if it is not there yet. The pipeline asks for that with each put; here it holds for everyone.
  # Parts of a multipart upload make no object, so they carry no such header: only what completes it does.
  statement {
    sid       = "OnlyNewObjects"
    effect    = "Deny"
    actions   = ["S3:PutObject"]
    resources = ["${aws_s3_bucket.lake[each.key].arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Null"
      variable = "s3:if-none-match"
      values   = ["true"]
    }

    condition {
      test     = "Bool"
      variable = "s3:ObjectCreationOperation"
      values   = ["true"]
    }
  }

  # The functions' own policies do not allow this either. It is said here too, so that no policy added later does.
  statement {
    sid       = "NothingIsRemovedByThePipeline"
    effect    = "Deny"
    actions   = local.forbidden_actions
    resources = [aws_s3_bucket.lake[each.key].arn, "${aws_s3_bucket.lake[each.key].arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "ArnEquals"
      variable = "aws:PrincipalArn"
      values   = local.pipeline_roles
    }
  }
}

resource "aws_s3_bucket_policy" "lake" {
  for_each = local.stores

  bucket = aws_s3_bucket.lake[each.key].id
  policy = data.aws_iam_policy_document.lake[each.key].json

  depends_on = [aws_s3_bucket_public_access_block.lake]
}
