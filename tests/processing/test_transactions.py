"""A batch from the log is the same as one batch for each of its transactions."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Database, rows_of, run_cleanly
from tests.processing.transactions import take_together
from tests.spread import in_sweep
from totes.lake.journal import processed_journal
from totes.monitoring.quarantine import read_quarantine
from totes.pipeline import Pipeline
from totes.processing import batch as batch_module
from totes.processing.transform import Transformation

TABLES = (
    "CREATE TABLE region (region_id int PRIMARY KEY, name text)",
    "CREATE TABLE customer (customer_id int PRIMARY KEY, name text, region_id int, last_updated timestamp)",
    """CREATE TABLE "order" (order_id int PRIMARY KEY, customer_id int, item text, last_updated timestamp)""",
)
MODELS = {
    "dim_customer": """CREATE TABLE dim_customer (customer_id INTEGER PRIMARY KEY, name VARCHAR NOT NULL, region VARCHAR) AS
        SELECT c.customer_id, c.name, r.name AS region FROM customer AS c LEFT JOIN region AS r USING (region_id)""",
    "dim_region": """CREATE TABLE dim_region (region_id INTEGER PRIMARY KEY, name VARCHAR) AS
        SELECT region_id, name FROM region WHERE name <> 'hidden'""",
    "fact_order": """CREATE TABLE fact_order (record BIGINT PRIMARY KEY, order_id INTEGER NOT NULL, item VARCHAR NOT NULL,
        customer_id INTEGER REFERENCES dim_customer) AS
        SELECT order_id, item, customer_id FROM "order" """,
    "fact_customer": """CREATE TABLE fact_customer (record BIGINT PRIMARY KEY, customer_id INTEGER, name VARCHAR NOT NULL,
        region VARCHAR) AS
        SELECT c.customer_id, c.name, r.name AS region FROM customer AS c JOIN region AS r ON r.region_id = c.region_id
        WHERE r.name <> 'hidden'""",
    "fact_line": """CREATE TABLE fact_line (record BIGINT PRIMARY KEY, order_id INTEGER, item VARCHAR, customer VARCHAR,
        region VARCHAR) AS
        SELECT o.order_id, o.item, known.name AS customer, known.region FROM "order" AS o
        LEFT JOIN (SELECT c.customer_id, c.name, r.name AS region FROM customer AS c LEFT JOIN region AS r USING (region_id)) AS known
        ON known.customer_id = o.customer_id""",
}  # fmt: skip
ROWS = {
    "dim_customer": "SELECT * FROM dim_customer ORDER BY 1", "dim_region": "SELECT * FROM dim_region ORDER BY 1",
    "fact_order": "SELECT * EXCLUDE (record, batch_id) FROM fact_order ORDER BY order_id, valid_from",
    "fact_customer": "SELECT * EXCLUDE (record, batch_id) FROM fact_customer ORDER BY customer_id, valid_from",
    "fact_line": "SELECT * EXCLUDE (record, batch_id) FROM fact_line ORDER BY order_id, valid_from",
}  # fmt: skip
NUMBERS = ("record", "batch_id")


class Twice:
    """A source that is captured transaction by transaction, and a lake in which these are taken together."""

    def __init__(
        self, database: Database, make: Callable[..., Pipeline], project: dict[str, Any], folder: Path
    ) -> None:
        self.database = database
        self._make, self._project, self._folder = make, project, folder
        database.execute(*TABLES)
        self.apart = self.pipeline("apart")
        self.transactions = 0

    def commit(self, *statements: str) -> None:
        """One transaction at the source, captured as one batch; the first is what there is to begin with."""
        with self.database.connect() as connection:
            for statement in statements:
                connection.execute(statement.encode())
        if run_cleanly(self.apart).ingested.batch is not None:
            self.transactions += 1

    def together(self, *ends: int, warehouse_url: str | None = None) -> Pipeline:
        """The same transactions, in batches that end with these; by default all in one after the first."""
        pipeline = self.pipeline(f"together{len(list(self._folder.iterdir()))}", warehouse_url)
        self.go_on(pipeline, *(ends or (self.transactions,)))
        return pipeline

    def go_on(self, pipeline: Pipeline, *ends: int) -> None:
        """Processes and loads the batches of such a pipeline that are new in this list."""
        scratch = self._folder / "scratch"
        scratch.mkdir(exist_ok=True)
        take_together(self.apart.ingestion_store, pipeline.ingestion_store, ends, scratch)
        pipeline.process()
        pipeline.load()

    def pipeline(
        self, name: str, warehouse_url: str | None = None, project: dict[str, Any] | None = None
    ) -> Pipeline:
        """A pipeline in a folder of its own, with the models above or another project."""
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        return self._make(
            self.database.url,
            warehouse_url,
            folder=folder,
            project=project or self._project,
            lake={"compression": "none"},
        )


@pytest.fixture
def twice(database: Database, make_pipeline: Any, write_project: Any, tmp_path: Path) -> Twice:
    return Twice(database, make_pipeline, write_project(MODELS), tmp_path)


def star(pipeline: Pipeline) -> dict[str, list[tuple[Any, ...]]]:
    return {table: rows_of(pipeline, query) for table, query in ROWS.items()}


def test_each_transaction_is_a_version_and_what_it_did_in_between_is_not(twice: Twice) -> None:
    twice.commit("INSERT INTO region VALUES (1, 'North')", "INSERT INTO customer VALUES (1, 'Ada', 1, '2024-01-01')",
                 "INSERT INTO \"order\" VALUES (1, 1, 'a', '2024-01-01')")  # fmt: skip
    twice.commit("UPDATE \"order\" SET item = 'b', last_updated = '2024-02-01'")
    twice.commit("UPDATE \"order\" SET item = 'c'")
    twice.commit(
        "UPDATE region SET name = 'South'", "UPDATE \"order\" SET item = 'd', last_updated = '2024-02-01'"
    )
    twice.commit("UPDATE region SET name = 'hidden'")
    twice.commit('DELETE FROM "order"')
    twice.commit("INSERT INTO \"order\" VALUES (1, 1, 'e', '2024-02-02'), (2, 1, 'f', '2024-02-02')")
    twice.commit('DELETE FROM "order" WHERE order_id = 2')
    together = star(twice.together())
    assert [row[1] for row in together["fact_order"]] == ["a", "b", "c", "d", "d", "e", "f", "f"]
    assert together == star(twice.apart)


def test_postgresql_a_replay_and_a_lost_cache_have_the_same_versions(
    twice: Twice, new_database: Callable[..., Database]
) -> None:
    twice.commit("INSERT INTO region VALUES (1, 'North')", "INSERT INTO customer VALUES (1, 'Ada', 1, '2024-01-01')",
                 "INSERT INTO \"order\" VALUES (1, 1, 'a', '2024-01-01')")  # fmt: skip
    for number in range(2, 6):
        twice.commit(
            f"UPDATE \"order\" SET item = 'item {number}'", f"UPDATE customer SET name = 'name {number % 3}'"
        )
    twice.commit("UPDATE customer SET name = NULL", 'UPDATE "order" SET customer_id = 7')
    twice.commit("UPDATE region SET name = 'South'")
    expected = star(twice.apart)
    warehouse = new_database()
    together = twice.together(4, warehouse_url=warehouse.url)
    shutil.rmtree(together.settings.cache_folder)
    twice.go_on(together, 4, 6, twice.transactions)

    def rows(url: str) -> dict[str, list[tuple[Any, ...]]]:
        return {
            table: Database(url, "").execute(query.replace(" EXCLUDE (record, batch_id)", ""))
            for table, query in ROWS.items()
        }

    surrogates = [row[0] for row in rows(warehouse.url)["fact_line"]]
    assert surrogates == sorted(surrogates)
    assert [row[1:-1] for row in rows(warehouse.url)["fact_line"]] == expected["fact_line"]
    assert rows(warehouse.url)["dim_customer"] == expected["dim_customer"]
    again = new_database()
    together.replay(again.url)
    assert rows(again.url) == rows(warehouse.url)
    assert [one.quarantine_open for one in processed(together)] == [
        one.quarantine_open for one in processed(twice.apart)
    ]


def processed(pipeline: Pipeline) -> list[Any]:
    """The newest entries of all tables in the processed lake."""
    newest = processed_journal(pipeline.processed_store).newest()
    return list(newest.models.values()) if newest else []


def test_a_changed_model_is_rebuilt_with_the_versions_of_each_transaction(
    twice: Twice, write_project: Any
) -> None:
    twice.commit("INSERT INTO region VALUES (1, 'North')", "INSERT INTO customer VALUES (1, 'Ada', 1, '2024-01-01')",
                 "INSERT INTO \"order\" VALUES (1, 1, 'a', '2024-01-01')")  # fmt: skip
    for number in range(2, 5):
        twice.commit(
            f"UPDATE customer SET name = 'name {number}'", f"UPDATE \"order\" SET item = 'item {number}'"
        )
    together = twice.together()
    before = star(together)["fact_line"]
    longer = (
        MODELS["fact_line"]
        .replace("region VARCHAR)", "region VARCHAR, customer_id INTEGER)")
        .replace("known.region FROM", "known.region, o.customer_id FROM")
    )
    changed = twice.pipeline(
        together.settings.base.name, project=write_project(MODELS | {"fact_line": longer}, name="changed")
    )
    changed.apply()
    rows = rows_of(
        changed,
        "SELECT * EXCLUDE (record, batch_id, customer_id) FROM fact_line ORDER BY order_id, valid_from",
    )
    assert rows == before
    assert len(rows) == 4
    assert rows_of(changed, "SELECT DISTINCT customer_id FROM fact_line") == [(1,)]


def test_a_row_that_came_and_went_within_a_batch_has_both_versions(twice: Twice) -> None:
    twice.commit("INSERT INTO region VALUES (1, 'North')")
    twice.commit("INSERT INTO customer VALUES (1, 'Ada', 1, '2024-01-01')")
    twice.commit("DELETE FROM customer")
    together = star(twice.together())
    assert [row[-1] for row in together["fact_customer"]] == [False, True]
    assert together == star(twice.apart)


def test_a_deleted_row_of_a_table_with_one_row_a_key_stays_as_it_was_last(
    database: Database, make_pipeline: Any, write_project: Any, tmp_path: Path
) -> None:
    """No table has every version of a customer, so nothing else asks for the steps between."""
    models = {name: MODELS[name] for name in ("dim_customer", "dim_region", "fact_order")}
    twice = Twice(database, make_pipeline, write_project(models, name="dimensions"), tmp_path)
    twice.commit(
        "INSERT INTO region VALUES (1, 'North')", "INSERT INTO customer VALUES (1, 'Ada', 1, '2024-01-01')"
    )
    twice.commit("INSERT INTO customer VALUES (2, 'Bob', 1, '2024-01-01')")
    twice.commit("UPDATE customer SET name = 'Ada Byron' WHERE customer_id = 1")
    twice.commit("UPDATE region SET name = 'South'")
    twice.commit("DELETE FROM customer")
    twice.commit("UPDATE region SET name = 'East'")
    query = ROWS["dim_customer"]
    assert rows_of(twice.apart, query) == [(1, "Ada Byron", "South", True), (2, "Bob", "South", True)]
    assert rows_of(twice.together(), query) == rows_of(twice.apart, query)


def test_a_row_that_is_in_quarantine_now_and_then_is_there_if_it_was_last(twice: Twice) -> None:
    def reasons(pipeline: Pipeline) -> list[tuple[str, str, str, str]]:
        found = read_quarantine(pipeline).rows
        return sorted((row.table, str(row.key), row.reason, str(row.row)) for row in found)

    twice.commit("INSERT INTO region VALUES (1, 'North')", "INSERT INTO customer VALUES (1, 'Ada', 1, '2024-01-01')",
                 "INSERT INTO \"order\" SELECT i, 1, 'a', '2024-01-01' FROM generate_series(1, 4) AS i")  # fmt: skip
    twice.commit('UPDATE "order" SET item = NULL WHERE order_id < 4')
    twice.commit("UPDATE \"order\" SET item = 'b' WHERE order_id < 3")
    twice.commit('UPDATE "order" SET customer_id = 9 WHERE order_id IN (1, 4)')
    twice.commit("UPDATE \"order\" SET item = 'c', customer_id = 1 WHERE order_id IN (2, 4)")
    twice.commit(
        'UPDATE "order" SET item = NULL WHERE order_id = 2', 'DELETE FROM "order" WHERE order_id = 4'
    )
    twice.commit("UPDATE customer SET name = NULL", "INSERT INTO \"order\" VALUES (4, 8, 'd', '2024-01-02')")
    assert {(table, key) for table, key, *_ in reasons(twice.apart)} >= {
        ("fact_order", f"{{'order_id': {key}}}") for key in (1, 2, 3, 4)
    }
    middle = (4, twice.transactions)
    for together in (twice.together(), twice.together(*middle)):
        assert star(together) == star(twice.apart)
        assert reasons(together) == reasons(twice.apart)


@pytest.mark.parametrize("seed", [0, 1, *(in_sweep(seed) for seed in range(2, 20))])
def test_random_transactions(twice: Twice, seed: int) -> None:
    chance = random.Random(seed)

    def change() -> str:
        key, time = chance.randint(1, 4), f"'2024-01-0{chance.randint(1, 9)}'"
        return chance.choice([
            f"INSERT INTO region VALUES ({key}, 'r{chance.randint(1, 3)}') ON CONFLICT (region_id) DO UPDATE SET name = excluded.name",
            f"UPDATE region SET name = '{chance.choice(['hidden', 'r1', 'r2'])}' WHERE region_id = {key}",
            f"DELETE FROM region WHERE region_id = {key}",
            f"INSERT INTO customer VALUES ({key}, {chance.choice(['NULL', chr(39) + 'Ada' + chr(39)])}, {chance.randint(1, 4)}, {time})"
            " ON CONFLICT (customer_id) DO UPDATE SET name = excluded.name, region_id = excluded.region_id, last_updated = excluded.last_updated",
            f"UPDATE customer SET name = 'c{chance.randint(1, 3)}', last_updated = {time} WHERE customer_id = {key}",
            f"DELETE FROM customer WHERE customer_id = {key}",
            f"INSERT INTO \"order\" VALUES ({key}, {chance.randint(1, 5)}, 'i{chance.randint(1, 3)}', {time})"
            " ON CONFLICT (order_id) DO UPDATE SET customer_id = excluded.customer_id, item = excluded.item",
            f"UPDATE \"order\" SET item = 'i{chance.randint(1, 9)}', last_updated = {time} WHERE order_id = {key}",
            f"DELETE FROM \"order\" WHERE order_id = {key}",
        ])  # fmt: skip

    twice.commit(
        "INSERT INTO region VALUES (1, 'r1')", "INSERT INTO customer VALUES (1, 'Ada', 1, '2024-01-01')"
    )
    for _ in range(14):
        twice.commit(*(change() for _ in range(chance.choice([1, 1, 2, 4]))))
    expected = star(twice.apart)
    middle = chance.randint(2, twice.transactions - 1)
    for ends in ((), (middle, twice.transactions)):
        assert star(twice.together(*ends)) == expected, ends


def test_a_row_that_changes_before_what_it_refers_to_is_there(
    database: Database, make_pipeline: Any, write_project: Any, tmp_path: Path
) -> None:
    """What it was before is in quarantine by then, and nothing shows it."""
    models = {name: MODELS[name] for name in ("dim_customer", "fact_order")}
    twice = Twice(database, make_pipeline, write_project(models, name="references"), tmp_path)
    twice.commit("INSERT INTO region VALUES (1, 'r1')")
    twice.commit("""INSERT INTO "order" VALUES (1, 7, 'first', '2024-01-01')""")
    twice.commit("""UPDATE "order" SET item = 'second', last_updated = '2024-01-02'""")
    twice.commit("INSERT INTO customer VALUES (7, 'Ada', 1, '2024-01-03')")
    twice.commit("""UPDATE "order" SET item = 'third', last_updated = '2024-01-04'""")
    versions = rows_of(twice.apart, ROWS["fact_order"])
    assert [row[1] for row in versions] == ["second", "third"]
    assert rows_of(twice.together(), ROWS["fact_order"]) == versions
    assert rows_of(twice.together(3, twice.transactions), ROWS["fact_order"]) == versions


def test_changes_of_joined_rows_that_no_model_sees_share_a_round(
    twice: Twice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A customer is joined to each order by name and region: when its time changes, no line does."""
    twice.commit("INSERT INTO region VALUES (1, 'North')", "INSERT INTO customer VALUES (1, 'Ada', 1, '2024-01-01')",
                 "INSERT INTO \"order\" VALUES (1, 1, 'a', '2024-01-01')")  # fmt: skip
    for day in range(2, 9):
        twice.commit(f"UPDATE customer SET last_updated = '2024-01-0{day}'")
        if day == 5:
            twice.commit("UPDATE customer SET name = 'Ada Byron'")
    twice.commit("UPDATE customer SET name = 'Ada Lovelace'")
    twice.commit("UPDATE customer SET last_updated = '2024-01-09'")
    rounds = []
    split = batch_module.split
    monkeypatch.setattr(batch_module, "split", lambda *parts: rounds.append(found := split(*parts)) or found)
    together = star(twice.together())
    assert [row[2] for row in together["fact_line"]] == ["Ada", "Ada Byron", "Ada Lovelace"]
    assert together == star(twice.apart)
    assert [len(found) for found in rounds] == [2]


def test_a_joined_row_that_changes_in_a_column_that_no_model_names_touches_nothing(
    database: Database, make_pipeline: Any, write_project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.execute(*TABLES, "INSERT INTO region VALUES (1, 'North')",
                     "INSERT INTO customer VALUES (1, 'Ada', 1, '2024-01-01')",
                     "INSERT INTO \"order\" SELECT i, 1, 'a', '2024-01-01' FROM generate_series(1, 100) AS i")  # fmt: skip
    pipeline = make_pipeline(
        database.url, project=write_project({"fact_line": MODELS["fact_line"]}, name="lines")
    )
    run_cleanly(pipeline)
    computed = []
    compute = Transformation.compute
    monkeypatch.setattr(
        Transformation,
        "compute",
        lambda part, *touched: computed.append(part.model.name) or compute(part, *touched),
    )
    database.execute("UPDATE customer SET last_updated = '2024-01-02'")
    run_cleanly(pipeline)
    assert not computed
    database.execute("UPDATE customer SET name = 'Ada Byron', last_updated = '2024-01-03'")
    run_cleanly(pipeline)
    assert computed == ["fact_line"]
    assert len(rows_of(pipeline, "SELECT * FROM fact_line WHERE customer = 'Ada Byron'")) == 100
