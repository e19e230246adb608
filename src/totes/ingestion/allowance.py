"""How much one batch may read before it is written: what is left of a table is the next batch's."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from totes.deadline import Deadline

# What is read is then written, committed and learnt in the same call, and takes five times as long as reading it to be loaded
# into PostgreSQL, in one transaction.
_TIME_SHARE = 0.125
_ROOM_SHARE = 0.5
_PAUSE_SECONDS = 0.02


class Allowance:
    """A share of the time until a deadline, and of the room on the disk that a workspace spills to.

    Without a deadline the room alone is a limit. Not safe for several threads at once.
    """

    def __init__(self, deadline: Deadline, folder: Path) -> None:
        self._deadline = deadline
        self._folder = folder
        self._room = shutil.disk_usage(folder).free
        self._used = False
        self._spent = False

    def take(self, is_behind: Callable[[], bool] = lambda: False) -> bool:
        """Whether another piece may be read; the first always may, so that every batch gets further.

        Where time is limited, it waits as long as what was read is still behind in being written.
        """
        if self._used and not self._spent:
            while self._deadline.is_limited and is_behind() and not self._deadline.passed(_TIME_SHARE):
                time.sleep(_PAUSE_SECONDS)
            self._spent = self._is_over()
        self._used = True
        return not self._spent

    @property
    def is_limited(self) -> bool:
        """Whether time may refuse what `take` is asked for."""
        return self._deadline.is_limited

    def _is_over(self) -> bool:
        return (
            self._deadline.passed(_TIME_SHARE)
            or shutil.disk_usage(self._folder).free < _ROOM_SHARE * self._room
        )
