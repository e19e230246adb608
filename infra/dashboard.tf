# One page on how the pipeline is: how fresh, how much, how long, and what went wrong.

locals {
  stage_names = ["ingest", "process", "load"]

  error_logs = join(" ", [
    for log in [module.ingest.log_group_name, module.process.log_group_name, module.load.log_group_name, module.watch.log_group_name] : "SOURCE '${log}' |"
  ])

  graphs = [
    {
      title   = "How far the warehouse is behind the source (seconds)"
      stat    = "Maximum"
      metrics = [[local.namespace, "FreshnessSeconds", "stage", "watch"]]
      limits  = [{ label = "limit", value = var.freshness_minutes * 60 }]
    },
    {
      title   = "Rows"
      stat    = "Sum"
      metrics = [for stage in local.stage_names : [local.namespace, "Rows", "stage", stage]]
      limits  = []
    },
    {
      title   = "Batches"
      stat    = "Sum"
      metrics = [for stage in local.stage_names : [local.namespace, "Batches", "stage", stage]]
      limits  = []
    },
    {
      title   = "How long each stage takes (seconds)"
      stat    = "Maximum"
      metrics = [for stage in local.stage_names : [local.namespace, "DurationSeconds", "stage", stage]]
      limits  = [{ label = "limit", value = var.timeout_seconds }]
    },
    {
      title   = "Rows set aside"
      stat    = "Sum"
      metrics = [[local.namespace, "Quarantined", "stage", "process"]]
      limits  = []
    },
    {
      title = "Executions"
      stat  = "Sum"
      metrics = [
        for metric in ["ExecutionsSucceeded", "ExecutionsFailed", "ExecutionsTimedOut", "ExecutionsAborted"] :
        ["AWS/States", metric, "StateMachineArn", aws_sfn_state_machine.pipeline.arn]
      ]
      limits = []
    },
  ]
}

resource "aws_cloudwatch_dashboard" "pipeline" {
  dashboard_name = local.name

  dashboard_body = jsonencode({
    widgets = concat(
      [{
        type       = "alarm"
        x          = 0
        y          = 0
        width      = 24
        height     = 3
        properties = { title = "Alarms", alarms = [aws_cloudwatch_metric_alarm.freshness.arn] }
      }],
      [for number, graph in local.graphs : {
        type   = "metric"
        x      = 8 * (number % 3)
        y      = 3 + 6 * floor(number / 3)
        width  = 8
        height = 6
        properties = {
          title       = graph.title
          region      = var.region
          view        = "timeSeries"
          stat        = graph.stat
          period      = 300
          metrics     = graph.metrics
          annotations = { horizontal = graph.limits }
          yAxis       = { left = { min = 0 } }
        }
      }],
      [{
        type   = "log"
        x      = 0
        y      = 15
        width  = 24
        height = 6
        properties = {
          title  = "Errors"
          region = var.region
          view   = "table"
          query  = "${local.error_logs} filter level = 'ERROR' | fields @timestamp, service, message, execution | sort @timestamp desc | limit 50"
        }
      }],
    )
  })
}
