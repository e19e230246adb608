"""The names that infra/ gives, by its own rules: what is where, without asking Terraform."""

from __future__ import annotations

from tests.aws.deployed.cloud import ACCOUNT, REGION

PROJECT = "terrifictotes"
NAME = f"totes-{PROJECT}"
STAGES = ("ingest", "process", "load")
FUNCTIONS = (*STAGES, "watch")
BUCKETS = {store: f"{NAME}-{store}-{ACCOUNT}" for store in ("ingestion", "processed", "code")}
SECRETS = {database: f"totes/{PROJECT}/{database}" for database in ("source", "warehouse")}


def arn(service: str, resource: str) -> str:
    """The ARN of a resource in the account's region."""
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}"


def bucket(store: str, key: str = "") -> str:
    """The ARN of a bucket, or of an object in it."""
    return f"arn:aws:s3:::{BUCKETS[store]}" + (f"/{key}" if key else "")


def function(stage: str) -> str:
    """The ARN of a stage's function."""
    return arn("lambda", f"function:{NAME}-{stage}")


def role(name: str) -> str:
    """The ARN of a role."""
    return f"arn:aws:iam::{ACCOUNT}:role/{NAME}-{name}"


MACHINE = arn("states", f"stateMachine:{NAME}")
TOPIC = arn("sns", f"{NAME}-alerts")
QUEUE = arn("sqs", f"{NAME}-unstarted")
