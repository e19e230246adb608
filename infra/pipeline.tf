# The state machine that runs the stages one after the other.

locals {
  state_machine_arn = "arn:${local.partition}:states:${var.region}:${local.account}:stateMachine:${local.name}"
  console           = "https://${var.region}.console.aws.amazon.com"

  definition = templatefile("${path.module}/pipeline.asl.json.tftpl", {
    partition = local.partition
    watch_arn = module.watch.live_arn
    stages = [
      { name = "ingest", function_arn = module.ingest.live_arn },
      { name = "process", function_arn = module.process.live_arn },
      { name = "load", function_arn = module.load.live_arn },
    ]
    # The errors of src/totes/errors.py that are retryable.
    transient_errors = ["SourceError", "SourceBehind", "SourceBusy", "RunnerAtWork", "StoreError", "WarehouseError", "EngineFault", "BatchConflict", "SecretUnavailable", "CatalogError", "WorkersFailed"]
    foreign_errors   = ["LakeOfAnotherSource", "LakesApart"]
    # A first load comes back to a stage as often as it takes; a day is more than any needs.
    execution_seconds = 86400
    stage_seconds     = var.timeout_seconds + 60
    executions_url    = "${local.console}/states/home?region=${var.region}#/v2/executions/details/"
  })
}

data "aws_iam_policy_document" "pipeline_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["states.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }

    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [local.state_machine_arn]
    }
  }
}

resource "aws_iam_role" "pipeline" {
  name               = "${local.name}-pipeline"
  description        = "What the state machine may do"
  assume_role_policy = data.aws_iam_policy_document.pipeline_trust.json

  permissions_boundary = var.permissions_boundary_arn
}

# Step Functions hands its log over through the log deliveries of the account, and these calls know no resource:
# https://docs.aws.amazon.com/step-functions/latest/dg/cw-logs.html
data "aws_iam_policy_document" "pipeline" {
  #checkov:skip=CKV_AWS_111:Calls of log deliveries know no resource
  #checkov:skip=CKV_AWS_356:Calls of log deliveries know no resource
  statement {
    sid       = "RunTheStages"
    actions   = ["lambda:InvokeFunction"]
    resources = [module.ingest.live_arn, module.process.live_arn, module.load.live_arn, module.watch.live_arn]
  }

  statement {
    sid       = "SeeWhetherAnotherOneRuns"
    actions   = ["states:ListExecutions"]
    resources = [local.state_machine_arn]
  }

  statement {
    sid = "DeliverItsLog"
    actions = [
      "logs:CreateLogDelivery",
      "logs:DeleteLogDelivery",
      "logs:DescribeLogGroups",
      "logs:DescribeResourcePolicies",
      "logs:GetLogDelivery",
      "logs:ListLogDeliveries",
      "logs:PutResourcePolicy",
      "logs:UpdateLogDelivery",
    ]
    resources = ["*"]
  }
}

resource "aws_iam_role_policy" "pipeline" {
  name   = "pipeline"
  role   = aws_iam_role.pipeline.id
  policy = data.aws_iam_policy_document.pipeline.json
}

resource "aws_cloudwatch_log_group" "pipeline" {
  #checkov:skip=CKV_AWS_158:Encrypted with keys of CloudWatch; counts and errors, in which secrets are masked
  #checkov:skip=CKV_AWS_338:How long logs are kept is the variable log_retention_days
  name              = "/aws/vendedlogs/states/${local.name}"
  retention_in_days = var.log_retention_days
}

resource "aws_sfn_state_machine" "pipeline" {
  #checkov:skip=CKV_AWS_284:The execution history tells what ran and how long; traces would need a permission without a name
  name       = local.name
  role_arn   = aws_iam_role.pipeline.arn
  definition = local.definition

  logging_configuration {
    log_destination        = "${aws_cloudwatch_log_group.pipeline.arn}:*"
    include_execution_data = true
    level                  = "ALL"
  }

  depends_on = [aws_iam_role_policy.pipeline]
}
