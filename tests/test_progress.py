"""What the line of progress says: how much of how much, how fast, for how long still; and in how little room."""

from __future__ import annotations

import pytest

from totes.progress import Step, cut, fitted, width

BEGAN = 1000.0


def step(
    doing: str,
    done: float | None = None,
    total: float | None = None,
    unit: str = "rows",
    *,
    seconds: float = 0,
) -> Step:
    """A step that has been counted for some seconds when it is reported."""
    return Step(doing, done, total, unit, BEGAN + seconds, BEGAN, 0)


def line(shown: Step, *, after: float = 0, columns: int = 79) -> str:
    """The line some seconds after the report."""
    return fitted(shown, shown.at + after, BEGAN, columns)


def test_it_says_what_how_much_how_fast_and_how_long_still() -> None:
    reading = step("reading payment", 55_600_000, 134_500_000, "bytes", seconds=10)
    assert line(reading) == "reading payment  55.6 MB of 134.5 MB  5.6 MB/s  14 s left"
    assert line(reading, after=4) == "reading payment  55.6 MB of 134.5 MB  5.6 MB/s  10 s left"
    assert line(reading, after=60) == "reading payment  55.6 MB of 134.5 MB  5.6 MB/s  1 min 10 s"
    loading = step("loading fact_payment", 500_000, 2_000_000, seconds=100)
    assert line(loading) == "loading fact_payment  500,000 of 2,000,000 rows  5,000/s  5 min left"


def test_what_is_not_known_is_not_said() -> None:
    assert line(step("connecting"), after=3) == "connecting  3 s"
    assert line(step("reading a view", 1_000, None, seconds=10)) == "reading a view  1,000 rows  100/s  10 s"
    assert line(step("reading x", 10, 10_000, seconds=10)) == "reading x  10 of 10,000 rows  10 s"
    assert line(step("reading x", 900, 100, seconds=10)) == "reading x  900 rows  90/s  10 s"
    assert line(step("loading batch 1", 0, 1, "batches"), after=2) == "loading batch 1  2 s"


def test_a_narrow_terminal_gets_what_matters_most() -> None:
    reading = step("reading payment", 55_600_000, 134_500_000, "bytes", seconds=10)
    assert line(reading, columns=50) == "reading payment  55.6 MB of 134.5 MB  14 s left"
    assert line(reading, columns=40) == "reading payment  55.6 MB of 134.5 MB"
    assert line(reading, columns=20) == "reading payment"
    assert line(reading, columns=8) == "reading…"


@pytest.mark.parametrize("columns", range(1, 80))
def test_no_line_is_wider_than_its_terminal(columns: int) -> None:
    for doing in ("reading 日本語の表", "e\u0301" * 30, "x\x1b[2Jy\nz", "reading payment"):
        assert width(line(step(doing, 1, 2, seconds=5), columns=columns)) <= columns


def test_a_name_cannot_move_the_terminal() -> None:
    assert line(step("reading \x1b[2J\n")) == "reading \\x1b[2J\\n  0 s"


def test_wide_characters_take_two_columns() -> None:
    assert (width("日本"), width("e\u0301"), cut("日本語", 5), cut("日本語", 6)) == (4, 1, "日本…", "日本語")
