"""Commands and runners as real processes that cost no start-up, and that can be killed or stopped at a failpoint.

A process is forked from a server (`multiprocessing`'s forkserver) that has imported the pipeline and nothing else: it
has run no query, holds no connection and has one thread. What such a process does is what the command `totes` does; that
Python starts it as well is what tests show that start it by themselves: acceptance/ does.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

KILLED = -signal.SIGKILL
_PATIENCE_SECONDS = 120.0
_servers = multiprocessing.get_context("forkserver")
_servers.set_forkserver_preload(["tests.pipeline_process"])


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
        variables = {name: value for name, value in os.environ.items() if name.startswith(("AWS_", "TOTES_"))}
        variables |= environment
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


def command(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str], seconds_max: float
) -> Command:
    """Runs `totes` in a folder, with nothing on standard input and no variables but these."""
    with tempfile.TemporaryDirectory(prefix="totes-command-") as place:
        out, err = Path(place, "out"), Path(place, "err")
        process = _servers.Process(
            target=_command, args=(list(arguments), str(folder), dict(environment), str(out), str(err)), daemon=True
        )  # fmt: skip
        process.start()
        process.join(seconds_max)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(["totes", *arguments], seconds_max)
        return Command(process.exitcode, out.read_text("utf-8"), err.read_text("utf-8"))


def _state(process: int | None) -> str:
    """The state of a process as the kernel has it: T for stopped, Z for ended, nothing for gone."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


def _run(folder: str, only: str | None, environment: dict[str, str], report: Connection) -> None:
    from tests import pipeline_process

    os.environ.update(environment)
    try:
        report.send(pipeline_process.cycle(Path(folder), only))
    except BaseException:
        report.send(({}, {"process": traceback.format_exc()}))
        raise


def _command(arguments: list[str], folder: str, environment: dict[str, str], out: str, err: str) -> None:
    for number, place, flags in ((0, os.devnull, os.O_RDONLY), (1, out, os.O_WRONLY), (2, err, os.O_WRONLY)):
        os.dup2(os.open(place, flags | os.O_CREAT), number)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False, buffering=1, errors="backslashreplace")
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["totes", *arguments]
    from totes.cli.app import main

    try:
        main()
    except (
        Exception
    ):  # as the interpreter ends an uncaught one: this hook, which may mask, and 1; not multiprocessing's
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        sys.exit(1)
