"""A row that is gone stays in a table that others refer to, marked; from every other table with one row a key it goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Database, rows_of, run_cleanly
from totes.errors import WarehouseError
from totes.monitoring.verification import verify
from totes.pipeline import Pipeline

SCHEMA = (
    "CREATE TABLE region (id text PRIMARY KEY, name text, open boolean DEFAULT true)",
    "CREATE TABLE branch (id integer PRIMARY KEY, region text, boss integer)",
    "INSERT INTO region (id, name) VALUES ('north', 'North'), ('south', 'South'), ('east', 'East')",
    "INSERT INTO branch VALUES (1, 'north', NULL), (2, 'south', 1), (3, 'south', 1)",
)
MODELS = {
    "dim_region": """CREATE TABLE dim_region (id VARCHAR PRIMARY KEY, name VARCHAR)
        AS SELECT id, name FROM region WHERE open""",
    "dim_branch": """CREATE TABLE dim_branch (id INTEGER PRIMARY KEY, region VARCHAR REFERENCES dim_region)
        AS SELECT id, region FROM branch""",
    "dim_worker": """CREATE TABLE dim_worker (id INTEGER PRIMARY KEY, boss INTEGER REFERENCES dim_worker)
        AS SELECT id, boss FROM branch""",
}
REGIONS = "SELECT id, name, is_deleted FROM dim_region ORDER BY 1"
PRESENT = "SELECT id FROM dim_region_current ORDER BY 1"
BRANCHES = "SELECT id FROM dim_branch ORDER BY 1"


@pytest.fixture
def pipeline(
    database: Database,
    warehouse_url: str,
    make_pipeline: Callable[..., Pipeline],
    write_project: Callable[..., dict[str, Any]],
) -> Pipeline:
    database.execute(*SCHEMA)
    made = make_pipeline(database.url, warehouse_url, project=write_project(MODELS))
    run_cleanly(made)
    return made


def change(pipeline: Pipeline, database: Database, *statements: str) -> None:
    """Changes the source, runs, and has `verify` agree."""
    database.execute(*statements)
    run_cleanly(pipeline)
    verdict = verify(pipeline, (), 1.0, lambda _doing: None)
    assert verdict.equal, verdict


def test_a_deleted_row_stays_marked_where_others_may_refer_to_it(
    pipeline: Pipeline, database: Database
) -> None:
    # One is deleted, and one leaves the model's WHERE; nothing refers to east.
    change(
        pipeline,
        database,
        "DELETE FROM region WHERE id = 'east'",
        "UPDATE region SET open = false WHERE id = 'south'",
    )
    assert rows_of(pipeline, REGIONS) == [
        ("east", "East", True), ("north", "North", False), ("south", "South", True)
    ]  # fmt: skip
    assert rows_of(pipeline, PRESENT) == [("north",)]


def test_a_row_that_comes_back_is_marked_no_more(pipeline: Pipeline, database: Database) -> None:
    change(pipeline, database, "DELETE FROM region WHERE id = 'south'")
    change(pipeline, database, "INSERT INTO region VALUES ('south', 'South again')")
    assert ("south", "South again", False) in rows_of(pipeline, REGIONS)
    assert len(rows_of(pipeline, PRESENT)) == 3


def test_a_row_goes_from_a_table_that_nothing_refers_to(pipeline: Pipeline, database: Database) -> None:
    change(pipeline, database, "DELETE FROM branch WHERE id = 2")
    assert rows_of(pipeline, BRANCHES) == [(1,), (3,)]
    assert rows_of(pipeline, BRANCHES.replace("dim_branch", "dim_branch_current")) == [(1,), (3,)]


def test_a_table_that_refers_to_itself_retains_its_rows(pipeline: Pipeline, database: Database) -> None:
    change(pipeline, database, "DELETE FROM branch WHERE id IN (1, 2)")
    assert rows_of(pipeline, "SELECT id, boss, is_deleted FROM dim_worker ORDER BY 1") == [
        (1, None, True), (2, 1, True), (3, 1, False)
    ]  # fmt: skip


def test_a_foreign_key_of_somebodys_own_table_that_refuses_a_delete_is_named(
    database: Database,
    new_database: Callable[..., Database],
    make_pipeline: Callable[..., Pipeline],
    write_project: Callable[..., dict[str, Any]],
) -> None:
    database.execute(*SCHEMA)
    star = new_database()
    pipeline = make_pipeline(database.url, star.url, project=write_project(MODELS))
    run_cleanly(pipeline)
    star.execute("CREATE SCHEMA plans", 'CREATE TABLE plans."Target" (branch int CONSTRAINT "The branch" REFERENCES dim_branch)',
                 "INSERT INTO plans.\"Target\" VALUES (2)")  # fmt: skip
    database.execute("DELETE FROM branch WHERE id = 2")
    error = pipeline.run().failures["load"]
    assert isinstance(error, WarehouseError)
    assert (
        'are to leave dim_branch, and a foreign key refers to them: plans."Target" ("The branch")'
        in error.what
    )
    assert (error.hint or "").endswith('ALTER TABLE plans."Target" DROP CONSTRAINT "The branch"')
    assert rows_of(pipeline, BRANCHES) == [(1,), (2,), (3,)]
    star.execute('ALTER TABLE plans."Target" DROP CONSTRAINT "The branch"')
    run_cleanly(pipeline)
    assert rows_of(pipeline, BRANCHES) == [(1,), (3,)]
