"""Work in steps, on several sessions at once: each after those it needs, the largest first.

It knows neither tables nor SQL; what the steps are, `building.py` says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from graphlib import TopologicalSorter
from threading import Condition

from totes.warehouse.postgresql_session import Session

_PULSE_SECONDS = 60.0  # well within the time after which the server ends a transaction without a statement
_CANCEL_AGAIN_SECONDS = 0.1


@dataclass(frozen=True, eq=False)
class Step:
    """What one session does at a time; of those that can be done, the one with most rows is next."""

    rows: int
    work: Callable[[Session], None]


def carry_out(
    steps: Mapping[Step, Iterable[Step]], sessions: Sequence[Session], pulse: Callable[[], object]
) -> None:
    """Does all steps; nothing is under way any more when this returns or fails.

    When a step fails, what the others do is cancelled, and its error is raised.

    Args:
        steps: the steps, each with those that it comes after.
        sessions: the sessions; each has one step at a time.
        pulse: is called at least every minute meanwhile, in the caller's thread.
    """
    queue = _Queue(steps)
    with ThreadPoolExecutor(len(sessions), thread_name_prefix="totes-load") as pool:
        working = [pool.submit(queue.work_on, session) for session in sessions]
        try:
            while True:
                done, left = wait(working, _PULSE_SECONDS, FIRST_EXCEPTION)
                for one in done:
                    one.result()
                if not left:
                    return
                pulse()
        except BaseException:
            queue.stop()
            while wait(working, _CANCEL_AGAIN_SECONDS).not_done:
                for session in sessions:
                    session.cancel()
            raise


class _Queue:
    """The steps that are not begun yet; each session's thread takes one after the other from it."""

    def __init__(self, steps: Mapping[Step, Iterable[Step]]) -> None:
        self._order = TopologicalSorter(steps)
        self._order.prepare()
        self._ready: list[Step] = []
        self._changed = Condition()
        self._stopped = False

    def work_on(self, session: Session) -> None:
        """Does steps until none is left."""
        while step := self._take():
            step.work(session)
            with self._changed:
                self._order.done(step)
                self._changed.notify_all()

    def stop(self) -> None:
        """Has no other step begun."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _take(self) -> Step | None:
        with self._changed:
            while self._order.is_active() and not self._stopped:
                self._ready = sorted([*self._ready, *self._order.get_ready()], key=lambda step: -step.rows)
                if self._ready:
                    return self._ready.pop(0)
                self._changed.wait()
            return None
