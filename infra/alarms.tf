# Who receives alerts. The watch (watch.tf) publishes them, one when an incident begins and one when it is over; the alarm below
# covers what the watch cannot report: that nothing runs, or that the watch itself fails.

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

# An execution that has brought the warehouse up to date measures its freshness. If every five minutes of the limit had either
# none or an old one, the warehouse is out of date.
resource "aws_cloudwatch_metric_alarm" "freshness" {
  alarm_name          = "${local.name}-freshness"
  alarm_description   = "The warehouse is more than ${var.freshness_minutes} minutes behind the source, or nothing shows that it is not. Look at the last executions of ${local.name}; if there are none, the queue ${aws_sqs_queue.unstarted.name} has the reason."
  namespace           = local.namespace
  metric_name         = "FreshnessSeconds"
  dimensions          = { stage = "watch" }
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.freshness_minutes * 60
  period              = 300
  evaluation_periods  = var.freshness_minutes / 5
  datapoints_to_alarm = var.freshness_minutes / 5
  treat_missing_data  = "breaching"
  actions_enabled     = !var.paused
  alarm_actions       = [aws_sns_topic.alerts.arn]
  ok_actions          = [aws_sns_topic.alerts.arn]
}
