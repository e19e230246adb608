"""Structured logs on standard error: JSON lines, with the same fields everywhere.

A person at a terminal is shown progress instead, and of the log what went wrong; with --debug every line in readable form.
The lines go through Python's own logging: a library for structured logs would take longer to import than most commands run.

Recurring fields have the same name everywhere: stage, batch, table, rows, bytes, seconds.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from totes.display import escaped, json_line, one_line
from totes.messages import exception_text
from totes.progress import out_of_the_way
from totes.redaction import redact

NAME = "totes"
_FIELDS = "fields"
_python = logging.getLogger(NAME)


class Logger:
    """Writes lines with fields: those that it was made with, and each line's own."""

    def __init__(self, fields: dict[str, object]) -> None:
        self._fields = fields

    def debug(self, event: str, **fields: object) -> None:
        """What only somebody who looks for a fault wants to see."""
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: object) -> None:
        """What was done."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """What was not as it should be, and was dealt with."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, **fields: object) -> None:
        """What failed."""
        self._write(logging.ERROR, event, fields)

    def exception(self, event: str, **fields: object) -> None:
        """What failed, with the exception that is being handled."""
        self._write(logging.ERROR, event, fields, exc_info=True)

    def _write(self, level: int, event: str, fields: dict[str, object], *, exc_info: bool = False) -> None:
        # The caller of this method's caller is where the line comes from.
        extra = {_FIELDS: {**self._fields, **fields}}
        _python.log(level, event, exc_info=exc_info, extra=extra, stacklevel=3)


def logger(**fields: object) -> Logger:
    """A logger that adds `fields` to each of its lines."""
    return Logger(fields)


class Lines(logging.Handler):
    """Writes a record as a line, with its secrets masked, by a function that is given the record's fields."""

    def __init__(
        self,
        fields_of: Callable[[logging.LogRecord], dict[str, Any]],
        render: Callable[[dict[str, Any]], str],
    ) -> None:
        super().__init__()
        self._fields_of = fields_of
        self._render = render

    def emit(self, record: logging.LogRecord) -> None:
        """Writes the record; a stream that cannot be written is its caller's to deal with."""
        self.write(self._render({one: _masked(value) for one, value in self._fields_of(record).items()}))

    def write(self, line: str) -> None:
        """Writes a line to standard error, as it is at that time, beside the progress that is shown there."""
        with out_of_the_way():
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()


def own_fields(record: logging.LogRecord) -> dict[str, Any]:
    """The fields of a line that a `Logger` wrote; none of a library's."""
    return dict(getattr(record, _FIELDS, {}))


def moment(record: logging.LogRecord) -> str:
    """When a line was written, in UTC."""
    return f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


def exception_of(record: logging.LogRecord) -> dict[str, str]:
    """The field with a line's traceback, if it has one."""
    return {"exception": exception_text(record.exc_info)} if record.exc_info and record.exc_info[1] else {}


def _masked(value: Any) -> Any:
    """The value without secrets at any depth; a value of any other type is replaced by its masked text."""
    if isinstance(value, dict):
        return {_masked(name): _masked(part) for name, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked(part) for part in value]
    return value if isinstance(value, bool | int | float | None) else redact(str(value))


def _fields_of(record: logging.LogRecord) -> dict[str, Any]:
    level = record.levelname.lower()
    last = {"event": record.getMessage(), "level": level, "timestamp": moment(record)}
    return {**own_fields(record), **last, **exception_of(record)}


def _shown(line: dict[str, Any]) -> tuple[str, str, str, str]:
    """A line's level, event, other fields and traceback, without terminal control characters."""
    level, event, trace = (str(line.pop(name, "")) for name in ("level", "event", "exception"))
    line.pop("timestamp", None)
    fields = ", ".join(f"{one_line(name)} {one_line(value)}" for name, value in line.items())
    return level, one_line(event), fields, f"\n{escaped(trace)}" if trace else ""


def _brief(line: dict[str, Any]) -> str:
    """A line for a person who looks at progress: what went wrong, and with what."""
    level, event, fields, trace = _shown(line)
    return f"{level}: {event}{f' ({fields})' if fields else ''}{trace}"


def _readable(line: dict[str, Any]) -> str:
    """A line for a person who wants to see every one."""
    level, event, fields, trace = _shown(line)
    return f"{datetime.now():%H:%M:%S} {level:<7} {event:<28} {fields}".rstrip() + trace  # noqa: DTZ005


def configure(*, verbose: bool = False, brief: bool = False, terminal: bool | None = None) -> None:
    """Sets up logging for a process.

    Args:
        verbose: whether to show debug lines too.
        brief: whether to show only what went wrong, in a line for a person.
        terminal: whether to write for a terminal; by default, whether standard error is one.
    """
    person = sys.stderr.isatty() if terminal is None else terminal
    _python.handlers = [Lines(_fields_of, _brief if brief else _readable if person else json_line)]
    _python.setLevel(logging.DEBUG if verbose else logging.WARNING if brief else logging.INFO)
