"""Moto on loopback, with what it lacks of AWS put in. Its import takes seconds: only who starts it has it."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import flask
from moto.awslambda_simple.models import LambdaSimpleBackend
from moto.backends import get_backend
from moto.core.authorization import ActionAuthenticatorMixin
from moto.core.config import default_user_config
from moto.core.responses import ActionResult
from moto.iam.access_control import IAMPolicy, IAMRequestBase, PermissionResult
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
from moto.s3.models import FakeBucket
from moto.s3.responses import S3Response
from moto.stepfunctions.parser.asl.component.common.retry import retrier_decl
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_aws_sdk import (
    StateTaskServiceAwsSdk,
)
from moto.stepfunctions.responses import StepFunctionResponse
from werkzeug.datastructures import Headers

from tests.aws.deployed.cloud import ACCOUNT, REGION, Cloud
from tests.aws.deployed.policies import Request, decide

# Keys that may do everything: the account's owner, whom Terraform is run by, and what moto's state machines sign with.
_UNRESTRICTED = ("testing", "ak")


@contextmanager
def started() -> Iterator[Cloud]:
    """Starts moto, with what it lacks put in, and stops it."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    cloud = Cloud(f"http://127.0.0.1:{port}")
    own = {
        "stepfunctions": {"execute_state_machine": True},
        "lambda": {"use_docker": False},
    }
    with (
        patch.dict(os.environ, {**cloud.environment, "MOTO_PORT": str(port)}),
        patch.dict(default_user_config, own),
        patch.object(LambdaSimpleBackend, "invoke", _invoke(cloud)),
        patch.object(ActionAuthenticatorMixin, "request_count", float("inf")),
        patch.object(
            ActionAuthenticatorMixin,
            "_authenticate_and_authorize_action",
            _unless_unrestricted(ActionAuthenticatorMixin._authenticate_and_authorize_action),
        ),
        patch.object(S3Response, "put_object", _with_checksum(S3Response.put_object)),
        patch.object(FakeBucket, "get_permission", _permission),
        patch.object(IAMRequestBase, "check_action_permitted", _check_permission),
        patch.object(retrier_decl, "time", SimpleNamespace(sleep=cloud.pauses.append)),
        patch.object(StateTaskServiceAwsSdk, "_normalise_parameters", _as_clients_take_it),
        patch.object(StateTaskServiceAwsSdk, "_normalise_response", _as_states_give_it),
        patch.object(StepFunctionResponse, "validate_state_machine_definition", _valid, create=True),
        patch.object(StepFunctionResponse, "list_state_machine_versions", _no_versions, create=True),
    ):
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        server.start()
        try:
            yield cloud
        finally:
            server.stop()


def _invoke(cloud: Cloud) -> Any:
    def invoke(
        _: Any, name: str, _qualifier: Any, body: Any, _headers: Any, headers: dict[str, str]
    ) -> bytes:
        # A name, or the ARN of an alias of a function: …:function:<name>:live
        return cloud.invoke(name.split(":")[6] if name.startswith("arn:") else name, body, headers)

    return invoke


def _with_checksum(original: Any) -> Any:
    """With Object Lock, S3 takes an object with the header of any checksum; moto knows only two that S3's own clients send."""

    def put(self: Any, *arguments: Any) -> Any:
        if "x-amz-checksum-sha256" in self.headers:
            self.headers = Headers([*self.headers.items(), ("x-amz-sdk-checksum-algorithm", "SHA256")])
        return original(self, *arguments)

    return put


def _permission(bucket: FakeBucket, action: str, resource: str) -> PermissionResult:
    """What the bucket's policy says of the request that is being answered, conditions included."""
    if bucket.policy is None:
        return PermissionResult.NEUTRAL
    headers = flask.request.headers
    context = {
        "aws:SecureTransport": "true",  # as it would be: no certificate is needed to talk to oneself
        "aws:PrincipalArn": _principal(headers.get("Authorization", "")),
        "s3:ObjectCreationOperation": str(
            action == "s3:PutObject" and "partNumber" not in flask.request.args
        ).lower(),
    }
    if "If-None-Match" in headers:
        context["s3:if-none-match"] = headers["If-None-Match"]
    decision = decide(Request(action, resource, context), [json.loads(bucket.policy)])
    return {"Allow": PermissionResult.PERMITTED, "Deny": PermissionResult.DENIED}.get(
        decision, PermissionResult.NEUTRAL
    )


def _unless_unrestricted(original: Any) -> Any:
    """IAM is enforced for all who have taken a role."""

    def authorize(self: Any, *arguments: Any, **named: Any) -> None:
        if _key(self.headers.get("Authorization", "")) not in _UNRESTRICTED:
            original(self, *arguments, **named)

    return authorize


def _key(authorization: str) -> str:
    """The key that a request is signed with."""
    return authorization.partition("Credential=")[2].partition("/")[0]


def _check_permission(request: IAMRequestBase, resource: str) -> None:
    """Whether the policies of who asks allow it. Moto knows the resource in S3 only, and would take any other for `*`."""
    known = resource if resource != "*" else _resource(request._action, request._body)
    policies = [IAMPolicy(policy)._policy_json for policy in request._access_key.collect_policies()]
    if (
        request._action != "sts:GetCallerIdentity"
        and decide(Request(request._action, known), policies) != "Allow"
    ):
        request._raise_access_denied()


def _resource(action: str, body: Any) -> str:
    """The ARN of what a request is about."""
    service = action.partition(":")[0]
    said = json.loads(body) if body and body[:1] in (b"{", "{") else {}
    if service == "secretsmanager":
        return str(get_backend("secretsmanager")[ACCOUNT][REGION].secrets[said["SecretId"]].arn)
    if service == "lambda":
        return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{flask.request.path.split('/')[3]}"
    if service == "sns":
        return str(flask.request.form["TopicArn"])
    if service == "sqs":
        return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{said['QueueUrl'].rpartition('/')[2]}"
    if service == "states":
        return str(said["stateMachineArn"])
    return "*"


def _principal(authorization: str) -> str:
    """The ARN of the role that has signed a request, or that of the account's owner."""
    session = get_backend("sts")[ACCOUNT]["aws"].get_assumed_role_from_access_key(_key(authorization))
    return session.role_arn if session else f"arn:aws:iam::{ACCOUNT}:root"


def _as_clients_take_it(_: Any, parameters: dict[str, Any], *_names: Any) -> None:
    """A state names a call's parameters StateMachineArn, a client stateMachineArn. Moto does not turn one into the other."""
    for name in list(parameters):
        parameters[name[0].lower() + name[1:]] = parameters.pop(name)


def _as_states_give_it(_: Any, response: dict[str, Any], *_names: Any) -> None:
    """The same of what a call gives; times are texts."""
    for name in list(response):
        value = response.pop(name)
        for entry in value if isinstance(value, list) else [value]:
            if isinstance(entry, dict):
                _as_states_give_it(_, entry)
        response[name[0].upper() + name[1:]] = str(value) if isinstance(value, datetime) else value


def _valid(_: StepFunctionResponse) -> ActionResult:
    """The provider asks before it makes a state machine. That the definition is sound is statelint's to say."""
    return ActionResult({"result": "OK", "diagnostics": []})


def _no_versions(_: StepFunctionResponse) -> ActionResult:
    return ActionResult({"stateMachineVersions": []})
