"""Cycles of one process share an engine: nothing of a cycle is left in it, and after a failure there is a new one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import duckdb
import pytest

from tests.conftest import Database, rows_of, run_cleanly
from totes import engine
from totes.lake.workspace import Workspace
from totes.pipeline import Pipeline

MODEL = {"fact_t": "CREATE TABLE fact_t (r BIGINT PRIMARY KEY, id INTEGER, v INTEGER) AS SELECT id, v FROM t"}


@pytest.fixture
def running(database: Database, make_pipeline: Any, write_project: Any) -> Iterator[Pipeline]:
    """A pipeline of which one batch is loaded, and whose cycles share an engine."""
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v int)", "INSERT INTO t VALUES (1, 1)")
    pipeline = make_pipeline(database.url, project=write_project(MODEL))
    with pipeline.kept_open():
        run_cleanly(pipeline)
        yield pipeline


def tables(workspace: Workspace) -> list[tuple[str, str]]:
    """All tables that are in the engine or attached to it."""
    with closing(workspace.connect()) as connection:
        found = connection.execute("SELECT database_name, table_name FROM duckdb_tables() ORDER BY ALL")
        return found.fetchall()


def engine_of(pipeline: Pipeline) -> Workspace:
    with pipeline.workspace() as workspace:
        return workspace


def test_cycles_share_an_engine_and_leave_nothing_in_it(database: Database, running: Pipeline) -> None:
    first = engine_of(running)
    for value in (2, 3):
        database.execute(f"UPDATE t SET v = {value}", f"INSERT INTO t VALUES ({value}, 0)")
        run_cleanly(running)
        run_cleanly(running)
        assert tables(first) == []
    assert engine_of(running) is first
    assert rows_of(running, "SELECT count(*) FROM fact_t") == [(6,)]


def test_cycles_into_a_server_open_no_engine_of_their_own(
    database: Database, new_database: Callable[..., Database], make_pipeline: Any, write_project: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    opened = list[object]()
    connect = engine.connect
    monkeypatch.setattr(
        engine, "connect", lambda *given, **named: opened.append(given) or connect(*given, **named)
    )
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v int)", "INSERT INTO t VALUES (1, 1)")
    pipeline = make_pipeline(database.url, new_database().url, project=write_project(MODEL))
    with pipeline.kept_open():
        run_cleanly(pipeline)
        assert opened
        opened.clear()
        database.execute("UPDATE t SET v = 2")
        run_cleanly(pipeline)
        assert opened == []
        database.execute("ALTER TABLE t RENAME TO other")
        assert pipeline.run().failures
        database.execute("ALTER TABLE other RENAME TO t", "UPDATE t SET v = 3")
        run_cleanly(pipeline)
        assert len(opened) == 2  # the stages' own, and the one that rows pass through on their way
    assert rows_of(pipeline, "SELECT count(*) FROM fact_t") == [(3,)]


def test_only_while_it_is_kept_open(database: Database, make_pipeline: Any, write_project: Any) -> None:
    pipeline = make_pipeline(database.url, project=write_project(MODEL))
    with pipeline.kept_open():
        first = engine_of(pipeline)
    assert engine_of(pipeline) is not first
    assert engine_of(pipeline) is not engine_of(pipeline)


def test_after_a_failure_there_is_a_new_engine(database: Database, running: Pipeline) -> None:
    first = engine_of(running)
    database.execute("ALTER TABLE t RENAME TO other")
    assert running.run().failures
    database.execute("ALTER TABLE other RENAME TO t", "UPDATE t SET v = 2")
    run_cleanly(running)
    assert engine_of(running) is not first
    assert rows_of(running, "SELECT count(*) FROM fact_t") == [(2,)]


def test_what_somebody_does_to_the_warehouse_is_seen_by_the_next_cycle(running: Pipeline) -> None:
    run_cleanly(running)
    run_cleanly(running)
    file = str(running.settings.base / "warehouse.duckdb")
    with duckdb.connect(file) as connection:
        connection.execute("DROP VIEW fact_t_current")
    run_cleanly(running)
    assert rows_of(running, "SELECT count(*) FROM fact_t_current") == [(1,)]
    run_cleanly(running)
    with duckdb.connect(file) as connection:
        connection.execute("DROP VIEW fact_t_current; DROP TABLE fact_t")
    for _ in range(2):
        assert "fact_t was loaded before, and is missing" in str(running.run().failures["load"])
