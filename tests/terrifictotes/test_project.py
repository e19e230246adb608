"""The built-in project over a real totesys, in both warehouses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.conftest import ORDERS, Database, rows_of, run_cleanly
from tests.terrifictotes.independent import compare
from totes.errors import CommandFailed
from totes.pipeline import Pipeline
from totes.terrifictotes import demo_source

COLUMNS = {
    "dim_date": "date_id year month day day_of_week day_name month_name quarter",
    "dim_staff": "staff_id first_name last_name department_name location email_address",
    "dim_location": "location_id address_line_1 address_line_2 district city postal_code country phone",
    "dim_counterparty": "counterparty_id counterparty_legal_name counterparty_legal_address_line_1"
    " counterparty_legal_address_line_2 counterparty_legal_district counterparty_legal_city"
    " counterparty_legal_postal_code counterparty_legal_country counterparty_legal_phone_number",
    "dim_currency": "currency_id currency_code currency_name",
    "dim_design": "design_id design_name file_location file_name",
    "dim_payment_type": "payment_type_id payment_type_name",
    "dim_transaction": "transaction_id transaction_type sales_order_id purchase_order_id",
    "fact_sales_order": "sales_record_id sales_order_id created_date created_time last_updated_date last_updated_time"
    " sales_staff_id counterparty_id units_sold unit_price currency_id design_id agreed_payment_date"
    " agreed_delivery_date agreed_delivery_location_id valid_from valid_to is_deleted batch_id",
    "fact_purchase_order": "purchase_record_id purchase_order_id created_date created_time last_updated_date"
    " last_updated_time staff_id counterparty_id item_code item_quantity item_unit_price currency_id"
    " agreed_delivery_date agreed_payment_date agreed_delivery_location_id valid_from valid_to is_deleted batch_id",
    "fact_payment": "payment_record_id payment_id created_date created_time last_updated_date last_updated_time"
    " transaction_id counterparty_id payment_amount currency_id payment_type_id paid payment_date"
    " valid_from valid_to is_deleted batch_id",
}  # fmt: skip


# Each test over one kind of warehouse, which the other has over the other kind; the rest is in the sweep.
FIRST_DUCKDB = pytest.mark.parametrize(
    "warehouse_url", ["duckdb", pytest.param("postgresql", marks=pytest.mark.sweep)], indirect=True
)
FIRST_POSTGRESQL = pytest.mark.parametrize(
    "warehouse_url", ["postgresql", pytest.param("duckdb", marks=pytest.mark.sweep)], indirect=True
)


@FIRST_DUCKDB
def test_all_eleven_tables_follow_a_day_of_trading(
    totesys: Database, warehouse_url: str, make_pipeline: Any
) -> None:
    pipeline = make_pipeline(totesys.url, warehouse_url)
    first = run_cleanly(pipeline)
    assert len(first.ingested.changes) == 11
    assert set(first.loaded.batches[1]) == set(COLUMNS)
    for table, columns in COLUMNS.items():
        with pipeline.warehouse() as warehouse:
            deleted = ["is_deleted"] if table.startswith("dim") else []
            assert warehouse.query(f"SELECT * FROM {table}")[0] == columns.split() + deleted
    day = demo_source.trade(totesys.url)
    second = run_cleanly(pipeline)
    if warehouse_url.startswith("duckdb"):
        compare(totesys.url, Path(warehouse_url.removeprefix("duckdb:///")), pipeline)
    assert (first.quarantined, second.quarantined) == (0, 0)
    order = day.changed_order_ids[0]
    versions = rows_of(
        pipeline,
        f"SELECT valid_to IS NULL, is_deleted FROM fact_sales_order WHERE sales_order_id = {order} ORDER BY valid_from",
    )
    assert versions == [(False, False), (True, False)]
    versions = rows_of(
        pipeline,
        f"SELECT valid_to IS NULL, is_deleted FROM fact_sales_order WHERE sales_order_id = {day.deleted_order_id} ORDER BY valid_from",
    )
    assert versions == [(False, False), (True, True)]
    orders = ORDERS + len(day.new_order_ids) - 1
    assert rows_of(pipeline, "SELECT count(*) FROM fact_sales_order_current") == [(orders,)]
    assert rows_of(
        pipeline, f"SELECT DISTINCT location FROM dim_staff WHERE location = '{day.department_moved_to}'"
    ) == [(day.department_moved_to,)]
    assert (
        rows_of(
            pipeline,
            f"SELECT currency_name FROM dim_currency WHERE currency_code = '{day.new_currency_code}'",
        )
        != []
    )


@FIRST_POSTGRESQL
def test_values_are_those_of_the_source(totesys: Database, warehouse_url: str, make_pipeline: Any) -> None:
    pipeline = make_pipeline(totesys.url, warehouse_url)
    run_cleanly(pipeline)
    assert rows_of(
        pipeline,
        "SELECT sales_order_id, units_sold, CAST(unit_price AS VARCHAR), created_date, created_time, CAST(agreed_delivery_date AS VARCHAR),"
        " valid_from FROM fact_sales_order_current ORDER BY 1",
    ) == totesys.execute(
        "SELECT sales_order_id, units_sold, unit_price::text, created_at::date, created_at::time, agreed_delivery_date,"
        " last_updated FROM sales_order ORDER BY 1"
    )
    assert rows_of(
        pipeline,
        "SELECT payment_id, CAST(payment_amount AS DOUBLE PRECISION), paid FROM fact_payment_current ORDER BY 1",
    ) == totesys.execute("SELECT payment_id, payment_amount::float8, paid FROM payment ORDER BY 1")
    assert rows_of(
        pipeline, "SELECT staff_id, department_name, location FROM dim_staff ORDER BY 1"
    ) == totesys.execute(
        "SELECT staff_id, department_name, coalesce(location, 'Undefined') FROM staff JOIN department USING (department_id) ORDER BY 1"
    )
    dates = rows_of(
        pipeline,
        "SELECT min(month), max(month), min(day), max(day), count(*) = count(DISTINCT date_id) FROM dim_date",
    )
    assert dates == [(1, 12, 1, 31, True)]
    assert rows_of(pipeline, "SELECT day_of_week, day_name, month_name, quarter FROM dim_date WHERE date_id = '2026-03-01'") == [
        (7, "Sunday", "March", 1)
    ]  # fmt: skip


def test_the_comparison_finds_what_differs(
    totesys: Database, make_pipeline: Callable[..., Pipeline], tmp_path: Path
) -> None:
    pipeline = make_pipeline(totesys.url)
    run_cleanly(pipeline)
    warehouse = tmp_path / "warehouse.duckdb"
    found = compare(totesys.url, warehouse, pipeline)
    assert {name: (one.rows > 0, one.missing, one.extra) for name, one in found.items()} == {
        model.name: (True, 0, 0) for model in pipeline.project.models
    }

    totesys.execute("UPDATE staff SET first_name = 'Unknown' WHERE staff_id = 1")
    totesys.execute("DELETE FROM payment WHERE payment_id = 7")
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute(
            "UPDATE fact_sales_order SET unit_price = unit_price + 0.01 WHERE sales_order_id = 3"
        )
        connection.execute("DELETE FROM fact_purchase_order WHERE purchase_order_id = 4")

    with pytest.raises(CommandFailed) as raised:
        compare(totesys.url, warehouse, pipeline)
    assert sorted(str(raised.value).partition(". ")[2].split("; ")) == [
        "dim_staff: 1 rows are missing, 1 are wrong or too many",
        "fact_payment: 0 rows are missing, 1 are wrong or too many",
        "fact_purchase_order: 1 rows are missing, 0 are wrong or too many",
        "fact_sales_order: 1 rows are missing, 1 are wrong or too many",
    ]
