"""How much one batch may read before it is written: what is left of a table is the next batch's."""

from __future__ import annotations

import shutil
from pathlib import Path

from totes.deadline import Deadline

# What is read is then written, committed and learnt in the same call, and takes five times as long as reading it to be loaded
# into PostgreSQL, in one transaction.
_TIME_SHARE = 0.125
_ROOM_SHARE = 0.5


class Allowance:
    """A share of the time until a deadline, and of the room on the disk that a workspace spills to.

    Without a deadline there is no limit. Not safe for several threads at once.
    """

    def __init__(self, deadline: Deadline, folder: Path) -> None:
        self._deadline = deadline
        self._folder = folder
        self._room = shutil.disk_usage(folder).free
        self._used = False
        self._spent = False

    def take(self) -> bool:
        """Whether another piece may be read; the first always may, so that every batch gets further."""
        if self._used and not self._spent:
            self._spent = self._is_over()
        self._used = True
        return not self._spent

    @property
    def is_limited(self) -> bool:
        """Whether `take` may ever refuse."""
        return self._deadline.is_limited

    def _is_over(self) -> bool:
        if not self._deadline.is_limited:
            return False
        if self._deadline.passed(_TIME_SHARE):
            return True
        return shutil.disk_usage(self._folder).free < _ROOM_SHARE * self._room
