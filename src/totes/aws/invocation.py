"""One call of a Lambda function: its pipeline and deadline, its log and metrics, and how it fails."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from totes import engine
from totes.aws import logs
from totes.aws.report import TABLES_MAX, TEXT_CHARACTERS_MAX, Report
from totes.config import load_settings
from totes.deadline import Deadline
from totes.errors import TotesError
from totes.log import logger
from totes.messages import message
from totes.pipeline import Pipeline
from totes.redaction import redact

# A stage that used all of its time would be killed while it writes its log and metrics.
_SHARE_OF_TIME = 0.9
_log = logger()


class Context(Protocol):
    """Lambda's context of a call."""

    @property
    def aws_request_id(self) -> str:
        """The call's id."""

    def get_remaining_time_in_millis(self) -> int:
        """How long the call may still run."""


@dataclass(frozen=True)
class Invocation:
    """A running call. The pipeline is shared by all calls; secrets are fetched in each call, since they may change."""

    stage: str
    pipeline: Pipeline
    deadline: Deadline

    def end(self, report: Report, failure: TotesError | None = None) -> dict[str, Any]:
        """Writes what the call did to the log and as metrics, and returns its result.

        While there is more, the other tables' remaining rows come first: a failure of some tables is part of the last call's
        result.
        """
        seconds = time.monotonic() - self.deadline.began
        report.measure(self.stage, seconds)
        result = report.as_json(seconds)
        if failure and not report.more:
            _log.error(str(failure), exception_name=type(failure).__name__, retryable=failure.retryable)
            result["failure"] = {
                "what": redact(failure.what)[:TEXT_CHARACTERS_MAX],
                "hint": failure.hint and redact(failure.hint)[:TEXT_CHARACTERS_MAX],
                "tables": sorted(failure.tables)[:TABLES_MAX],
            }
        _log.info(
            "done",
            **{name: value for name, value in result.items() if name not in ("tables", "failure")},
            rows=report.rows,
        )
        return result


@contextmanager
def invoked(stage: str, event: dict[str, Any] | None, context: Context) -> Iterator[Invocation]:
    """The context of a call of a stage. An exception is logged, and raised without secrets.

    Raises:
        TotesError: the stage failed; Step Functions decides by its class whether to retry.
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
            yield Invocation(stage, _pipeline(), deadline)
    except Exception as error:
        retryable = isinstance(error, TotesError) and error.retryable
        _log.exception(message(error), exception_name=type(error).__name__, retryable=retryable)
        masked = _masked(error)
        if masked is error:
            raise
        raise masked from None


def _begin_environment() -> bool:
    """Sets up this execution environment at its first call; returns whether it is the first."""
    first: bool = not _environment.cache_info().currsize
    _environment()
    return first


@lru_cache(maxsize=1)
def _environment() -> None:
    """Sets up the log, and removes what a killed process left in `/tmp`, which Lambda preserves."""
    logs.configure()
    os.umask(0o077)
    for abandoned in Path(tempfile.gettempdir()).glob("totes-*"):
        if abandoned.is_dir():
            shutil.rmtree(abandoned, ignore_errors=True)
        else:
            abandoned.unlink(missing_ok=True)


@lru_cache(maxsize=1)
def _pipeline() -> Pipeline:
    return Pipeline(load_settings(None))


def _masked(error: Exception) -> Exception:
    """The error without secrets, of the same class if it is one of totes' own: the runtime sends and prints its text."""
    if isinstance(error, TotesError):
        error.what, error.hint = redact(error.what), redact(error.hint) if error.hint else None
        error.args = (error.what,)
        return error
    text = message(error)
    return error if text == str(error) else TotesError(f"{type(error).__name__}: {text}")
