"""What the catalog of a warehouse says of its tables, views and columns: whoever opens it with another tool reads that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import duckdb
import pytest

from tests.conftest import Database, run_cleanly
from tests.contracts.shop import SCHEMA
from totes.pipeline import Pipeline

CUSTOMERS = """
-- Customers, "Ada's" among them.
CREATE TABLE "dim_Customer" (
    customer_id  INTEGER PRIMARY KEY,  -- As on the card.
    name         VARCHAR NOT NULL,     -- {name}
    city         VARCHAR
) AS
SELECT customer_id, name, city FROM customer
"""
ORDERS = """
-- Orders.
CREATE TABLE fact_order (
    order_record_id  BIGINT PRIMARY KEY,
    order_id         INTEGER NOT NULL,  -- As printed on the invoice.
    customer_id      INTEGER NOT NULL REFERENCES "dim_Customer"
) AS
SELECT order_id, customer_id FROM "order"
"""
BARE = "CREATE TABLE dim_bare (customer_id INTEGER PRIMARY KEY) AS SELECT customer_id FROM customer"
FROM = "From when the row was so, in UTC."
UNTIL = "Until when it was so; empty in the current version."
DELETED = "Whether the row is deleted at its source, or has left the query's joins or its WHERE."
OF_CUSTOMERS = [("customer_id", "As on the card."), ("is_deleted", DELETED), ("name", "In full.")]
OF_ORDERS = [
    ("batch_id", "The batch that brought this version."), ("is_deleted", DELETED), ("order_id", "As printed on the invoice."),
    ("order_record_id", "Numbers the versions; assigned by totes."), ("valid_from", FROM), ("valid_to", UNTIL),
]  # fmt: skip
WHOLE = sorted([
    ("dim_Customer", None, 'Customers, "Ada\'s" among them.'),
    ("dim_Customer_current", None, 'Customers, "Ada\'s" among them. Current, undeleted rows only.'),
    ("fact_order", None, "Orders."), ("fact_order_current", None, "Orders. Current, undeleted rows only."),
    ("totes_batches", None, "The batches that are loaded. Written by totes."),
    ("totes_tables", None, "The tables that totes has made. Written by totes."),
    *((relation, *one) for relation in ("dim_Customer", "dim_Customer_current") for one in OF_CUSTOMERS),
    *((relation, *one) for relation in ("fact_order", "fact_order_current") for one in OF_ORDERS),
], key=repr)  # fmt: skip


class Shop:
    """A shop's pipeline, and its warehouse as another tool sees it."""

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

    def comments(self) -> list[tuple[str, str | None, str]]:
        """Every comment: relation, column, text."""
        if self.url.startswith("duckdb"):
            query = (
                "SELECT table_name, NULL, comment FROM duckdb_tables() UNION ALL"
                " SELECT view_name, NULL, comment FROM duckdb_views() WHERE NOT internal UNION ALL"
                " SELECT table_name, column_name, comment FROM duckdb_columns() WHERE NOT internal"
            )
        else:
            query = (
                "SELECT relname::text, attname::text, description FROM pg_description JOIN pg_class c ON c.oid = objoid"
                " LEFT JOIN pg_attribute ON attrelid = objoid AND attnum = objsubid AND objsubid > 0"
                " WHERE relnamespace = 'public'::regnamespace AND classoid = 'pg_class'::regclass"
            )
        return sorted((row for row in self.by_hand(query) if row[2] is not None), key=repr)


@pytest.fixture
def shop(
    database: Database,
    warehouse_url: str,
    make_pipeline: Callable[..., Pipeline],
    write_project: Callable[..., dict[str, Any]],
) -> Shop:
    database.execute(*SCHEMA)
    project = {"dim_Customer": CUSTOMERS.format(name="In full."), "fact_order": ORDERS, "dim_bare": BARE}
    return Shop(database, make_pipeline(database.url, warehouse_url, project=write_project(project)))


@pytest.fixture
def describe(
    shop: Shop, make_pipeline: Callable[..., Pipeline], write_project: Callable[..., dict[str, Any]]
) -> Callable[[str], None]:
    """Gives the column `name` another description."""

    def write(text: str) -> None:
        models = {"dim_Customer": CUSTOMERS.format(name=text), "fact_order": ORDERS, "dim_bare": BARE}
        shop.pipeline = make_pipeline(shop.database.url, shop.url, project=write_project(models))

    return write


def test_tables_views_and_columns_are_described_by_the_first_load(shop: Shop) -> None:
    run_cleanly(shop.pipeline)
    assert shop.comments() == WHOLE


def test_another_description_is_there_after_the_next_run_whether_the_source_has_changed_or_not(
    shop: Shop, describe: Callable[[str], None]
) -> None:
    run_cleanly(shop.pipeline)
    describe("First and last.")
    assert run_cleanly(shop.pipeline).loaded.batches == {}
    assert shop.comments() == [
        (relation, column, "First and last." if column == "name" else comment)
        for relation, column, comment in WHOLE
    ]


def test_comments_on_what_no_model_describes_are_left_alone(
    shop: Shop, describe: Callable[[str], None]
) -> None:
    run_cleanly(shop.pipeline)
    theirs = [
        ("dim_bare", None, "of theirs"), ("dim_bare_current", None, "of theirs, too"), ("dim_Customer", "city", "of birth")
    ]  # fmt: skip
    shop.by_hand(
        "COMMENT ON TABLE dim_bare IS 'of theirs'", "COMMENT ON VIEW dim_bare_current IS 'of theirs, too'",
        "COMMENT ON COLUMN \"dim_Customer\".city IS 'of birth'",
    )  # fmt: skip
    describe("In full.")
    run_cleanly(shop.pipeline)
    assert shop.comments() == sorted([*WHOLE, *theirs], key=repr)


def test_a_table_made_again_and_a_view_that_somebody_dropped_are_described_again(shop: Shop) -> None:
    run_cleanly(shop.pipeline)
    shop.by_hand('DROP VIEW "dim_Customer_current"')
    shop.pipeline.replay_table("fact_order")
    run_cleanly(shop.pipeline)
    assert shop.comments() == WHOLE
