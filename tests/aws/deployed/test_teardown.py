"""The end of all that infra/ makes; no test of the deployment comes after it."""

from __future__ import annotations

import pytest

from tests.aws.deployed.cloud import Cloud
from tests.aws.deployed.conftest import bucket_policy, what_is_left
from tests.aws.deployed.names import BUCKETS
from tests.aws.deployed.terraform import Deployment, TerraformFailed


def test_only_the_lake_is_left_of_what_was_made(cloud: Cloud, deployment: Deployment) -> None:
    with pytest.raises(TerraformFailed, match="Instance cannot be destroyed"):
        deployment.run("plan", "-input=false", "-var=project=other")
    deployment.remove()
    assert deployment.resources() == []
    lake = [BUCKETS["ingestion"], BUCKETS["processed"]]
    assert set(what_is_left(cloud)) == {f"s3: {bucket}" for bucket in lake}
    for bucket in lake:
        assert cloud.client("s3").get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
        assert bucket_policy(cloud, bucket)["Statement"]
