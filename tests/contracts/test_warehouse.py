"""What every warehouse promises, in DuckDB and in PostgreSQL alike, seen through real lakes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command, Database, rows_of, run_cleanly
from tests.contracts.shop import MODELS, SCHEMA
from tests.processes import Started
from totes.errors import WarehouseError, WarehouseRefused
from totes.lake.journal import processed_journal
from totes.pipeline import Pipeline
from totes.warehouse.table import BatchLoad, TableLoad, warehouse_tables

NINE, TEN = datetime(2024, 11, 25, 9), datetime(2024, 11, 26, 10)
ORDERS = "SELECT order_record_id, order_id, quantity, valid_from, valid_to, is_deleted, batch_id FROM fact_order ORDER BY 1"
CUSTOMERS = "SELECT customer_id, name, city FROM dim_customer_current ORDER BY 1"
LEDGER = "SELECT * FROM totes_batches ORDER BY 1"


@dataclass
class Shop:
    """A shop's database and its pipeline."""

    database: Database
    pipeline: Pipeline

    def change_order(self, order: int = 1, quantity: int = 5, at: str = "2024-11-26 10:00") -> None:
        """Changes an order, as the shop's own system does."""
        self.database.execute(
            f"UPDATE \"order\" SET quantity = {quantity}, last_updated = '{at}' WHERE order_id = {order}"
        )

    def run(self) -> Any:
        """One cycle."""
        return run_cleanly(self.pipeline)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a query over the warehouse."""
        return rows_of(self.pipeline, sql)

    def tables(self) -> tuple[Any, ...]:
        """The warehouse tables, as the loader sees them."""
        models = self.pipeline.project.models
        return warehouse_tables(models, {"dim_customer": ("customer_id",), "fact_order": ("order_id",)})


@pytest.fixture
def shop(
    database: Database,
    warehouse_url: str,
    make_pipeline: Callable[..., Pipeline],
    write_project: Callable[..., dict[str, Any]],
) -> Shop:
    """A shop with two customers and three orders, and an empty warehouse."""
    database.execute(*SCHEMA)
    return Shop(database, make_pipeline(database.url, warehouse_url, project=write_project(MODELS)))


def test_an_empty_warehouse_knows_no_batch_and_is_not_changed_by_asking(shop: Shop) -> None:
    with shop.pipeline.warehouse() as warehouse:
        assert warehouse.newest() is None
        assert warehouse.newest() is None
    assert (
        shop.rows("SELECT table_name FROM information_schema.tables WHERE table_schema IN ('main', 'public')")
        == []
    )


def test_the_first_load_creates_the_tables_and_loads_every_row(shop: Shop) -> None:
    assert shop.run().loaded.batches == {1: {"dim_customer": 2, "fact_order": 3}}
    assert shop.rows(CUSTOMERS) == [(10, "Ada", "Hull"), (11, "Bo", "York")]
    assert shop.rows(ORDERS) == [
        (1, 1, 2, NINE, None, False, 1), (2, 2, 1, NINE, None, False, 1), (3, 3, 7, NINE, None, False, 1)
    ]  # fmt: skip


def test_loading_again_changes_nothing(shop: Shop) -> None:
    shop.run()
    before = shop.rows(ORDERS), shop.rows(CUSTOMERS), shop.rows(LEDGER)
    assert shop.pipeline.load().batches == {}
    assert (shop.rows(ORDERS), shop.rows(CUSTOMERS), shop.rows(LEDGER)) == before


def test_a_changed_row_ends_the_version_before_it_at_the_moment_at_which_it_begins(shop: Shop) -> None:
    shop.run()
    shop.change_order(1, 5, "2024-11-26 10:00")
    shop.run()
    assert [row for row in shop.rows(ORDERS) if row[1] == 1] == [
        (1, 1, 2, NINE, TEN, False, 1), (4, 1, 5, TEN, None, False, 2)
    ]  # fmt: skip
    shop.change_order(1, 6, "2024-11-26 10:00")  # the source's time does not advance
    shop.run()
    [(read_at,)] = shop.rows("SELECT read_at FROM totes_batches WHERE batch_id = 3")
    assert [row for row in shop.rows(ORDERS) if row[1] == 1] == [
        (1, 1, 2, NINE, TEN, False, 1), (4, 1, 5, TEN, read_at, False, 2), (5, 1, 6, read_at, None, False, 3)
    ]  # fmt: skip


def test_a_deletion_is_one_more_version(shop: Shop) -> None:
    shop.run()
    shop.database.execute('DELETE FROM "order" WHERE order_id = 2')
    shop.run()
    [(read_at,)] = shop.rows("SELECT read_at FROM totes_batches WHERE batch_id = 2")
    assert [row for row in shop.rows(ORDERS) if row[1] == 2] == [
        (2, 2, 1, NINE, read_at, False, 1), (4, 2, 1, read_at, None, True, 2)
    ]  # fmt: skip


def test_the_current_view_has_the_newest_undeleted_version_of_each_row(shop: Shop) -> None:
    shop.run()
    shop.change_order(1, 5)
    shop.database.execute('DELETE FROM "order" WHERE order_id = 2')
    shop.run()
    assert shop.rows("SELECT order_id, quantity FROM fact_order_current ORDER BY 1") == [(1, 5), (3, 7)]


def test_a_changed_row_of_a_latest_table_replaces_the_row(shop: Shop) -> None:
    shop.run()
    shop.database.execute("UPDATE customer SET city = NULL WHERE customer_id = 10")
    shop.database.execute("INSERT INTO customer VALUES (12, 'Cy', 'Bath', now())")
    shop.run()
    assert shop.rows(CUSTOMERS) == [(10, "Ada", None), (11, "Bo", "York"), (12, "Cy", "Bath")]


def test_a_row_that_came_back_is_there_again(shop: Shop) -> None:
    shop.run()
    shop.database.execute(
        'DELETE FROM "order" WHERE order_id = 2', "DELETE FROM customer WHERE customer_id = 11"
    )
    shop.run()
    shop.database.execute("INSERT INTO customer VALUES (11, 'Bo', 'Leeds', '2024-11-28')",
                          "INSERT INTO \"order\" VALUES (2, 11, 4, 1, '2099-01-01')")  # fmt: skip
    shop.run()
    assert shop.rows(CUSTOMERS) == [(10, "Ada", "Hull"), (11, "Bo", "Leeds")]
    assert shop.rows("SELECT quantity, is_deleted, valid_to IS NULL FROM fact_order WHERE order_id = 2 ORDER BY 1 DESC, 2") == [
        (4, False, True), (1, False, False), (1, True, False)
    ]  # fmt: skip


def test_each_batch_has_its_row_in_the_ledger(shop: Shop) -> None:
    shop.run()
    shop.change_order()
    shop.run()
    journal = processed_journal(shop.pipeline.processed_store)
    assert shop.rows("SELECT batch_id, manifest_sha256, read_at, rows FROM totes_batches ORDER BY 1") == [
        (1, journal.read(1).sha256(), journal.read(1).read_at.replace(tzinfo=None), 5),
        (2, journal.read(2).sha256(), journal.read(2).read_at.replace(tzinfo=None), 1),
    ]
    with shop.pipeline.warehouse() as warehouse:
        newest = warehouse.newest()
    assert newest is not None
    assert (newest.batch, newest.manifest_sha256, newest.rows) == (2, journal.read(2).sha256(), 1)


def test_a_batch_out_of_order_is_refused(shop: Shop) -> None:
    with (
        shop.pipeline.warehouse() as warehouse,
        pytest.raises(WarehouseRefused, match="batch 1 must be loaded before batch 2"),
    ):
        warehouse.load((), BatchLoad(2, "digest", "2024-11-26 10:00", ()))
    shop.run()
    with shop.pipeline.warehouse() as warehouse:
        with pytest.raises(WarehouseRefused, match="batch 2 must be loaded before batch 3"):
            warehouse.load(shop.tables(), BatchLoad(3, "digest", "2024-11-26 10:00", ()))
        assert warehouse.load(shop.tables(), BatchLoad(1, "digest", "2024-11-26 10:00", ())) is False
        assert warehouse.load(shop.tables(), BatchLoad(2, "digest", "2024-11-26 10:00", ())) is True


def test_a_load_that_fails_in_the_middle_leaves_nothing(shop: Shop, tmp_path: Path) -> None:
    shop.pipeline.ingest()
    shop.pipeline.process()
    manifest, store = processed_journal(shop.pipeline.processed_store).read(1), shop.pipeline.processed_store
    customers, orders = shop.tables()
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"PAR1 this is no Parquet file PAR1")
    with store.local(list(manifest.models["dim_customer"].objects)) as files:
        loads = (TableLoad(customers, files, [], 2), TableLoad(orders, [garbage], [], 3))
        with shop.pipeline.warehouse() as warehouse, pytest.raises(WarehouseError, match="loading batch 1"):
            warehouse.load(shop.tables(), BatchLoad(1, manifest.sha256(), "2024-11-26 10:00", loads))
    assert (
        shop.rows("SELECT table_name FROM information_schema.tables WHERE table_schema IN ('main', 'public')")
        == []
    )
    assert shop.pipeline.load().batches == {1: {"dim_customer": 2, "fact_order": 3}}


def test_a_later_load_that_fails_leaves_the_batches_before_it_as_they_were(
    shop: Shop, tmp_path: Path
) -> None:
    shop.run()
    before = shop.rows(ORDERS), shop.rows(CUSTOMERS), shop.rows(LEDGER)
    shop.database.execute("UPDATE customer SET city = 'Bath'", 'DELETE FROM "order"')
    shop.pipeline.ingest()
    shop.pipeline.process()
    manifest, store = processed_journal(shop.pipeline.processed_store).read(2), shop.pipeline.processed_store
    customers, orders = shop.tables()
    gone = tmp_path / "gone"
    gone.write_bytes(b"PAR1 this is no Parquet file PAR1")
    rows = [entry for name in ("dim_customer", "fact_order") for entry in manifest.models[name].objects]
    with store.local(rows) as files, shop.pipeline.warehouse() as warehouse:
        loads = (TableLoad(customers, files[:1], [gone], 2), TableLoad(orders, files[1:], [], 3))
        with pytest.raises(WarehouseError, match="loading batch 2"):
            warehouse.load(shop.tables(), BatchLoad(2, manifest.sha256(), "2024-11-26 10:00", loads))
        assert warehouse.query("SELECT count(*) FROM totes_batches")[1] == [(1,)]  # it goes on to be of use
    assert (shop.rows(ORDERS), shop.rows(CUSTOMERS), shop.rows(LEDGER)) == before


def test_a_warehouse_that_was_away_catches_up_to_the_same_rows(
    shop: Shop, warehouse_url: str, make_pipeline: Callable[..., Pipeline], tmp_path: Path
) -> None:
    shop.pipeline.ingest()
    for quantity in (5, 6):
        shop.change_order(1, quantity, f"2024-11-2{quantity} 10:00")
        shop.pipeline.ingest()
    shop.database.execute(
        'DELETE FROM "order" WHERE order_id = 1', "UPDATE customer SET city = 'Bath' WHERE customer_id = 10"
    )
    shop.pipeline.ingest()
    shop.pipeline.process()
    assert shop.pipeline.load().batches == {
        1: {"dim_customer": 2, "fact_order": 3}, 2: {"fact_order": 1}, 3: {"fact_order": 1},
        4: {"dim_customer": 1, "fact_order": 1},
    }  # fmt: skip
    assert [row[2:3] + row[5:] for row in shop.rows(ORDERS) if row[1] == 1] == [
        (2, False, 1), (5, False, 2), (6, False, 3), (6, True, 4)
    ]  # fmt: skip
    assert shop.rows(CUSTOMERS) == [(10, "Ada", "Bath"), (11, "Bo", "York")]


def test_a_warehouse_of_another_lake_is_refused(shop: Shop, tmp_path: Path) -> None:
    shop.run()
    shutil.rmtree(tmp_path / "lake")
    shutil.rmtree(tmp_path / ".totes")
    shop.pipeline.ingest()
    shop.pipeline.process()
    with pytest.raises(WarehouseRefused, match="batch 1 of another lake"):
        shop.pipeline.load()


def test_a_warehouse_that_is_ahead_of_its_lake_is_refused(shop: Shop, tmp_path: Path) -> None:
    shop.run()
    shop.change_order()
    shop.run()
    (tmp_path / "lake" / "processed" / "batches" / "000000000002.json").unlink()
    with pytest.raises(WarehouseRefused, match="batch 2 of another lake"):
        shop.pipeline.load()


def test_loaders_that_start_at_once_load_each_batch_once(
    shop: Shop, warehouse_url: str, tmp_path: Path
) -> None:
    shop.pipeline.ingest()
    for quantity in (3, 4, 5, 6):
        shop.change_order(1, quantity, f"2024-11-2{quantity} 10:00")
        shop.pipeline.ingest()
    shop.pipeline.process()
    settings = {
        "TOTES_SOURCE__URL": shop.database.url,
        "TOTES_WAREHOUSE__URL": warehouse_url,
        "TOTES_PROJECT__PATH": "project",
    }
    loaders = [Started(("load", "--json"), tmp_path, {**os.environ, **settings}) for _ in range(3)]
    done = [loader.finish(60) for loader in loaders]
    assert [(one.code, one.err) for one in done if one.code] == []
    loaded = [json.loads(one.out)["loaded"].get("fact_order", 0) for one in done]
    assert sum(loaded) == 3 + 4
    assert [row[0] for row in shop.rows(LEDGER)] == [1, 2, 3, 4, 5]
    assert shop.rows("SELECT count(*), count(DISTINCT order_record_id) FROM fact_order") == [(7, 7)]


def test_the_ddl_for_an_owner_makes_the_tables_that_the_loader_fills(
    shop: Shop, totes: Callable[..., Command]
) -> None:
    settings = {"TOTES_SOURCE__URL": shop.database.url, "TOTES_PROJECT__PATH": "project",
                "TOTES_WAREHOUSE__URL": shop.pipeline.settings.warehouse_url()}  # fmt: skip
    made = json.loads(totes("warehouse", "sql", "--json", **settings).out)["statements"]
    with shop.pipeline.warehouse() as warehouse:
        for statement in made:
            _execute(shop, warehouse, statement)
    shop.run()
    shop.change_order()
    shop.run()
    assert len(shop.rows(ORDERS)) == 4
    assert shop.rows("SELECT count(*) FROM fact_order_current") == [(3,)]


def _execute(shop: Shop, warehouse: Any, statement: str) -> None:
    url = shop.pipeline.settings.warehouse_url()
    if url.startswith("duckdb"):
        warehouse._engine.execute(statement)
    else:
        Database(url, "").execute(statement)


def test_a_schema_of_its_own_holds_everything(
    database: Database,
    warehouse_url: str,
    make_pipeline: Callable[..., Pipeline],
    write_project: Callable[..., dict[str, Any]],
) -> None:
    database.execute(*SCHEMA)
    pipeline = make_pipeline(
        database.url, warehouse_url, project=write_project(MODELS), warehouse={"schema": "The Star"}
    )
    run_cleanly(pipeline)
    database.execute('DELETE FROM "order" WHERE order_id = 1')
    run_cleanly(pipeline)
    assert rows_of(pipeline, 'SELECT order_id FROM "The Star".fact_order_current ORDER BY 1') == [(2,), (3,)]
    assert (
        rows_of(
            pipeline,
            "SELECT table_name FROM information_schema.tables WHERE table_schema IN ('main', 'public')",
        )
        == []
    )


def test_a_failing_query_is_an_error_of_the_warehouse_and_does_not_spoil_the_next(shop: Shop) -> None:
    with shop.pipeline.warehouse() as warehouse:
        with pytest.raises(WarehouseError, match="querying the warehouse failed"):
            warehouse.query("SELECT * FROM not_there")
        assert warehouse.query("SELECT 1 AS one") == (["one"], [(1,)])
