# Who is told, and of what. The alarms of one stage are in modules/stage_lambda.

resource "aws_sns_topic" "alerts" {
  #checkov:skip=CKV_AWS_26:Alarms cannot publish to a topic that is encrypted with the account's own key for SNS; messages hold no data and no secret
  name         = "${local.name}-alerts"
  display_name = "totes ${var.project}"
}

data "aws_iam_policy_document" "alerts" {
  statement {
    sid       = "Alarms"
    actions   = ["sns:Publish"]
    resources = [aws_sns_topic.alerts.arn]

    principals {
      type        = "Service"
      identifiers = ["cloudwatch.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }

  statement {
    sid       = "OnlyEncryptedConnections"
    effect    = "Deny"
    actions   = ["sns:Publish"]
    resources = [aws_sns_topic.alerts.arn]

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

resource "aws_sns_topic_policy" "alerts" {
  arn    = aws_sns_topic.alerts.arn
  policy = data.aws_iam_policy_document.alerts.json
}

resource "aws_sns_topic_subscription" "mail" {
  for_each = var.alert_emails

  topic_arn = aws_sns_topic.alerts.arn
  protocol  = "email"
  endpoint  = each.value
}

# Load says how old what it has loaded is. Every five minutes of the limit were either too old or without a word:
# nothing fresh has come for that long.
resource "aws_cloudwatch_metric_alarm" "freshness" {
  alarm_name          = "${local.name}-freshness"
  alarm_description   = "The warehouse is more than ${var.freshness_minutes} minutes behind the source, or nothing says that it is not. Look at the last executions of ${local.name}."
  namespace           = local.namespace
  metric_name         = "FreshnessSeconds"
  dimensions          = { stage = "load" }
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.freshness_minutes * 60
  period              = 300
  evaluation_periods  = var.freshness_minutes / 5
  datapoints_to_alarm = var.freshness_minutes / 5
  treat_missing_data  = "breaching"
  alarm_actions       = [aws_sns_topic.alerts.arn]
  ok_actions          = [aws_sns_topic.alerts.arn]
}

resource "aws_cloudwatch_metric_alarm" "quarantine" {
  alarm_name          = "${local.name}-quarantine"
  alarm_description   = "Rows were set aside: they do not fit their table. `totes quarantine list` shows them with the reason."
  namespace           = local.namespace
  metric_name         = "Quarantined"
  dimensions          = { stage = "process" }
  statistic           = "Sum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 300
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alerts.arn]
}

resource "aws_cloudwatch_metric_alarm" "executions" {
  for_each = {
    failed    = "ExecutionsFailed"
    timed_out = "ExecutionsTimedOut"
    aborted   = "ExecutionsAborted"
  }

  alarm_name          = "${local.name}-executions-${replace(each.key, "_", "-")}"
  alarm_description   = "An execution of ${local.name} ${replace(each.key, "_", " ")}. Its history says in which stage, and why."
  namespace           = "AWS/States"
  metric_name         = each.value
  dimensions          = { StateMachineArn = aws_sfn_state_machine.pipeline.arn }
  statistic           = "Sum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 300
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alerts.arn]
  ok_actions          = [aws_sns_topic.alerts.arn]
}

resource "aws_cloudwatch_metric_alarm" "unstarted" {
  alarm_name          = "${local.name}-unstarted"
  alarm_description   = "The schedule could not start ${local.name}. The messages in the queue ${aws_sqs_queue.unstarted.name} say why; purge it when that is put right."
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = aws_sqs_queue.unstarted.name }
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 300
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alerts.arn]
  ok_actions          = [aws_sns_topic.alerts.arn]
}
