"""Commands and runners as real processes that cost no start-up, and that can be killed or stopped at a failpoint.

A process is forked from a server (`multiprocessing`'s forkserver) that has imported the pipeline and knows DuckDB's
functions, and nothing else: it holds no connection and has one thread. What such a process does is what the command `totes` does; that
Python starts it as well is what tests show that start it by themselves: acceptance/ does.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import pty
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Self

KILLED = -signal.SIGKILL
_PATIENCE_SECONDS = 120.0
_servers = multiprocessing.get_context("forkserver")
_servers.set_forkserver_preload(["tests.pipeline_process"])


def start_server() -> None:
    """Starts the server of these processes, which takes over what this process has now: limits, folder, variables."""
    forkserver.ensure_running()


@dataclass
class Command:
    """What a run of `totes` gave."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Outcome:
    """How a process ended: its exit code, negative for a signal's number, and what it reported if it lived to do so."""

    code: int
    cycle: dict[str, Any] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


class Runner:
    """A process that runs one cycle, or one stage, by the `totes.toml` in a folder."""

    def __init__(
        self,
        folder: Path,
        only: str | None = None,
        *,
        failpoint: str = "",
        environment: Mapping[str, str] = {},
    ) -> None:
        self._report, theirs = _servers.Pipe(duplex=False)
        variables = {**os.environ, **environment}
        if failpoint:
            variables["TOTES_FAILPOINT"] = failpoint
        self.process: BaseProcess = _servers.Process(
            target=_run, args=(str(folder), only, variables, theirs), daemon=True
        )
        self.process.start()
        theirs.close()

    def wait(self) -> Outcome:
        """Waits until the process has ended."""
        cycle: dict[str, Any] = {}
        failures: dict[str, str] = {}
        try:
            assert self._report.poll(_PATIENCE_SECONDS), "the process neither ends nor reports"
            cycle, failures = self._report.recv()
        except EOFError:
            pass  # it was killed
        self.process.join(_PATIENCE_SECONDS)
        assert self.process.exitcode is not None, "the process does not end"
        self._report.close()
        return Outcome(self.process.exitcode, cycle, failures)

    def wait_until_stopped(self) -> bool:
        """Waits until the process has stopped itself at its failpoint; False if it ended without reaching it."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            state = _state(self.process.pid)
            if state in ("T", "Z", ""):
                return state == "T"
            time.sleep(0.005)
        raise AssertionError("the process neither ends nor stops")

    def wake(self) -> None:
        """Lets a stopped process go on."""
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGCONT)

    def end(self) -> None:
        """Kills the process, whatever it does."""
        self.process.kill()
        self.process.join(_PATIENCE_SECONDS)


def run(folder: Path, only: str | None = None, *, failpoint: str = "", **environment: str) -> Outcome:
    """Runs one cycle, or one stage, in a process of its own."""
    return Runner(folder, only, failpoint=failpoint, environment=environment).wait()


class Started:
    """A command `totes` that runs in a folder, with nothing on standard input and no variables but these."""

    def __init__(self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        with tempfile.TemporaryDirectory(prefix="totes-command-") as place:
            out, err = Path(place, "out"), Path(place, "err")
            os.mkfifo(out)
            os.mkfifo(err)
            self._process: BaseProcess = _servers.Process(
                target=_command, args=(list(arguments), str(folder), dict(environment), str(out), str(err)), daemon=True
            )  # fmt: skip
            self._process.start()
            self.stdout, self.stderr = out.open(encoding="utf-8"), err.open(encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stdout.close()
        self.stderr.close()
        self.wait(_PATIENCE_SECONDS)

    @property
    def pid(self) -> int:
        """The number of the process."""
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code, negative for a signal's number; None while the process runs."""
        return self._process.exitcode

    def wait(self, timeout: float) -> int:
        """Waits until the process has ended, and gives its exit code."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("totes", timeout)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Sends a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends the process, whatever it does."""
        self._process.kill()

    def finish(self, seconds_max: float) -> Command:
        """Waits until the process has ended, and gives what it said; standard error has room for 64 kB."""
        with self:
            return Command(out=self.stdout.read(), err=self.stderr.read(), code=self.wait(seconds_max))


def command(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str], seconds_max: float
) -> Command:
    """Runs `totes` in a folder, with nothing on standard input and no variables but these."""
    with tempfile.TemporaryDirectory(prefix="totes-command-") as place:
        out, err = Path(place, "out"), Path(place, "err")
        code = over(os.devnull, str(out), str(err), arguments, folder, environment, seconds_max)
        return Command(code, out.read_text("utf-8"), err.read_text("utf-8"))


def over(
    read: str,
    out: str,
    err: str,
    arguments: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    seconds_max: float,
) -> int:
    """Runs `totes` in a folder over three files, and gives its exit code."""
    process = _servers.Process(
        target=_command, args=(list(arguments), str(folder), dict(environment), out, err, read), daemon=True
    )
    process.start()
    return _exit_code(process, arguments, seconds_max)


def _exit_code(process: BaseProcess, arguments: Sequence[str], seconds_max: float) -> int:
    """Waits until a command has ended; one that takes longer is killed."""
    process.join(seconds_max)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise subprocess.TimeoutExpired(["totes", *arguments], seconds_max)
    return process.exitcode


def on_terminal(
    arguments: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    columns: int = 80,
    seconds_max: float = 120,
    typed: str = "",
) -> Command:
    """Runs `totes` in a folder on a terminal of its own; `out` is all that the terminal got, standard error included.

    `typed` is what somebody types there; without it, nobody can.
    """
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    variables = {**environment, "TERM": "xterm-256color"}
    variables = {name: value for name, value in variables.items() if name not in ("COLUMNS", "NO_COLOR")}
    place = os.ttyname(terminal)
    read = place if typed else os.devnull
    os.write(controller, typed.encode())
    process = _servers.Process(
        target=_command, args=(list(arguments), str(folder), variables, place, place, read), daemon=True
    )
    got = bytearray()

    def read() -> None:
        with suppress(OSError):  # what the kernel says when the last writer is gone
            while part := os.read(controller, 65536):
                got.extend(part)

    reader = threading.Thread(target=read)
    try:
        process.start()
        reader.start()
        code = _exit_code(process, arguments, seconds_max)
    finally:
        os.close(terminal)
        reader.join()
        os.close(controller)
    return Command(code, got.decode("utf-8"), "")


def on_own_terminal(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str], terminal: str
) -> BaseProcess:
    """Starts `totes` in a folder on a terminal that becomes its own, so that Ctrl-C reaches it."""
    process = _servers.Process(
        target=_own_session, args=(list(arguments), str(folder), dict(environment), terminal), daemon=True
    )
    process.start()
    return process


def _state(process: int | None) -> str:
    """The state of a process as the kernel has it: T for stopped, Z for ended, nothing for gone."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


def _environment(variables: dict[str, str]) -> None:
    """Has these variables and no others."""
    os.environ.clear()
    os.environ.update(variables)


def _run(folder: str, only: str | None, environment: dict[str, str], report: Connection) -> None:
    from tests import pipeline_process

    _environment(environment)
    try:
        report.send(pipeline_process.cycle(Path(folder), only))
    except BaseException:
        report.send(({}, {"process": traceback.format_exc()}))
        raise


def _own_session(arguments: list[str], folder: str, environment: dict[str, str], terminal: str) -> None:
    os.setsid()  # the first terminal that is opened from here on is the session's
    _command(arguments, folder, environment, terminal, terminal, terminal)


def _command(
    arguments: list[str], folder: str, environment: dict[str, str], out: str, err: str, read: str = os.devnull
) -> None:
    for number, place, flags in ((0, read, os.O_RDONLY), (1, out, os.O_WRONLY), (2, err, os.O_WRONLY)):
        os.dup2(os.open(place, flags | os.O_CREAT), number)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False, buffering=1, errors="backslashreplace")
    _environment(environment)
    os.chdir(folder)
    sys.argv = ["totes", *arguments]
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # as the command has it, whoever ignored it before
    from totes.cli.app import main

    try:
        main()
    except (
        Exception
    ):  # as the interpreter ends an uncaught one: this hook, which may mask, and 1; not multiprocessing's
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        sys.exit(1)
