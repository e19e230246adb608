"""Stopping at once on SIGTERM and SIGINT. Nothing needs to be put in order: a batch is committed, or it is not."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType

_PATIENCE_SECONDS = 3.0


class Stopped(BaseException):
    """Raised in the main thread when the process was asked to stop."""


class StopSignal:
    """Turns SIGTERM and SIGINT into `Stopped`, once installed.

    A call into a database driver may not return for a while; after three seconds the process ends where it is.
    """

    def __init__(self) -> None:
        self._asked = threading.Event()
        self.signal: int | None = None

    def install(self) -> None:
        """Takes over both signals for the rest of the process."""
        signal.signal(signal.SIGTERM, self._handle)
        signal.signal(signal.SIGINT, self._handle)

    def wait(self, seconds: float) -> None:
        """Waits, or raises Stopped when asked to stop meanwhile."""
        if self._asked.wait(seconds):
            raise Stopped

    @property
    def asked(self) -> bool:
        """Whether the process was asked to stop."""
        return self._asked.is_set()

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._asked.is_set():
            return
        self.signal = number
        self._asked.set()
        threading.Thread(target=self._end, daemon=True).start()
        raise Stopped

    def _end(self) -> None:
        done = threading.Event()
        done.wait(_PATIENCE_SECONDS)
        sys.stdout.flush()
        os._exit(0)
