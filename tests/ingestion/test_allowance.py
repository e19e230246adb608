"""How much one batch may read: the first piece always, then an eighth of the time and half of the room."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from totes import deadline as deadline_module
from totes.deadline import NEVER, Deadline
from totes.ingestion.allowance import Allowance


class Disk(NamedTuple):
    """What the system says of a disk."""

    total: int
    used: int
    free: int


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How much is free on the disk, for a test to change."""
    room = {"free": 1_000}
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(2_000, 0, room["free"]))
    return room


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """The monotonic clock, for a test to set."""
    time = {"now": 100.0}
    monkeypatch.setattr(deadline_module.time, "monotonic", lambda: time["now"])
    return time


def test_without_a_deadline_the_room_alone_is_a_limit(free: dict[str, int], tmp_path: Path) -> None:
    allowance = Allowance(NEVER, tmp_path)
    assert not allowance.is_limited
    assert [allowance.take(lambda: True) for _ in range(3)] == [True] * 3  # it waits for nothing
    free["free"] = 499
    assert not allowance.take()


def test_what_was_read_is_written_before_more_is(
    free: dict[str, int], clock: dict[str, float], tmp_path: Path
) -> None:
    allowance = Allowance(Deadline.after(800), tmp_path)
    answers = iter([True, True, False])
    assert allowance.take(lambda: True)  # the first is not waited for
    assert allowance.take(lambda: next(answers))
    assert next(answers, None) is None

    def is_behind() -> bool:
        clock["now"] += 50
        return True

    assert not allowance.take(is_behind)  # and the wait ends with the time


def test_an_eighth_of_the_time_is_for_reading(
    free: dict[str, int], clock: dict[str, float], tmp_path: Path
) -> None:
    allowance = Allowance(Deadline.after(800), tmp_path)
    assert allowance.is_limited
    assert allowance.take()
    clock["now"] = 199.9
    assert allowance.take()
    clock["now"] = 200.0
    assert not allowance.take()
    clock["now"] = 100.0  # once spent, it stays so
    assert not allowance.take()


def test_the_first_piece_may_always_be_read(
    free: dict[str, int], clock: dict[str, float], tmp_path: Path
) -> None:
    allowance = Allowance(Deadline.after(8), tmp_path)
    clock["now"] = 1_000.0
    free["free"] = 0
    assert allowance.take()
    assert not allowance.take()


def test_half_of_the_room_is_for_reading(
    free: dict[str, int], clock: dict[str, float], tmp_path: Path
) -> None:
    allowance = Allowance(Deadline.after(800), tmp_path)
    assert allowance.take()
    free["free"] = 500
    assert allowance.take()
    free["free"] = 499
    assert not allowance.take()
    free["free"] = 1_000
    assert not allowance.take()


def test_half_of_the_time_is_over_at_the_half(clock: dict[str, float]) -> None:
    deadline = Deadline.after(10)
    clock["now"] = 104.9
    assert not deadline.half_over()
    clock["now"] = 105.0
    assert deadline.half_over()
    assert not NEVER.half_over()
    assert (deadline.is_limited, NEVER.is_limited) == (True, False)
