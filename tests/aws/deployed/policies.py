"""What IAM policies say of a request, by IAM's own rules: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html

Moto reads actions and resources of policies, and passes over conditions. This does not, as far as infra/ has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Request:
    """Someone's wish to do something to a resource; `context` has what conditions can ask for, if it is known."""

    action: str
    resource: str
    context: Mapping[str, str] = field(default_factory=dict)


def decide(request: Request, policies: Iterable[Mapping[str, Any]]) -> str:
    """`Deny` where a statement denies, otherwise `Allow` where one allows, otherwise nothing."""
    effects = {
        statement["Effect"]
        for policy in policies
        for statement in _listed(policy["Statement"])
        if _concerns(statement, request)
    }
    return next((effect for effect in ("Deny", "Allow") if effect in effects), "")


def _concerns(statement: Mapping[str, Any], request: Request) -> bool:
    return (
        any(matches(pattern.lower(), request.action.lower()) for pattern in _listed(statement["Action"]))
        and any(matches(pattern, request.resource) for pattern in _listed(statement.get("Resource", "*")))
        and _is_principal(statement.get("Principal", "*"), request)
        and all(
            _holds(operator, _listed(values), request.context.get(key))
            for operator, keys in statement.get("Condition", {}).items()
            for key, values in keys.items()
        )
    )


def _is_principal(principal: Any, request: Request) -> bool:
    if principal == "*":
        return True
    named = {name for kind in ("AWS", "Service") for name in _listed(principal.get(kind, []))}
    return bool(
        named
        & {"*", request.context.get("aws:PrincipalArn"), request.context.get("aws:PrincipalServiceName")}
    )


def _holds(operator: str, values: list[str], actual: str | None) -> bool:
    if operator == "Null":
        return str(actual is None).lower() in values
    if actual is None:
        return False
    if operator in ("StringEquals", "Bool"):
        return actual in values
    if operator in ("StringLike", "ArnEquals", "ArnLike"):
        return any(matches(pattern, actual) for pattern in values)
    raise NotImplementedError(f"the condition {operator}")


def matches(pattern: str, text: str) -> bool:
    """Whether a text is one that a pattern with `*` and `?` stands for."""
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(expression, text, re.DOTALL) is not None


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
