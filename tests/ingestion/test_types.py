"""A column gets another type: what its values mean then is captured, though PostgreSQL wrote no row."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Database, rows_of, run_cleanly

MODEL = {
    "dim_t": "CREATE TABLE dim_t (id INTEGER PRIMARY KEY, v VARCHAR) AS SELECT id, v::VARCHAR AS v FROM t"
}
FILE = "SELECT pg_relation_filenode('t')"


@pytest.mark.parametrize(
    ("kind", "value", "other", "then"),
    [
        ("int", "-1", "oid", "4294967295"),
        ("timestamp", "2024-06-01 12:00", "timestamptz", "2024-06-01 12:00:00+00"),
        ("timestamptz", "2024-06-01 12:00Z", "timestamp", "2024-06-01 12:00:00"),
    ],
)
def test_a_type_that_gives_stored_bits_another_meaning(
    kind: str,
    value: str,
    other: str,
    then: str,
    database: Database,
    make_pipeline: Any,
    write_project: Any,
) -> None:
    pipeline = make_pipeline(database.url, project=write_project(MODEL))
    database.execute(
        f"CREATE TABLE t (id int PRIMARY KEY, v {kind})", f"INSERT INTO t VALUES (1, '{value}'), (2, NULL)"
    )
    run_cleanly(pipeline)
    with database.connect() as session:
        before = session.execute(FILE).fetchone()
        session.execute("SET TimeZone = 'UTC'")
        session.execute(f"ALTER TABLE t ALTER v TYPE {other}".encode())
        assert session.execute(FILE).fetchone() == before  # no row was written
    done = run_cleanly(pipeline).ingested
    assert {table: (found.upserts, found.deletes) for table, found in done.changes.items()} == {"t": (1, 0)}
    assert rows_of(pipeline, "SELECT v FROM dim_t ORDER BY id") == [(then,), (None,)]
    assert run_cleanly(pipeline).ingested.batch is None


def test_a_wider_text_is_the_same_text(database: Database, make_pipeline: Any, write_project: Any) -> None:
    pipeline = make_pipeline(database.url, project=write_project(MODEL))
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v varchar(5))", "INSERT INTO t VALUES (1, 'a')")
    run_cleanly(pipeline)
    database.execute("ALTER TABLE t ALTER v TYPE text")
    assert run_cleanly(pipeline).ingested.changes == {}
    assert rows_of(pipeline, "SELECT v FROM dim_t") == [("a",)]


def test_a_view_whose_column_gets_another_type(
    database: Database, make_pipeline: Any, write_project: Any
) -> None:
    pipeline = make_pipeline(
        database.url, project=write_project(MODEL), source={"keys": {"t": ["id"]}, "tables": ["t"]}
    )
    view = "CREATE VIEW t AS SELECT 1 AS id, '1.50'::{} AS v"
    database.execute(view.format("text"))
    run_cleanly(pipeline)
    database.execute("DROP VIEW t", view.format("numeric"))
    assert run_cleanly(pipeline).ingested.changes["t"].upserts == 1
    assert run_cleanly(pipeline).ingested.batch is None
