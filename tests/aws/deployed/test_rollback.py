"""`make rollback`: the functions go back to the package before, all of them or none."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile

from tests.aws.deployed.cloud import ACCOUNT, Cloud
from tests.aws.deployed.terraform import INFRA

FUNCTIONS = {stage: f"rolled-{stage}" for stage in ("ingest", "load")}


def package(content: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("code.py", content)
    return made.getvalue()


def roll_back(cloud: Cloud) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, INFRA / "rollback.py"], input=json.dumps(FUNCTIONS), env=cloud.environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_functions_go_back_to_the_package_before(cloud: Cloud) -> None:
    client = cloud.client("lambda")

    def live() -> dict[str, str]:
        found = (client.get_alias(FunctionName=name, Name="live") for name in FUNCTIONS.values())
        return dict(zip(FUNCTIONS, (alias["FunctionVersion"] for alias in found), strict=True))

    role = cloud.client("iam").create_role(RoleName="rolled", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    assert role.startswith(f"arn:aws:iam::{ACCOUNT}")
    for stage, name in FUNCTIONS.items():
        client.create_function(
            FunctionName=name, Runtime="python3.13", Role=role, Handler="code.run",
            Code={"ZipFile": package("one")}, Publish=True,
        )  # fmt: skip
        client.update_function_code(FunctionName=name, ZipFile=package("two"), Publish=True)
        if stage == "load":  # the same package with other settings is a version too
            client.update_function_configuration(FunctionName=name, MemorySize=512)
            client.publish_version(FunctionName=name)
        versions = client.list_versions_by_function(FunctionName=name)["Versions"]
        newest = max(int(one["Version"]) for one in versions if one["Version"] != "$LATEST")
        client.create_alias(FunctionName=name, Name="live", FunctionVersion=str(newest))

    done = roll_back(cloud)
    assert done.returncode == 0, done.stderr
    assert live() == {"ingest": "1", "load": "1"}
    assert "rolled-ingest: version 1 is live, instead of 2" in done.stdout
    again = roll_back(cloud)
    assert again.returncode == 1
    assert "no earlier package of rolled-ingest, rolled-load; nothing was changed" in again.stderr
    for name in FUNCTIONS.values():
        client.delete_function(FunctionName=name)
    cloud.client("iam").delete_role(RoleName="rolled")
