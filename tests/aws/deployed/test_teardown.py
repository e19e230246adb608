"""The end of all that infra/ makes; no test of the deployment comes after it."""

from __future__ import annotations

from tests.aws.deployed.cloud import Cloud
from tests.aws.deployed.conftest import what_is_left
from tests.aws.deployed.terraform import Deployment


def test_nothing_is_left_of_what_was_made(cloud: Cloud, deployment: Deployment) -> None:
    assert what_is_left(cloud) != []
    deployment.remove()
    assert deployment.resources() == []
    assert what_is_left(cloud) == []
