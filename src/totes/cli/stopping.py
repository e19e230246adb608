"""Stops a command at once on SIGTERM and SIGINT. Nothing needs cleaning up: a batch is committed, or it is not.

A thread receives the signals. The main thread may be in a call of a database driver for as long as a statement takes, and
ADBC handles SIGINT itself.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType

import typer

from totes.progress import clear

_ASKED = {signal.SIGTERM, signal.SIGINT}
_PATIENCE_SECONDS = 2.0
STOPPED = "stopped; the next run continues from here"


class Stopped(BaseException):
    """Raised in the main thread when the process was asked to stop."""


class StopSignal:
    """Turns SIGTERM and SIGINT into `Stopped`, once installed; if that has no effect, the process exits after two seconds.

    `endless` means that the command runs until stopped, so that its exit code is then 0.
    """

    def __init__(self, *, endless: bool) -> None:
        self._endless = endless
        self._number: int | None = None
        self._sent = threading.Event()  # once the main thread's signal is on its way

    def install(self) -> None:
        """Handles both signals until the process ends."""
        signal.signal(signal.SIGUSR1, self._interrupt)
        signal.pthread_sigmask(signal.SIG_BLOCK, _ASKED)  # in this thread, and in those that it starts
        threading.Thread(target=self._listen, name="stop-signal", daemon=True).start()

    def wait(self, seconds: float) -> None:
        """Waits; raises Stopped if asked to stop meanwhile."""
        self._sent.wait(seconds)  # a sleep would not end if the signal came just before it began
        self.check()

    def check(self) -> None:
        """Raises Stopped if asked to stop: a driver may have turned the first exception into an error of its own."""
        if self.asked:
            raise Stopped

    @property
    def asked(self) -> bool:
        """Whether the process was asked to stop."""
        return self._number is not None

    @property
    def exit_code(self) -> int:
        """The exit code of a command that was stopped."""
        return 0 if self._endless else 128 + (self._number or 0)

    def _listen(self) -> None:
        self._number = signal.sigwait(_ASKED)
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGUSR1)
        self._sent.set()
        time.sleep(_PATIENCE_SECONDS)
        sys.stdout.flush()
        clear()
        typer.echo(STOPPED, err=True)
        os._exit(self.exit_code)

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        raise Stopped
