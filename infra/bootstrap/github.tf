# GitHub's workflows take a role by a token that says which repository they run in: no key is stored anywhere.

resource "aws_iam_openid_connect_provider" "github" {
  url            = "https://token.actions.githubusercontent.com"
  client_id_list = ["sts.amazonaws.com"]
}

locals {
  # A pull request may plan, and so may the main branch. To apply, a workflow has to run in the environment.
  subjects = {
    plan  = ["repo:${var.repository}:pull_request", "repo:${var.repository}:ref:refs/heads/main"]
    apply = ["repo:${var.repository}:environment:${var.environment}"]
  }

  role_names = { for name in ["plan", "apply"] : name => "${local.name}-github-${name}" }

  state_key = "totes.tfstate"
}

data "aws_iam_policy_document" "trust" {
  for_each = local.subjects

  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = [aws_iam_openid_connect_provider.github.arn]
    }

    condition {
      test     = "StringEquals"
      variable = "token.actions.githubusercontent.com:aud"
      values   = ["sts.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "token.actions.githubusercontent.com:sub"
      values   = each.value
    }
  }
}

resource "aws_iam_role" "github" {
  for_each = local.subjects

  name               = local.role_names[each.key]
  description        = "Lets workflows of ${var.repository} ${each.key} ${local.name}"
  assume_role_policy = data.aws_iam_policy_document.trust[each.key].json
}
