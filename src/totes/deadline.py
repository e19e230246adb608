"""How long a call of a stage may take: one that nears its end stops at a committed point, and is called again."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Deadline:
    """The time that a call has, from a moment on; both in seconds, the moment by a monotonic clock."""

    began: float
    seconds: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """A deadline so many seconds from now."""
        return cls(time.monotonic(), seconds)

    def passed(self, share: float) -> bool:
        """Whether that share of the time is over."""
        return time.monotonic() - self.began >= share * self.seconds

    def half_over(self) -> bool:
        """Whether it is too late to begin something that may take as long as what was done."""
        return self.passed(0.5)

    @property
    def is_limited(self) -> bool:
        """Whether there is an end to the time at all."""
        return self.seconds < math.inf


NEVER = Deadline(0.0, math.inf)
