"""A warehouse is others' too: what totes did not make is never written to, and what somebody took away is noticed or made again."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb
import psycopg
import pytest

from tests.conftest import Command, Database, rows_of, run_cleanly
from tests.contracts.shop import MODELS, SCHEMA
from tests.spread import in_sweep
from totes.errors import WarehouseRefused
from totes.pipeline import Pipeline

CUSTOMERS = "CREATE TABLE dim_customer (customer_id INTEGER PRIMARY KEY, name VARCHAR NOT NULL, city VARCHAR)"
VIEW = "SELECT order_id, quantity FROM fact_order_current ORDER BY 1"


class Shop:
    """A shop's database, its pipeline, and the pipeline's warehouse as somebody else reaches it."""

    def __init__(self, database: Database, pipeline: Pipeline) -> None:
        self.database = database
        self.pipeline = pipeline
        self.url = pipeline.settings.warehouse_url()

    def by_hand(self, *statements: str) -> list[tuple[Any, ...]]:
        """Runs statements in the warehouse, as somebody does, and gives the rows of the last."""
        if self.url.startswith("duckdb"):
            with duckdb.connect(self.url.removeprefix("duckdb:///")) as connection:
                return [connection.execute(statement).fetchall() for statement in statements][-1]
        return Database(self.url, "").execute(*statements)

    def change(self, city: str = "Bath") -> None:
        """Changes a customer and an order."""
        self.database.execute(
            f"UPDATE customer SET city = '{city}' WHERE customer_id = 10",
            "UPDATE \"order\" SET quantity = quantity + 1, last_updated = last_updated + interval '1 day' WHERE order_id = 1",
        )

    def refusal(self) -> WarehouseRefused:
        """What a run's load is refused with."""
        error = self.pipeline.run().failures["load"]
        assert isinstance(error, WarehouseRefused), repr(error)
        return error


@pytest.fixture
def shop(
    database: Database,
    warehouse_url: str,
    make_pipeline: Callable[..., Pipeline],
    write_project: Callable[..., dict[str, Any]],
) -> Shop:
    database.execute(*SCHEMA)
    return Shop(database, make_pipeline(database.url, warehouse_url, project=write_project(MODELS)))


def test_a_table_of_somebody_elses_with_one_of_the_stars_names_is_refused_and_stays_as_it_is(
    shop: Shop,
) -> None:
    shop.by_hand(CUSTOMERS, "INSERT INTO dim_customer VALUES (10, 'Ada', 'Hull'), (99, 'Eve', 'Rome')")
    for _ in range(2):
        error = shop.refusal()
        assert "the table dim_customer" in error.what
        assert "totes did not make" in error.what
        assert error.exit_code == 3
    assert shop.by_hand("SELECT customer_id, name FROM dim_customer ORDER BY 1") == [(10, "Ada"), (99, "Eve")]
    shop.by_hand("ALTER TABLE dim_customer RENAME TO customers_of_others")
    if shop.url.startswith("postgresql"):
        assert "the table dim_customer, the index dim_customer_pkey are in the schema" in error.what
        shop.by_hand("ALTER INDEX dim_customer_pkey RENAME TO customers_of_others_pkey")
    run_cleanly(shop.pipeline)
    assert shop.by_hand("SELECT count(*) FROM dim_customer") == [(2,)]


EXISTING = (
    "CREATE VIEW dim_customer AS SELECT 1 AS customer_id, 'Eve' AS name, 'Rome' AS city",
    "CREATE TABLE fact_order_current (order_id INTEGER)", "CREATE VIEW fact_order_current AS SELECT 1 AS order_id",
    "CREATE TABLE totes_batches (batch INTEGER)", "CREATE VIEW totes_batches AS SELECT 1 AS batch",
    "CREATE TABLE totes_tables (name VARCHAR)",
    "CREATE TABLE fact_order AS SELECT 1 AS order_id",
)  # fmt: skip


def test_whatever_has_a_name_that_is_to_be_made_is_named(shop: Shop) -> None:
    for made in EXISTING:
        _, kind, name, *_ = made.split()
        shop.by_hand(made)
        before = shop.by_hand(f"SELECT * FROM {name}")
        assert f" {name} is in the schema" in shop.refusal().what, made
        assert shop.by_hand(f"SELECT * FROM {name}") == before
        shop.by_hand(f"DROP {kind} {name}")
    run_cleanly(shop.pipeline)


def test_a_model_that_comes_later_does_not_take_a_table_that_is_there(
    shop: Shop, make_pipeline: Callable[..., Pipeline], write_project: Callable[..., dict[str, Any]]
) -> None:
    run_cleanly(shop.pipeline)
    shop.by_hand("CREATE TABLE dim_city (city VARCHAR PRIMARY KEY, name VARCHAR)")
    later = MODELS | {
        "dim_city": "CREATE TABLE dim_city (customer_id INTEGER PRIMARY KEY, city VARCHAR) AS SELECT customer_id, city FROM customer"
    }
    shop.pipeline = make_pipeline(shop.database.url, shop.url, project=write_project(later, name="later"))
    shop.change()
    assert re.search(
        "the table dim_city(, the index dim_city_pkey are| is) in the schema", shop.refusal().what
    )
    assert shop.by_hand("SELECT * FROM dim_city") == []
    shop.by_hand("DROP TABLE dim_city")
    run_cleanly(shop.pipeline)
    assert shop.by_hand("SELECT count(*) FROM dim_city") == [(2,)]


def test_tables_of_other_names_are_nobodys_concern(shop: Shop) -> None:
    shop.by_hand("CREATE TABLE mine AS SELECT 1 AS one", "CREATE VIEW mine_current AS SELECT * FROM mine")
    run_cleanly(shop.pipeline)
    assert shop.by_hand("SELECT * FROM mine_current") == [(1,)]


def test_a_warehouse_that_has_no_list_of_its_tables_yet_goes_on(shop: Shop) -> None:
    run_cleanly(shop.pipeline)
    shop.by_hand("DROP TABLE totes_tables")
    shop.change()
    run_cleanly(shop.pipeline)
    assert (1, 3) in shop.by_hand(VIEW)


LOSSES = {
    "DROP TABLE fact_order{cascade}": "fact_order was loaded before, and is missing",
    "DROP TABLE dim_customer{cascade}": "dim_customer was loaded before, and is missing",
    "ALTER TABLE dim_customer DROP COLUMN city{cascade}": "dim_customer.city is missing, or has another type",
    "ALTER TABLE dim_customer RENAME COLUMN city TO town": "dim_customer.city is missing, or has another type",
    "DROP VIEW dim_customer_current; ALTER TABLE dim_customer ALTER COLUMN city TYPE INTEGER USING 1": "dim_customer.city is missing, or has another type",
    "DELETE FROM fact_order": "fact_order lacks the newest rows that were loaded",
}


@pytest.mark.parametrize(
    "step", [5, in_sweep(1)]
)  # how many of them go on elsewhere: the first and the last, or each
def test_what_was_loaded_before_and_is_gone_stops_the_load_until_it_is_back(
    shop: Shop,
    step: int,
    make_pipeline: Callable[..., Pipeline],
    new_database: Callable[..., Database],
    tmp_path: Path,
) -> None:
    run_cleanly(shop.pipeline)
    loaded, sections = shop.url, shop.pipeline.settings.model_dump()["project"]
    cascade = " CASCADE" if loaded.startswith("postgresql") else ""
    spoilt = []
    for number, (statement, said) in enumerate(LOSSES.items()):
        if cascade:
            shop.url = new_database(urlsplit(loaded).path[1:]).url
        else:
            shop.url = (
                f"duckdb:///{shutil.copy(loaded.removeprefix('duckdb:///'), tmp_path / f'{number}.duckdb')}"
            )
        shop.pipeline = make_pipeline(shop.database.url, shop.url, project=sections)
        shop.by_hand(*statement.format(cascade=cascade).split("; "))
        assert said in shop.refusal().what, statement  # also where nothing is new
        spoilt.append((shop.url, shop.pipeline, said))
    shop.change()
    for number, (shop.url, shop.pipeline, said) in enumerate(spoilt):
        error = shop.refusal()
        assert said in error.what
        assert "warehouse.schema" in (error.hint or "")
        if number % step:
            continue
        elsewhere = {"url": shop.url, "schema": "again"}
        run_cleanly(make_pipeline(shop.database.url, project=sections, warehouse=elsewhere))
        assert (1, 3) in shop.by_hand("SELECT order_id, quantity FROM again.fact_order_current")


@pytest.mark.parametrize("statement", ["DROP TABLE totes_batches", "DELETE FROM totes_batches"])
def test_rows_without_their_ledger_are_not_loaded_a_second_time(shop: Shop, statement: str) -> None:
    run_cleanly(shop.pipeline)
    before = shop.by_hand("SELECT * FROM fact_order ORDER BY 1")
    shop.by_hand(statement)
    shop.change()
    assert (
        "the ledger totes_batches is empty, and there are rows in dim_customer, fact_order"
        in shop.refusal().what
    )
    assert shop.by_hand("SELECT * FROM fact_order ORDER BY 1") == before


def test_a_view_that_was_dropped_is_made_again_by_the_next_run(shop: Shop) -> None:
    run_cleanly(shop.pipeline)
    for change in (False, True):
        shop.by_hand("DROP VIEW fact_order_current")
        if change:
            shop.change()
        run_cleanly(shop.pipeline)
        assert shop.by_hand(VIEW) == [(1, 3 if change else 2), (2, 1), (3, 7)]


def test_a_schema_that_was_dropped_is_filled_again(
    shop: Shop, make_pipeline: Callable[..., Pipeline]
) -> None:
    sections = shop.pipeline.settings.model_dump()["project"]
    shop.pipeline = make_pipeline(
        shop.database.url, project=sections, warehouse={"url": shop.url, "schema": "star"}
    )
    run_cleanly(shop.pipeline)
    shop.by_hand("DROP SCHEMA star CASCADE")
    shop.change()
    run_cleanly(shop.pipeline)
    assert (1, 3) in rows_of(shop.pipeline, "SELECT order_id, quantity FROM star.fact_order_current")


def run_ddl(shop: Shop, statements: list[str], *, at_once: bool) -> None:
    """Runs the DDL as a script or statement by statement."""
    script = ";\n\n".join(statements) + ";"
    if shop.url.startswith("duckdb"):
        with duckdb.connect(shop.url.removeprefix("duckdb:///")) as connection:
            for part in [script] if at_once else statements:
                connection.execute(part)
        return
    with psycopg.connect(shop.url, autocommit=True) as connection:
        for part in [script] if at_once else statements:
            connection.execute(part.encode())


@pytest.mark.parametrize("at_once", [True, False])
def test_the_ddl_can_be_run_again_at_any_time_and_adds_what_is_missing(
    shop: Shop,
    at_once: bool,
    make_pipeline: Callable[..., Pipeline],
    write_project: Callable[..., dict[str, Any]],
) -> None:
    shop.pipeline.ingest()
    for _ in range(2):
        run_ddl(shop, shop.pipeline.warehouse_sql(), at_once=at_once)
    run_cleanly(shop.pipeline)
    shop.by_hand("DROP VIEW fact_order_current")
    later = MODELS | {
        "dim_city": "CREATE TABLE dim_city (customer_id INTEGER PRIMARY KEY, city VARCHAR) AS SELECT customer_id, city FROM customer"
    }
    shop.pipeline = make_pipeline(shop.database.url, shop.url, project=write_project(later, name="later"))
    for _ in range(2):
        run_ddl(shop, shop.pipeline.warehouse_sql(), at_once=at_once)
    assert shop.by_hand("SELECT count(*) FROM dim_city") == [(0,)]
    assert len(shop.by_hand(VIEW)) == 3
    shop.change()
    run_cleanly(shop.pipeline)
    assert shop.by_hand("SELECT count(*) FROM dim_city") == [(2,)]
    assert (1, 3) in shop.by_hand(VIEW)


def test_the_ddl_makes_nothing_where_a_name_is_taken(shop: Shop) -> None:
    shop.pipeline.ingest()
    shop.by_hand(CUSTOMERS, "INSERT INTO dim_customer VALUES (99, 'Eve', 'Rome')")
    with pytest.raises((duckdb.Error, psycopg.Error), match=r"CHECK|there_is_another_relation_of_this_name"):
        run_ddl(shop, shop.pipeline.warehouse_sql(), at_once=True)
    assert shop.by_hand("SELECT count(*) FROM dim_customer") == [(1,)]
    assert shop.by_hand("SELECT count(*) FROM information_schema.tables WHERE table_name LIKE 'totes%'") == [
        (0,)
    ]


def test_the_ddl_makes_the_list_of_tables_of_a_warehouse_that_has_none(shop: Shop) -> None:
    run_cleanly(shop.pipeline)
    shop.by_hand("DROP TABLE totes_tables")
    run_ddl(shop, shop.pipeline.warehouse_sql(), at_once=True)
    assert shop.by_hand("SELECT table_name FROM totes_tables ORDER BY 1") == [
        ("dim_customer",),
        ("fact_order",),
    ]
    shop.change()
    run_cleanly(shop.pipeline)


def test_a_refused_load_is_an_exit_of_3_and_one_line(shop: Shop, totes: Callable[..., Command]) -> None:
    shop.by_hand(CUSTOMERS)
    done = totes(
        "run",
        TOTES_SOURCE__URL=shop.database.url,
        TOTES_WAREHOUSE__URL=shop.url,
        TOTES_PROJECT__PATH="project",
    )
    assert done.code == 3
    [line] = [line for line in done.err.splitlines() if line.startswith("error:")]
    assert "dim_customer" in line
    assert "Set warehouse.schema to a schema of its own" in line
