"""Promise 8: whatever somebody plants in a warehouse, `verify` finds it, and says of which table it is."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import EITHER_KIND, Database, run_cleanly
from tests.contracts import shop
from tests.monitoring.test_verification import FILL, found, tamper
from tests.processing.freight import MODELS, SCHEMA
from totes.pipeline import Pipeline

COLUMNS = "series, shipment_number, driver, origin, origin_title, destination_title, destination_country, weight, heavy"
COPIED = f"INSERT INTO fact_shipment SELECT 9999, {COLUMNS}, valid_from, valid_to, is_deleted, batch_id FROM fact_shipment"
FACT, DRIVER = "fact_shipment", "dim_driver"
ONE = "WHERE shipment_number = 10"  # has one version; 4 has two, 7 is deleted, 12 and 31 are in quarantine, d2 is deleted
OLD = "WHERE shipment_number = 4 AND valid_to IS NOT NULL"

# What is planted, where, and what is found: missing, extra, different, broken, altered.
PLANTED: list[tuple[str, str, tuple[int, ...]]] = [
    (f"UPDATE fact_shipment SET weight = 2 {ONE}", FACT, (0, 0, 1, 0, 1)),
    (f"UPDATE fact_shipment SET origin_title = NULL {ONE}", FACT, (0, 0, 1, 0, 1)),
    (f"UPDATE fact_shipment SET weight = 2 {OLD}", FACT, (0, 0, 0, 0, 1)),
    (f"UPDATE fact_shipment SET origin_title = upper(origin_title) {OLD}", FACT, (0, 0, 0, 0, 1)),
    (f"DELETE FROM fact_shipment {ONE}", FACT, (1, 0, 0, 0, 1)),
    (f"DELETE FROM fact_shipment {OLD}", FACT, (0, 0, 0, 0, 1)),
    ("DELETE FROM fact_shipment WHERE is_deleted", FACT, (0, 0, 0, 1, 1)),
    (f"{COPIED.replace('shipment_number,', '99,', 1)} {ONE}", FACT, (0, 1, 0, 0, 1)),
    (f"{COPIED} {OLD}", FACT, (0, 0, 0, 1, 1)),
    (f"{COPIED} {ONE}", FACT, (0, 1, 0, 1, 1)),
    (f"UPDATE fact_shipment SET valid_to = NULL {OLD}", FACT, (0, 1, 1, 1, 1)),
    (f"UPDATE fact_shipment SET valid_to = '2030-01-01' {ONE}", FACT, (1, 0, 0, 1, 1)),
    (f"UPDATE fact_shipment SET valid_to = valid_to - INTERVAL '1 second' {OLD}", FACT, (0, 0, 0, 1, 1)),
    (f"UPDATE fact_shipment SET valid_to = valid_to + INTERVAL '1 day' {OLD}", FACT, (0, 0, 0, 1, 1)),
    (f"UPDATE fact_shipment SET valid_from = valid_from - INTERVAL '1 day' {ONE}", FACT, (0, 0, 0, 0, 1)),
    (f"UPDATE fact_shipment SET is_deleted = true {ONE}", FACT, (1, 0, 0, 0, 1)),
    ("UPDATE fact_shipment SET is_deleted = false WHERE is_deleted", FACT, (0, 1, 0, 0, 1)),
    (f"UPDATE fact_shipment SET shipment_record = 7777 {ONE}", FACT, (0, 0, 0, 0, 2)),
    (f"UPDATE fact_shipment SET batch_id = 2 {ONE}", FACT, (0, 0, 0, 0, 1)),
    ("UPDATE fact_shipment SET weight = 3 WHERE shipment_number = 12 AND valid_to IS NULL", FACT, (0, 0, 0, 0, 1)),
    (f"{COPIED.replace('shipment_number,', '31,', 1)} {ONE}", FACT, (0, 0, 0, 0, 1)),
    ("CREATE OR REPLACE VIEW fact_shipment_current AS SELECT * FROM fact_shipment"
     " WHERE valid_to IS NULL AND NOT is_deleted AND shipment_number <> 10", FACT, (1, 0, 0, 0, 1)),
    ("UPDATE dim_driver SET boss_name = 'stale' WHERE badge = 'd3'", DRIVER, (0, 0, 1, 0, 1)),
    ("INSERT INTO dim_driver VALUES ('d9', 'Nobody', NULL, false)", DRIVER, (0, 1, 0, 0, 1)),
    ("DELETE FROM dim_driver WHERE badge = 'd3'", DRIVER, (1, 0, 0, 0, 1)),
    ("UPDATE dim_driver SET driver_name = 'x' WHERE badge = 'd2'", DRIVER, (0, 0, 0, 0, 1)),
    ("DELETE FROM dim_driver WHERE badge = 'd2'", DRIVER, (0, 0, 0, 0, 1)),
    ("UPDATE dim_driver SET is_deleted = false WHERE badge = 'd2'", DRIVER, (0, 1, 0, 0, 1)),
    ("UPDATE dim_driver SET is_deleted = true WHERE badge = 'd3'", DRIVER, (1, 0, 0, 0, 1)),
]  # fmt: skip
# What PostgreSQL's tables can be brought to have, and DuckDB's not.
PLANTED_IN_POSTGRESQL = [
    (f"UPDATE fact_shipment SET weight = weight + 0.00000000001 {ONE}", FACT, (0, 0, 1, 0, 1)),
    (f"UPDATE fact_shipment SET weight = 'NaN' {ONE}", FACT, (0, 0, 1, 0, 1)),
    ("INSERT INTO dim_driver SELECT * FROM dim_driver WHERE badge = 'd3'", DRIVER, (0, 1, 0, 0, 1)),
]
WITHOUT_CONSTRAINTS = (
    "DROP INDEX fact_shipment_newest", "DROP INDEX fact_shipment_history",
    "ALTER TABLE dim_driver DROP CONSTRAINT dim_driver_pkey CASCADE",
    "ALTER TABLE dim_depot DROP CONSTRAINT dim_depot_pkey CASCADE",
)  # fmt: skip


def at(pipeline: Pipeline, url: str) -> Pipeline:
    kind = type(pipeline.settings.warehouse.url)
    warehouse = pipeline.settings.warehouse.model_copy(update={"url": kind(url)})
    return Pipeline(pipeline.settings.model_copy(update={"warehouse": warehouse}))


def copies(pipeline: Pipeline, folder: Path, new_database: Callable[..., Database]) -> Callable[[], Pipeline]:
    """Gives the pipeline with a copy of its warehouse, each time another."""
    url = pipeline.settings.warehouse_url()

    def copy() -> Pipeline:
        if url.startswith("duckdb"):
            shutil.copy(folder / "warehouse.duckdb", folder / "planted.duckdb")
            return at(pipeline, f"duckdb:///{folder}/planted.duckdb")
        return at(pipeline, new_database(url.rpartition("/")[2].partition("?")[0]).url)

    return copy


@pytest.mark.parametrize(
    ("warehouse_url", "spread"),
    [
        ("duckdb", slice(0, None, 2)),
        ("postgresql", slice(1, None, 2)),
        pytest.param("duckdb", slice(1, None, 2), marks=pytest.mark.sweep),
        pytest.param("postgresql", slice(0, None, 2), marks=pytest.mark.sweep),
    ],
    indirect=["warehouse_url"],
)
def test_every_planted_difference_is_found(
    database: Database, warehouse_url: str, make_pipeline: Any, write_project: Any, new_database: Any, tmp_path: Path,
    spread: slice,
) -> None:  # fmt: skip
    database.execute(SCHEMA, FILL)
    pipeline = make_pipeline(database.url, warehouse_url, project=write_project(MODELS))
    run_cleanly(pipeline)
    database.execute(
        "UPDATE shipment SET weight = 1 WHERE number < 5", "DELETE FROM shipment WHERE number = 7",
        "UPDATE shipment SET driver = 'd1' WHERE driver = 'd2'", "DELETE FROM driver WHERE badge = 'd2'",
        "UPDATE shipment SET weight = 'NaN' WHERE number = 12",
        "INSERT INTO shipment SELECT series, 31, origin, destination, driver, 'NaN', status FROM shipment WHERE number = 10",
    )  # fmt: skip
    run_cleanly(pipeline)
    planted = PLANTED[spread]  # the warehouses differ only in how rows are copied out of them
    if not warehouse_url.startswith("duckdb"):
        planted = planted + PLANTED_IN_POSTGRESQL
    untouched = found(pipeline)
    assert untouched.equal
    assert [(one.rows, one.quarantined) for one in untouched.tables.values()] == [
        (4, 0), (2, 0), (28, 2)
    ]  # fmt: skip
    copy = copies(pipeline, tmp_path, new_database)
    # What is planted in one table is found beside what is planted in another.
    of_facts, of_drivers = ([one for one in planted if one[1] == table] for table in (FACT, DRIVER))
    for together in itertools.zip_longest(of_facts, of_drivers):
        here = [one for one in together if one]
        statements = [statement for statement, _, _ in here]
        one = copy()
        # A run makes an index again that is gone, unless rows speak against it.
        tamper(one, *(() if warehouse_url.startswith("duckdb") else WITHOUT_CONSTRAINTS), *statements)
        seen = found(one).tables
        for statement, table, counts in here:
            verdict = seen[table]
            assert (
                verdict.missing,
                verdict.extra,
                verdict.different,
                verdict.broken,
                verdict.altered,
            ) == counts, statement
            assert verdict.examples or verdict.broken, statement
            # A view that is gone is made again, and a table that is gone stops the load.
            assert not verdict.lacking, statement
        differing = sorted(name for name, other in seen.items() if not other.equal)
        assert differing == sorted(table for _, table, _ in here), statements


def test_a_row_whose_parent_is_gone_is_compared_for_as_long_as_it_is_loaded(
    database: Database, warehouse_url: str, make_pipeline: Any, write_project: Any
) -> None:
    database.execute(*shop.SCHEMA)
    pipeline = make_pipeline(database.url, warehouse_url, project=write_project(shop.MODELS))
    run_cleanly(pipeline)
    database.execute("DELETE FROM customer WHERE customer_id = 10")  # and its orders stay
    seen = found(pipeline)
    assert seen.equal
    assert [(one.rows, one.quarantined) for one in seen.tables.values()] == [(1, 0), (3, 0)]
    tamper(pipeline, "UPDATE fact_order SET quantity = 99 WHERE order_id = 1")
    assert not found(pipeline).tables["fact_order"].equal
    tamper(pipeline, "UPDATE fact_order SET quantity = 2 WHERE order_id = 1")
    database.execute('UPDATE "order" SET quantity = 8 WHERE order_id = 1')
    seen = found(pipeline)
    assert seen.equal
    assert (seen.tables["fact_order"].rows, seen.tables["fact_order"].quarantined) == (3, 0)
    database.execute("INSERT INTO \"order\" VALUES (9, 99, 1, 1, '2024-11-25 09:00')")
    alone = found(pipeline, "fact_order")
    assert alone.equal
    assert (alone.tables["fact_order"].rows, alone.tables["fact_order"].quarantined) == (3, 1)


def test_values_that_are_equal_and_not_the_same_are_told_apart(
    database: Database, warehouse_url: str, make_pipeline: Any, write_project: Any
) -> None:
    database.execute("CREATE TABLE thing (id text PRIMARY KEY, i interval, f double precision, v text)",
                     "INSERT INTO thing VALUES ('a', '1 mon', 0, 'x'), ('A', '30 days', 'NaN', 'é'), ('ä', NULL, '-0', '')")  # fmt: skip
    model = "CREATE TABLE dim_thing (id VARCHAR PRIMARY KEY, i INTERVAL, f DOUBLE, v VARCHAR) AS SELECT id, i, f, v FROM thing"
    pipeline = make_pipeline(database.url, warehouse_url, project=write_project({"dim_thing": model}))
    assert found(pipeline).equal
    for column, planted, between, right in (
        (
            "i",
            "'30 days'",
            "'9 days'",
            "'1 mon'",
        ),  # DuckDB writes no value that is equal to the one that is there
        ("f", "'-0'", "9", "0"),
        ("v", "'X'", "''", "'x'"),
        ("v", "NULL", "''", "'x'"),
    ):
        update = f"UPDATE dim_thing SET {column} = {{}} WHERE id = 'a'"
        tamper(pipeline, update.format(between), update.format(planted))
        one = found(pipeline).tables["dim_thing"]
        assert (one.rows, one.different, one.altered) == (2, 1, 1), planted
        tamper(pipeline, update.format(between), update.format(right))
    assert found(pipeline).equal
    database.execute("UPDATE thing SET i = '30 days', f = '-0' WHERE id = 'a'")
    assert found(pipeline).equal


@EITHER_KIND
def test_a_date_that_the_calendar_lacks_is_missing(
    database: Database, warehouse_url: str, make_pipeline: Any, write_project: Any
) -> None:
    database.execute("CREATE TABLE visit (id integer PRIMARY KEY, day date)",
                     "INSERT INTO visit VALUES (1, '2024-02-29'), (2, '2026-01-01')")  # fmt: skip
    models = {
        "dim_date": "CREATE TABLE dim_date (day DATE PRIMARY KEY) AS SELECT date AS day FROM calendar",
        "fact_visit": """CREATE TABLE fact_visit (record BIGINT PRIMARY KEY, id INTEGER NOT NULL, day DATE REFERENCES dim_date)
                         AS SELECT id, day FROM visit""",
    }
    pipeline = make_pipeline(database.url, warehouse_url, project=write_project(models))
    assert found(pipeline).tables["dim_date"].rows == 366 + 365 + 365
    tamper(pipeline, "DELETE FROM dim_date WHERE day = '2025-06-01'")
    one = found(pipeline, "dim_date").tables["dim_date"]
    assert (one.missing, one.examples[0].key) == (1, {"day": "2025-06-01"})


def test_text_forms_that_the_warehouse_is_set_to_are_no_difference(
    database: Database, new_database: Any, make_pipeline: Any, write_project: Any
) -> None:
    database.execute("CREATE TABLE thing (id integer PRIMARY KEY, d date, t timestamptz, i interval, b bytea, f float)",
                     "INSERT INTO thing VALUES (1, '2024-02-01', '2024-02-01 10:00+00', '-1 mon 2 days', '\\x5c00', 0.1)")  # fmt: skip
    model = """CREATE TABLE dim_thing (id INTEGER PRIMARY KEY, d DATE, t TIMESTAMPTZ, i INTERVAL, b BLOB, f DOUBLE)
               AS SELECT id, d, t, i, b, f FROM thing"""
    star = new_database()
    star.execute(
        *(
            f"ALTER DATABASE {star.name} SET {setting}"
            for setting in ("DateStyle = 'German'", "IntervalStyle = 'sql_standard'", "bytea_output = 'escape'",
                            "extra_float_digits = -10", "TimeZone = 'Asia/Tokyo'")
        )
    )  # fmt: skip
    pipeline = make_pipeline(database.url, star.url, project=write_project({"dim_thing": model}))
    assert found(pipeline).equal
