"""Structured logs on standard error: JSON lines, with the same fields everywhere.

A person at a terminal is shown progress instead, and of the log what went wrong; with --debug every line in readable form.

Recurring fields have the same name everywhere: stage, batch, table, rows, bytes, seconds.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from totes.display import escaped, json_line, one_line
from totes.messages import exception_text
from totes.progress import out_of_the_way
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


def _render_briefly(_logger: Any, _method: str, event: structlog.typing.EventDict) -> str:
    """A line for a person who looks at progress: what went wrong, and with what."""
    level, what, trace = (event.pop(name, "") for name in ("level", "event", "exception"))
    event.pop("timestamp", None)
    fields = ", ".join(f"{name} {value}" for name, value in event.items())
    return f"{level}: {what}{f' ({fields})' if fields else ''}" + (f"\n{trace}" if trace else "")


class _Lines:
    """Writes lines to standard error, as it is at that time, beside the progress that is shown there."""

    def msg(self, line: str) -> None:
        """Writes a line."""
        with out_of_the_way():
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()

    log = debug = info = warn = warning = error = critical = fatal = exception = failure = err = msg


def configure(*, verbose: bool = False, brief: bool = False, terminal: bool | None = None) -> None:
    """Sets up logging for a process.

    Args:
        verbose: whether to show debug lines too.
        brief: whether to show only what went wrong, in a line for a person.
        terminal: whether to write for a terminal; by default, whether standard error is one.
    """
    person = sys.stderr.isatty() if terminal is None else terminal
    renderers: list[Any] = [render_json]
    if brief:
        renderers = [_escape, _render_briefly]
    elif person:
        renderers = [_escape, structlog.dev.ConsoleRenderer(pad_event_to=28)]
    level = logging.DEBUG if verbose else logging.WARNING if brief else logging.INFO
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S" if person else "iso", utc=not person),
            structlog.processors.ExceptionRenderer(exception_text),
            mask_secrets,
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Lines(),
        cache_logger_on_first_use=False,
    )


def logger(**fields: object) -> structlog.typing.FilteringBoundLogger:
    """A logger that adds `fields` to each of its lines."""
    bound: structlog.typing.FilteringBoundLogger = structlog.get_logger(**fields)
    return bound
