"""Nobody who reads a PostgreSQL warehouse keeps a load waiting, and no load keeps a reader waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from tests.conftest import Database, run_cleanly
from tests.contracts.shop import MODELS
from totes.errors import WarehouseError
from totes.pipeline import Pipeline
from totes.warehouse import locks, postgresql

TABLES = ("fact_order", "fact_order_current", "dim_customer", "totes_batches")
MANY = "INSERT INTO \"order\" SELECT n, 10, 1, 1, '2024-11-27' FROM generate_series(100, 110099) AS n"
WIDER = MODELS | {"dim_customer": MODELS["dim_customer"].replace("INTEGER PRIMARY KEY", "BIGINT PRIMARY KEY")}


@pytest.fixture
def pipeline(pipeline: Pipeline) -> Pipeline:
    """A shop's pipeline into that warehouse, which holds its first batch."""
    run_cleanly(pipeline)
    return pipeline


@contextmanager
def idle_reader(star: Database, *tables: str) -> Iterator[psycopg.Connection]:
    """A session that has read these tables, and is idle in its transaction."""
    with psycopg.connect(star.url, application_name="Tableau") as connection:
        for table in tables or TABLES:
            connection.execute(f"SELECT * FROM {table}".encode()).fetchall()
        yield connection
        connection.rollback()


def test_a_large_load_needs_nothing_of_a_table_that_an_idle_reader_holds(
    pipeline: Pipeline, database: Database, star: Database
) -> None:
    database.execute(MANY, "UPDATE customer SET city = 'Bath'", 'DELETE FROM "order" WHERE order_id = 2')
    with idle_reader(star):
        assert run_cleanly(pipeline).loaded.batches == {2: {"dim_customer": 2, "fact_order": 110_001}}
    assert star.execute("SELECT count(*) FROM fact_order_current") == [(110_002,)]
    with pytest.raises(Exception, match="fact_order_customer_id_fkey"):
        star.execute("UPDATE fact_order SET customer_id = 4711 WHERE order_id = 1")


def test_a_load_locks_no_table_for_itself(
    pipeline: Pipeline, database: Database, star: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.execute(
        MANY, 'DELETE FROM "order" WHERE customer_id = 11', "DELETE FROM customer WHERE customer_id = 11"
    )
    modes = set()

    def look(moment: str) -> None:
        if moment == "postgresql.commit.before":
            modes.update(star.execute(
                "SELECT mode FROM pg_locks JOIN pg_class ON pg_class.oid = relation WHERE relkind = 'r'"
                " AND relnamespace = 'public'::regnamespace AND pid <> pg_backend_pid()"
            ))  # fmt: skip
            with star.connect() as reader:
                reader.execute("SET lock_timeout = '2s'")
                assert reader.execute("SELECT count(*) FROM fact_order_current").fetchall() == [(3,)]

    monkeypatch.setattr(postgresql, "reach", look)
    run_cleanly(pipeline)
    assert {mode for (mode,) in modes} <= {"AccessShareLock", "RowShareLock", "RowExclusiveLock"}
    assert ("RowExclusiveLock",) in modes


def test_a_table_that_is_to_be_altered_is_waited_for_without_keeping_readers_out(
    pipeline: Pipeline,
    database: Database,
    star: Database,
    write_project: Callable[..., dict[str, Any]],
    make_pipeline: Callable[..., Pipeline],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(locks, "_PATIENCE_SECONDS", 1.0)
    monkeypatch.setattr(locks, "_PAUSE_SECONDS", 0.1)
    wider = make_pipeline(database.url, star.url, project=write_project(WIDER, name="wider"))
    database.execute("UPDATE customer SET city = 'Bath'")
    wider.ingest()
    wider.process()
    with idle_reader(star, "dim_customer") as reader:
        pid = reader.info.backend_pid
        with pytest.raises(WarehouseError) as caught:
            wider.load()
        said = f"dim_customer has to be altered to its new declaration, and is in use by process {pid} (postgres, Tableau, idle in transaction, since "
        assert caught.value.what.startswith(said)
        assert caught.value.retryable
        with star.connect() as other:
            other.execute("SET lock_timeout = '1s'")
            assert other.execute("SELECT count(*) FROM dim_customer").fetchall() == [(2,)]
    assert wider.load().batches == {2: {"dim_customer": 2}}
    assert star.execute("SELECT atttypid::regtype::text FROM pg_attribute WHERE attname = 'customer_id'"
                        " AND attrelid = 'dim_customer'::regclass") == [("bigint",)]  # fmt: skip


def test_who_holds_a_table_against_writers_is_named(
    pipeline: Pipeline, database: Database, star: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "SET_TIMEOUTS", postgresql.SET_TIMEOUTS.replace("'60s'", "'300ms'"))
    database.execute("UPDATE customer SET city = 'Bath'")
    pipeline.ingest()
    pipeline.process()
    with psycopg.connect(star.url, application_name="pgAdmin") as holder:
        holder.execute("LOCK TABLE dim_customer IN SHARE MODE")
        with pytest.raises(WarehouseError) as caught:
            pipeline.load()
        assert (
            f"loading batch 2 waited for process {holder.info.backend_pid} (postgres, pgAdmin"
            in caught.value.what
        )
        holder.rollback()
    assert pipeline.load().batches == {2: {"dim_customer": 2}}


def test_what_a_killed_load_left_and_somebody_reads_is_dropped_by_a_later_one(
    pipeline: Pipeline, database: Database, star: Database
) -> None:
    left = "totes_loading_0123abcd_1"
    star.execute(f"CREATE TABLE {left} (id int)")
    database.execute("UPDATE customer SET city = 'Bath'")
    with idle_reader(star, left):
        run_cleanly(pipeline)
    assert star.execute(f"SELECT to_regclass('{left}') IS NULL") == [(False,)]
    database.execute("UPDATE customer SET city = 'Hull'")
    run_cleanly(pipeline)
    assert star.execute(f"SELECT to_regclass('{left}') IS NULL") == [(True,)]
