# What a plan has to read, and what an apply has to make: only what has the project's name. The lake's buckets and the trust of
# roles are made and changed by an administrator (`make deploy`): no workflow destroys the lake or what protects it.
#
# Some calls that list or describe know no resource, and some kinds of resource (interfaces of a network) have no name of
# one's own choice: each such statement says so. Nothing here may read an object of the lake or the value of a secret.

locals {
  here   = "${var.region}:${local.account}"
  stages = ["ingest", "process", "load", "watch"]

  lake_buckets = [for bucket in ["ingestion", "processed"] : "arn:${local.partition}:s3:::${local.name}-${bucket}-${local.account}"]
  code_bucket  = "arn:${local.partition}:s3:::${local.name}-code-${local.account}"

  named = {
    alarms    = "arn:${local.partition}:cloudwatch:${local.here}:alarm:${local.name}-*"
    dashboard = "arn:${local.partition}:cloudwatch::${local.account}:dashboard/${local.name}"
    functions = flatten([for stage in local.stages : [for end in ["", ":*"] : "arn:${local.partition}:lambda:${local.here}:function:${local.name}-${stage}${end}"]])
    logs      = [for stage in local.stages : "arn:${local.partition}:logs:${local.here}:log-group:/aws/lambda/${local.name}-${stage}"]
    execution = "arn:${local.partition}:logs:${local.here}:log-group:/aws/vendedlogs/states/${local.name}"
    machine   = "arn:${local.partition}:states:${local.here}:stateMachine:${local.name}"
    queue     = "arn:${local.partition}:sqs:${local.here}:${local.name}-unstarted"
    schedule  = "arn:${local.partition}:scheduler:${local.here}:schedule/${local.name}/${local.name}"
    group     = "arn:${local.partition}:scheduler:${local.here}:schedule-group/${local.name}"
    secrets   = "arn:${local.partition}:secretsmanager:${local.here}:secret:totes/${var.project}/*"
    topic     = "arn:${local.partition}:sns:${local.here}:${local.name}-alerts"
  }

  # The pipeline's own roles by name: not those of this file, so an apply cannot give itself more.
  pipeline_roles = [for role in concat(local.stages, ["pipeline", "schedule"]) : "arn:${local.partition}:iam::${local.account}:role/${local.name}-${role}"]
}

data "aws_iam_policy_document" "read" {
  #checkov:skip=CKV_AWS_356:Calls that list and describe know no resource
  statement {
    sid       = "FindTheState"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.state.arn]
  }

  statement {
    sid       = "ReadTheState"
    actions   = ["s3:GetObject"]
    resources = ["${aws_s3_bucket.state.arn}/${local.state_key}"]
  }

  # The lock is an object of its own; a plan takes it too.
  statement {
    sid       = "LockTheState"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
    resources = ["${aws_s3_bucket.state.arn}/${local.state_key}.tflock"]
  }

  statement {
    sid = "ReadBuckets"
    actions = [
      "s3:GetAccelerateConfiguration",
      "s3:GetBucketAcl",
      "s3:GetBucketCORS",
      "s3:GetBucketLocation",
      "s3:GetBucketLogging",
      "s3:GetBucketObjectLockConfiguration",
      "s3:GetBucketOwnershipControls",
      "s3:GetBucketPolicy",
      "s3:GetBucketPublicAccessBlock",
      "s3:GetBucketRequestPayment",
      "s3:GetBucketTagging",
      "s3:GetBucketVersioning",
      "s3:GetBucketWebsite",
      "s3:GetEncryptionConfiguration",
      "s3:GetLifecycleConfiguration",
      "s3:GetReplicationConfiguration",
      "s3:ListBucket",
    ]
    resources = concat(local.lake_buckets, [local.code_bucket])
  }

  statement {
    sid       = "ReadThePackage"
    actions   = ["s3:GetObject", "s3:GetObjectTagging"]
    resources = ["${local.code_bucket}/*"]
  }

  statement {
    sid = "ReadWhatHasTheProjectsName"
    actions = [
      "cloudwatch:GetDashboard",
      "cloudwatch:ListTagsForResource",
      "lambda:GetAlias",
      "lambda:GetFunction",
      "lambda:GetFunctionCodeSigningConfig",
      "lambda:GetFunctionConfiguration",
      "lambda:ListVersionsByFunction",
      "logs:ListTagsForResource",
      "scheduler:GetSchedule",
      "scheduler:GetScheduleGroup",
      "scheduler:ListTagsForResource",
      "secretsmanager:DescribeSecret",
      "secretsmanager:GetResourcePolicy",
      "sns:GetSubscriptionAttributes",
      "sns:GetTopicAttributes",
      "sns:ListSubscriptionsByTopic",
      "sns:ListTagsForResource",
      "sqs:GetQueueAttributes",
      "sqs:GetQueueUrl",
      "sqs:ListQueueTags",
      "states:DescribeStateMachine",
      "states:ListStateMachineVersions",
      "states:ListTagsForResource",
    ]
    resources = flatten([values(local.named), "${local.named.topic}:*", [for log in local.named.logs : "${log}:*"], "${local.named.execution}:*"])
  }

  statement {
    sid       = "ReadThePipelinesRoles"
    actions   = ["iam:GetRole", "iam:GetRolePolicy", "iam:ListAttachedRolePolicies", "iam:ListRolePolicies"]
    resources = local.pipeline_roles
  }

  # These know no resource.
  statement {
    sid = "ReadWhatHasNoName"
    actions = [
      "cloudwatch:DescribeAlarms",
      "ec2:DescribeNetworkInterfaces",
      "ec2:DescribePrefixLists",
      "ec2:DescribeSecurityGroupRules",
      "ec2:DescribeSecurityGroups",
      "ec2:DescribeSubnets",
      "ec2:DescribeTags",
      "ec2:DescribeVpcEndpoints",
      "ec2:DescribeVpcs",
      "logs:DescribeLogGroups",
      "rds:DescribeDBInstances",
      "rds:DescribeDBSubnetGroups",
      "rds:ListTagsForResource",
      "states:ValidateStateMachineDefinition",
    ]
    resources = ["*"]
  }
}

data "aws_iam_policy_document" "write" {
  #checkov:skip=CKV_AWS_109:Roles are named, and bounded
  #checkov:skip=CKV_AWS_111:Log deliveries have no name before they are made
  #checkov:skip=CKV_AWS_356:Calls of log deliveries know no resource
  statement {
    sid       = "WriteTheState"
    actions   = ["s3:PutObject"]
    resources = ["${aws_s3_bucket.state.arn}/${local.state_key}"]
  }

  statement {
    sid = "MakeThePackagesBucket"
    actions = [
      "s3:CreateBucket",
      "s3:DeleteBucket",
      "s3:DeleteBucketPolicy",
      "s3:PutBucketOwnershipControls",
      "s3:PutBucketPolicy",
      "s3:PutBucketPublicAccessBlock",
      "s3:PutBucketTagging",
      "s3:PutBucketVersioning",
      "s3:PutEncryptionConfiguration",
      "s3:PutLifecycleConfiguration",
    ]
    resources = [local.code_bucket]
  }

  # Packages only: an apply has no way to an object of the lake.
  statement {
    sid       = "PutPackages"
    actions   = ["s3:DeleteObject", "s3:DeleteObjectVersion", "s3:ListBucketVersions", "s3:PutObject", "s3:PutObjectTagging"]
    resources = [local.code_bucket, "${local.code_bucket}/*"]
  }

  statement {
    sid = "MakeWhatHasTheProjectsName"
    actions = [
      "cloudwatch:DeleteAlarms",
      "cloudwatch:DeleteDashboards",
      "cloudwatch:PutDashboard",
      "cloudwatch:PutMetricAlarm",
      "cloudwatch:TagResource",
      "cloudwatch:UntagResource",
      "lambda:CreateAlias",
      "lambda:CreateFunction",
      "lambda:DeleteAlias",
      "lambda:DeleteFunction",
      "lambda:PublishVersion",
      "lambda:TagResource",
      "lambda:UntagResource",
      "lambda:UpdateAlias",
      "lambda:UpdateFunctionCode",
      "lambda:UpdateFunctionConfiguration",
      "logs:CreateLogGroup",
      "logs:DeleteLogGroup",
      "logs:PutRetentionPolicy",
      "logs:TagResource",
      "logs:UntagResource",
      "scheduler:CreateSchedule",
      "scheduler:CreateScheduleGroup",
      "scheduler:DeleteSchedule",
      "scheduler:DeleteScheduleGroup",
      "scheduler:TagResource",
      "scheduler:UntagResource",
      "scheduler:UpdateSchedule",
      "secretsmanager:CreateSecret",
      "secretsmanager:DeleteSecret",
      "secretsmanager:RestoreSecret",
      "secretsmanager:TagResource",
      "secretsmanager:UntagResource",
      "secretsmanager:UpdateSecret",
      "sns:CreateTopic",
      "sns:DeleteTopic",
      "sns:SetTopicAttributes",
      "sns:Subscribe",
      "sns:TagResource",
      "sns:UntagResource",
      "sqs:CreateQueue",
      "sqs:DeleteQueue",
      "sqs:SetQueueAttributes",
      "sqs:TagQueue",
      "sqs:UntagQueue",
      "states:CreateStateMachine",
      "states:DeleteStateMachine",
      "states:TagResource",
      "states:UntagResource",
      "states:UpdateStateMachine",
    ]
    resources = flatten([values(local.named), [for log in local.named.logs : "${log}:*"], "${local.named.execution}:*"])
  }

  statement {
    sid       = "LeaveTheTopic"
    actions   = ["sns:Unsubscribe"]
    resources = ["${local.named.topic}:*"]
  }

  # Only with the boundary: whatever a role is given here, it may do no more than that allows.
  statement {
    sid       = "MakeBoundedRoles"
    actions   = ["iam:CreateRole", "iam:DeleteRolePolicy", "iam:PutRolePolicy"]
    resources = local.pipeline_roles

    condition {
      test     = "StringEquals"
      variable = "iam:PermissionsBoundary"
      values   = [aws_iam_policy.boundary.arn]
    }
  }

  statement {
    sid = "KeepThePipelinesRoles"
    actions = [
      "iam:DeleteRole",
      "iam:ListInstanceProfilesForRole",
      "iam:TagRole",
      "iam:UntagRole",
      "iam:UpdateRole",
      "iam:UpdateRoleDescription",
    ]
    resources = local.pipeline_roles
  }

  statement {
    sid       = "GiveThemToTheirServices"
    actions   = ["iam:PassRole"]
    resources = local.pipeline_roles

    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["lambda.amazonaws.com", "scheduler.amazonaws.com", "states.amazonaws.com"]
    }
  }

  # The state machine's log goes through the account's log deliveries, which know no resource.
  statement {
    sid = "DeliverTheStateMachinesLog"
    actions = [
      "logs:CreateLogDelivery",
      "logs:DeleteLogDelivery",
      "logs:DescribeResourcePolicies",
      "logs:GetLogDelivery",
      "logs:ListLogDeliveries",
      "logs:PutResourcePolicy",
      "logs:UpdateLogDelivery",
    ]
    resources = ["*"]
  }

}

data "aws_iam_policy_document" "network" {
  #checkov:skip=CKV_AWS_111:A network's rules and endpoints have no name before they are made
  # With a VPC only. What is made there gets its name from AWS, and has to get the project's tag; what is changed or removed has
  # to have it. Others' subnets and route tables are only named in what is made.
  statement {
    sid       = "MakeTheNetworksParts"
    actions   = ["ec2:CreateSecurityGroup", "ec2:CreateVpcEndpoint"]
    resources = [for kind in ["security-group", "vpc-endpoint"] : "arn:${local.partition}:ec2:${local.here}:${kind}/*"]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/project"
      values   = [local.name]
    }
  }

  statement {
    sid       = "NameWhereTheyAre"
    actions   = ["ec2:CreateSecurityGroup", "ec2:CreateVpcEndpoint"]
    resources = [for kind in ["route-table", "subnet", "vpc"] : "arn:${local.partition}:ec2:${local.here}:${kind}/*"]
  }

  statement {
    sid       = "TagWhatIsMade"
    actions   = ["ec2:CreateTags"]
    resources = [for kind in ["security-group", "security-group-rule", "vpc-endpoint"] : "arn:${local.partition}:ec2:${local.here}:${kind}/*"]

    condition {
      test     = "StringEquals"
      variable = "ec2:CreateAction"
      values   = ["AuthorizeSecurityGroupEgress", "AuthorizeSecurityGroupIngress", "CreateSecurityGroup", "CreateVpcEndpoint"]
    }
  }

  statement {
    sid       = "MakeRules"
    actions   = ["ec2:AuthorizeSecurityGroupEgress", "ec2:AuthorizeSecurityGroupIngress"]
    resources = ["arn:${local.partition}:ec2:${local.here}:security-group-rule/*"]
  }

  statement {
    sid = "ChangeTheNetworksParts"
    actions = [
      "ec2:AuthorizeSecurityGroupEgress",
      "ec2:AuthorizeSecurityGroupIngress",
      "ec2:CreateVpcEndpoint",
      "ec2:DeleteSecurityGroup",
      "ec2:DeleteVpcEndpoints",
      "ec2:ModifySecurityGroupRules",
      "ec2:ModifyVpcEndpoint",
      "ec2:RevokeSecurityGroupEgress",
      "ec2:RevokeSecurityGroupIngress",
    ]
    resources = [for kind in ["security-group", "security-group-rule", "vpc-endpoint"] : "arn:${local.partition}:ec2:${local.here}:${kind}/*"]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/project"
      values   = [local.name]
    }
  }
}

locals {
  policies = {
    read    = data.aws_iam_policy_document.read.json
    write   = data.aws_iam_policy_document.write.json
    network = data.aws_iam_policy_document.network.json
  }
}

# Policies of their own, 6144 characters each: together they would be more than the 10240 that a role has inside it.
resource "aws_iam_policy" "github" {
  for_each = local.policies

  name        = "${local.name}-github-${each.key}"
  description = "What workflows of ${var.repository} may ${each.key} of ${local.name}"
  policy      = each.value
}

resource "aws_iam_role_policy_attachment" "plan" {
  role       = aws_iam_role.github["plan"].name
  policy_arn = aws_iam_policy.github["read"].arn
}

resource "aws_iam_role_policy_attachment" "apply" {
  for_each = local.policies

  role       = aws_iam_role.github["apply"].name
  policy_arn = aws_iam_policy.github[each.key].arn
}
