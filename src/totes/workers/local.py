"""Workers in this process: threads, since the engine and the drivers work outside of Python's lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable

from totes.workers.protocol import A, R, in_threads


class LocalWorkers:
    """See Workers: a thread a core, or two where there is one core. Nothing is pickled, so that a task may be any function."""

    def map(self, task: Callable[[A], R], arguments: Iterable[A], at_once: int) -> Generator[R]:
        """See Workers."""
        return in_threads(task, arguments, threads(at_once))

    def close(self) -> None:
        """See Workers: there is nothing to release."""


def threads(at_once: int) -> int:
    """How many calls run in this process at the same time, if `at_once` may."""
    return min(at_once, max(2, os.cpu_count() or 1))
