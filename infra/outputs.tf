# What to open and what to do next.

output "next_steps" {
  description = "What is left to do after the first apply, as commands."
  value       = <<-STEPS
    # The databases' URLs, which Terraform never sees:
    %{~for secret in concat(aws_secretsmanager_secret.source, aws_secretsmanager_secret.warehouse)~}
    aws secretsmanager put-secret-value --region ${var.region} --secret-id ${secret.name} --secret-string 'postgresql://USER:PASSWORD@HOST:5432/DATABASE?sslmode=verify-full&sslrootcert=/var/task/certificates.pem'
    %{~endfor~}
    # A first execution now, rather than when the schedule has it:
    aws stepfunctions start-execution --region ${var.region} --state-machine-arn ${aws_sfn_state_machine.pipeline.arn}
    # The settings for a laptop:
    terraform -chdir=infra output -raw settings > totes.toml
  STEPS
}

output "settings" {
  description = "A totes.toml with which `totes status`, `history`, `verify`, `replay` and `backup` work from a laptop."
  value       = <<-TOML
    # The deployed pipeline, from outside. Needs AWS_DEFAULT_REGION=${var.region}, credentials that may read the two
    # secrets and the two buckets, and a way to the databases.
    [project]
    name = "${var.project}"

    [source]
    url = "${local.secret_urls.source}"
    schema = "${var.schemas.source}"

    [lake]
    ingestion = "s3://${aws_s3_bucket.lake["ingestion"].bucket}"
    processed = "s3://${aws_s3_bucket.lake["processed"].bucket}"

    [warehouse]
    url = "${local.secret_urls.warehouse}"
    schema = "${var.schemas.warehouse}"
  TOML
}

output "links" {
  description = "The pages of the console to look at."
  value = {
    dashboard  = "${local.console}/cloudwatch/home?region=${var.region}#dashboards/dashboard/${aws_cloudwatch_dashboard.pipeline.dashboard_name}"
    executions = "${local.console}/states/home?region=${var.region}#/statemachines/view/${aws_sfn_state_machine.pipeline.arn}"
    alarms     = "${local.console}/cloudwatch/home?region=${var.region}#alarmsV2:?search=${local.name}"
    logs       = "${local.console}/cloudwatch/home?region=${var.region}#logsV2:log-groups$3FlogGroupNameFilter$3D${local.name}"
  }
}

output "buckets" {
  description = "The buckets: both stores of the lake, and the packages."
  value = {
    ingestion = aws_s3_bucket.lake["ingestion"].bucket
    processed = aws_s3_bucket.lake["processed"].bucket
    code      = aws_s3_bucket.code.bucket
  }
}

output "secrets" {
  description = "The names of the secrets that hold the databases' URLs."
  value = {
    source    = local.secrets.source.name
    warehouse = local.secrets.warehouse.name
  }
}

output "functions" {
  description = "The functions' names: the three stages, and the watch."
  value = {
    ingest  = module.ingest.function_name
    process = module.process.function_name
    load    = module.load.function_name
    watch   = module.watch.function_name
  }
}

output "state_machine_arn" {
  description = "The state machine's ARN."
  value       = aws_sfn_state_machine.pipeline.arn
}

output "topic_arn" {
  description = "The ARN of the topic that alerts go to."
  value       = aws_sns_topic.alerts.arn
}

output "warehouse_security_group_id" {
  description = "The security group of the warehouse, if it was made here: a rule in it lets BI tools in."
  value       = one(aws_security_group.warehouse[*].id)
}

output "security_group_id" {
  description = "The functions' security group, for the databases to let in; null without a VPC."
  value       = one(aws_security_group.functions[*].id)
}
