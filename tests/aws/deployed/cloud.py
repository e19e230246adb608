"""AWS as moto plays it, on loopback: real requests to a server, state machines that run, and functions as a test says.

IAM is enforced: who has taken a role may do what its policies allow. The state machine's own calls are not subject to
it, for moto makes them in nobody's name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

ACCOUNT = "123456789012"
REGION = "eu-west-2"

# What a function gives for an event; an error that it raises becomes the function's, with its class as the type.
Function = Callable[[dict[str, Any]], dict[str, Any]]


class FunctionFailed(Exception):
    """A function ended otherwise than by an error of this process: its own process said so, or Lambda ended it."""

    def __init__(self, kind: str, message: str = "") -> None:
        super().__init__(message)
        self.kind = kind


@dataclass
class Cloud:
    """A running moto. `functions` says what stands in for the deployed functions, by the end of their names."""

    endpoint: str
    functions: dict[str, Function] = field(default_factory=dict)
    pauses: list[float] = field(default_factory=list)  # before retries, in seconds; nobody waits for them

    @property
    def environment(self) -> dict[str, str]:
        """What makes clients, Terraform and the deployed code come here, and nowhere else."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "1",
        }

    def client(self, service: str, credentials: Mapping[str, str] | None = None) -> Any:
        """A client of a service, as an administrator or with other credentials."""
        import boto3

        given = credentials or {"AccessKeyId": "testing", "SecretAccessKey": "testing"}
        return boto3.client(
            service,  # type: ignore[call-overload]
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=given["AccessKeyId"],
            aws_secret_access_key=given["SecretAccessKey"],
            aws_session_token=given.get("SessionToken"),
        )

    def notifications(self, topic: str) -> list[tuple[str, str]]:
        """Subject and text of all that was published to a topic, oldest first."""
        from moto.backends import get_backend

        sent = get_backend("sns")[ACCOUNT][REGION].topics[topic].sent_notifications
        return [(subject, message) for _, message, subject, *_ in sent]

    def assume(self, role: str) -> dict[str, str]:
        """Credentials of a role, as the service gets them that the role is for."""
        arn = f"arn:aws:iam::{ACCOUNT}:role/{role}"
        assumed: dict[str, str] = self.client("sts").assume_role(RoleArn=arn, RoleSessionName="test")[
            "Credentials"
        ]
        return assumed

    def invoke(self, name: str, body: Any, headers: dict[str, str]) -> bytes:
        """Answers as Lambda does: with the function's result, or with its error and a header that says that it is one."""
        try:
            function = self.functions[name.rpartition("-")[2]]
            return json.dumps(function(json.loads(body))).encode()
        except Exception as error:
            headers["x-amz-function-error"] = "Unhandled"
            kind = error.kind if isinstance(error, FunctionFailed) else type(error).__name__
            return json.dumps({"errorMessage": str(error), "errorType": kind, "stackTrace": []}).encode()
