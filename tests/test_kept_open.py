"""Cycles of one process share an engine: nothing of a cycle is left in it, and after a failure there is a new one."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import duckdb

from tests.conftest import Database, rows_of, run_cleanly
from totes.lake.workspace import Workspace
from totes.pipeline import Pipeline

MODEL = {"fact_t": "CREATE TABLE fact_t (r BIGINT PRIMARY KEY, id INTEGER, v INTEGER) AS SELECT id, v FROM t"}


def tables(workspace: Workspace) -> list[tuple[str, str]]:
    """All tables that are in the engine or attached to it."""
    with closing(workspace.connect()) as connection:
        found = connection.execute("SELECT database_name, table_name FROM duckdb_tables() ORDER BY ALL")
        return found.fetchall()


def engine_of(pipeline: Pipeline) -> Workspace:
    with pipeline.workspace() as workspace:
        return workspace


def test_cycles_share_an_engine_and_leave_nothing_in_it(
    database: Database, make_pipeline: Any, write_project: Any
) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v int)", "INSERT INTO t VALUES (1, 1)")
    pipeline = make_pipeline(database.url, project=write_project(MODEL))
    with pipeline.kept_open():
        run_cleanly(pipeline)
        first = engine_of(pipeline)
        for value in (2, 3):
            database.execute(f"UPDATE t SET v = {value}", f"INSERT INTO t VALUES ({value}, 0)")
            run_cleanly(pipeline)
            run_cleanly(pipeline)
            assert tables(first) == []
        assert engine_of(pipeline) is first
    assert engine_of(pipeline) is not engine_of(pipeline)
    assert rows_of(pipeline, "SELECT count(*) FROM fact_t") == [(6,)]


def test_after_a_failure_there_is_a_new_engine(
    database: Database, make_pipeline: Any, write_project: Any
) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v int)", "INSERT INTO t VALUES (1, 1)")
    pipeline = make_pipeline(database.url, project=write_project(MODEL))
    with pipeline.kept_open():
        run_cleanly(pipeline)
        first = engine_of(pipeline)
        database.execute("ALTER TABLE t RENAME TO other")
        assert pipeline.run().failures
        database.execute("ALTER TABLE other RENAME TO t", "UPDATE t SET v = 2")
        run_cleanly(pipeline)
        assert engine_of(pipeline) is not first
    assert rows_of(pipeline, "SELECT count(*) FROM fact_t") == [(2,)]


def test_what_somebody_does_to_the_warehouse_is_seen_by_the_next_cycle(
    database: Database, make_pipeline: Any, write_project: Any
) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v int)", "INSERT INTO t VALUES (1, 1)")
    pipeline = make_pipeline(database.url, project=write_project(MODEL))
    with pipeline.kept_open():
        for _ in range(3):
            run_cleanly(pipeline)
        with duckdb.connect(str(pipeline.settings.base / "warehouse.duckdb")) as connection:
            connection.execute("DROP VIEW fact_t_current")
        run_cleanly(pipeline)
        assert rows_of(pipeline, "SELECT count(*) FROM fact_t_current") == [(1,)]
        run_cleanly(pipeline)
        with duckdb.connect(str(pipeline.settings.base / "warehouse.duckdb")) as connection:
            connection.execute("DROP VIEW fact_t_current; DROP TABLE fact_t")
        for _ in range(2):
            assert "fact_t was loaded before, and is missing" in str(pipeline.run().failures["load"])
