# What has to be there before ../ can be applied by more than one person: a place for its state, and roles for GitHub.
# Applied once, by someone who may do everything. Its own state stays where it is applied; it holds no secret, and what
# it made can be imported again by name.

terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7"
    }
  }
}

provider "aws" {
  region = var.region

  default_tags {
    tags = { project = local.name, managed_by = "terraform" }
  }
}

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  name      = "totes-${var.project}"
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
}
