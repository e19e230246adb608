"""Tables come, go and take each other's places under the pipeline, or change while it reads them."""

from __future__ import annotations

import threading
from typing import Any

import psycopg

from tests.conftest import run_cleanly
from tests.drift.shop import MODELS, OTHER_CHANGE, Shop


def test_a_revoked_grant_is_reported_and_nothing_of_the_time_without_it_is_lost(
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
        assert "raise source.lock_timeout" in str(failed.failures["ingest"])
        session.commit()
    run_cleanly(shop.pipeline)
    shop.check()
