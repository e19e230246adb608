# What each variable refuses. The provider is a mock: nothing is asked of AWS, and nothing made.

mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }

  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }

  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
}

variables {
  package = "tests/package.zip"
}

run "nothing_but_the_package_has_to_be_said" {
  command = plan
}

# One run for all of them: each of the variables named below has to refuse what it is given.
run "what_aws_would_refuse_is_refused_at_once" {
  command = plan

  variables {
    project                  = "Terrific_Totes"
    region                   = "London"
    package                  = "tests/missing.zip"
    python_version           = "3.8"
    architecture             = "amd64"
    memory_megabytes         = { load = 128 }
    storage_megabytes        = 20480
    timeout_seconds          = 901
    schedule_minutes         = 0
    alert_emails             = ["somebody"]
    log_retention_days       = 45
    noncurrent_days          = 0
    schemas                  = { warehouse = "" }
    settings                 = { source_exclude = "[]" }
    vpc                      = { id = "vpc-1", subnet_ids = [], route_table_ids = ["rtb-1"], database_cidrs = ["10.0.0.0/16"] }
    databases                = { source = { secret_arn = "totes/source" } }
    kms_key_arn              = "alias/lake"
    object_lock_days         = -1
    permissions_boundary_arn = "boundary"
    tags                     = { for number in range(41) : "tag${number}" => "value" }
  }

  expect_failures = [
    var.project,
    var.region,
    var.package,
    var.python_version,
    var.architecture,
    var.memory_megabytes,
    var.storage_megabytes,
    var.timeout_seconds,
    var.schedule_minutes,
    var.alert_emails,
    var.log_retention_days,
    var.noncurrent_days,
    var.schemas,
    var.settings,
    var.vpc,
    var.databases,
    var.kms_key_arn,
    var.object_lock_days,
    var.permissions_boundary_arn,
    var.tags,
  ]
}

run "what_would_be_unwise_is_refused_too" {
  command = plan

  variables {
    schedule_minutes  = 30 # the alarm would never rest
    freshness_minutes = 30
    settings          = { TOTES_WAREHOUSE__URL = "postgresql://warehouse" }                                                 # a secret
    vpc               = { id = "vpc-1", subnet_ids = ["subnet-1"], route_table_ids = [], database_cidrs = ["10.0.0.0/16"] } # no way to the lake
  }

  expect_failures = [var.freshness_minutes, var.settings, var.vpc]
}

run "what_would_not_hold_is_refused" {
  command = plan

  variables {
    settings  = { TOTES_LAKE__PROCESSED = "s3://another/processed" }
    databases = { source = { parameters = { password = "secret" } } }
    vpc       = { id = "vpc-1", subnet_ids = ["subnet-1"], route_table_ids = ["rtb-1"], database_cidrs = ["10.0.0.0/16"], endpoint_ids = { s3 = "vpce-1" } } # twice
  }

  expect_failures = [var.settings, var.databases, var.vpc]
}

run "a_warehouse_without_a_network_is_refused" {
  command = plan

  variables {
    warehouse_database = {}
  }

  expect_failures = [var.warehouse_database]
}
