# What any role of the pipeline may do at most, whatever policies a workflow gives it.

data "aws_iam_policy_document" "boundary" {
  #checkov:skip=CKV_AWS_111:Interfaces and log deliveries have no name; each role's own policy says less
  #checkov:skip=CKV_AWS_356:Interfaces and log deliveries have no name; each role's own policy says less
  statement {
    sid       = "AddToTheLake"
    actions   = ["s3:GetObject", "s3:ListBucket", "s3:PutObject"]
    resources = concat(local.lake_buckets, [for bucket in local.lake_buckets : "${bucket}/*"])
  }

  statement {
    sid       = "ReadSecrets"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = concat([local.named.secrets], tolist(var.secret_arns))
  }

  # Each key's own policy says who may use it.
  statement {
    sid       = "UseKeys"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = ["arn:${local.partition}:kms:${local.here}:key/*"]

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["s3.${var.region}.amazonaws.com", "secretsmanager.${var.region}.amazonaws.com"]
    }
  }

  statement {
    sid       = "RunThePipeline"
    actions   = ["lambda:InvokeFunction", "sns:Publish", "sqs:SendMessage", "states:ListExecutions", "states:StartExecution"]
    resources = flatten([local.named.functions, local.named.topic, local.named.queue, local.named.machine])
  }

  statement {
    sid       = "WriteLogs"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = [for log in local.named.logs : "${log}:*"]
  }

  statement {
    sid = "DeliverLogsAndMakeInterfaces"
    actions = [
      "ec2:AssignPrivateIpAddresses",
      "ec2:CreateNetworkInterface",
      "ec2:DeleteNetworkInterface",
      "ec2:DescribeNetworkInterfaces",
      "ec2:DescribeSubnets",
      "ec2:UnassignPrivateIpAddresses",
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

resource "aws_iam_policy" "boundary" {
  name        = "${local.name}-boundary"
  description = "What any role of ${local.name} may do at most"
  policy      = data.aws_iam_policy_document.boundary.json
}
