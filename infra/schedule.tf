# What starts the state machine, and where a start goes that could not be made.

resource "aws_scheduler_schedule_group" "pipeline" {
  name = local.name
}

data "aws_iam_policy_document" "schedule_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["scheduler.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }

    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [aws_scheduler_schedule_group.pipeline.arn]
    }
  }
}

resource "aws_iam_role" "schedule" {
  name               = "${local.name}-schedule"
  description        = "What the schedule may do: start the pipeline"
  assume_role_policy = data.aws_iam_policy_document.schedule_trust.json

  permissions_boundary = var.permissions_boundary_arn
}

data "aws_iam_policy_document" "schedule" {
  statement {
    sid       = "StartThePipeline"
    actions   = ["states:StartExecution"]
    resources = [aws_sfn_state_machine.pipeline.arn]
  }

  statement {
    sid       = "KeepWhatCouldNotBeStarted"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.unstarted.arn]
  }
}

resource "aws_iam_role_policy" "schedule" {
  name   = "schedule"
  role   = aws_iam_role.schedule.id
  policy = data.aws_iam_policy_document.schedule.json
}

resource "aws_scheduler_schedule" "pipeline" {
  #checkov:skip=CKV_AWS_297:Encrypted with keys of the scheduler; its input says only what started it
  name                = local.name
  group_name          = aws_scheduler_schedule_group.pipeline.name
  description         = "Starts ${local.name} every ${var.schedule_minutes} minutes"
  state               = var.paused ? "DISABLED" : "ENABLED"
  schedule_expression = var.schedule_minutes == 1 ? "rate(1 minute)" : "rate(${var.schedule_minutes} minutes)"

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = aws_sfn_state_machine.pipeline.arn
    role_arn = aws_iam_role.schedule.arn
    input    = jsonencode({ started_by = "schedule" })

    # A start that comes later than the next one is of no use.
    retry_policy {
      maximum_event_age_in_seconds = max(60, var.schedule_minutes * 60)
      maximum_retry_attempts       = 10
    }

    dead_letter_config {
      arn = aws_sqs_queue.unstarted.arn
    }
  }

  depends_on = [aws_iam_role_policy.schedule]
}

resource "aws_sqs_queue" "unstarted" {
  name                      = "${local.name}-unstarted"
  message_retention_seconds = 14 * 24 * 3600
  sqs_managed_sse_enabled   = true
  policy                    = data.aws_iam_policy_document.unstarted.json
}

data "aws_iam_policy_document" "unstarted" {
  statement {
    sid       = "OnlyEncryptedConnections"
    effect    = "Deny"
    actions   = ["sqs:*"]
    resources = ["arn:${local.partition}:sqs:${var.region}:${local.account}:${local.name}-unstarted"]

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
