"""A condition that fails with an error for one row: in WHERE that row is set aside, in ON the model is named."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Database, rows_of, run_cleanly
from totes.errors import ModelFailed
from totes.pipeline import Pipeline

TABLES = (
    "CREATE TABLE t (id int PRIMARY KEY, v text)",
    "INSERT INTO t VALUES (2, '1'), (3, '1')",
    "CREATE TABLE u (id int PRIMARY KEY, w text)",
    "INSERT INTO u VALUES (1, '10'), (2, '20')",
)
IN_WHERE = (
    "SELECT t.id, v FROM t WHERE CAST(v AS INTEGER) > 0 AND id > 0",
    "SELECT t.id, v FROM t WHERE v = 1 OR v = 2",
    "SELECT t.id, v FROM t, u WHERE t.id = u.id AND CAST(v AS INTEGER) > 0",
    "SELECT x.id, x.v FROM (SELECT id, v FROM t WHERE CAST(v AS INTEGER) > 0) AS x LEFT JOIN u ON u.id = x.id",
    "SELECT t.id, x.v FROM t JOIN (SELECT id, v FROM t WHERE NOT CAST(v AS INTEGER) = 0) AS x ON x.id = t.id",
)


def over(query: str, database: Database, make_pipeline: Any, write_project: Any) -> Pipeline:
    database.execute(*TABLES)
    model = f"CREATE TABLE dim_t (id INTEGER PRIMARY KEY, v VARCHAR) AS {query}"
    made: Pipeline = make_pipeline(database.url, project=write_project({"dim_t": model}))
    run_cleanly(made)
    return made


@pytest.mark.parametrize("query", IN_WHERE)
def test_a_row_for_which_where_fails_is_quarantined(
    query: str, database: Database, make_pipeline: Any, write_project: Any
) -> None:
    pipeline = over(query, database, make_pipeline, write_project)
    before = rows_of(pipeline, "SELECT id FROM dim_t ORDER BY id")
    database.execute("INSERT INTO u VALUES (7, 'x')", "INSERT INTO t VALUES (7, 'abc')")
    assert run_cleanly(pipeline).quarantined == 1
    assert rows_of(pipeline, "SELECT id FROM dim_t ORDER BY id") == before
    database.execute("UPDATE t SET v = '1' WHERE id = 7")
    run_cleanly(pipeline)
    assert rows_of(pipeline, "SELECT id, v FROM dim_t ORDER BY id") == [
        *((i, "1") for (i,) in before),
        (7, "1"),
    ]


def test_a_join_that_fails_names_the_model_and_processing_goes_on_when_it_is_mended(
    database: Database, make_pipeline: Any, write_project: Any
) -> None:
    query = "SELECT t.id, u.w AS v FROM t LEFT JOIN u ON u.id = CAST(t.v AS INTEGER)"
    pipeline = over(query, database, make_pipeline, write_project)
    database.execute("INSERT INTO t VALUES (7, 'abc')")
    with pytest.raises(
        ModelFailed,
        match=r"models/dim_t\.sql: batch 2 cannot be processed: Conversion Error: Could not convert string … to INT32",
    ):
        run_cleanly(pipeline)
    mended = query.replace("CAST", "TRY_CAST")
    model = f"CREATE TABLE dim_t (id INTEGER PRIMARY KEY, v VARCHAR) AS {mended}"
    pipeline = make_pipeline(database.url, project=write_project({"dim_t": model}))
    run_cleanly(pipeline)
    assert rows_of(pipeline, "SELECT id, v FROM dim_t ORDER BY id") == [(2, "10"), (3, "10"), (7, None)]
