"""The objects that `totes history` names are those with the rows that a version came from, and no others of their batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Database, run_cleanly
from totes.monitoring.history import read_history
from totes.pipeline import Pipeline

MODELS = {
    "fact_visit": """CREATE TABLE fact_visit (r BIGINT PRIMARY KEY, id INTEGER NOT NULL, city VARCHAR, region VARCHAR) AS
        SELECT visit.id, city.name AS city, region.name AS region
        FROM visit JOIN city ON city.id = visit.city LEFT JOIN region ON region.id = city.region""",
    "dim_city": "CREATE TABLE dim_city (id INTEGER PRIMARY KEY, name VARCHAR) AS SELECT id, name FROM city",
}


@pytest.fixture
def pipeline(
    database: Database, make_pipeline: Callable[..., Pipeline], write_project: Callable[..., dict[str, Any]]
) -> Pipeline:
    """Visits of cities in regions."""
    database.execute(
        "CREATE TABLE region (id int PRIMARY KEY, name text)",
        "CREATE TABLE city (id int PRIMARY KEY, name text, region int)",
        "CREATE TABLE visit (id int PRIMARY KEY, city int)",
        "INSERT INTO region VALUES (1, 'North'), (2, 'South')",
        "INSERT INTO city VALUES (10, 'York', 1), (20, 'Bath', 2)",
        "INSERT INTO visit VALUES (100, 10), (200, 20)",
    )
    return make_pipeline(database.url, project=write_project(MODELS))


def tables(pipeline: Pipeline, key: str, table: str = "fact_visit") -> list[list[str]]:
    """For each version of a row, the tables whose objects are named."""
    return [
        sorted(place.split("/lake/")[1].split("/date=")[0] for place in version.objects)
        for version in read_history(pipeline, table, [key])
    ]


def test_a_batch_with_changes_of_other_joined_rows_does_not_name_their_objects(
    pipeline: Pipeline, database: Database
) -> None:
    run_cleanly(pipeline)
    database.execute(
        "UPDATE city SET name = 'Hull' WHERE id = 10", "UPDATE region SET name = 'West' WHERE id = 2"
    )
    run_cleanly(pipeline)
    everything = ["ingestion/city", "ingestion/region", "ingestion/visit", "processed/fact_visit"]
    assert tables(pipeline, "100") == [everything, ["ingestion/city", "processed/fact_visit"]]
    assert tables(pipeline, "200") == [everything, ["ingestion/region", "processed/fact_visit"]]


def test_a_joined_row_that_was_deleted_is_among_them(pipeline: Pipeline, database: Database) -> None:
    run_cleanly(pipeline)
    database.execute("DELETE FROM region WHERE id = 1", "UPDATE city SET name = 'Wells' WHERE id = 20")
    run_cleanly(pipeline)
    assert tables(pipeline, "100")[1] == ["ingestion/region", "processed/fact_visit"]
    database.execute("DELETE FROM city WHERE id = 10", "DELETE FROM visit WHERE id = 200")
    run_cleanly(pipeline)
    assert tables(pipeline, "100")[2] == ["ingestion/city", "processed/fact_visit"]
    assert tables(pipeline, "200")[2] == ["ingestion/visit", "processed/fact_visit"]


def test_of_written_and_removed_rows_only_the_object_with_the_row_is_named(
    pipeline: Pipeline, database: Database
) -> None:
    run_cleanly(pipeline)
    database.execute("UPDATE city SET name = 'Hull' WHERE id = 10", "DELETE FROM city WHERE id = 20")
    run_cleanly(pipeline)
    for city, place in (("10", "processed/dim_city"), ("20", "processed/removed/dim_city")):
        assert tables(pipeline, city, "dim_city")[-1] == ["ingestion/city", place]
