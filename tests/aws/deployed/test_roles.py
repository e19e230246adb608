"""What each role may do, and that it may do nothing else: tried with IAM enforced, and decided over the policies themselves."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.aws.deployed.cloud import ACCOUNT, Cloud
from tests.aws.deployed.conftest import bucket_policy, role_policies
from tests.aws.deployed.names import (
    BUCKETS,
    FUNCTIONS,
    MACHINE,
    NAME,
    QUEUE,
    SECRETS,
    TOPIC,
    arn,
    bucket,
    function,
)
from tests.aws.deployed.names import role as role_arn
from tests.aws.deployed.policies import Request, decide
from tests.aws.deployed.terraform import Deployment

OBJECT = "batches/000000000001.json"
ROWS = "staff/date=2026-01-01/1"

# Everything that somebody in the pipeline needs, and things that nobody does.
WISHES = {
    "list the ingestion lake": ("s3:ListBucket", bucket("ingestion")),
    "read the ingestion lake": ("s3:GetObject", bucket("ingestion", ROWS)),
    "add rows to the ingestion lake": ("s3:PutObject", bucket("ingestion", ROWS)),
    "add a batch to the ingestion lake": ("s3:PutObject", bucket("ingestion", OBJECT)),
    "list the processed lake": ("s3:ListBucket", bucket("processed")),
    "read the processed lake": ("s3:GetObject", bucket("processed", ROWS)),
    "add to the processed lake": ("s3:PutObject", bucket("processed", OBJECT)),
    "know the source": ("secretsmanager:GetSecretValue", "source"),
    "know the warehouse": ("secretsmanager:GetSecretValue", "warehouse"),
    "run a stage": ("lambda:InvokeFunction", function("ingest") + ":live"),
    "run another version of a stage": ("lambda:InvokeFunction", function("ingest") + ":1"),
    "publish": ("sns:Publish", TOPIC),
    "see executions": ("states:ListExecutions", MACHINE),
    "start an execution": ("states:StartExecution", MACHINE),
    "keep what was not started": ("sqs:SendMessage", QUEUE),
    "write the log of ingest": ("logs:PutLogEvents", arn("logs", f"log-group:/aws/lambda/{NAME}-ingest:log-stream:x")),
    "write the log of process": ("logs:PutLogEvents", arn("logs", f"log-group:/aws/lambda/{NAME}-process:log-stream:x")),
    "write the log of load": ("logs:PutLogEvents", arn("logs", f"log-group:/aws/lambda/{NAME}-load:log-stream:x")),
    "write the log of watch": ("logs:PutLogEvents", arn("logs", f"log-group:/aws/lambda/{NAME}-watch:log-stream:x")),
    "read the manifests": ("s3:GetObject", bucket("ingestion", OBJECT)),
    "read the processed manifests": ("s3:GetObject", bucket("processed", OBJECT)),
    "record health": ("s3:PutObject", bucket("processed", "health/000000000001.json")),
    # Nobody:
    "delete from the lake": ("s3:DeleteObject", bucket("ingestion", OBJECT)),
    "delete versions": ("s3:DeleteObjectVersion", bucket("processed", OBJECT)),
    "change a bucket's policy": ("s3:PutBucketPolicy", bucket("processed")),
    "change what expires": ("s3:PutLifecycleConfiguration", bucket("ingestion")),
    "replace the code": ("s3:PutObject", bucket("code", "totes.zip")),
    "read the code": ("s3:GetObject", bucket("code", "totes.zip")),
    "change a secret": ("secretsmanager:PutSecretValue", "source"),
    "change a function": ("lambda:UpdateFunctionCode", function("load")),
    "change the state machine": ("states:UpdateStateMachine", MACHINE),
    "run another function": ("lambda:InvokeFunction", arn("lambda", "function:other")),
    "read another bucket": ("s3:GetObject", "arn:aws:s3:::other/object"),
    "make a role": ("iam:CreateRole", f"arn:aws:iam::{ACCOUNT}:role/other"),
}  # fmt: skip
MAY = {
    "ingest": {
        "list the ingestion lake", "read the ingestion lake", "add rows to the ingestion lake",
        "add a batch to the ingestion lake", "know the source", "write the log of ingest", "read the manifests",
    },
    "process": {
        "list the ingestion lake", "read the ingestion lake", "list the processed lake", "read the processed lake",
        "add to the processed lake", "add a batch to the ingestion lake", "write the log of process",
        "read the manifests", "read the processed manifests", "record health",
    },
    "load": {
        "list the processed lake", "read the processed lake", "know the warehouse", "write the log of load",
        "read the processed manifests",
    },
    "watch": {
        "list the ingestion lake", "list the processed lake", "read the manifests", "read the processed manifests",
        "record health", "publish", "write the log of watch",
    },
    "pipeline": {"run a stage", "see executions"},
    "schedule": {"start an execution", "keep what was not started"},
}  # fmt: skip


@pytest.mark.parametrize("role", MAY)
def test_a_role_may_do_what_it_is_for_and_nothing_else(
    cloud: Cloud, deployment: Deployment, role: str
) -> None:
    policies = role_policies(cloud, f"{NAME}-{role}")
    may = set()
    for wish, (action, resource) in WISHES.items():
        if action.startswith("secretsmanager:"):
            resource = cloud.client("secretsmanager").describe_secret(SecretId=SECRETS[resource])["ARN"]
        if decide(Request(action, resource), policies) == "Allow":
            may.add(wish)
    assert may == MAY[role]


def test_no_policy_has_a_wildcard_where_a_name_can_stand(cloud: Cloud, deployment: Deployment) -> None:
    unnamed: dict[str, set[str]] = {}
    for role in MAY:
        for policy in role_policies(cloud, f"{NAME}-{role}"):
            for statement in policy["Statement"]:
                actions = (
                    statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
                )
                assert not [action for action in actions if "*" in action]
                if "*" in (
                    [statement["Resource"]]
                    if isinstance(statement["Resource"], str)
                    else statement["Resource"]
                ):
                    unnamed.setdefault(role, set()).update(actions)
    # Step Functions' log deliveries are the account's, and have no name.
    assert unnamed == {
        "pipeline": {
            "logs:CreateLogDelivery", "logs:DeleteLogDelivery", "logs:DescribeLogGroups",
            "logs:DescribeResourcePolicies", "logs:GetLogDelivery", "logs:ListLogDeliveries",
            "logs:PutResourcePolicy", "logs:UpdateLogDelivery",
        }
    }  # fmt: skip


@pytest.mark.parametrize(
    ("role", "service", "resource"),
    [
        *((name, "lambda.amazonaws.com", None) for name in FUNCTIONS),
        ("pipeline", "states.amazonaws.com", MACHINE),
        ("schedule", "scheduler.amazonaws.com", arn("scheduler", f"schedule-group/{NAME}")),
    ],
)
def test_a_role_is_taken_by_its_service_only(
    cloud: Cloud, deployment: Deployment, role: str, service: str, resource: str | None
) -> None:
    trust = cloud.client("iam").get_role(RoleName=f"{NAME}-{role}")["Role"]["AssumeRolePolicyDocument"]

    def takes(**context: str) -> bool:
        return decide(Request("sts:AssumeRole", "*", context), [trust]) == "Allow"

    ours = {"aws:PrincipalServiceName": service}
    if resource:
        ours |= {"aws:SourceAccount": ACCOUNT, "aws:SourceArn": resource}
        assert not takes(**ours | {"aws:SourceArn": resource + "-other"})
        assert not takes(**ours | {"aws:SourceAccount": "999999999999"})
    assert takes(**ours)
    assert not takes(**ours | {"aws:PrincipalServiceName": "ec2.amazonaws.com"})


def refused(call: Any, **arguments: Any) -> bool:
    """Whether AWS refuses a call for want of a permission; any other outcome is none of this test's business."""
    try:
        call(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"] in ("AccessDenied", "AccessDeniedException", "403")
    return False


def test_with_iam_enforced_each_stage_reaches_its_own_and_no_more(
    cloud: Cloud, deployment: Deployment
) -> None:
    cloud.client("secretsmanager").put_secret_value(SecretId=SECRETS["source"], SecretString="postgresql://s")
    cloud.client("secretsmanager").put_secret_value(
        SecretId=SECRETS["warehouse"], SecretString="postgresql://w"
    )
    credentials = {role: cloud.assume(f"{NAME}-{role}") for role in MAY}
    tried = {}
    for role, given in credentials.items():
        s3, secrets = cloud.client("s3", given), cloud.client("secretsmanager", given)
        states, sns = cloud.client("stepfunctions", given), cloud.client("sns", given)
        new = {"Key": f"tried/{role}", "Body": b"{}", "IfNoneMatch": "*"}
        tried[role] = {
            wish
            for wish, call, arguments in [
                ("list the ingestion lake", s3.list_objects_v2, {"Bucket": BUCKETS["ingestion"]}),
                ("add rows to the ingestion lake", s3.put_object, {"Bucket": BUCKETS["ingestion"], **new}),
                ("add a batch to the ingestion lake", s3.put_object,
                 {"Bucket": BUCKETS["ingestion"], **new, "Key": f"batches/tried-{role}"}),
                ("list the processed lake", s3.list_objects_v2, {"Bucket": BUCKETS["processed"]}),
                ("add to the processed lake", s3.put_object, {"Bucket": BUCKETS["processed"], **new}),
                ("record health", s3.put_object, {"Bucket": BUCKETS["processed"], **new, "Key": f"health/tried-{role}"}),
                ("replace the code", s3.put_object, {"Bucket": BUCKETS["code"], **new}),
                ("delete from the lake", s3.delete_object, {"Bucket": BUCKETS["ingestion"], "Key": "tried/ingest"}),
                ("know the source", secrets.get_secret_value, {"SecretId": SECRETS["source"]}),
                ("know the warehouse", secrets.get_secret_value, {"SecretId": SECRETS["warehouse"]}),
                ("see executions", states.list_executions, {"stateMachineArn": MACHINE}),
                ("publish", sns.publish, {"TopicArn": TOPIC, "Message": "tried"}),
            ]
            if not refused(call, **arguments)
        }  # fmt: skip
    asked = set().union(*tried.values()) | {"delete from the lake", "replace the code"}
    assert tried == {role: may & asked for role, may in MAY.items()}


def test_the_lake_takes_an_object_once_and_keeps_it(cloud: Cloud, deployment: Deployment) -> None:
    s3, where = cloud.client("s3"), {"Bucket": BUCKETS["processed"], "Key": "tried/once"}
    assert refused(s3.put_object, **where, Body=b"without saying that it must be new")
    s3.put_object(**where, Body=b"first", IfNoneMatch="*")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.put_object(**where, Body=b"second", IfNoneMatch="*")
    assert s3.get_object(**where)["Body"].read() == b"first"


@pytest.mark.parametrize("store", ["ingestion", "processed"])
def test_the_lakes_own_policy_holds_whatever_else_is_allowed(
    cloud: Cloud, deployment: Deployment, store: str
) -> None:
    everything = {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    policies = [bucket_policy(cloud, BUCKETS[store]), everything]

    def decided(action: str, **context: str) -> str:
        known = {
            "aws:SecureTransport": "true",
            "aws:PrincipalArn": f"arn:aws:iam::{ACCOUNT}:role/administrator",
        }
        given = {name.replace("_", ":", 1).replace("_", "-"): value for name, value in context.items()}
        return decide(Request(action, bucket(store, OBJECT), known | given), policies)

    creating = {"s3_ObjectCreationOperation": "true"}
    assert decided("s3:GetObject") == "Allow"
    assert decided("s3:GetObject", aws_SecureTransport="false") == "Deny"
    assert decided("s3:PutObject", **creating) == "Deny"
    assert decided("s3:PutObject", **creating, s3_if_none_match="*") == "Allow"
    assert (
        decided("s3:PutObject", s3_ObjectCreationOperation="false") == "Allow"
    )  # a part of a multipart upload
    for action in (
        "s3:DeleteObject",
        "s3:DeleteObjectVersion",
        "s3:PutBucketPolicy",
        "s3:PutBucketVersioning",
    ):
        assert decided(action) == "Allow", "a person who may can still put things right"
        for name in MAY:
            assert decided(action, aws_PrincipalArn=role_arn(name)) == "Deny"
