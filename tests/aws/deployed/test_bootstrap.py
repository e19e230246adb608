"""infra/bootstrap/, applied: what GitHub's workflows may do, and what they may not, by the policies that are there then."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.aws.deployed.cloud import ACCOUNT, Cloud
from tests.aws.deployed.conftest import prepared
from tests.aws.deployed.names import arn
from tests.aws.deployed.policies import Request, decide
from tests.aws.deployed.terraform import INFRA, Deployment

NAME = "totes-hosted"
BOUNDARY = f"arn:aws:iam::{ACCOUNT}:policy/{NAME}-boundary"
BOUNDED = {"iam:PermissionsBoundary": BOUNDARY}
ROLE = f"arn:aws:iam::{ACCOUNT}:role/{NAME}-load"
GITHUB_ROLE = f"arn:aws:iam::{ACCOUNT}:role/{NAME}-github-apply"
LAKE = f"arn:aws:s3:::{NAME}-ingestion-{ACCOUNT}"
CODE = f"arn:aws:s3:::{NAME}-code-{ACCOUNT}"
GROUP = arn("ec2", "security-group/sg-1")
OURS = {"aws:ResourceTag/project": NAME}


@dataclass(frozen=True)
class Account:
    """An account with the roles of two workflows, and what bounds the pipeline's."""

    cloud: Cloud

    def policy(self, name: str) -> dict[str, Any]:
        iam, policy = self.cloud.client("iam"), f"arn:aws:iam::{ACCOUNT}:policy/{NAME}-{name}"
        version = iam.get_policy(PolicyArn=policy)["Policy"]["DefaultVersionId"]
        found: dict[str, Any] = iam.get_policy_version(PolicyArn=policy, VersionId=version)["PolicyVersion"][
            "Document"
        ]
        return found

    def may(self, role: str, action: str, resource: str, **context: str) -> bool:
        attached = self.cloud.client("iam").list_attached_role_policies(RoleName=f"{NAME}-github-{role}")
        policies = [
            self.policy(one["PolicyName"].removeprefix(f"{NAME}-")) for one in attached["AttachedPolicies"]
        ]
        return decide(Request(action, resource, context), policies) == "Allow"


@pytest.fixture(scope="module")
def account(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    if shutil.which("terraform") is None:
        pytest.skip("there is no terraform on the PATH: nothing of infra/bootstrap/ was applied")
    made: Deployment = prepared(cloud, tmp_path_factory.mktemp("bootstrap"), INFRA / "bootstrap")
    made.apply_only(project="hosted", repository="owner/shop")
    yield Account(cloud)
    made.run("state", "rm", "aws_s3_bucket.state")
    made.run("destroy", "-auto-approve", "-input=false")
    cloud.client("s3").delete_bucket(Bucket=f"{NAME}-state-{ACCOUNT}")


@pytest.mark.parametrize("role", ["plan", "apply"])
def test_no_workflow_destroys_the_lake_or_what_protects_it(account: Account, role: str) -> None:
    for action in (
        "s3:DeleteBucket", "s3:PutLifecycleConfiguration", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy",
        "s3:PutBucketVersioning", "s3:PutBucketObjectLockConfiguration", "s3:BypassGovernanceRetention",
    ):  # fmt: skip
        assert not account.may(role, action, LAKE)
    for action in ("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion"):
        assert not account.may(role, action, f"{LAKE}/batches/000000000001.json")
    assert account.may(role, "s3:GetLifecycleConfiguration", LAKE)
    assert account.may(role, "s3:PutLifecycleConfiguration", CODE) == (role == "apply")


def test_no_workflow_gives_itself_or_a_role_more(account: Account) -> None:
    for action in ("iam:CreateRole", "iam:PutRolePolicy"):
        assert account.may("apply", action, ROLE, **BOUNDED)
        assert not account.may("apply", action, ROLE)
        assert not account.may("apply", action, ROLE, **{"iam:PermissionsBoundary": BOUNDARY + "-other"})
        assert not account.may("apply", action, GITHUB_ROLE, **BOUNDED)
        assert not account.may("plan", action, ROLE, **BOUNDED)
    for action in (
        "iam:DeleteRolePermissionsBoundary", "iam:PutRolePermissionsBoundary", "iam:AttachRolePolicy",
        "iam:UpdateAssumeRolePolicy", "iam:PassRole",
    ):  # fmt: skip
        for role in (ROLE, GITHUB_ROLE):
            assert not account.may("apply", action, role)
    for action in ("iam:CreatePolicyVersion", "iam:SetDefaultPolicyVersion", "iam:DeletePolicy"):
        assert not account.may("apply", action, BOUNDARY)
    assert account.may("apply", "iam:PassRole", ROLE, **{"iam:PassedToService": "lambda.amazonaws.com"})
    assert not account.may(
        "apply", "secretsmanager:GetSecretValue", arn("secretsmanager", "secret:totes/hosted/source-1")
    )


def test_in_a_network_only_the_pipelines_parts_are_changed(account: Account) -> None:
    for action in (
        "ec2:AuthorizeSecurityGroupIngress",
        "ec2:RevokeSecurityGroupEgress",
        "ec2:DeleteSecurityGroup",
    ):
        assert account.may("apply", action, GROUP, **OURS)
        assert not account.may("apply", action, GROUP)
    assert not account.may("apply", "ec2:CreateTags", GROUP)
    assert account.may("apply", "ec2:CreateTags", GROUP, **{"ec2:CreateAction": "CreateSecurityGroup"})


def test_the_boundary_holds_what_the_roles_need_and_no_administration(account: Account) -> None:
    boundary = [account.policy("boundary")]

    def within(action: str, resource: str) -> bool:
        return decide(Request(action, resource), boundary) == "Allow"

    assert within("s3:PutObject", f"{LAKE}/batches/1")
    assert within("lambda:InvokeFunction", arn("lambda", f"function:{NAME}-watch:live"))
    assert within("secretsmanager:GetSecretValue", arn("secretsmanager", "secret:totes/hosted/source-AbCdEf"))
    for action in (
        "iam:CreateUser",
        "iam:PutRolePolicy",
        "sts:AssumeRole",
        "s3:DeleteObject",
        "s3:PutBucketPolicy",
    ):
        assert not within(action, "*")
        assert not within(action, LAKE)
    assert not within("s3:GetObject", "arn:aws:s3:::other/object")


def test_a_workflow_applies_in_its_environment_only(account: Account) -> None:
    role = account.cloud.client("iam").get_role(RoleName=f"{NAME}-github-apply")["Role"]
    [statement] = role["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Condition"]["StringEquals"] == {
        "token.actions.githubusercontent.com:aud": "sts.amazonaws.com",
        "token.actions.githubusercontent.com:sub": "repo:owner/shop:environment:production",
    }


def test_policies_are_within_what_iam_takes(account: Account) -> None:

    for name in ("github-read", "github-write", "github-network", "boundary"):
        assert len(json.dumps(account.policy(name), separators=(",", ":"))) <= 6144
