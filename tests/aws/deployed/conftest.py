"""infra/, applied once to an emulated AWS, for all tests here; the last of them destroys it."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.aws.deployed.cloud import Cloud
from tests.aws.deployed.names import MACHINE, STAGES
from tests.aws.deployed.terraform import INFRA, Deployment, TerraformFailed

_numbers = itertools.count(1)
# The newest Python that version 5.100 of the provider knows. What the zip runs on here is this machine's in any case.
_PYTHON_MAX = (3, 13)


@pytest.fixture(scope="session")
def cloud() -> Iterator[Cloud]:
    """An empty AWS account."""
    from tests.aws.deployed import emulator

    with emulator.started() as running:
        yield running


@pytest.fixture(scope="session")
def deploying(
    cloud: Cloud, lambda_zip: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """All that infra/ makes, under way."""
    if shutil.which("terraform") is None:
        pytest.skip("there is no terraform on the PATH: nothing of infra/ was applied")
    made = prepared(cloud, tmp_path_factory.mktemp("terraform"))
    made.begin(
        package=str(lambda_zip),
        python_version="{}.{}".format(*min(sys.version_info[:2], _PYTHON_MAX)),
        architecture="arm64" if os.uname().machine in ("arm64", "aarch64") else "x86_64",
        alert_emails=["data@totes.example", "night@totes.example"],
        tags={"team": "data"},
    )
    yield made
    made.remove()


def prepared(cloud: Cloud, folder: Path, root: Path = INFRA) -> Deployment:
    """A copy of a root that can be applied; skips the test where no provider can be had."""
    try:
        return Deployment.prepared(root, folder / "infra", cloud.environment)
    except TerraformFailed as error:
        if "Failed to query available provider packages" in str(error) or "Failed to install provider" in str(
            error
        ):
            pytest.skip("the provider hashicorp/aws cannot be had: nothing of infra/ was applied")
        raise


@pytest.fixture(scope="session")
def deployment(deploying: Deployment) -> Deployment:
    """All that infra/ makes."""
    deploying.finish()
    return deploying


def what_is_left(cloud: Cloud) -> list[str]:
    """What the account holds of the pipeline. Secrets that wait for their end are left out: they can be brought back."""
    lists = {
        "s3": ("list_buckets", "Buckets", "Name"),
        "lambda": ("list_functions", "Functions", "FunctionName"),
        "iam": ("list_roles", "Roles", "RoleName"),
        "stepfunctions": ("list_state_machines", "stateMachines", "name"),
        "scheduler": ("list_schedules", "Schedules", "Name"),
        "secretsmanager": ("list_secrets", "SecretList", "Name"),
        "sns": ("list_topics", "Topics", "TopicArn"),
        "sqs": ("list_queues", "QueueUrls", None),
        "logs": ("describe_log_groups", "logGroups", "logGroupName"),
        "cloudwatch": ("describe_alarms", "MetricAlarms", "AlarmName"),
    }
    found = [
        f"{service}: {entry[name] if name else entry}"
        for service, (call, key, name) in lists.items()
        for entry in getattr(cloud.client(service), call)().get(key, [])
    ]
    return [entry for entry in found if "totes" in entry]


@dataclass
class Pipeline:
    """The deployed state machine."""

    cloud: Cloud

    def start(self) -> str:
        """Starts an execution and gives its ARN."""
        started = self.cloud.client("stepfunctions").start_execution(
            stateMachineArn=MACHINE, name=f"test-{next(_numbers)}", input='{"started_by": "test"}'
        )
        return str(started["executionArn"])

    def wait(self, execution: str, seconds_max: float = 120) -> dict[str, Any]:
        """How an execution ended."""
        client = self.cloud.client("stepfunctions")
        deadline = time.monotonic() + seconds_max
        while time.monotonic() < deadline:
            said: dict[str, Any] = client.describe_execution(executionArn=execution)
            if said["status"] != "RUNNING":
                return said
            time.sleep(0.05)
        raise AssertionError("the execution does not end")

    def run(self) -> dict[str, Any]:
        """Starts an execution and waits until it has ended."""
        return self.wait(self.start())

    def states(self, execution: str) -> list[str]:
        """The states that an execution entered, in their order."""
        history = self.cloud.client("stepfunctions").get_execution_history(
            executionArn=execution, maxResults=1000
        )
        details = (event.get("stateEnteredEventDetails") for event in history["events"])
        return [entered["name"] for entered in details if entered]


@pytest.fixture
def pipeline(cloud: Cloud, deploying: Deployment) -> Pipeline:
    """The deployed state machine, with functions that have nothing to do until a test says otherwise.

    It is made when all that it needs is. What the provider then still waits for, for most of a minute, is that the rules of
    the buckets settle: no test of executions waits for them.
    """
    while deploying.under_way and not is_there(cloud):
        time.sleep(0.1)
    cloud.pauses.clear()
    for stage in STAGES:
        cloud.functions[stage] = (
            result(captured_at="2026-01-02T03:04:05+00:00") if stage == "ingest" else result()
        )
    cloud.functions["watch"] = watched
    return Pipeline(cloud)


def watched(event: dict[str, Any]) -> dict[str, Any]:
    """What the watch gives, without what it does."""
    partly = [stage for stage, done in event["results"].items() if done and done.get("failure")]
    return {"failed": " ".join([*event["failures"], *partly]), "incidents": []}


def is_there(cloud: Cloud) -> bool:
    """Whether the state machine is made."""
    machines = cloud.client("stepfunctions").list_state_machines()["stateMachines"]
    return [machine["stateMachineArn"] for machine in machines] == [MACHINE]


def result(**more: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A function that gives what a stage gives that had nothing to do."""
    return lambda _: {"batch": None, "tables": {}, "more": False, "seconds": 0.1, **more}


def role_policies(cloud: Cloud, role: str) -> list[dict[str, Any]]:
    """The policies of a role, as they are in the account."""
    iam = cloud.client("iam")
    assert not iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]
    names = iam.list_role_policies(RoleName=role)["PolicyNames"]
    return [iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"] for name in names]


def bucket_policy(cloud: Cloud, bucket: str) -> dict[str, Any]:
    """The policy of a bucket, as it is in the account."""
    found: dict[str, Any] = json.loads(cloud.client("s3").get_bucket_policy(Bucket=bucket)["Policy"])
    return found
