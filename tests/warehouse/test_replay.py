"""Promise 7: whatever made the warehouse, a replay of the lake makes the same one again, in DuckDB and in PostgreSQL."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command, Database, rows_of, run_cleanly
from tests.contracts.shop import MODELS, SCHEMA
from totes import engine
from totes.errors import WarehouseRefused
from totes.monitoring.verification import verify
from totes.pipeline import Pipeline

LATER = {
    "dim_customer": MODELS["dim_customer"].replace("SELECT customer_id, name", "SELECT customer_id, upper(name) AS name"),
    "dim_city": "CREATE TABLE dim_city (customer_id INTEGER PRIMARY KEY REFERENCES dim_customer, city VARCHAR NOT NULL)"
                " AS SELECT customer_id, city FROM customer WHERE city IS NOT NULL",
    "fact_order": MODELS["fact_order"],
}  # fmt: skip
WITHOUT_ORDERS = {name: model for name, model in LATER.items() if name != "fact_order"}
OWN = ("totes_batches", "totes_tables")
CATALOG = """
SELECT 'constraint', conrelid::regclass::text, conname::text, pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = 'public'::regnamespace
UNION ALL SELECT 'index', tablename::text, indexname::text, indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL SELECT 'view', viewname::text, NULL, definition FROM pg_views WHERE schemaname = 'public'
UNION ALL SELECT 'column', c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod) || a.attnotnull
FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid WHERE relnamespace = 'public'::regnamespace AND attnum > 0
ORDER BY 1, 2, 3, 4
"""


@pytest.fixture
def shop(
    database: Database, warehouse_url: str, make_pipeline: Callable[..., Pipeline],
    write_project: Callable[..., dict[str, Any]],
) -> Callable[[str], Pipeline]:  # fmt: skip
    """The shop's pipeline with its first models, with later ones, or without its facts."""
    database.execute(*SCHEMA)
    projects = {"first": MODELS, "later": LATER, "without": WITHOUT_ORDERS}
    return lambda name: make_pipeline(
        database.url, warehouse_url, project=write_project(projects[name], name=name)
    )


def live(
    shop: Callable[[str], Pipeline], database: Database, totes: Callable[..., Command]
) -> Callable[..., Command]:
    """An eventful history: kills, quarantine, deletes and returns, a warehouse that was away, models that change."""
    first = shop("first")
    settings = {"TOTES_SOURCE__URL": database.url, "TOTES_PROJECT__PATH": "first",
                "TOTES_WAREHOUSE__URL": first.settings.warehouse_url()}  # fmt: skip
    adapter = "duckdb" if "duckdb" in first.settings.warehouse_url() else "postgresql"
    assert totes("run", **settings, TOTES_FAILPOINT=f"{adapter}.commit.before").code == -9
    run_cleanly(first)
    database.execute('UPDATE "order" SET price = 999999999.99 WHERE order_id = 1', 'DELETE FROM "order" WHERE order_id = 2',
                     "DELETE FROM customer WHERE customer_id = 11")  # fmt: skip
    assert totes("run", **settings, TOTES_FAILPOINT=f"{adapter}.rows").code == -9
    assert totes("load", **settings, TOTES_FAILPOINT=f"{adapter}.commit.after").code == -9
    assert run_cleanly(first).quarantined == 0  # told of already
    for statement in ("UPDATE \"order\" SET price = 1.50, last_updated = '2024-12-01' WHERE order_id = 1",
                      "INSERT INTO customer VALUES (11, 'Bo', 'Leeds', '2024-12-02'), (12, 'Cy', NULL, '2024-12-02')",
                      "INSERT INTO \"order\" VALUES (2, 11, 4, 1, '2024-12-03'), (4, 12, 1, 5, '2024-12-03')"):  # fmt: skip
        database.execute(statement)
        first.ingest()
    assert totes("process", **settings, TOTES_FAILPOINT="journal.commit.before:2").code == -9
    first.process()
    first.load()
    later, without = shop("later"), shop("without")
    database.execute("UPDATE customer SET city = 'Bath' WHERE customer_id = 10")
    run_cleanly(later)
    database.execute("DELETE FROM customer WHERE customer_id = 12", 'DELETE FROM "order" WHERE order_id = 4')
    run_cleanly(without)
    database.execute('UPDATE "order" SET quantity = 77 WHERE order_id = 3')
    run_cleanly(without)
    return lambda *arguments, **more: totes(
        *arguments, **(settings | {"TOTES_PROJECT__PATH": "without"} | more)
    )


def everything(pipeline: Pipeline) -> dict[str, list[tuple[Any, ...]]]:
    """All that a warehouse has, as text, but for when it was loaded."""
    with pipeline.warehouse() as warehouse:
        _, names = warehouse.query(
            "SELECT CAST(table_name AS VARCHAR) FROM information_schema.tables WHERE table_schema IN ('main', 'public')"
        )
        found = {}
        for (name,) in sorted(names):
            columns = ", ".join(
                f"CAST({engine.name(column)} AS VARCHAR)"
                for column in warehouse.columns(name)
                if column != "loaded_at"
            )
            found[name] = sorted(warehouse.query(f"SELECT {columns} FROM {name}")[1], key=str)
        return found


def at(pipeline: Pipeline, url: str) -> Pipeline:
    """The same pipeline with another warehouse."""
    kind = type(pipeline.settings.warehouse.url)
    warehouse = pipeline.settings.warehouse.model_copy(update={"url": kind(url)})
    return Pipeline(pipeline.settings.model_copy(update={"warehouse": warehouse}))


def test_a_replay_gives_every_table_as_it_is_whatever_its_history_and_goes_on_where_it_was_killed(
    shop: Callable[[str], Pipeline], database: Database, totes: Callable[..., Command],
    new_database: Callable[..., Database], tmp_path: Path,
) -> None:  # fmt: skip
    run = live(shop, database, totes)
    pipeline = shop("without")
    original = everything(pipeline)
    assert list(original) == [
        "dim_city", "dim_city_current", "dim_customer", "dim_customer_current", "fact_order", "fact_order_current", *OWN
    ]  # fmt: skip
    assert len(original["fact_order"]) == 7  # 3, a delete, a mended price, a return, a new one
    assert [(row[0], row[-1]) for row in original["dim_customer"] if row[-1] == "true"] == [
        ("12", "true"),
    ]
    assert verify(pipeline, (), 1.0, lambda _doing: None).equal
    star = new_database()
    url, again = (
        pipeline.settings.warehouse_url(),
        {"duckdb": f"duckdb:///{tmp_path}/again.duckdb", "postgresql": star.url},
    )
    own = url.partition(":")[0]
    for kind, place in again.items():
        if kind == own:  # this one is killed, goes on, and has nothing to do once it is complete
            for point in ("rows:5", "commit.before:2", "commit.after:2"):
                assert run("replay", "--warehouse", place, TOTES_FAILPOINT=f"{kind}.{point}").code == -9
            told = json.loads(run("replay", "--warehouse", place, "--json").out)
            assert told["batch"] == 8
            assert 0 < told["batches"] < 8
            told = json.loads(run("replay", "--warehouse", place, "--json").out)
            assert told == {"batch": 8, "batches": 0, "loaded": {}}
        else:
            assert len(pipeline.replay(place).batches) == 8
        assert everything(at(pipeline, place)) == original
        assert verify(at(pipeline, place), (), 1.0, lambda _doing: None).equal
    if own == "postgresql":
        assert Database(url, "").execute(CATALOG) == star.execute(CATALOG)


def test_a_replay_to_a_batch_gives_the_warehouse_as_it_was_then(
    shop: Callable[[str], Pipeline], database: Database, tmp_path: Path
) -> None:
    pipeline, url = shop("first"), f"duckdb:///{tmp_path}/then.duckdb"
    run_cleanly(pipeline)
    then = everything(pipeline)
    for quantity in (5, 6):
        database.execute(f'UPDATE "order" SET quantity = {quantity} WHERE order_id = 1')
        run_cleanly(pipeline)
    assert pipeline.replay(url, 1).batch == 1
    assert everything(at(pipeline, url)) == then
    assert pipeline.replay(url).batch == 3
    assert everything(at(pipeline, url)) == everything(pipeline)
    with pytest.raises(WarehouseRefused, match="at batch 3 already"):
        pipeline.replay(url, 2)


def test_a_replay_into_the_warehouse_of_another_lake_is_refused(
    shop: Callable[[str], Pipeline], tmp_path: Path
) -> None:
    pipeline = shop("first")
    run_cleanly(pipeline)
    for folder in ("lake", ".totes"):
        shutil.rmtree(tmp_path / folder)
    pipeline.ingest()
    pipeline.process()
    with pytest.raises(WarehouseRefused, match="batch 1 of another lake"):
        pipeline.replay(pipeline.settings.warehouse_url())


def test_a_warehouse_loaded_late_is_the_same_as_one_loaded_all_the_time(
    shop: Callable[[str], Pipeline], database: Database, tmp_path: Path
) -> None:
    first, late = shop("first"), f"duckdb:///{tmp_path}/late.duckdb"
    run_cleanly(first)
    without = shop("without")
    database.execute("DELETE FROM customer WHERE customer_id = 11")
    run_cleanly(without)
    at(without, late).load()
    assert everything(at(without, late)) == everything(without)
    assert rows_of(at(without, late), "SELECT count(*) FROM fact_order") == [(3,)]
