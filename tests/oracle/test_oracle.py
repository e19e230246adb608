"""Promises 1 to 5, 7 and 9 against a model of the truth: random sessions and runners, with fixed seeds.

`make soak` goes on with other seeds until it is told to stop.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conftest import Database
from tests.oracle.machine import tally
from tests.oracle.soak import run_machine

# Seeds with their kinds of warehouse. In the first ones, together, all happens that has to have happened.
RUNS = [(207, "postgresql"), (208, "duckdb"), (212, "duckdb")]
MORE_RUNS = [(203, "duckdb"), (204, "postgresql"), (209, "duckdb")]
STEPS = 30
# What has to have happened in all runs together, or else they prove little.
HAPPENED = (
    "batches", "caches lost", "changed keys", "crashes", "deletes", "late commits", "quarantined", "races", "replays",
    "savepoints rolled back", "slept", "truncated", "verified", "versions",
)  # fmt: skip


def test_lake_and_warehouse_are_what_the_oracle_says(new_database: Callable[..., Database]) -> None:
    tally.clear()
    for seed, kind in RUNS:
        run_machine(new_database, kind, seed, steps=STEPS)
    assert [event for event in HAPPENED if not tally[event]] == []


@pytest.mark.sweep
@pytest.mark.parametrize(("seed", "kind"), MORE_RUNS)
def test_it_is_so_in_other_runs_too(new_database: Callable[..., Database], seed: int, kind: str) -> None:
    run_machine(new_database, kind, seed, steps=STEPS)
