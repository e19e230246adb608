"""TerrificTotes' own datasets and dashboards: the same in both warehouses, and true."""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.dashboards.conftest import Company
from tests.modules import module_at
from totes import engine
from totes.dashboards.assets import datasets, folder_of
from totes.dashboards.dataset import Dataset
from totes.dashboards.design import read_dashboards
from totes.warehouse.table import Dialect

ROOT = Path(__file__).parents[2]
SCHEMAS: dict[Dialect, str] = {"duckdb": "main", "postgresql": "public"}


def asked(
    company: Company, dialect: Dialect, dataset: Dataset, select: str, rest: str = ""
) -> list[dict[str, Any]]:
    relation = f"({dataset.sql})" if dataset.sql else engine.name(SCHEMAS[dialect], dataset.name)
    return company.queries[dialect](f"SELECT {select} FROM {relation} AS dataset {rest}")


def named(company: Company, dialect: Dialect, name: str) -> Dataset:
    return next(one for one in datasets(company.project, dialect, SCHEMAS[dialect]) if one.name == name)


def plain(value: object) -> object:
    """A value without the digits and zeros that a warehouse's type adds."""
    return round(float(value), 6) if isinstance(value, int | float | Decimal) else str(value)


def shown(company: Company, dialect: Dialect, dataset: Dataset) -> tuple[list[str], list[str]]:
    """All rows of a dataset, with the columns that are made of others, and its metrics by currency, on the newest day."""
    columns = ", ".join(
        f"{one.expression or engine.name(one.name)} AS {engine.name(one.name)}" for one in dataset.fields
    )
    metrics = ", ".join(f"{one.expression} AS {engine.name(one.name)}" for one in dataset.metrics)
    by = engine.name(dataset.currency) if dataset.currency else "'all'"
    newest = "WHERE as_of = 'Newest day'" if dataset.field("as_of") else ""
    rows = asked(company, dialect, dataset, columns)
    totals = asked(company, dialect, dataset, f"{by} AS by, {metrics}", f"{newest} GROUP BY 1")
    assert rows, dataset.name
    assert all(None not in row.values() for row in totals), dataset.name
    return tuple(sorted(str([*map(plain, row.values())]) for row in found) for found in (rows, totals))  # type: ignore[return-value]


def test_every_dataset_has_the_same_rows_and_metrics_in_both_warehouses(company: Company) -> None:
    for dataset in datasets(company.project, "duckdb", "main"):
        other = named(company, "postgresql", dataset.name)
        assert shown(company, "duckdb", dataset) == shown(company, "postgresql", other), dataset.name


@pytest.mark.parametrize("dialect", SCHEMAS)
def test_open_payments_of_a_past_day_are_those_that_were_open_then(
    company: Company, dialect: Dialect
) -> None:
    payments = named(company, dialect, "open_payments")
    newest = datetime.date(2026, 11, 2)
    day_before = newest - datetime.timedelta(days=1)
    query = company.queries[dialect]
    now = query("SELECT payment_id FROM fact_payment_current WHERE NOT paid ORDER BY payment_id")
    last = asked(company, dialect, payments, "payment_id", "WHERE as_of = 'Newest day' ORDER BY payment_id")
    assert last == now
    [days] = asked(company, dialect, payments, "MIN(day) AS first, MAX(day) AS last")
    assert days["last"] == newest
    before = {
        row["payment_id"]
        for row in asked(company, dialect, payments, "payment_id", f"WHERE day = DATE '{day_before}'")
    }
    at = f"TIMESTAMP '{newest}'"
    then = query(
        f"SELECT payment_id FROM fact_payment WHERE (valid_to > {at} OR valid_to IS NULL) AND valid_from < {at}"
        f" AND NOT is_deleted AND NOT paid"
    )
    assert before >= {row["payment_id"] for row in then}
    assert len(before) > 5
    known = {
        row["payment_id"]
        for row in query(f"SELECT payment_id FROM fact_payment WHERE created_date <= DATE '{day_before}'")
    }
    assert before <= known
    late = asked(company, dialect, payments, "day, due, due_in, days_left")
    assert all(
        (row["days_left"] < 0) == (row["due"] < row["day"]) == (row["due_in"] == "1 Late") for row in late
    )


@pytest.mark.parametrize("dialect", SCHEMAS)
def test_an_order_that_changed_is_shown_as_it_was_and_as_it_is(company: Company, dialect: Dialect) -> None:
    query, orders = company.queries[dialect], named(company, dialect, "open_orders")
    [changed] = query(
        "SELECT sales_order_id, COUNT(*) AS versions FROM fact_sales_order WHERE agreed_delivery_date > DATE '2026-11-02'"
        " GROUP BY sales_order_id HAVING COUNT(*) > 1 ORDER BY sales_order_id LIMIT 1"
    )
    order = changed["sales_order_id"]
    versions = query(
        f"SELECT units_sold FROM fact_sales_order WHERE sales_order_id = {order} ORDER BY valid_from"
    )
    shown = asked(company, dialect, orders, "day, bags", f"WHERE sales_order_id = {order} ORDER BY day")
    assert [row["bags"] for row in shown[-2:]] == [row["units_sold"] for row in versions]
    [created] = query(f"SELECT MIN(created_date) AS day FROM fact_sales_order WHERE sales_order_id = {order}")
    assert shown[0]["day"] == created["day"]
    deleted = query("SELECT sales_order_id FROM fact_sales_order WHERE is_deleted")
    orders_deleted = ", ".join(str(row["sales_order_id"]) for row in deleted)
    assert (
        asked(
            company,
            dialect,
            orders,
            "day",
            f"WHERE sales_order_id IN ({orders_deleted}) AND as_of = 'Newest day'",
        )
        == []
    )


def test_the_best_designs_are_ranked(company: Company) -> None:
    rows = asked(
        company, "duckdb", named(company, "duckdb", "best_designs"), "*", "ORDER BY country_rank, design_rank"
    )
    countries = list(
        dict.fromkeys((row["country"], row["country_bags"], row["country_rank"]) for row in rows)
    )
    assert [rank for _, _, rank in countries] == list(range(1, len(countries) + 1))
    assert [bags for _, bags, _ in countries] == sorted((bags for _, bags, _ in countries), reverse=True)
    for country, bags, _ in countries:
        own = [row for row in rows if row["country"] == country]
        assert [row["bags"] for row in own] == sorted((row["bags"] for row in own), reverse=True)
        assert sum(row["bags"] for row in own) == bags


def test_every_chart_asks_for_columns_and_metrics_that_are_there(company: Company) -> None:
    known = {one.name: one for one in datasets(company.project, "duckdb", "main")}
    for dashboard in read_dashboards(folder_of(company.project)).values():
        for chart in dashboard.charts.values():
            params, dataset = chart.params, known[chart.dataset]
            metrics = [
                *params.get("metrics", []),
                params.get("metric"),
                params.get("timeseries_limit_metric"),
            ]
            assert {one for one in metrics if one} <= {one.name for one in dataset.metrics}, chart.title
            subjects = [one["subject"] for one in params.get("adhoc_filters", [])]
            columns = [
                *params.get("groupby", []),
                *params.get("all_columns", []),
                *subjects,
                params.get("x_axis"),
            ]
            assert {one for one in columns if one} <= {one.name for one in dataset.fields}, chart.title
        for one in dashboard.filters:
            within = {
                known[chart.dataset] for name, chart in dashboard.charts.items() if name not in one.without
            }
            assert not one.column or all(dataset.field(one.column) for dataset in within), one.label


def test_the_assets_in_the_repository_are_those_that_totes_makes() -> None:
    made = module_at(ROOT / "docs" / "generate.py")
    there = {
        file.relative_to(made.ASSETS).as_posix(): file.read_text("utf-8")
        for file in made.ASSETS.rglob("*.yaml")
    }
    assert there == made.dashboards(), "run make docs"
