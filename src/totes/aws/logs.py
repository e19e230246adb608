"""A Lambda function's log: one JSON object per line on standard output, with the same keys as Powertools' logger.

Lines of the stages, of libraries and of Python itself look the same, each with its execution. Powertools' own logger is not
used, since the stages log with structlog.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import structlog

from totes import log
from totes.masking import mask_python
from totes.messages import exception_text

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
# Fields of the present call. A context variable would not reach the threads that a stage starts.
_fields: dict[str, object] = {}


def configure() -> None:
    """Sets up the log of this process, secrets masked; `POWERTOOLS_LOG_LEVEL` is its level, INFO by default."""
    asked = os.environ.get("POWERTOOLS_LOG_LEVEL", "").upper()
    threshold = logging.getLevelName(asked if asked in _LEVELS else "INFO")
    structlog.configure(
        processors=[
            _add_fields,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.CallsiteParameterAdder(
                {
                    structlog.processors.CallsiteParameter.FUNC_NAME,
                    structlog.processors.CallsiteParameter.LINENO,
                }
            ),
            structlog.processors.ExceptionRenderer(exception_text),
            _name_as_powertools,
            log.mask_secrets,
            log.render_json,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda *_: structlog.WriteLogger(sys.stdout),  # the stream at that time
        cache_logger_on_first_use=False,
    )
    # Replaces the runtime's handler, which masks nothing.
    logging.getLogger().handlers = [_ToStructlog(logging.WARNING)]
    mask_python(lambda text: log.logger().error("nothing caught an exception", exception=text))


def begin_call(**fields: object) -> None:
    """Adds these fields, except None, to all lines from now on, and drops those of the previous call."""
    _fields.clear()
    _fields.update({name: value for name, value in fields.items() if value is not None})


class _ToStructlog(logging.Handler):
    """Passes the log records of libraries, which use Python's own logging, to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        log.logger().log(
            record.levelno,
            record.getMessage(),
            exc_info=record.exc_info,
            location=f"{record.name}:{record.lineno}",
        )


def _add_fields(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {**_fields, **event}


def _name_as_powertools(
    _logger: Any, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    place = f"{event.pop('func_name', '')}:{event.pop('lineno', '')}"
    head = {
        "level": str(event.pop("level")).upper(),
        "location": event.pop("location", place),
        "message": event.pop("event"),
        "timestamp": event.pop("timestamp"),
        "service": os.environ.get("POWERTOOLS_SERVICE_NAME") or "totes",
    }
    return {**head, **event}
