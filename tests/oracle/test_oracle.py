"""Promises 1 to 5, 7 and 9 against a model of the truth: random sessions and runners, with fixed seeds.

`make soak` goes on with other seeds until it is told to stop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.conftest import Database
from tests.oracle.life import LongLife
from tests.oracle.machine import tally
from tests.oracle.soak import run_machine


class Run(NamedTuple):
    """A machine that its seed chooses, and what has to happen in it beside batches, versions and bad rows."""

    seed: int
    kind: str
    happens: frozenset[str] = frozenset()


STEPS = 30
RUNS = (
    Run(207, "postgresql", frozenset({"caches lost", "crashes", "late commits", "races", "verified"})),
    Run(208, "duckdb", frozenset({"caches lost", "late commits", "replays", "savepoints rolled back", "slept"})),
    Run(212, "duckdb", frozenset({"changed keys", "crashes", "races", "replays", "slept", "truncated"})),
)  # fmt: skip
MORE_RUNS = (Run(203, "duckdb"), Run(204, "postgresql"), Run(209, "duckdb"))
LONG_STEPS, LONG_BATCHES = 120, 40
LIVED = frozenset(
    {
        "came back unchanged",
        "came back unchanged to a rebuilt cache",
        "spoilt",
        "put right",
        "joined rows changed",
    }
)
LONG_RUNS = (Run(301, "duckdb", LIVED), Run(302, "postgresql", LIVED))
ALWAYS = {"batches", "deletes", "quarantined", "versions"}
# What has to have happened in all runs together, or else they prove little.
HAPPENS = ALWAYS | {
    "caches lost", "changed keys", "crashes", "late commits", "races", "replays", "savepoints rolled back", "slept",
    "truncated", "verified",
}  # fmt: skip


def test_the_runs_have_all_that_may_happen() -> None:
    assert ALWAYS.union(*(run.happens for run in RUNS)) == HAPPENS


@pytest.mark.parametrize("run", RUNS, ids=lambda run: str(run.seed))
def test_lake_and_warehouse_are_what_the_oracle_expects(
    new_database: Callable[..., Database], run: Run
) -> None:
    tally.clear()
    run_machine(new_database, run.kind, run.seed, steps=STEPS)
    assert [event for event in sorted(ALWAYS | run.happens) if not tally[event]] == []


@pytest.mark.sweep
@pytest.mark.parametrize("run", MORE_RUNS, ids=lambda run: str(run.seed))
def test_it_is_so_in_other_runs_too(new_database: Callable[..., Database], run: Run) -> None:
    run_machine(new_database, run.kind, run.seed, steps=STEPS)


@pytest.mark.sweep
@pytest.mark.parametrize("run", LONG_RUNS, ids=lambda run: str(run.seed))
def test_it_is_so_over_a_long_life(new_database: Callable[..., Database], run: Run) -> None:
    tally.clear()
    run_machine(new_database, run.kind, run.seed, steps=LONG_STEPS, machine=LongLife)
    assert [event for event in sorted(ALWAYS | run.happens) if not tally[event]] == []
    assert tally["batches"] >= LONG_BATCHES
