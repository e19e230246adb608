"""Masks secrets in what Python itself prints: warnings and uncaught exceptions."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from types import TracebackType

from totes.messages import traceback_text
from totes.redaction import register_secrets_of_environment


def mask_python(write: Callable[[str], None]) -> None:
    """Masks what Python prints on standard error until the process ends; warnings become log records.

    Secrets of the environment are registered here, those of the settings when they are read.

    Args:
        write: called with the masked text of a traceback, which is not printed otherwise.
    """

    def write_masked(
        kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
    ) -> None:
        write(traceback_text((error or kind()).with_traceback(trace)))

    register_secrets_of_environment()
    logging.captureWarnings(True)
    sys.excepthook = write_masked
    threading.excepthook = lambda raised: write_masked(
        raised.exc_type, raised.exc_value, raised.exc_traceback
    )
    sys.unraisablehook = lambda raised: write_masked(raised.exc_type, raised.exc_value, raised.exc_traceback)
