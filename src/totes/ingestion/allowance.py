"""How much one batch may read: what remains of a table is read by the next batch."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from totes.deadline import Deadline

# The share of a call's time for reading. The rows still have to be written and committed in the same call, and loading them into
# PostgreSQL, in one transaction, takes five times as long as reading them.
_TIME_SHARE = 0.125
_ROOM_SHARE = 0.5
_PAUSE_SECONDS = 0.02


class Allowance:
    """A share of the time until a deadline, and of the free space on the disk that the workspace spills to.

    Without a deadline only the space is limited. Not thread-safe.
    """

    def __init__(self, deadline: Deadline, folder: Path) -> None:
        self._deadline = deadline
        self._folder = folder
        self._room = shutil.disk_usage(folder).free
        self._used = False
        self._spent = False

    def take(self, is_behind: Callable[[], bool] = lambda: False) -> bool:
        """Whether another piece may be read. The first always may, so that every batch makes progress.

        If time is limited, it first waits until writing has caught up with reading.
        """
        if self._used and not self._spent:
            while self._deadline.is_limited and is_behind() and not self._deadline.passed(_TIME_SHARE):
                time.sleep(_PAUSE_SECONDS)
            self._spent = self._is_over()
        self._used = True
        return not self._spent

    @property
    def is_limited(self) -> bool:
        """Whether there is a deadline, so that `take` may refuse for lack of time."""
        return self._deadline.is_limited

    def _is_over(self) -> bool:
        return (
            self._deadline.passed(_TIME_SHARE)
            or shutil.disk_usage(self._folder).free < _ROOM_SHARE * self._room
        )
