"""One call of a Lambda function: what it has to work with, how it is told of, and how it fails."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from totes import engine
from totes.aws import logs
from totes.aws.report import Report, in_utc
from totes.config import load_settings
from totes.deadline import Deadline
from totes.errors import ConfigurationError, TotesError
from totes.log import logger
from totes.messages import message
from totes.pipeline import Pipeline
from totes.redaction import redact

# A stage that ends when its time does would be killed while it tells of it.
_SHARE_OF_TIME = 0.9
_log = logger()


class Context(Protocol):
    """What Lambda says of a call."""

    @property
    def aws_request_id(self) -> str:
        """The call's id."""

    def get_remaining_time_in_millis(self) -> int:
        """How long the call may go on."""


@dataclass(frozen=True)
class Invocation:
    """A call under way. The pipeline is that of the calls before; secrets are fetched anew, so that they may change."""

    stage: str
    pipeline: Pipeline
    deadline: Deadline
    captured_at: datetime | None

    def end(self, report: Report) -> dict[str, Any]:
        """Tells what the call did, in the log and as metrics, and gives its result."""
        seconds = time.monotonic() - self.deadline.began
        report.measure(self.stage, seconds)
        result = report.as_json(seconds)
        _log.info(
            "done", **{name: value for name, value in result.items() if name != "tables"}, rows=report.rows
        )
        return result


@contextmanager
def invoked(stage: str, event: dict[str, Any] | None, context: Context) -> Iterator[Invocation]:
    """A call of a stage, for as long as it lasts. What it raises is in the log, and holds no secret.

    Raises:
        TotesError: as its classes say.
    """
    deadline = Deadline.after(context.get_remaining_time_in_millis() / 1000 * _SHARE_OF_TIME)
    given = event or {}
    cold = _begin_environment()
    logs.begin_call(
        function_request_id=context.aws_request_id,
        execution=given.get("execution"),
        stage=stage,
        cold_start=cold,
    )
    try:
        with engine.faults():
            # Where a stage before failed, what was captured then may not have come here: nothing says how fresh this is.
            captured_at = None if given.get("failed") else _moment(given.get("captured_at"))
            yield Invocation(stage, _pipeline(), deadline, captured_at)
    except Exception as error:
        retryable = isinstance(error, TotesError) and error.retryable
        _log.exception(message(error), exception_name=type(error).__name__, retryable=retryable)
        masked = _masked(error)
        if masked is error:
            raise
        raise masked from None


def _begin_environment() -> bool:
    """Makes this execution environment ready, if this is its first call; says whether it is."""
    first: bool = not _environment.cache_info().currsize
    _environment()
    return first


@lru_cache(maxsize=1)
def _environment() -> None:
    """Sets up the log, and removes what a process that was killed here has left in `/tmp`: Lambda keeps it."""
    logs.configure()
    os.umask(0o077)
    for left in Path(tempfile.gettempdir()).glob("totes-*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


@lru_cache(maxsize=1)
def _pipeline() -> Pipeline:
    return Pipeline(load_settings(None))


def _moment(value: object) -> datetime | None:
    """When the source was read that this call's rows come from, as `ingest` said it."""
    if value is None:
        return None
    try:
        return in_utc(datetime.fromisoformat(str(value)))
    except ValueError:
        raise ConfigurationError(
            "captured_at of the event is no moment as ISO 8601 writes it",
            hint="Give what ingest gave, or leave it out",
        ) from None


def _masked(error: Exception) -> Exception:
    """The error without secrets, of the same class where that is one of totes: the runtime sends and prints its text."""
    if isinstance(error, TotesError):
        error.what, error.hint = redact(error.what), redact(error.hint) if error.hint else None
        error.args = (error.what,)
        return error
    said = message(error)
    return error if said == str(error) else TotesError(f"{type(error).__name__}: {said}")
