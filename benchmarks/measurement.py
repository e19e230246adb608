"""What a benchmark found: times beside a floor and beside peers, each a median, and what the aim is."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

Sense = Literal["at least", "at most"]


class BenchmarkFailed(Exception):
    """A run ended with an error, or did not do what it should have, so that its time means nothing."""


@dataclass(frozen=True)
class Aim:
    """What is aimed at. `unit` says of what: of `speed` beside the floor, of `time` beside it, of `seconds` or `bytes`."""

    sense: Sense
    value: float
    unit: Literal["speed", "time", "seconds", "bytes"]


@dataclass(frozen=True)
class Measurement:
    """One line of the table. All times are medians in seconds.

    Attributes:
        section: which benchmark it is of.
        what: what was timed.
        ours: the time it took.
        floor: the time of what it is measured against; `floor_is` says what that is.
        speed: whether the ratio is the floor's time by ours (1 is as fast, more is faster) or ours by the floor's.
        aim: what is aimed at, where there is an aim.
        rows: how many rows went through, for rows a second.
        peak_bytes: the most memory of all processes but PostgreSQL.
        peers: what others took for the same.
        peers_bytes: the most memory of theirs.
        details: times of parts, and other figures.
        samples: all times of ours, in the order in which they were measured.
    """

    section: str
    what: str
    ours: float
    floor: float | None = None
    floor_is: str = ""
    speed: bool = True
    aim: Aim | None = None
    rows: int | None = None
    peak_bytes: int | None = None
    peers: dict[str, float] = field(default_factory=dict)
    peers_bytes: dict[str, int | None] = field(default_factory=dict)
    details: dict[str, float] = field(default_factory=dict)
    samples: tuple[float, ...] = ()

    @property
    def ratio(self) -> float | None:
        """How fast ours is beside the floor, or with `speed` false how long it takes."""
        if not self.floor or not self.ours:
            return None
        return self.floor / self.ours if self.speed else self.ours / self.floor

    @property
    def reached(self) -> bool | None:
        """Whether the aim is reached; None where there is none, or it could not be measured."""
        if self.aim is None:
            return None
        figures = {"speed": self.ratio, "time": self.ratio, "seconds": self.ours, "bytes": self.peak_bytes}
        figure = figures[self.aim.unit]
        if figure is None:
            return None
        return figure >= self.aim.value if self.aim.sense == "at least" else figure <= self.aim.value


def median(values: Iterable[float]) -> float:
    """The median."""
    return statistics.median(values)


def median_bytes(values: Iterable[int | None]) -> int | None:
    """The median of memory, None where it could not be measured."""
    known = [value for value in values if value is not None]
    return int(statistics.median(known)) if known else None
