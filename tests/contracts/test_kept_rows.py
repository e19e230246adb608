"""A row that is gone from a latest table stays in every warehouse exactly as long as a row of it refers to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Database, rows_of, run_cleanly
from totes.monitoring.verification import verify
from totes.pipeline import Pipeline

SCHEMA = (
    "CREATE TABLE region (id text PRIMARY KEY, name text)",
    "CREATE TABLE branch (id integer PRIMARY KEY, region text, boss integer)",
    "CREATE TABLE sale (id integer PRIMARY KEY, branch integer)",
    "INSERT INTO region VALUES ('north', 'North'), ('south', 'South'), ('east', 'East')",
    "INSERT INTO branch VALUES (1, 'north', NULL), (2, 'south', 1), (3, 'south', 1), (4, 'east', 5), (5, 'east', 4)",
    "INSERT INTO sale VALUES (100, 1), (101, 2)",
)
MODELS = {
    "dim_region": "CREATE TABLE dim_region (id VARCHAR PRIMARY KEY, name VARCHAR) AS SELECT id, name FROM region",
    "dim_branch": """CREATE TABLE dim_branch (id INTEGER PRIMARY KEY, region VARCHAR REFERENCES dim_region,
        boss INTEGER REFERENCES dim_branch) AS SELECT id, region, boss FROM branch""",
    "fact_sale": """CREATE TABLE fact_sale (record BIGINT PRIMARY KEY, id INTEGER NOT NULL, branch INTEGER REFERENCES dim_branch)
        AS SELECT id, branch FROM sale""",
}
REGIONS, BRANCHES = "SELECT id FROM dim_region ORDER BY 1", "SELECT id FROM dim_branch ORDER BY 1"
KEPT = "SELECT table_name, row_key, referred_by FROM totes_kept ORDER BY ALL"


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


def ids(pipeline: Pipeline, sql: str) -> list[Any]:
    return [row[0] for row in rows_of(pipeline, sql)]


def kept(pipeline: Pipeline) -> list[tuple[Any, ...]]:
    return sorted(rows_of(pipeline, "SELECT table_name, row_key, referred_by FROM totes_kept"))


def change(pipeline: Pipeline, database: Database, *statements: str) -> None:
    """Changes the source, runs, and has `verify` agree."""
    database.execute(*statements)
    run_cleanly(pipeline)
    verdict = verify(pipeline, (), 1.0, lambda _doing: None)
    assert verdict.equal, verdict
    assert sum(table.kept for table in verdict.tables.values()) == len(kept(pipeline))


def test_a_row_goes_when_the_last_row_that_referred_to_it_does_not_any_more(
    pipeline: Pipeline, database: Database
) -> None:
    change(pipeline, database, "DELETE FROM region WHERE id = 'south'")
    assert ids(pipeline, REGIONS) == ["east", "north", "south"]
    assert kept(pipeline) == [("dim_region", "south", "dim_branch")]
    change(pipeline, database, "UPDATE branch SET region = 'north' WHERE id = 2")
    assert ids(pipeline, REGIONS) == ["east", "north", "south"]
    change(pipeline, database, "UPDATE branch SET region = 'north' WHERE id = 3")
    assert ids(pipeline, REGIONS) == ["east", "north"]
    assert kept(pipeline) == []


def test_rows_that_refer_to_one_another_in_a_circle_go_together_and_free_what_they_refer_to(
    pipeline: Pipeline, database: Database
) -> None:
    change(
        pipeline, database, "DELETE FROM branch WHERE id IN (4, 5)", "DELETE FROM region WHERE id = 'east'"
    )
    assert ids(pipeline, BRANCHES) == [1, 2, 3]
    assert ids(pipeline, REGIONS) == ["north", "south"]


def test_what_a_version_refers_to_stays_with_all_that_it_refers_to(
    pipeline: Pipeline, database: Database
) -> None:
    change(pipeline, database, "UPDATE sale SET branch = 1", "DELETE FROM branch WHERE id IN (1, 2)",
           "UPDATE branch SET boss = NULL", "DELETE FROM region WHERE id IN ('north', 'south')")  # fmt: skip
    assert ids(pipeline, BRANCHES) == [1, 2, 3, 4, 5]  # 1 and 2 for a version of a sale, each in its region
    assert kept(pipeline) == [
        ("dim_branch", "1", "fact_sale"), ("dim_branch", "2", "fact_sale"),
        ("dim_region", "north", "dim_branch"), ("dim_region", "south", "dim_branch"),
    ]  # fmt: skip
    change(pipeline, database, "DELETE FROM branch WHERE id = 3", "DELETE FROM sale")
    assert ids(pipeline, BRANCHES) == [1, 2, 4, 5]
    assert ids(pipeline, REGIONS) == ["east", "north", "south"]


def test_a_kept_row_that_comes_back_is_kept_no_more(pipeline: Pipeline, database: Database) -> None:
    change(pipeline, database, "DELETE FROM region WHERE id = 'south'")
    change(pipeline, database, "INSERT INTO region VALUES ('south', 'South again')")
    assert kept(pipeline) == []
    assert rows_of(pipeline, "SELECT name FROM dim_region WHERE id = 'south'") == [("South again",)]


def test_a_table_whose_model_is_gone_keeps_what_it_refers_to(
    pipeline: Pipeline, database: Database, warehouse_url: str, make_pipeline: Callable[..., Pipeline],
    write_project: Callable[..., dict[str, Any]],
) -> None:  # fmt: skip
    less = {name: model for name, model in MODELS.items() if name != "fact_sale"}
    without = make_pipeline(database.url, warehouse_url, project=write_project(less, name="less"))
    change(without, database, "UPDATE branch SET boss = NULL", "DELETE FROM branch WHERE id IN (2, 3)")
    assert ids(without, BRANCHES) == [1, 2, 4, 5]
    assert kept(without) == [("dim_branch", "2", "fact_sale")]


def test_a_foreign_key_of_somebodys_own_table_counts_too(
    database: Database,
    new_database: Callable[..., Database],
    make_pipeline: Callable[..., Pipeline],
    write_project: Callable[..., dict[str, Any]],
) -> None:
    database.execute(*SCHEMA)
    star = new_database()
    pipeline = make_pipeline(database.url, star.url, project=write_project(MODELS))
    run_cleanly(pipeline)
    star.execute("CREATE SCHEMA plans", 'CREATE TABLE plans."Target" (region text REFERENCES dim_region)',
                 "INSERT INTO plans.\"Target\" VALUES ('east')")  # fmt: skip
    change(
        pipeline, database, "DELETE FROM branch WHERE id IN (4, 5)", "DELETE FROM region WHERE id = 'east'"
    )
    assert ids(pipeline, REGIONS) == ["east", "north", "south"]
    star.execute('DELETE FROM plans."Target"', 'DROP TABLE plans."Target"')
    change(pipeline, database, "INSERT INTO region VALUES ('west', 'West')")
    assert ids(pipeline, REGIONS) == ["north", "south", "west"]


def test_a_column_is_indexed_when_rows_that_it_refers_to_are_first_removed(
    database: Database,
    new_database: Callable[..., Database],
    make_pipeline: Callable[..., Pipeline],
    write_project: Callable[..., dict[str, Any]],
) -> None:
    database.execute(*SCHEMA)
    star = new_database()
    pipeline = make_pipeline(database.url, star.url, project=write_project(MODELS))
    indexes = "SELECT indexname::text FROM pg_indexes WHERE indexname LIKE '%references' ORDER BY 1"
    run_cleanly(pipeline)
    assert star.execute(indexes) == []
    for branch in (4, 5):
        database.execute(f"DELETE FROM branch WHERE id = {branch}")
        run_cleanly(pipeline)
        assert star.execute(indexes) == [("dim_branch_boss_references",), ("fact_sale_branch_references",)]
