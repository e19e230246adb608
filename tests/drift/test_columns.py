"""Columns change under the pipeline: ingestion goes on, what cannot be computed is named, nothing is lost."""

from __future__ import annotations

import shutil

import pytest

from tests.conftest import rows_of, run_cleanly
from tests.drift.shop import Shop, named
from tests.spread import in_sweep
from totes.errors import ModelFailed

# Changes that come one after the other, a batch after each, and another one after the last or, in the sweep, after each.
LIVES = {
    "columns come, and types change": [
        ("ALTER TABLE purchase ADD COLUMN more text",),
        ("ALTER TABLE purchase ADD COLUMN still_more text NOT NULL DEFAULT 'x'",),
        ("ALTER TABLE purchase ADD COLUMN most uuid DEFAULT gen_random_uuid()",),
        ("ALTER TABLE purchase ALTER COLUMN id TYPE bigint", "UPDATE purchase SET amount = 1 WHERE id = 1"),
        ("ALTER TABLE customer ALTER COLUMN city TYPE varchar(40)",),
        ("ALTER TABLE purchase ALTER COLUMN amount TYPE numeric(12, 4)",),
        ("ALTER TABLE purchase ALTER COLUMN amount TYPE numeric",),
        ("ALTER TABLE purchase ALTER COLUMN amount TYPE text",),
    ],
    "columns go, and names change": [
        (
            "ALTER TABLE customer RENAME COLUMN city TO c",
            "ALTER TABLE customer RENAME COLUMN spare TO city",
            "ALTER TABLE customer RENAME COLUMN c TO spare",
        ),
        ("ALTER TABLE customer RENAME COLUMN spare TO other",),
        ("ALTER TABLE customer DROP COLUMN other",),
        (
            "ALTER TABLE customer DROP COLUMN city",
            "ALTER TABLE customer ADD COLUMN city text DEFAULT 'everywhere'",
        ),
    ],
    "enums change": [
        (
            "ALTER TYPE state ADD VALUE 'sent' BEFORE 'paid'",
            "UPDATE purchase SET state = 'sent' WHERE id < 5",
        ),
        ("ALTER TYPE state RENAME VALUE 'new' TO 'fresh'",),
        ("ALTER TABLE purchase ALTER COLUMN state TYPE text",),
    ],
    "tables come and go": [
        ("CREATE TABLE another (id int PRIMARY KEY)", "INSERT INTO another VALUES (1)"),
        ("CREATE TABLE scratch AS SELECT 1 AS id",),
        (
            "CREATE TABLE purchase_2 (LIKE purchase INCLUDING ALL)",
            "INSERT INTO purchase_2 SELECT id + 10, customer_id, amount + 1, state, last_updated FROM purchase",
            "DROP TABLE purchase",
            "ALTER TABLE purchase_2 RENAME TO purchase",
        ),
        ("ALTER TABLE note DROP COLUMN body", "INSERT INTO note VALUES (7)"),
        ("ALTER TABLE note RENAME TO remark",),
        ("DROP TABLE remark",),
        ("TRUNCATE purchase", "INSERT INTO purchase VALUES (1, 1, 2, 'paid', '2024-02-02')"),
        ("TRUNCATE purchase",),
    ],
}


@pytest.mark.parametrize(
    ("changes", "calm_between"),
    [
        *(pytest.param(changes, False, id=name) for name, changes in LIVES.items()),
        *(
            pytest.param(changes, True, id=f"{name}, with calm between", marks=pytest.mark.sweep)
            for name, changes in LIVES.items()
        ),
    ],
)
def test_what_models_can_live_with_goes_through(
    shop: Shop, changes: list[tuple[str, ...]], calm_between: bool
) -> None:
    for number, statements in enumerate(changes, start=1):
        with named(statements):
            calm = [f"UPDATE customer SET city = 'moved {number}' WHERE id = 2"]
            for change in (statements, calm) if calm_between or number == len(changes) else (statements,):
                shop.database.execute(*change)
                run_cleanly(shop.pipeline)
                shop.check()
    assert run_cleanly(shop.pipeline).ingested.batch is None


@pytest.mark.parametrize(
    ("breaking", "message", "mending"),
    [
        (("ALTER TABLE customer DROP COLUMN city",), "no column city", ("ALTER TABLE customer ADD COLUMN city text",)),
        in_sweep(("ALTER TABLE customer RENAME city TO town",), "no column city", ("ALTER TABLE customer RENAME town TO city",)),
        (
            ("ALTER TABLE purchase ALTER amount TYPE bool USING amount > 10",),
            "amount is declared DECIMAL",
            ("ALTER TABLE purchase ALTER amount TYPE numeric(8, 2) USING amount::int",),
        ),
        in_sweep(
            ("CREATE SCHEMA elsewhere", "ALTER TABLE customer SET SCHEMA elsewhere"),
            r"dim_customer.*the table customer was not captured",
            ("ALTER TABLE elsewhere.customer SET SCHEMA public",),
        ),
        in_sweep(
            ("ALTER TABLE customer RENAME TO client",),
            r"dim_customer.*the table customer was not captured.*the source has no table public\.customer",
            ("ALTER TABLE client RENAME TO customer",),
        ),
        (
            ("CREATE TABLE kept AS TABLE customer", "DROP TABLE customer"),
            r"dim_customer.*the table customer was not captured.*the source has no table public\.customer",
            (
                "CREATE TABLE customer (id int PRIMARY KEY, name text NOT NULL, city text, spare text)",
                "INSERT INTO customer SELECT * FROM kept WHERE id <> 20",
                "UPDATE purchase SET customer_id = 1 WHERE customer_id = 20",
            ),
        ),
        (
            ("ALTER TABLE purchase DROP CONSTRAINT purchase_pkey, ADD PRIMARY KEY (id, customer_id)",),
            r"fact_purchase.*the key of public\.purchase was \(id\) and is \(id, customer_id\)",
            ("ALTER TABLE purchase DROP CONSTRAINT purchase_pkey, ADD PRIMARY KEY (id)",),
        ),
        (
            ("ALTER TABLE purchase DROP CONSTRAINT purchase_pkey",),
            r"fact_purchase.*has no primary key.*ADD PRIMARY KEY",
            ("ALTER TABLE purchase ADD PRIMARY KEY (id)",),
        ),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, tuple) else "",
)  # fmt: skip
def test_what_breaks_models_stops_processing_alone_until_the_source_is_fixed(
    shop: Shop, breaking: tuple[str, ...], message: str, mending: tuple[str, ...]
) -> None:
    before = shop.versions()
    for number in (2, 3):
        change = f"INSERT INTO note VALUES ({number}00, 'meanwhile')"
        broken = shop.run(
            *(breaking if number == 2 else ()), change, "UPDATE purchase SET customer_id = 3 WHERE id < 9"
        )
        assert shop.batches == number
        with pytest.raises(ModelFailed, match=message):
            raise broken.failures["process"]
        assert "load" not in broken.failures
    assert shop.versions() == before
    shop.database.execute(*mending, "DELETE FROM purchase WHERE id = 10")
    run_cleanly(shop.pipeline)
    shop.check()
    assert rows_of(
        shop.pipeline, "SELECT is_deleted FROM fact_purchase WHERE id = 10 AND valid_to IS NULL"
    ) == [(True,)]
    assert run_cleanly(shop.pipeline).ingested.batch is None


CITIES = "SELECT city FROM fact_purchase WHERE id = 20 ORDER BY valid_from"


def rename_and_change_twice(shop: Shop) -> None:
    """Two batches with the former name, of which the second is not processed, then two with the other name."""
    shop.database.execute("UPDATE customer SET city = 'before' WHERE id = 1")
    shop.pipeline.ingest()
    shop.run("ALTER TABLE customer RENAME city TO town", "UPDATE customer SET town = 'first' WHERE id = 1")
    broken = shop.run("UPDATE customer SET town = 'second' WHERE id = 1")
    assert "process" in broken.failures


def test_a_fixed_model_skips_no_batch(shop: Shop) -> None:
    rename_and_change_twice(shop)
    shop.model("dim_customer", "SELECT id, name, city", "SELECT id, name, town AS city")
    shop.model("fact_purchase", "customer.city", "customer.town AS city")
    run_cleanly(shop.pipeline)
    assert rows_of(shop.pipeline, CITIES) == [("city 1",), ("before",), ("first",), ("second",)]
    shop.database.execute("UPDATE purchase SET amount = 7 WHERE id = 1")
    run_cleanly(shop.pipeline)
    assert shop.versions() == 60 + 3 * 3 + 1


def test_a_column_that_is_renamed_back_passes_over_no_batch(shop: Shop) -> None:
    rename_and_change_twice(shop)
    shop.database.execute(
        "ALTER TABLE customer RENAME town TO city", "UPDATE customer SET city = 'third' WHERE id = 1"
    )
    run_cleanly(shop.pipeline)
    shop.check()
    cities = [("city 1",), ("before",), ("first",), ("second",), ("third",)]
    assert rows_of(shop.pipeline, CITIES) == cities
    shutil.rmtree(shop.pipeline.settings.cache_folder)
    shop.database.execute("DELETE FROM customer WHERE id = 1")
    run_cleanly(shop.pipeline)
    shop.check()
    assert rows_of(shop.pipeline, CITIES) == [*cities, (None,)]


def test_a_column_that_may_be_null_now_puts_its_rows_into_quarantine(shop: Shop) -> None:
    shop.database.execute(
        "ALTER TABLE customer ALTER name DROP NOT NULL", "UPDATE customer SET name = NULL WHERE id = 5"
    )
    assert run_cleanly(shop.pipeline).quarantined == 1
    assert rows_of(shop.pipeline, "SELECT name FROM dim_customer WHERE id = 5") == [("customer 5",)]
    shop.database.execute("UPDATE customer SET name = 'again' WHERE id = 5")
    run_cleanly(shop.pipeline)
    shop.check()
