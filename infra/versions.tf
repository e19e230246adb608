# What this configuration runs with, and where its state is kept.

terraform {
  required_version = ">= 1.11" # the first whose S3 backend locks without a DynamoDB table

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7"
    }
  }

  # Bucket, key and region come with -backend-config: bootstrap/ makes the bucket and prints the file.
  backend "s3" {
    encrypt      = true
    use_lockfile = true
  }
}

provider "aws" {
  region = var.region

  default_tags {
    tags = merge({ project = local.name, managed_by = "terraform" }, var.tags)
  }
}

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  name      = "totes-${var.project}"
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  namespace = "Totes/${var.project}" # of the metrics
}
