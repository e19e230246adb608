"""What workers are: they map a task over arguments. Whoever has work for them does not know which ones it has."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from queue import SimpleQueue
from threading import Event, Lock
from typing import Generic, Protocol, TypeVar

A = TypeVar("A")
R = TypeVar("R")


class Workers(Protocol):
    """Threads of this process, or processes of a cluster.

    A task has to be idempotent: it may run more than once for an argument, also at the same time, and may be lost half-way.
    What it leaves without its result being used must not matter. Task, arguments, results and errors may be pickled, and all
    results together have to fit into this process's memory.
    """

    def map(self, task: Callable[[A], R], arguments: Iterable[A], at_once: int) -> Generator[R]:
        """Calls the task with each argument, for at most `at_once` at a time, and yields the results in the arguments' order.

        An argument is taken from the iterable once there is a worker for it, by one thread at a time. Work goes on while the
        caller does something between two results. After a failure no further argument is taken, and calls that have begun are
        waited for; so they are when the iterator is closed.

        Raises:
            Exception: the first failure of the task, with its class and message. Of errors of totes all is there.
            WorkersFailed: the workers themselves failed.
        """

    def close(self) -> None:
        """Releases what `map` has opened, if it has; it can be called again afterwards."""


def in_threads(call: Callable[[A], R], arguments: Iterable[A], at_once: int) -> Generator[R]:
    """The map of all workers: a thread for each call that is under way. A single argument needs none."""
    following = iter(arguments)
    first = list(islice(following, 2))
    if len(first) < 2:
        yield from map(call, first)
        return
    calls = _Calls(call, chain(first, following))
    with ThreadPoolExecutor(at_once, thread_name_prefix="totes-work") as threads:
        try:
            for _ in range(at_once):
                threads.submit(calls.work)
            yield from calls.results(at_once)
        finally:
            calls.stop()


class _Calls(Generic[A, R]):
    """Calls of a function by several threads, and their results in order."""

    def __init__(self, call: Callable[[A], R], arguments: Iterable[A]) -> None:
        self._call = call
        self._following = enumerate(arguments)
        self._taking, self._stopped = Lock(), Event()
        # A result with its number, the error of a thread, or None at its end.
        self._done: SimpleQueue[tuple[int, R] | BaseException | None] = SimpleQueue()

    def work(self) -> None:
        """Makes calls until there are none left to make."""
        try:
            while taken := self._take():
                self._done.put((taken[0], self._call(taken[1])))
        except BaseException as error:
            self.stop()
            self._done.put(error)
        self._done.put(None)

    def _take(self) -> tuple[int, A] | None:
        with self._taking:
            return None if self._stopped.is_set() else next(self._following, None)

    def results(self, threads: int) -> Iterator[R]:
        """The results of a number of threads, each once those before it are there."""
        results: dict[int, R] = {}
        turn = 0
        while threads:
            found = self._done.get()
            if found is None:
                threads -= 1
            elif isinstance(found, BaseException):
                raise found
            else:
                results[found[0]] = found[1]
            while turn in results:
                yield results.pop(turn)
                turn += 1

    def stop(self) -> None:
        """Lets no further call begin."""
        self._stopped.set()
