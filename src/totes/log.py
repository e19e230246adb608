"""Structured logs on standard error: readable lines on a terminal, JSON elsewhere, with the same fields.

Recurring fields have the same name everywhere: stage, batch, table, rows, bytes, seconds.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from totes.display import escaped, json_line, one_line
from totes.messages import exception_text
from totes.redaction import redact


def mask_secrets(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Masks the secrets in all fields of a line: the last processor before the one that renders it."""
    return {name: _masked(value) for name, value in event.items()}


def _masked(value: Any) -> Any:
    """The value without secrets at any depth; a value of any other type is replaced by its masked text."""
    if isinstance(value, dict):
        return {_masked(name): _masked(part) for name, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked(part) for part in value]
    return value if isinstance(value, bool | int | float | None) else redact(str(value))


def render_json(_logger: Any, _method: str, event: structlog.typing.EventDict) -> str:
    """A line of JSON: the last processor of a log that does not go to a terminal."""
    return json_line(event)


def _escape(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Escapes terminal control characters in all fields; only a traceback may have several lines."""
    return {one_line(name): _shown(name, value) for name, value in event.items()}


def _shown(name: str, value: Any) -> Any:
    if isinstance(value, bool | int | float | None):
        return value
    return escaped(value) if name == "exception" else one_line(value)


def configure(*, verbose: bool = False, terminal: bool | None = None) -> None:
    """Sets up logging for a process.

    Args:
        verbose: whether to show debug lines too.
        terminal: whether to write for a terminal; by default, whether standard error is one.
    """
    person = sys.stderr.isatty() if terminal is None else terminal
    renderers: list[Any] = (
        [_escape, structlog.dev.ConsoleRenderer(pad_event_to=28)] if person else [render_json]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S" if person else "iso", utc=not person),
            structlog.processors.ExceptionRenderer(exception_text),
            mask_secrets,
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if verbose else logging.INFO),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # the stream at that time
        cache_logger_on_first_use=False,
    )


def logger(**fields: object) -> structlog.typing.FilteringBoundLogger:
    """A logger that adds `fields` to each of its lines."""
    bound: structlog.typing.FilteringBoundLogger = structlog.get_logger(**fields)
    return bound
