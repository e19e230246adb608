"""A person at a terminal: types into `totes`, and sees what it leaves on the screen."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import termios
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from tests import processes

_PATIENCE_SECONDS = 60.0
_CONTROL = re.compile(r"\x1b\[\?[0-9]+[hl]|\x1b\[[0-9;]*m|\x1b\[2K|\x1b\[K|\x1b\[1A|[\r\n]")


class Terminal:
    """A terminal of so many columns, in which the command runs in a folder until it ends."""

    def __init__(
        self, arguments: Sequence[str], folder: Path, columns: int = 80, environment: Mapping[str, str] = {}
    ) -> None:
        self._controller, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        variables = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
        self._terminal: int | None = terminal  # open as long as the process may not have opened it
        self._process = processes.on_own_terminal(
            arguments, folder, {**variables, "TERM": "xterm-256color", **environment}, os.ttyname(terminal)
        )
        self._got = bytearray()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._end()
        os.close(self._controller)

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def received(self) -> str:
        """All that the terminal got."""
        return self._got.decode("utf-8", "replace")

    @property
    def screen(self) -> list[str]:
        """The lines that are there to be seen, without blanks at their ends."""
        return screen(self.received)

    def type(self, text: str) -> None:
        """Types, as on a keyboard: `\\x03` is Ctrl-C, `\\x04` Ctrl-D."""
        os.write(self._controller, text.encode())

    def wait_for(self, text: str, times: int = 1) -> None:
        """Waits until the terminal has got a text so many times."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while self.received.count(text) < times:
            assert time.monotonic() < deadline, f"no {text!r} in {self.received!r}"
            assert self._process.exitcode is None or self.received.count(text) >= times, self.received
            time.sleep(0.01)

    def wait(self) -> int:
        """Waits until the command has ended, and gives its exit code."""
        self._end()
        assert self._process.exitcode is not None, self.received
        return self._process.exitcode

    def _end(self) -> None:
        """Waits until the process has ended and all that it wrote is read."""
        self._process.join(_PATIENCE_SECONDS)
        if self._terminal is not None:
            os.close(self._terminal)
            self._terminal = None
        self._reader.join(_PATIENCE_SECONDS)

    def _read(self) -> None:
        with suppress(OSError):  # what the kernel says when the last writer is gone
            while part := os.read(self._controller, 65536):
                self._got.extend(part)


def screen(received: str) -> list[str]:
    """What a terminal that got this shows: lines that were written over are as they were written last."""
    lines, row, column = [""], 0, 0
    place = 0
    for control in [*_CONTROL.finditer(received), None]:
        text = received[place : control.start() if control else len(received)]
        line = lines[row].ljust(column)
        lines[row] = line[:column] + text + line[column + len(text) :]
        column += len(text)
        if control is None:
            break
        place, code = control.end(), control.group()
        if code == "\r":
            column = 0
        elif code == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif code == "\x1b[1A":
            row = max(0, row - 1)
        elif code == "\x1b[2K":
            lines[row] = ""
        elif code == "\x1b[K":
            lines[row] = lines[row][:column]
    return [line.rstrip() for line in lines]
