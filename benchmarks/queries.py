"""What analysts ask of a warehouse with much history, beside a plain table with the right index."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import duckdb
import psycopg

from benchmarks.cycles import Cycles
from benchmarks.loading import DUCKDB_FILE, WAREHOUSES, Loaded, check_star, loaded
from benchmarks.measurement import Aim, BenchmarkFailed, Measurement, median
from benchmarks.workbench import Source, Workbench

SECTION = "queries"
_AIM = Aim("at most", 1.5, "time")
_TIMES = 15
_BATCHES = 4
_SHARE = 5

# The question, and the plain tables' and ours answer to it. `{key}` is another order each time.
_BY_MONTH = (
    "SELECT date_trunc('month', created_date) AS month, count(*), sum(units_sold), sum(units_sold * unit_price)"
    " FROM {} GROUP BY 1 ORDER BY 1"
)
_ONE_MONTH = (
    "SELECT count(*), sum(units_sold), sum(units_sold * unit_price) FROM {}"
    " WHERE created_date >= '2025-06-01' AND created_date < '2025-07-01'"
)
_ONE_ORDER = "SELECT units_sold, unit_price, valid_from, valid_to FROM {} WHERE sales_order_id = {{key}} ORDER BY valid_from"
_QUESTIONS = {
    "totals by month": (_BY_MONTH.format("plain_current"), _BY_MONTH.format("fact_sales_order_current")),
    "totals of one month": (
        _ONE_MONTH.format("plain_current"),
        _ONE_MONTH.format("fact_sales_order_current"),
    ),
    "one order's history": (_ONE_ORDER.format("plain_history"), _ONE_ORDER.format("fact_sales_order")),
}
_PLAIN = (
    "CREATE TABLE plain_current AS SELECT * FROM fact_sales_order_current",
    "CREATE TABLE plain_history AS SELECT * FROM fact_sales_order",
    "CREATE INDEX plain_month ON plain_current (created_date)",
    "CREATE INDEX plain_order ON plain_history (sales_order_id)",
)


def measure(bench: Workbench) -> list[Measurement]:
    """A fifth as many later versions as there are orders, in a few batches; then each question in turn."""
    source = bench.changing_source(bench.orders)
    found = []
    for kind in WAREHOUSES:
        bench.say(
            f"{SECTION}: {bench.orders:,} orders with {bench.orders // _SHARE:,} later versions in {kind}"
        )
        with loaded(bench, source, kind) as load:
            _make_versions(bench, source, load)
            found += _measure_duckdb(load) if kind == "DuckDB" else _measure_postgresql(load.warehouse_url)
    return found


def _make_versions(bench: Workbench, source: Source, load: Loaded) -> None:
    changed = bench.orders // _SHARE // _BATCHES
    with Cycles(load.folder / "totes.toml") as cycles:
        for number in range(_BATCHES):
            source.execute(
                f"UPDATE sales_order SET units_sold = units_sold + 1, last_updated = last_updated + interval '1 day'"
                f" WHERE sales_order_id % {_SHARE * _BATCHES} = {number}"
            )
            written = cycles.run()["loaded"].get("fact_sales_order", 0)
            if abs(written - changed) > 1:
                raise BenchmarkFailed(f"{changed} orders changed, and {written} versions were loaded")
    check_star(source, load.folder, load.warehouse_url)


def _measure_duckdb(load: Loaded) -> list[Measurement]:
    with duckdb.connect(str(load.folder / DUCKDB_FILE)) as connection:
        for statement in _PLAIN:
            connection.execute(statement)
        connection.execute("CHECKPOINT")
        return _ask("DuckDB", lambda sql: connection.execute(sql).fetchall())


def _measure_postgresql(url: str) -> list[Measurement]:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in (*_PLAIN, "VACUUM ANALYZE", "CHECKPOINT"):
            connection.execute(statement.encode())
        return _ask("PostgreSQL", lambda sql: connection.execute(sql.encode()).fetchall())


def _ask(kind: str, ask: Callable[[str], list[Any]]) -> list[Measurement]:
    found = []
    for question, (plain, ours) in _QUESTIONS.items():
        times: dict[str, list[float]] = {plain: [], ours: []}
        for number in range(_TIMES + 1):
            answers = []
            for sql, taken in times.items():
                began = time.perf_counter()
                answers.append(ask(sql.format(key=20 * number + 1)))
                taken.append(time.perf_counter() - began)
            if answers[0] != answers[1] or not answers[0]:
                raise BenchmarkFailed(f"{question}: the plain table answers {answers[0]}, ours {answers[1]}")
        found.append(
            Measurement(
                SECTION,
                f"{question}, {kind}",
                median(times[ours][1:]),
                median(times[plain][1:]),
                "plain table",
                speed=False,
                aim=_AIM,
                samples=tuple(times[ours][1:]),
            )
        )
    return found
