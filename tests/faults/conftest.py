"""A shop to be disturbed, and what it must hold at the end, found without the pipeline's parts."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Database
from tests.contracts.shop import MODELS, SCHEMA
from tests.faults import kiosk
from tests.plain_lake import manifests_of, objects_of, rows_of_lake, rows_of_source
from totes.cycle import Cycle
from totes.pipeline import Pipeline

# Rows of 96 kB: reading them takes more than what sockets hold back, so that it can be disturbed half-way.
NOTES = (
    "CREATE TABLE note (note_id integer PRIMARY KEY, body text)",
    "INSERT INTO note SELECT n, repeat(md5(n::text), 3000) FROM generate_series(1, 60) AS n",
)
LEDGER = "SELECT batch_id FROM totes_batches ORDER BY 1"
WAREHOUSE = (
    "SELECT customer_id, name, city FROM dim_customer ORDER BY 1",
    "SELECT order_id, customer_id, quantity, price FROM fact_order_current ORDER BY 1",
)
SOURCE = (
    "SELECT customer_id, name, city FROM customer ORDER BY 1",
    'SELECT order_id, customer_id, quantity, price FROM "order" ORDER BY 1',
)
VERSIONS = "SELECT order_id, valid_from, valid_to, is_deleted FROM fact_order ORDER BY 1, 2"


@dataclass
class Shop:
    """A shop's database, its settings, and the pipeline in this process."""

    database: Database
    settings: dict[str, Any]
    make: Callable[..., Pipeline]
    store: str
    warehouse: str
    changes: int = field(default=0)

    def pipeline(self, **sections: Any) -> Pipeline:
        """A pipeline with the shop's settings; of those given here, keys are added to what a section has."""
        settings = {
            name: self.settings.get(name, {}) | sections.get(name, {}) for name in {*self.settings, *sections}
        }
        source, warehouse = dict(settings.pop("source", {})), dict(settings.pop("warehouse", {}))
        return self.make(
            source.pop("url", self.database.url),
            warehouse.pop("url", self.warehouse),
            source=source,
            warehouse=warehouse,
            **settings,
        )

    def run(self, **sections: Any) -> Cycle:
        """Runs a cycle that must not fail."""
        cycle = self.pipeline(**sections).run()
        assert cycle.failures == {}
        return cycle

    def change(self) -> None:
        """An order comes, one changes, one goes, and a customer moves."""
        self.changes += 1
        number = 3 + self.changes
        self.database.execute(
            f"""INSERT INTO "order" VALUES ({number}, 10, {number}, 1.25, now() AT TIME ZONE 'UTC')""",
            f"""UPDATE "order" SET quantity = {number}, last_updated = now() AT TIME ZONE 'UTC' WHERE order_id = 1""",
            f'DELETE FROM "order" WHERE order_id = {number - 1}',
            f"UPDATE customer SET city = 'City {number}', last_updated = now() AT TIME ZONE 'UTC' WHERE customer_id = 10",
        )

    def check(self, batches: int) -> None:
        """Lake and warehouse hold all that the source holds, each batch and each version once, nothing left behind."""
        stored = objects_of(f"{self.store}/ingestion")
        ingested, processed = manifests_of(stored), manifests_of(objects_of(f"{self.store}/processed"))
        assert (len(ingested), len(processed)) == (batches, batches)
        assert rows_of_lake(stored) == rows_of_source(self.database.url, ingested[-1])
        ledger, versions, *found = kiosk.query(self.warehouse, LEDGER, VERSIONS, *WAREHOUSE)
        assert ledger == [(number,) for number in range(1, batches + 1)]
        assert found == [self.database.execute(statement) for statement in SOURCE]
        for _, chain in itertools.groupby(versions, key=lambda version: version[0]):
            history = list(chain)
            assert [version[2] for version in history] == [version[1] for version in history[1:]] + [None]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files of the test's own, in which no file may be left."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield folder
    assert [file for file in folder.rglob("*") if file.is_file()] == []


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder for a server of the test's own, which its account can enter where tests are run by root."""
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        Path(made).chmod(0o755)
        yield Path(made) / "server"


@pytest.fixture
def make_shop(
    tmp_path: Path,
    new_database: Callable[..., Database],
    make_pipeline: Callable[..., Pipeline],
    write_project: Callable[..., dict[str, Any]],
) -> Callable[..., Shop]:
    """Makes a shop whose lake and DuckDB warehouse are in the test's folder, unless other places are named."""

    def make(store: str = "", warehouse: str = "", *more: str) -> Shop:
        database = new_database()
        database.execute(*SCHEMA, *more)
        store = store or str(tmp_path / "lake")
        lake = {"ingestion": f"{store}/ingestion", "processed": f"{store}/processed", "compression": "gzip"}
        settings = {"project": write_project(MODELS, name="shop"), "lake": lake}
        warehouse = warehouse or f"duckdb:///{tmp_path}/warehouse.duckdb"
        return Shop(database, settings, make_pipeline, store, warehouse)

    return make
