# Where the databases are not public: the functions inside a VPC, which they leave for nothing. Without var.vpc, none of it.
#
# Others use the VPC too, and nothing changes for them: no endpoint made here answers to a name that they use, and endpoints,
# security groups and policies of others stay as they are.

locals {
  vpc = var.vpc[*] # none or one

  # Endpoints that are made, and those that are there.
  made  = { for service in ["s3", "secretsmanager"] : service => [for vpc in local.vpc : vpc.id if vpc.endpoint_ids[service] == null] }
  there = { for service in ["s3", "secretsmanager"] : service => compact(flatten(local.vpc[*].endpoint_ids[service])) }

  prefix_list_id = one(concat(aws_vpc_endpoint.lake[*].prefix_list_id, data.aws_vpc_endpoint.lake[*].prefix_list_id))

  # By the endpoint's own name, not by the service's, which is resolved for the whole VPC.
  secrets_address = one(concat(aws_vpc_endpoint.secrets[*].dns_entry[0].dns_name, data.aws_vpc_endpoint.secrets[*].dns_entry[0].dns_name))

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
  prefix_list_id    = local.prefix_list_id
  from_port         = 443
  to_port           = 443
  ip_protocol       = "tcp"
}

resource "aws_vpc_security_group_egress_rule" "secrets" {
  for_each = toset(length(local.made.secretsmanager) > 0 ? ["made"] : flatten(data.aws_vpc_endpoint.secrets[*].security_group_ids))

  security_group_id            = aws_security_group.functions[0].id
  description                  = "Secrets Manager, through its endpoint"
  referenced_security_group_id = each.key == "made" ? aws_security_group.secrets[0].id : each.key
  from_port                    = 443
  to_port                      = 443
  ip_protocol                  = "tcp"
}

resource "aws_security_group" "secrets" {
  #checkov:skip=CKV2_AWS_5:The endpoint of Secrets Manager is in it
  count = length(local.made.secretsmanager)

  name        = "${local.name}-secrets"
  description = "The endpoint of Secrets Manager: only the functions of ${local.name} reach it"
  vpc_id      = var.vpc.id

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "secrets" {
  count = length(local.made.secretsmanager)

  security_group_id            = aws_security_group.secrets[0].id
  description                  = "The functions"
  referenced_security_group_id = aws_security_group.functions[0].id
  from_port                    = 443
  to_port                      = 443
  ip_protocol                  = "tcp"
}

data "aws_vpc_endpoint" "lake" {
  count = length(local.there.s3)

  id = local.there.s3[count.index]

  lifecycle {
    postcondition {
      condition     = self.vpc_endpoint_type == "Gateway" && self.vpc_id == var.vpc.id
      error_message = "vpc.endpoint_ids.s3 must be a gateway endpoint of that VPC."
    }
  }
}

# A gateway costs nothing. What else the subnets of these route tables read from S3 goes through it from then on; it limits
# no one: the functions' own policies do.
resource "aws_vpc_endpoint" "lake" {
  count = length(local.made.s3)

  vpc_id            = var.vpc.id
  service_name      = "com.amazonaws.${var.region}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = var.vpc.route_table_ids
}

data "aws_vpc_endpoint" "secrets" {
  count = length(local.there.secretsmanager)

  id = local.there.secretsmanager[count.index]

  lifecycle {
    postcondition {
      condition     = self.vpc_endpoint_type == "Interface" && self.vpc_id == var.vpc.id
      error_message = "vpc.endpoint_ids.secretsmanager must be an interface endpoint of that VPC."
    }
  }
}

data "aws_iam_policy_document" "secrets_endpoint" {
  count = length(local.made.secretsmanager)

  statement {
    sid       = "ReadTheTwoSecrets"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = [for secret in local.secrets : secret.arn]

    principals {
      type        = "AWS"
      identifiers = [module.ingest.role_arn, module.load.role_arn]
    }
  }
}

# Without a private name: with one, every other reader of secrets in the VPC would be sent here, and refused by the policy.
resource "aws_vpc_endpoint" "secrets" {
  count = length(local.made.secretsmanager)

  vpc_id              = var.vpc.id
  service_name        = "com.amazonaws.${var.region}.secretsmanager"
  vpc_endpoint_type   = "Interface"
  subnet_ids          = var.vpc.subnet_ids
  security_group_ids  = [aws_security_group.secrets[0].id]
  private_dns_enabled = false
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
