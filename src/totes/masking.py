"""Masks secrets in what Python itself prints: warnings, and exceptions that nothing caught."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from types import TracebackType

from totes.messages import traceback_text
from totes.redaction import register_secrets_of_environment


def mask_python(tell: Callable[[str], None]) -> None:
    """Masks, for the rest of the process, what Python prints on standard error; warnings become lines of the log.

    Secrets of the environment are known from here on, those of the settings when they are read.

    Args:
        tell: takes the masked text of a traceback, instead of standard error.
    """

    def tell_masked(
        kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tell(traceback_text((error or kind()).with_traceback(trace)))

    register_secrets_of_environment()
    logging.captureWarnings(True)
    sys.excepthook = tell_masked
    threading.excepthook = lambda raised: tell_masked(raised.exc_type, raised.exc_value, raised.exc_traceback)
    sys.unraisablehook = lambda raised: tell_masked(raised.exc_type, raised.exc_value, raised.exc_traceback)
