"""A Lambda function's log: one JSON object per line on standard output, with the same keys as Powertools' logger.

Lines of the stages, of libraries and of Python itself look the same, each with its execution. Powertools' own logger would be
a second one beside that of the stages.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

from totes import log
from totes.display import json_line
from totes.masking import mask_python

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
# Fields of the present call. A context variable would not reach the threads that a stage starts.
_fields: dict[str, object] = {}


def configure() -> None:
    """Sets up the log of this process, secrets masked; `POWERTOOLS_LOG_LEVEL` is its level, INFO by default."""
    asked = os.environ.get("POWERTOOLS_LOG_LEVEL", "").upper()
    logging.getLogger(log.NAME).setLevel(asked if asked in _LEVELS else "INFO")
    handler = _Output(_fields_of, json_line)
    handler.addFilter(lambda record: record.name == log.NAME or record.levelno >= logging.WARNING)
    # Replaces the runtime's handler, which masks nothing.
    logging.getLogger().handlers = [handler]
    mask_python(lambda text: log.logger().error("nothing caught an exception", exception=text))


def begin_call(**fields: object) -> None:
    """Adds these fields, except None, to all lines from now on, and drops those of the previous call."""
    _fields.clear()
    _fields.update({name: value for name, value in fields.items() if value is not None})


class _Output(log.Lines):
    def write(self, line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def _fields_of(record: logging.LogRecord) -> dict[str, Any]:
    head = {
        "level": record.levelname,
        "location": f"{record.funcName if record.name == log.NAME else record.name}:{record.lineno}",
        "message": record.getMessage(),
        "timestamp": log.moment(record),
        "service": os.environ.get("POWERTOOLS_SERVICE_NAME") or "totes",
    }
    return {**head, **_fields, **log.own_fields(record), **log.exception_of(record)}
