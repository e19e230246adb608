"""Terraform begins first of all tests (tests/order.py): what it waits for passes while others run."""

from __future__ import annotations

from tests.aws.deployed.terraform import Deployment


def test_terraform_takes_the_configuration_and_begins(deploying: Deployment) -> None:
    assert deploying.begun
