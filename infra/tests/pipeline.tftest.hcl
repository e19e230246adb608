# What the configuration says before anything is made: names, settings, limits, and what the policies' statements are about.
# tests/aws/deployed/ applies it to an emulator, and reads the finished policies there.

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
  package      = "tests/package.zip"
  project      = "shop"
  alert_emails = ["data@totes.example", "night@totes.example"]
}

run "everything_is_made_in_the_projects_name" {
  command = plan

  assert {
    condition = [for store in ["ingestion", "processed"] : aws_s3_bucket.lake[store].bucket] == [
      "totes-shop-ingestion-123456789012", "totes-shop-processed-123456789012",
    ]
    error_message = "the lake's buckets have other names"
  }

  assert {
    condition     = module.ingest.function_name == "totes-shop-ingest" && module.load.function_name == "totes-shop-load"
    error_message = "the functions have other names"
  }

  assert {
    condition     = aws_secretsmanager_secret.source[0].name == "totes/shop/source"
    error_message = "the source's secret has another name"
  }

  assert {
    condition     = aws_sfn_state_machine.pipeline.name == "totes-shop"
    error_message = "the state machine has another name"
  }

  assert {
    condition     = [for mail in aws_sns_topic_subscription.mail : mail.endpoint] == ["data@totes.example", "night@totes.example"]
    error_message = "somebody gets no mail"
  }

  assert {
    condition     = length(aws_security_group.functions) + length(aws_vpc_endpoint.lake) + length(aws_vpc_endpoint.secrets) == 0
    error_message = "something was made in a VPC"
  }
}

run "the_settings_are_names_of_secrets" {
  command = plan

  variables {
    settings = { TOTES_SOURCE__EXCLUDE = "[\"audit\"]", TOTES_LAKE__CHECKPOINTS = "false", TOTES_LAKE__MEMORY = "500MB" }
    schemas  = { source = "sales" }
  }

  assert {
    condition     = local.environment.TOTES_SOURCE__URL == "secretsmanager:totes/shop/source"
    error_message = "the source's URL is not taken from its secret"
  }

  assert {
    condition     = local.environment.TOTES_LAKE__INGESTION == "s3://totes-shop-ingestion-123456789012"
    error_message = "the ingestion lake is elsewhere"
  }

  assert {
    condition     = local.environment.TOTES_SOURCE__EXCLUDE == "[\"audit\"]" && local.environment.TOTES_SOURCE__SCHEMA == "sales"
    error_message = "a setting is missing"
  }

  assert {
    condition     = local.environment.TOTES_LAKE__CHECKPOINTS == "false" && module.process.variables.TOTES_LAKE__MEMORY == "500MB"
    error_message = "settings do not hold against defaults"
  }
}

run "a_secret_that_is_there_is_read" {
  command = plan

  variables {
    databases = {
      source = {
        secret_arn = "arn:aws:secretsmanager:eu-west-2:123456789012:secret:rds!db-1-AbCdEf"
        parameters = { dbname = "shop", sslmode = "verify-full", sslrootcert = "/var/task/certificates.pem" }
      }
    }
  }

  assert {
    condition     = local.environment.TOTES_SOURCE__URL == "secretsmanager:arn:aws:secretsmanager:eu-west-2:123456789012:secret:rds!db-1-AbCdEf?dbname=shop&sslmode=verify-full&sslrootcert=%2Fvar%2Ftask%2Fcertificates.pem"
    error_message = "the secret or the parameters of the connection are lost"
  }

  assert {
    condition     = length(aws_secretsmanager_secret.source) == 0 && length(aws_secretsmanager_secret.warehouse) == 1
    error_message = "a secret is made although there is one"
  }

  assert {
    condition     = tolist(data.aws_iam_policy_document.ingest.statement[0].resources) == tolist(["arn:aws:secretsmanager:eu-west-2:123456789012:secret:rds!db-1-AbCdEf"])
    error_message = "ingest may not read the secret"
  }
}

run "what_a_company_asks_for" {
  command = plan

  variables {
    kms_key_arn              = "arn:aws:kms:eu-west-2:123456789012:key/1"
    object_lock_days         = 400
    permissions_boundary_arn = "arn:aws:iam::123456789012:policy/boundary"
    paused                   = true
  }

  assert {
    condition     = alltrue([for store in local.stores : one([for rule in aws_s3_bucket_server_side_encryption_configuration.lake[store].rule : rule.apply_server_side_encryption_by_default[0].kms_master_key_id]) == var.kms_key_arn])
    error_message = "the lake is encrypted with another key"
  }

  assert {
    condition     = aws_secretsmanager_secret.source[0].kms_key_id == var.kms_key_arn
    error_message = "the secrets are encrypted with another key"
  }

  assert {
    condition     = alltrue([for store in local.stores : aws_s3_bucket_object_lock_configuration.lake[store].rule[0].default_retention[0].days == 400])
    error_message = "the lake is not locked"
  }

  assert {
    condition     = aws_iam_role.pipeline.permissions_boundary == var.permissions_boundary_arn && aws_iam_role.schedule.permissions_boundary == var.permissions_boundary_arn && module.load.boundary_arn == var.permissions_boundary_arn
    error_message = "a role is not bounded"
  }

  assert {
    condition     = aws_scheduler_schedule.pipeline.state == "DISABLED" && !aws_cloudwatch_metric_alarm.freshness.actions_enabled
    error_message = "it is not paused"
  }
}

run "policies_say_what_they_are_about" {
  command = plan

  assert {
    condition = alltrue([
      for store in ["ingestion", "processed"] :
      [for statement in data.aws_iam_policy_document.lake[store].statement : "${statement.effect} ${statement.sid}"] ==
      ["Deny OnlyEncryptedConnections", "Deny OnlyNewObjects", "Deny NothingIsRemovedByThePipeline"]
    ])
    error_message = "a store's policy has lost a statement"
  }

  assert {
    condition = alltrue([
      for store in ["ingestion", "processed"] :
      [for condition in data.aws_iam_policy_document.lake[store].statement[1].condition : condition.variable if condition.test == "Null"] ==
      ["s3:if-none-match"]
    ])
    error_message = "a store takes objects that are there already"
  }

  assert {
    condition     = alltrue([for store in ["ingestion", "processed"] : aws_s3_bucket_versioning.lake[store].versioning_configuration[0].status == "Enabled"])
    error_message = "a store keeps no versions"
  }

  assert {
    condition = length(setintersection(
      flatten([
        for document in [data.aws_iam_policy_document.ingest, data.aws_iam_policy_document.process, data.aws_iam_policy_document.load] :
        [for statement in document.statement : tolist(statement.actions)]
      ]),
      local.forbidden_actions,
    )) == 0
    error_message = "a stage is allowed what the lake forbids"
  }

  assert {
    condition = alltrue([
      for action in flatten([
        for document in [data.aws_iam_policy_document.ingest, data.aws_iam_policy_document.process, data.aws_iam_policy_document.load, data.aws_iam_policy_document.pipeline, data.aws_iam_policy_document.schedule] :
        [for statement in document.statement : tolist(statement.actions)]
      ]) : !strcontains(action, "*")
    ])
    error_message = "a policy allows actions that it does not name"
  }
}

run "the_schedule_is_what_was_asked_for" {
  command = plan

  variables {
    schedule_minutes  = 5
    freshness_minutes = 20
  }

  assert {
    condition     = aws_scheduler_schedule.pipeline.schedule_expression == "rate(5 minutes)"
    error_message = "the schedule is another one"
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.freshness.threshold == 1200 && aws_cloudwatch_metric_alarm.freshness.evaluation_periods == 4
    error_message = "the alarm has another limit"
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.freshness.treat_missing_data == "breaching"
    error_message = "silence is taken for freshness"
  }
}

run "a_network_has_both_endpoints" {
  command = plan

  variables {
    vpc = {
      id              = "vpc-1"
      subnet_ids      = ["subnet-1", "subnet-2"]
      route_table_ids = ["rtb-1"]
      database_cidrs  = ["10.0.1.0/24", "10.0.2.0/24"]
      database_ports  = [5432, 6432]
    }
  }

  assert {
    condition     = length(aws_vpc_security_group_egress_rule.databases) == 4
    error_message = "the functions do not reach each port of each range"
  }

  assert {
    condition     = aws_vpc_endpoint.lake[0].service_name == "com.amazonaws.eu-west-2.s3" && !aws_vpc_endpoint.secrets[0].private_dns_enabled
    error_message = "the lake cannot be reached, or others' way to their secrets is changed"
  }
}

run "a_warehouse_is_made_where_one_is_asked_for" {
  command = plan

  variables {
    warehouse_database = {}
    vpc = {
      id              = "vpc-1"
      subnet_ids      = ["subnet-1", "subnet-2"]
      route_table_ids = ["rtb-1"]
      database_cidrs  = ["10.0.1.0/24"]
    }
  }

  assert {
    condition     = aws_db_instance.warehouse[0].storage_encrypted && !aws_db_instance.warehouse[0].publicly_accessible && aws_db_instance.warehouse[0].manage_master_user_password
    error_message = "the warehouse is open, or somebody knows its password"
  }

  assert {
    condition     = aws_db_instance.warehouse[0].backup_retention_period == 7 && aws_db_instance.warehouse[0].deletion_protection
    error_message = "the warehouse can be lost"
  }

  assert {
    condition     = length(aws_secretsmanager_secret.source) == 1 && length(aws_secretsmanager_secret.warehouse) == 0
    error_message = "there is a second secret of the warehouse"
  }
}
