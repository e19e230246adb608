# Where the databases are not public: the functions inside a VPC, which they leave for nothing. Without var.vpc, none of it.

locals {
  vpc = var.vpc[*] # none or one

  network = var.vpc == null ? null : {
    subnet_ids        = var.vpc.subnet_ids
    security_group_id = aws_security_group.functions[0].id
    policy            = data.aws_iam_policy_document.network[0].json
  }

  ec2 = "arn:${local.partition}:ec2:${var.region}:${local.account}"
}

resource "aws_security_group" "functions" {
  #checkov:skip=CKV2_AWS_5:The functions are in it, through the module stage_lambda
  count = length(local.vpc)

  name        = "${local.name}-functions"
  description = "The functions of ${local.name}: they reach the databases, the lake and the secrets, and nothing reaches them"
  vpc_id      = var.vpc.id

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_egress_rule" "databases" {
  for_each = { for pair in setproduct(flatten(local.vpc[*].database_cidrs), flatten(local.vpc[*].database_ports)) : join("-", pair) => pair }

  security_group_id = aws_security_group.functions[0].id
  description       = "The databases"
  cidr_ipv4         = each.value[0]
  from_port         = each.value[1]
  to_port           = each.value[1]
  ip_protocol       = "tcp"
}

resource "aws_vpc_security_group_egress_rule" "lake" {
  count = length(local.vpc)

  security_group_id = aws_security_group.functions[0].id
  description       = "S3, through its endpoint"
  prefix_list_id    = aws_vpc_endpoint.lake[0].prefix_list_id
  from_port         = 443
  to_port           = 443
  ip_protocol       = "tcp"
}

resource "aws_vpc_security_group_egress_rule" "secrets" {
  count = length(local.vpc)

  security_group_id            = aws_security_group.functions[0].id
  description                  = "Secrets Manager, through its endpoint"
  referenced_security_group_id = aws_security_group.secrets[0].id
  from_port                    = 443
  to_port                      = 443
  ip_protocol                  = "tcp"
}

resource "aws_security_group" "secrets" {
  #checkov:skip=CKV2_AWS_5:The endpoint of Secrets Manager is in it
  count = length(local.vpc)

  name        = "${local.name}-secrets"
  description = "The endpoint of Secrets Manager: only the functions of ${local.name} reach it"
  vpc_id      = var.vpc.id

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "secrets" {
  count = length(local.vpc)

  security_group_id            = aws_security_group.secrets[0].id
  description                  = "The functions"
  referenced_security_group_id = aws_security_group.functions[0].id
  from_port                    = 443
  to_port                      = 443
  ip_protocol                  = "tcp"
}

# A gateway costs nothing. Other buckets that the same subnets read through it are none of ours, so it limits no one:
# the functions' own policies do.
resource "aws_vpc_endpoint" "lake" {
  count = length(local.vpc)

  vpc_id            = var.vpc.id
  service_name      = "com.amazonaws.${var.region}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = var.vpc.route_table_ids
}

data "aws_iam_policy_document" "secrets_endpoint" {
  count = length(local.vpc)

  statement {
    sid       = "ReadTheTwoSecrets"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = [aws_secretsmanager_secret.source.arn, aws_secretsmanager_secret.warehouse.arn]

    principals {
      type        = "AWS"
      identifiers = [module.ingest.role_arn, module.load.role_arn]
    }
  }
}

resource "aws_vpc_endpoint" "secrets" {
  count = length(local.vpc)

  vpc_id              = var.vpc.id
  service_name        = "com.amazonaws.${var.region}.secretsmanager"
  vpc_endpoint_type   = "Interface"
  subnet_ids          = var.vpc.subnet_ids
  security_group_ids  = [aws_security_group.secrets[0].id]
  private_dns_enabled = true
  policy              = data.aws_iam_policy_document.secrets_endpoint[0].json
}

# Lambda makes network interfaces in a function's name. It names them itself, and the calls that describe know no
# resource: for these no name can stand. The last statement keeps the functions' own code from all of it.
data "aws_iam_policy_document" "network" {
  #checkov:skip=CKV_AWS_111:Interfaces have no name before they are made; subnets and security group are named
  #checkov:skip=CKV_AWS_356:The calls that describe know no resource
  count = length(local.vpc)

  statement {
    sid     = "MakeInterfaces"
    actions = ["ec2:CreateNetworkInterface"]
    resources = concat(
      [for subnet in var.vpc.subnet_ids : "${local.ec2}:subnet/${subnet}"],
      [aws_security_group.functions[0].arn, "${local.ec2}:network-interface/*"],
    )
  }

  statement {
    sid       = "KeepInterfaces"
    actions   = ["ec2:AssignPrivateIpAddresses", "ec2:DeleteNetworkInterface", "ec2:UnassignPrivateIpAddresses"]
    resources = ["${local.ec2}:network-interface/*"]
  }

  statement {
    sid       = "SeeInterfaces"
    actions   = ["ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets"]
    resources = ["*"]
  }

  statement {
    sid    = "NotTheCodeItself"
    effect = "Deny"
    actions = [
      "ec2:AssignPrivateIpAddresses",
      "ec2:CreateNetworkInterface",
      "ec2:DeleteNetworkInterface",
      "ec2:DescribeNetworkInterfaces",
      "ec2:DescribeSubnets",
      "ec2:UnassignPrivateIpAddresses",
    ]
    resources = ["*"]

    condition {
      test     = "ArnEquals"
      variable = "lambda:SourceFunctionArn"
      values   = [for stage in ["ingest", "process", "load"] : "arn:${local.partition}:lambda:${var.region}:${local.account}:function:${local.name}-${stage}"]
    }
  }
}
