"""How often a lake's storage is asked does not depend on the lake's age."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Database, run_cleanly
from tests.lake.counted import count
from totes.pipeline import Pipeline

MODELS = {
    "dim_t": "CREATE TABLE dim_t (id INTEGER PRIMARY KEY, v INTEGER) AS SELECT id, v FROM t",
    "fact_u": "CREATE TABLE fact_u (n BIGINT PRIMARY KEY, id INTEGER NOT NULL) AS SELECT id FROM u",
}
YOUNG, OLD = 3, 12
IDLE_MAX = 6


@pytest.fixture
def pipeline(database: Database, make_pipeline: Callable[..., Pipeline], write_project: Any) -> Pipeline:
    """A pipeline with one batch."""
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v int)", "INSERT INTO t VALUES (1, 0)",
        "CREATE TABLE u (id int PRIMARY KEY)", "INSERT INTO u VALUES (1)",
    )  # fmt: skip
    made = make_pipeline(database.url, project=write_project(MODELS))
    run_cleanly(made)
    return made


def test_a_running_process_asks_as_often_after_many_batches_as_after_few(
    pipeline: Pipeline, database: Database
) -> None:
    requests, idle, small = count(pipeline), {}, {}
    for batch in range(2, OLD + 1):
        database.execute("UPDATE t SET v = v + 1")
        requests.clear()
        run_cleanly(pipeline)
        small[batch] = dict(requests)
        requests.clear()
        run_cleanly(pipeline)
        idle[batch] = dict(requests)
    assert idle[OLD] == idle[YOUNG]
    assert set(idle[OLD]) == {"get"}
    assert idle[OLD]["get"] <= IDLE_MAX
    assert small[OLD] == small[YOUNG]
    assert "list" not in small[OLD]
