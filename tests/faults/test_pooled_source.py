"""Promise 14 behind a connection pool: the application's sessions stay as they were, and the pipeline works or says why not."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.conftest import Database, rows_of, run_cleanly
from tests.pooler import pooler
from totes.monitoring.diagnosis.examination import diagnose
from totes.terrifictotes.server import LocalServer

RUNS = 5
TABLE = ("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'a'), (2, 'b')")
MODEL = {"dim_t": "CREATE TABLE dim_t (id INTEGER PRIMARY KEY, v VARCHAR) AS SELECT id, v FROM t"}


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_pooled_sessions_are_as_they_were_after_five_runs_and_a_diagnosis(
    server: LocalServer, database: Database, make_pipeline: Any, write_project: Any, mode: str
) -> None:
    database.execute(*TABLE)
    with pooler(server, mode) as pool:
        before = pool.sessions(database.name)
        pipeline = make_pipeline(pool.url(database.name), project=write_project(MODEL))
        for number in range(RUNS):
            run_cleanly(pipeline)
            database.execute(f"INSERT INTO t VALUES ({10 + number}, 'more')")
        diagnose(pipeline, pipeline.settings.base / "totes.toml", lambda _: None)
        assert pool.sessions(database.name) == before  # the same server processes too: none was worn out
        with psycopg.connect(pool.url(database.name), prepare_threshold=None) as application:
            assert application.execute("SELECT count(*) FROM t").fetchone() == (2 + RUNS,)
        assert rows_of(pipeline, "SELECT count(*) FROM dim_t") == [(2 + RUNS - 1,)]


def test_a_run_that_fails_leaves_pooled_sessions_as_they_were(
    server: LocalServer, database: Database, make_pipeline: Any, write_project: Any
) -> None:
    database.execute(*TABLE, "CREATE VIEW w AS SELECT id, 1 / (id - 2) AS q FROM t")
    with pooler(server, "transaction") as pool:
        before = pool.sessions(database.name)
        source = {"tables": ["*", "w"], "keys": {"w": ["id"]}}
        pipeline = make_pipeline(pool.url(database.name), project=write_project(MODEL), source=source)
        for _ in range(RUNS):
            assert "division by zero" in str(pipeline.run().failures["ingest"])
        after = pool.sessions(database.name)
        assert {tuple(held) for held in after.values()} == {tuple(held) for held in before.values()}


def test_a_pool_that_allows_no_transactions_is_refused_with_the_reason(
    server: LocalServer, database: Database, make_pipeline: Any, write_project: Any
) -> None:
    database.execute(*TABLE)
    with pooler(server, "statement") as pool:
        pipeline = make_pipeline(pool.url(database.name), project=write_project(MODEL))
        refused = str(pipeline.run().failures["ingest"])
        assert "pool_mode = transaction or session" in refused
        diagnosis = diagnose(pipeline, pipeline.settings.base / "totes.toml", lambda _: None)
        assert any("pool_mode = transaction" in str(check) for check in diagnosis.checks)


def test_a_pool_that_is_too_small_says_so(
    server: LocalServer, database: Database, make_pipeline: Any, write_project: Any
) -> None:
    database.execute(*TABLE)
    with pooler(server, "transaction", default_pool_size="1", query_wait_timeout="1") as pool:
        pipeline = make_pipeline(pool.url(database.name), project=write_project(MODEL))
        assert "pool_size" in str(pipeline.run().failures["ingest"])
