"""The source's schema changes under the pipeline: ingestion goes on, what cannot be computed is named, nothing is lost.

After each change the star is compared with the source by plain SQL on either side, which shares nothing with the
pipeline.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from tests.conftest import Database, rows_of, run_cleanly
from totes.errors import ModelFailed
from totes.lake.journal import ingestion_journal
from totes.pipeline import Cycle, Pipeline

SCHEMA = (
    "CREATE TYPE state AS ENUM ('new', 'paid')",
    "CREATE TABLE customer (id int PRIMARY KEY, name text NOT NULL, city text, spare text)",
    "CREATE TABLE purchase (id int PRIMARY KEY, customer_id int, amount numeric(8, 2), state state, last_updated timestamp)",
    "CREATE TABLE note (id int PRIMARY KEY, body text)",
    "INSERT INTO customer SELECT i, 'customer ' || i, 'city ' || i % 3, 'spare' FROM generate_series(1, 20) i",
    "INSERT INTO purchase SELECT i, i % 20 + 1, i * 1.25, 'new', '2024-01-01' FROM generate_series(1, 60) i",
    "INSERT INTO note SELECT i, 'note ' || i FROM generate_series(1, 5) i",
)
MODELS = {
    "dim_customer": "CREATE TABLE dim_customer (id INTEGER PRIMARY KEY, name VARCHAR NOT NULL, city VARCHAR) AS"
    " SELECT id, name, city FROM customer",
    "fact_purchase": "CREATE TABLE fact_purchase (record_id BIGINT PRIMARY KEY, id INTEGER, customer_id INTEGER,"
    " city VARCHAR, amount DECIMAL(8, 2), state VARCHAR) AS SELECT purchase.id, customer_id, customer.city, amount, state"
    " FROM purchase LEFT JOIN customer ON customer.id = purchase.customer_id",
}
OTHER_CHANGE = "INSERT INTO note VALUES (100, 'meanwhile')"
CUSTOMERS, CUSTOMERS_SOURCE = "SELECT id, name, city FROM dim_customer", "SELECT id, name, city FROM customer"
PURCHASES = "SELECT id, customer_id, city, amount, state FROM fact_purchase_current"
PURCHASES_SOURCE = """SELECT purchase.id, customer_id, customer.city, amount::numeric, state::text
    FROM purchase LEFT JOIN customer ON customer.id = customer_id"""


@dataclass
class Shop:
    """A source with the pipeline over it; `model` puts another text in a model's place."""

    database: Database
    make: Callable[[dict[str, str]], Pipeline]

    def __post_init__(self) -> None:
        self.models = dict(MODELS)
        self.database.execute(*SCHEMA)

    @property
    def pipeline(self) -> Pipeline:
        return self.make(self.models)

    def model(self, name: str, old: str, new: str) -> None:
        assert old in self.models[name]
        self.models[name] = self.models[name].replace(old, new)

    def run(self, *statements: str) -> Cycle:
        """Changes the source, then runs a cycle."""
        self.database.execute(*statements)
        return self.pipeline.run()

    def check(self) -> None:
        """The star equals the source, and each key has one open version."""
        for ours, theirs in ((CUSTOMERS, CUSTOMERS_SOURCE), (PURCHASES, PURCHASES_SOURCE)):
            assert sorted(rows_of(self.pipeline, ours)) == sorted(self.database.execute(theirs))
        assert not rows_of(
            self.pipeline,
            "SELECT id FROM fact_purchase GROUP BY id HAVING count(*) FILTER (valid_to IS NULL) <> 1",
        )

    def versions(self) -> int:
        return int(rows_of(self.pipeline, "SELECT count(*) FROM fact_purchase")[0][0])

    @property
    def batches(self) -> int:
        return ingestion_journal(self.pipeline.ingestion_store).last()


@pytest.fixture
def shop(database: Database, make_pipeline: Any, write_project: Any) -> Shop:
    made = Shop(database, lambda models: make_pipeline(database.url, project=write_project(models)))
    run_cleanly(made.pipeline)
    made.check()
    return made


@pytest.mark.parametrize(
    "statements",
    [
        ("ALTER TABLE purchase ADD COLUMN more text",),
        ("ALTER TABLE purchase ADD COLUMN more text NOT NULL DEFAULT 'x'",),
        ("ALTER TABLE purchase ADD COLUMN more uuid DEFAULT gen_random_uuid()",),
        ("ALTER TABLE customer DROP COLUMN spare",),
        ("ALTER TABLE customer RENAME COLUMN spare TO other",),
        ("ALTER TABLE purchase ALTER COLUMN id TYPE bigint", "UPDATE purchase SET amount = 1 WHERE id = 1"),
        ("ALTER TABLE customer ALTER COLUMN city TYPE varchar(40)",),
        ("ALTER TABLE purchase ALTER COLUMN amount TYPE numeric(12, 4)",),
        ("ALTER TABLE purchase ALTER COLUMN amount TYPE numeric",),
        ("ALTER TABLE purchase ALTER COLUMN state TYPE text",),
        (
            "ALTER TYPE state ADD VALUE 'sent' BEFORE 'paid'",
            "UPDATE purchase SET state = 'sent' WHERE id < 5",
        ),
        ("ALTER TYPE state RENAME VALUE 'new' TO 'fresh'",),
        ("ALTER TABLE note RENAME TO remark",),
        ("DROP TABLE note",),
        ("ALTER TABLE note DROP COLUMN body", "INSERT INTO note VALUES (7)"),
        ("TRUNCATE purchase",),
        ("TRUNCATE purchase", "INSERT INTO purchase VALUES (1, 1, 2, 'paid', '2024-02-02')"),
        ("CREATE TABLE another (id int PRIMARY KEY)", "INSERT INTO another VALUES (1)"),
        ("CREATE TABLE scratch AS SELECT 1 AS id",),
        (
            "CREATE TABLE purchase_2 (LIKE purchase INCLUDING ALL)",
            "INSERT INTO purchase_2 SELECT id + 10, customer_id, amount + 1, state, last_updated FROM purchase",
            "DROP TABLE purchase",
            "ALTER TABLE purchase_2 RENAME TO purchase",
        ),
        (
            "ALTER TABLE customer DROP COLUMN city",
            "ALTER TABLE customer ADD COLUMN city text DEFAULT 'everywhere'",
        ),
        (
            "ALTER TABLE customer RENAME COLUMN city TO c",
            "ALTER TABLE customer RENAME COLUMN spare TO city",
            "ALTER TABLE customer RENAME COLUMN c TO spare",
        ),
        ("ALTER TABLE purchase ALTER COLUMN amount TYPE text",),
    ],
    ids=lambda statements: str(statements[0]),
)
def test_what_models_can_live_with_goes_through(shop: Shop, statements: tuple[str, ...]) -> None:
    shop.database.execute(*statements)
    run_cleanly(shop.pipeline)
    shop.check()
    shop.database.execute("UPDATE customer SET city = 'moved' WHERE id = 2")
    run_cleanly(shop.pipeline)
    shop.check()
    assert run_cleanly(shop.pipeline).ingested.batch is None


@pytest.mark.parametrize(
    ("breaking", "message", "mending"),
    [
        (("ALTER TABLE customer DROP COLUMN city",), "no column city", ("ALTER TABLE customer ADD COLUMN city text",)),
        (("ALTER TABLE customer RENAME city TO town",), "no column city", ("ALTER TABLE customer RENAME town TO city",)),
        (
            ("ALTER TABLE purchase ALTER amount TYPE bool USING amount > 10",),
            "amount is declared DECIMAL",
            ("ALTER TABLE purchase ALTER amount TYPE numeric(8, 2) USING amount::int",),
        ),
        (
            ("CREATE SCHEMA elsewhere", "ALTER TABLE customer SET SCHEMA elsewhere"),
            r"dim_customer.*the table customer was not captured",
            ("ALTER TABLE elsewhere.customer SET SCHEMA public",),
        ),
        (
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
def test_what_models_cannot_live_with_stops_processing_alone_until_the_source_is_mended(
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


def test_a_mended_model_passes_over_no_batch(shop: Shop) -> None:
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


def test_a_withdrawn_grant_is_told_and_nothing_of_the_time_without_it_is_lost(
    shop: Shop, make_pipeline: Any, write_project: Any
) -> None:
    database = shop.database
    role = f"reader_{database.name}"
    database.execute(
        f"CREATE ROLE {role} LOGIN PASSWORD 'reading'",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}",
    )
    parts = psycopg.conninfo.conninfo_to_dict(database.url)
    url = f"postgresql://{role}:reading@{parts['host']}:{parts['port']}/{database.name}"
    shop.make = lambda models: make_pipeline(url, project=write_project(models))
    try:
        broken = shop.run(
            f"REVOKE SELECT ON customer FROM {role}",
            "UPDATE customer SET city = 'hidden' WHERE id < 4",
            OTHER_CHANGE,
        )
        assert shop.batches == 2
        assert "may not be read by this role. GRANT SELECT" in str(broken.failures["ingest"])
        assert "may not be read by this role" in str(broken.failures["process"])
        idle = shop.run()
        assert "may not be read by this role" in str(idle.failures["ingest"])
        assert shop.batches == 2
        shop.run(
            "DELETE FROM customer WHERE id = 20", "UPDATE purchase SET customer_id = 1 WHERE customer_id = 20"
        )
        database.execute(f"GRANT SELECT ON customer TO {role}")
        run_cleanly(shop.pipeline)
        shop.check()
    finally:
        database.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_a_table_that_takes_the_place_of_another_with_old_rows_is_seen(shop: Shop) -> None:
    database = shop.database
    database.execute(
        "CREATE TABLE green (LIKE purchase INCLUDING ALL)",
        "INSERT INTO green SELECT id, customer_id, amount + 5, state, last_updated FROM purchase",
    )
    run_cleanly(shop.pipeline)  # the rows of the new table are old by now
    database.execute(
        "BEGIN; ALTER TABLE purchase RENAME TO blue; ALTER TABLE green RENAME TO purchase; COMMIT"
    )
    run_cleanly(shop.pipeline)
    shop.check()
    database.execute(
        "BEGIN; ALTER TABLE purchase RENAME TO green; ALTER TABLE blue RENAME TO purchase; COMMIT"
    )
    run_cleanly(shop.pipeline)
    shop.check()
    assert shop.versions() == 180


def test_a_view_that_takes_the_place_of_its_table_and_gives_it_back_loses_nothing(
    shop: Shop, make_pipeline: Any, write_project: Any
) -> None:
    shop.make = lambda models: make_pipeline(
        shop.database.url, project=write_project(models), source={"keys": {"customer": ["id"]}}
    )
    versions = shop.versions()
    for swap in (
        "ALTER TABLE customer RENAME TO person; CREATE VIEW customer AS SELECT * FROM person WHERE id < 20",
        "DROP VIEW customer; ALTER TABLE person RENAME TO customer",
    ):
        shop.database.execute(swap, "UPDATE customer SET city = city || '!' WHERE id = 2")
        run_cleanly(shop.pipeline)
        shop.check()
        versions += (
            3 + 3
        )  # three purchases of each of two customers: the one that moved, the one that comes or goes
        assert shop.versions() == versions
        assert run_cleanly(shop.pipeline).ingested.batch is None


def test_partitions_that_change_places_with_as_many_old_rows_are_seen(shop: Shop) -> None:
    database = shop.database
    database.execute(
        "DROP TABLE purchase",
        "CREATE TABLE purchase (id int, customer_id int, amount numeric(8, 2), state state, last_updated timestamp,"
        " PRIMARY KEY (id)) PARTITION BY RANGE (id)",
        "CREATE TABLE low PARTITION OF purchase FOR VALUES FROM (0) TO (100)",
        "CREATE TABLE middle PARTITION OF purchase FOR VALUES FROM (100) TO (200)",
        "CREATE TABLE high (LIKE purchase INCLUDING ALL)",
        "INSERT INTO purchase SELECT i, i % 20 + 1, i, 'new', NULL FROM generate_series(90, 109) i",
        "INSERT INTO high SELECT i, i % 20 + 1, i, 'new', NULL FROM generate_series(200, 209) i",
    )
    run_cleanly(shop.pipeline)
    shop.check()
    database.execute(
        "BEGIN; ALTER TABLE purchase DETACH PARTITION low;"
        " ALTER TABLE purchase ATTACH PARTITION high FOR VALUES FROM (200) TO (300); COMMIT"
    )
    cycle = run_cleanly(shop.pipeline)
    found = cycle.ingested.changes["purchase"]
    assert (found.upserts, found.deletes) == (10, 10)
    shop.check()


def test_columns_that_change_while_their_table_is_left_out_are_noticed(
    shop: Shop, make_pipeline: Any, write_project: Any
) -> None:
    plain = shop.make
    shop.models = {"dim_customer": MODELS["dim_customer"]}
    shop.make = lambda models: make_pipeline(
        shop.database.url, project=write_project(models, name="small"), source={"exclude": ["purchase"]}
    )
    shop.run(OTHER_CHANGE)
    shop.run(
        "ALTER TABLE purchase RENAME customer_id TO old_id",
        "ALTER TABLE purchase ADD COLUMN customer_id int",
        "DELETE FROM purchase WHERE id = 60",
        "INSERT INTO note VALUES (101, 'again')",
    )
    shop.make, shop.models = plain, dict(MODELS)
    run_cleanly(shop.pipeline)
    shop.check()


def test_a_schema_change_during_a_batch_waits_for_it_and_comes_with_the_next(shop: Shop) -> None:
    database = shop.database
    database.execute("UPDATE customer SET city = 'x'")
    altered = threading.Event()

    def alter() -> None:
        database.execute(
            "ALTER TABLE customer RENAME city TO town", "ALTER TABLE customer RENAME town TO city"
        )
        altered.set()

    def while_open(_snapshot: Any) -> None:
        thread.start()
        assert not altered.wait(0.3)  # it waits for the lock that the batch holds

    thread = threading.Thread(target=alter)
    shop.pipeline.ingest(while_open)
    thread.join()
    assert altered.is_set()
    run_cleanly(shop.pipeline)
    shop.check()


def test_a_schema_change_that_takes_long_is_told_and_the_next_batch_goes_on(
    shop: Shop, make_pipeline: Any, write_project: Any
) -> None:
    shop.make = lambda models: make_pipeline(
        shop.database.url, project=write_project(models), source={"lock_timeout": "1s"}
    )
    with shop.database.connect() as session:
        session.execute("ALTER TABLE customer ADD COLUMN more text DEFAULT 'm'")
        failed = shop.run(OTHER_CHANGE)
        assert "locking customer failed" in str(failed.failures["ingest"])
        assert shop.batches == 1
        session.commit()
    run_cleanly(shop.pipeline)
    shop.check()
