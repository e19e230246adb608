"""What kinds of values settings have besides text and numbers, and how each is read."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, SecretStr

from totes.secrets import PREFIX as SECRETS_MANAGER
from totes.urls import server_fault, store_fault

_DURATION_MAX = timedelta(days=3650)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def duration(value: object) -> timedelta:
    """Reads `90s`, `15m`, `1h30m` or `2d`.

    Raises:
        ValueError: it is none of these, not longer than zero, or longer than ten years.
    """
    if isinstance(value, timedelta):
        return value
    parts = re.findall(r"(\d+)\s*([smhd])", str(value).strip())
    if not parts or re.sub(r"(\d+)\s*([smhd])\s*", "", str(value).strip()):
        raise ValueError("write a duration such as 90s, 15m or 1h30m")
    try:
        length = sum((timedelta(**{_UNITS[unit]: int(number)}) for number, unit in parts), timedelta())
    except OverflowError:
        length = timedelta.max
    if length > _DURATION_MAX:
        raise ValueError(f"a duration must be at most {_DURATION_MAX.days} days")
    if not length:
        raise ValueError("a duration must be longer than zero")
    return length


Duration = Annotated[timedelta, BeforeValidator(duration)]


def _memory(value: str) -> str:
    if not re.fullmatch(r"\d+(\.\d+)?\s*[KMGT]i?B", value, re.IGNORECASE):
        raise ValueError("write a size such as 512MB or 4GB")
    return value


def _one_of(*beginnings: str, or_none: bool = False) -> AfterValidator:
    """Accepts only a URL that begins in one of these ways; the message does not show it, since it is a secret."""

    def check(url: SecretStr) -> SecretStr:
        if or_none and not url.get_secret_value():
            return url
        if not url.get_secret_value().startswith(beginnings):
            raise ValueError(f"it must begin with {', '.join(beginnings[:-1])} or {beginnings[-1]}")
        if fault := server_fault(url.get_secret_value()):
            raise ValueError(fault)
        return url

    return AfterValidator(check)


def _workers(url: SecretStr) -> SecretStr:
    if not re.fullmatch(r"local|(spark|sc)://.+|local-cluster\[\d+,\d+,\d+\]", url.get_secret_value()):
        raise ValueError("it must be local, spark://…, sc://… or local-cluster[executors,cores,megabytes]")
    return url


def _store(url: str) -> str:
    if fault := store_fault(url):
        raise ValueError(fault)
    return url


SourceUrl = Annotated[SecretStr, _one_of("postgresql://", "postgres://", SECRETS_MANAGER)]
WarehouseUrl = Annotated[SecretStr, _one_of("duckdb:///", "postgresql://", "postgres://", SECRETS_MANAGER)]
CatalogUrl = Annotated[SecretStr, _one_of("sql:", "rest:https://", "rest:http://", "glue:", or_none=True)]
StoreUrl = Annotated[str, AfterValidator(_store)]
WorkersUrl = Annotated[SecretStr, AfterValidator(_workers)]
Memory = Annotated[str, AfterValidator(_memory)]
