"""Deadlines: a call of a stage that nears its deadline stops after a commit, and is called again."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Deadline:
    """The time that a call has: its start, by the monotonic clock, and its duration, both in seconds."""

    began: float
    seconds: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """A deadline in a number of seconds from now."""
        return cls(time.monotonic(), seconds)

    def passed(self, share: float) -> bool:
        """Whether that share of the time has passed."""
        return time.monotonic() - self.began >= share * self.seconds

    def half_over(self) -> bool:
        """Whether it is too late to start a step that may take as long as the ones before."""
        return self.passed(0.5)

    @property
    def is_limited(self) -> bool:
        """Whether there is a deadline at all."""
        return self.seconds < math.inf


NEVER = Deadline(0.0, math.inf)
