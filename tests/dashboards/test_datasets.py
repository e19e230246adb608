"""The datasets of any star, however odd: each is a query that both warehouses run, with columns and metrics that hold."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.dashboards.odd_star import (
    HOSTILE,
    MODELS,
    ROWS,
    Query,
    declared,
    duckdb_query,
    odd_project,
    postgresql_query,
)
from tests.databases import Database
from totes import engine
from totes.dashboards.assets import assets
from totes.dashboards.dataset import Dataset
from totes.dashboards.star import star_datasets
from totes.star.project import Project
from totes.warehouse.table import Dialect

DUCKDB = "duckdb:////warehouse.duckdb"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return odd_project(tmp_path / "odd")


@pytest.fixture(params=["duckdb", "postgresql"])
def dialect(request: pytest.FixtureRequest) -> Dialect:
    kind: Dialect = request.param
    return kind


@pytest.fixture(params=["own", "Other Schema"])
def schema(request: pytest.FixtureRequest, dialect: Dialect) -> str:
    """The schema that a warehouse has anyway, or another one."""
    own: dict[Dialect, str] = {"duckdb": "main", "postgresql": "public"}
    return own[dialect] if request.param == "own" else request.param


@pytest.fixture
def query(
    project: Project,
    dialect: Dialect,
    schema: str,
    tmp_path: Path,
    new_database: Callable[..., Database],
) -> Query:
    """Queries a warehouse with the odd star in it."""
    rows = [row.replace("INSERT INTO ", f"INSERT INTO {engine.name(schema)}.") for row in ROWS]
    statements = [*declared(project, dialect, schema), *rows]
    if dialect == "duckdb":
        return duckdb_query(tmp_path / "odd.duckdb", *statements)
    return postgresql_query(new_database().url, *statements)


def named(datasets: list[Dataset], name: str) -> Dataset:
    return next(dataset for dataset in datasets if dataset.name == name)


def source(dataset: Dataset, schema: str) -> str:
    return f"({dataset.sql}) AS dataset" if dataset.sql else engine.name(schema, dataset.name)


def test_every_dataset_runs_in_its_warehouse_with_its_columns_and_metrics(
    project: Project, dialect: Dialect, schema: str, query: Query
) -> None:
    datasets = star_datasets(project, dialect, schema)
    assert len(datasets) == len({dataset.name.lower() for dataset in datasets}) == len(MODELS) + 2
    for dataset in datasets:
        assert dataset.metrics
        fields = ", ".join(engine.name(field.name) for field in dataset.fields)
        found = query(f"SELECT {fields} FROM {source(dataset, schema)}")
        assert found == [] or list(found[0]) == [field.name for field in dataset.fields]
        metrics = ", ".join(f"{one.expression} AS {engine.name(one.name)}" for one in dataset.metrics)
        assert len(query(f"SELECT {metrics} FROM {source(dataset, schema)}")) == 1
        if dataset.time:
            assert dataset.field(dataset.time)


def test_a_fact_has_what_it_refers_to_by_the_role_of_each_reference(
    project: Project, dialect: Dialect, schema: str, query: Query
) -> None:
    flights = named(star_datasets(project, dialect, schema), "fact_flight")
    rows = query(f"SELECT * FROM {source(flights, schema)} ORDER BY flight_no")
    assert [row["flight_no"] for row in rows] == [7, 8]  # as they are now, without what is deleted
    assert (rows[0]["origin_name_2"], rows[0]["destination_name"]) == ("Leeds", "Cork")
    assert (rows[0]["origin_name"], rows[0]["origin_order"]) == ("own", 1)  # its own column keeps its name
    assert (rows[0]["Größe_select"], rows[0]["größe_select_2"]) == ("small", "large")  # one is deleted by now
    assert (rows[0]["departed_year"], rows[1]["destination_name"]) == (2026, None)
    assert "arrived_year" not in rows[0]  # the calendar is joined for the date that time is about
    assert flights.time == "departed"


def test_a_dimension_that_refers_to_itself_has_the_other_row_beside_it(
    project: Project, dialect: Dialect, schema: str, query: Query
) -> None:
    sizes = named(star_datasets(project, dialect, schema), "Dim Größe")
    [row] = query(f"SELECT * FROM {source(sizes, schema)}")
    assert row == {
        "ID": 1, "select": "small", 'Full "Name" %': "S", "boss_id": None,
        "boss_select": None, 'boss_Full "Name" %': None, "boss_boss_id": None,
    }  # fmt: skip


def test_every_version_is_there_and_one_moment_can_be_asked_for(
    project: Project, dialect: Dialect, schema: str, query: Query
) -> None:
    versions = next(
        one
        for one in star_datasets(project, dialect, schema)
        if one.name.startswith("fact_flight_versions") and one.time == "valid_from"
    )
    at = "TIMESTAMP '2026-01-01 08:30'"
    [row] = query(
        f"SELECT * FROM {source(versions, schema)} WHERE valid_from <= {at} AND (valid_to > {at} OR valid_to IS NULL)"
        " AND NOT is_deleted"
    )
    assert (row["flight_record_id"], row["destination_name"]) == (1, "Cork")
    metrics = ", ".join(f"{one.expression} AS {one.name}" for one in versions.metrics)
    assert query(f"SELECT {metrics} FROM {source(versions, schema)}") == [{"count": 4, "deletions": 1}]


def test_money_is_added_up_within_one_currency_only(
    project: Project, dialect: Dialect, schema: str, query: Query
) -> None:
    flights = named(star_datasets(project, dialect, schema), "fact_flight")
    metrics = {one.name: one.expression for one in flights.metrics}
    assert set(metrics) == {
        "count", "sum__Fare Amount", "avg__seat_price", "sum__seats_sold", "sum__number_of_meals", "sum__weight",
    }  # fmt: skip
    fare, price = metrics["sum__Fare Amount"], metrics["avg__seat_price"]
    select = f"SELECT {fare} AS fare, {price} AS price, {metrics['sum__seats_sold']} AS seats FROM {source(flights, schema)}"
    assert query(select) == [{"fare": None, "price": None, "seats": 23}]
    grouped = query(f"{select} GROUP BY currency_code ORDER BY currency_code")
    assert [(row["fare"], float(row["price"]), row["seats"]) for row in grouped] == [
        (Decimal(300), 30.0, 12),
        (Decimal("200.5"), 20.0, 11),
    ]


def test_rows_without_a_currency_are_not_added_to_those_with_one(
    project: Project, dialect: Dialect, query: Query, schema: str
) -> None:
    flights = named(star_datasets(project, dialect, schema), "fact_flight")
    fare = next(one.expression for one in flights.metrics if one.name == "sum__Fare Amount")
    rows = "SELECT code AS currency_code, amount AS \"Fare Amount\" FROM (VALUES (NULL, 1), ('GBP', 2)) AS row (code, amount)"
    assert query(f"SELECT {fare} AS fare FROM ({rows}) AS dataset") == [{"fare": None}]
    assert query(f"SELECT {fare} AS fare FROM ({rows}) AS dataset WHERE currency_code = 'GBP'") == [
        {"fare": 2}
    ]


def test_what_may_be_added_up_is_told_from_what_may_not(project: Project) -> None:
    datasets = star_datasets(project, "duckdb", "main")
    assert [one.name for one in named(datasets, "reading_current").metrics] == [
        "count", "avg__temperature", "sum__rainfall",
    ]  # fmt: skip
    assert [one.name for one in named(datasets, "dim_airport_current").metrics] == ["count"]


def test_descriptions_and_names_arrive_as_they_are(project: Project, tmp_path: Path) -> None:
    files = assets(project, DUCKDB, "", tmp_path)
    parsed: dict[str, Any] = {name: yaml.safe_load(text) for name, text in files.items()}
    sizes = next(one for one in parsed.values() if one.get("table_name") == "Dim Größe")
    assert sizes["description"].startswith(HOSTILE)
    assert [column["description"] for column in sizes["columns"]][1] == HOSTILE
    assert [column["column_name"] for column in sizes["columns"]][2] == 'Full "Name" %'
    assert not [name for name in files if name.rpartition("/")[2].startswith((".", "_"))]
    assert all(name.isascii() or "Größe" in name for name in files)


def test_another_import_updates_what_the_first_one_made(project: Project, tmp_path: Path) -> None:
    over = ("duckdb:////a.duckdb", "postgresql://reader@host/warehouse")
    first, second = (
        [yaml.safe_load(text) for text in assets(project, url, "", tmp_path).values()] for url in over
    )
    identifiers = [one.get("uuid") for one in first]
    assert identifiers == [one.get("uuid") for one in second]
    assert len(set(identifiers)) == len(identifiers)
