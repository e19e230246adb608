"""Tasks for workers: plain functions of modules that the executors can import, and tasks that do more than they should."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from totes.errors import SourceRefused, TablesLeftOut
from totes.workers.protocol import Workers


def slowest_first(number: int) -> int:
    """The square of a number, after a time that is longer the smaller it is."""
    time.sleep(0.3 / (1 + number))
    return number * number


def process(_: int) -> int:
    """The process that the call runs in."""
    return os.getpid()


def among(folder: Path) -> int:
    """How many calls are running at the same time, this one included."""
    own = folder / f"{os.getpid()}-{time.monotonic_ns()}"
    own.touch()
    time.sleep(0.2)
    found = len(list(folder.iterdir()))
    own.unlink()
    return found


class Unpicklable(Exception):
    """An error that is made with more than its message."""

    def __init__(self, what: str, _more: object) -> None:
        super().__init__(what)


def failing(kind: str) -> str:
    """Fails in the way that is asked for."""
    if kind == "refused":
        raise SourceRefused("orders has no key", hint="Add one")
    if kind == "several":
        raise TablesLeftOut({"orders": SourceRefused("orders has no key")})
    if kind == "builtin":
        raise ValueError("no such number")
    if kind == "unpicklable":
        raise Unpicklable("it went wrong", None)
    return kind


class Twice:
    """Workers that run each task twice, and use the second result."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    def map(self, task: Callable[[Any], Any], arguments: Iterable[Any], at_once: int) -> Generator[Any]:
        return self._workers.map(_RunTwice(task), arguments, at_once)

    def close(self) -> None:
        self._workers.close()


class _RunTwice:
    def __init__(self, task: Callable[[Any], Any]) -> None:
        self._task = task

    def __call__(self, argument: Any) -> Any:
        self._task(argument)
        return self._task(argument)


class Dying(Twice):
    """Workers of which one executor after the other is killed, each when a task has done its work and is about to say so."""

    def __init__(self, workers: Workers, folder: Path, times: int) -> None:
        super().__init__(workers)
        self._folder, self._times = folder, times

    def map(self, task: Callable[[Any], Any], arguments: Iterable[Any], at_once: int) -> Generator[Any]:
        return self._workers.map(_Killing(task, self._folder, self._times), arguments, at_once)


class _Killing:
    def __init__(self, task: Callable[[Any], Any], folder: Path, times: int) -> None:
        self._task, self._folder, self._times = task, folder, times

    def __call__(self, argument: Any) -> Any:
        result = self._task(argument)
        for number in range(self._times):
            with suppress(FileExistsError):
                (self._folder / f"killed-{number}").touch(exist_ok=False)
                executor = _parent(
                    os.getppid()
                )  # a Python process is forked by one that belongs to the executor
                assert b"CoarseGrainedExecutorBackend" in Path(f"/proc/{executor}/cmdline").read_bytes()
                os.kill(executor, signal.SIGKILL)
                time.sleep(60)
        return result


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
