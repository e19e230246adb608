"""An object of the lake is gone, or one byte of it is another: noticed, named, nothing taken from it; put back, all goes on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Database
from tests.faults import kiosk
from tests.spread import in_sweep
from totes.config import Settings
from totes.errors import LakeDamaged, WarehouseRefused
from totes.pipeline import Pipeline

LEDGER = "SELECT batch_id FROM totes_batches ORDER BY 1"
VERSIONS = "SELECT * FROM fact_sale"
CURRENT = "SELECT id, customer_id, region, amount FROM fact_sale_current ORDER BY id"

# What is damaged, which stage notices, and the batches that are in the warehouse then. Of three batches that are ingested
# two are processed and one is loaded; caches are lost.
KINDS = {
    "a packet": ("ingestion/sale/*/000000000003-0001-*", "process", 2),
    "a packet of a joined table, from before": ("ingestion/customer/*/000000000001-*", "process", 2),
    "marks": ("ingestion/marks/sale/*/000000000002-*", "ingest", 3),
    "an ingestion manifest": ("ingestion/batches/000000000002.json", "ingest process", 2),
    "rows": ("processed/fact_sale/*/000000000002-*", "load", 1),
    "removed keys": ("processed/removed/dim_region/*/000000000002-*", "process load", 1),
    "state": ("processed/state/fact_sale/*/000000000001-*", "process", 2),
    "quarantine": ("processed/quarantine/fact_sale/*/000000000002-*", "process", 2),
    "a processed manifest": ("processed/batches/000000000001.json", "process load", 1),
}


@pytest.fixture(scope="module")
def source(new_database: Callable[..., Database]) -> Database:
    """The source of all these lakes, in its last state."""
    return new_database()


@pytest.fixture(scope="module")
def original(source: Database, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of three batches, the last of which is not processed, and the last two of which are not loaded."""
    folder = tmp_path_factory.mktemp("original")
    kiosk.write_project(folder)
    pipeline = opened(source, folder)
    for number, state in enumerate(kiosk.STATES, start=1):
        source.execute(state)
        pipeline.ingest()
        if number < 3:
            pipeline.process()
        if number == 1:
            pipeline.load()
    shutil.rmtree(folder / ".totes")
    return folder


def opened(source: Database, folder: Path) -> Pipeline:
    """The pipeline of a folder."""
    warehouse = {"url": f"duckdb:///{folder}/warehouse.duckdb"}
    return Pipeline(
        Settings(project={"path": folder}, source={"url": source.url}, warehouse=warehouse, base=folder)
    )  # type: ignore[arg-type]


def delete(file: Path) -> None:
    file.unlink()


def change_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    # In a manifest a digit of a time, which nothing else tells to be wrong.
    place = content.find(b'"finished_at": "') + 18 if file.suffix == ".json" else len(content) // 2
    content[place] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_named_and_its_batch_is_not_used(
    original: Path, source: Database, tmp_path: Path, kind: str
) -> None:
    pattern, stages, loaded = KINDS[kind]
    folder = tmp_path / "copy"
    shutil.copytree(original, folder)
    [file] = (folder / "lake").glob(pattern)
    content = file.read_bytes()
    for damage in (delete, change_a_byte):
        damage(file)
        cycle = opened(source, folder).run()
        assert set(cycle.failures) == set(stages.split())
        for error in cycle.failures.values():
            assert isinstance(error, LakeDamaged)
            assert str(file) in str(error)
            assert error.hint
            assert error.hint.startswith("Restore it from a backup")
        [ledger] = kiosk.query(f"duckdb:///{folder}/warehouse.duckdb", LEDGER)
        assert ledger == [(number,) for number in range(1, loaded + 1)]
        file.write_bytes(content)
        shutil.rmtree(folder / ".totes")
    assert opened(source, folder).run().failures == {}
    ledger, current, versions = kiosk.query(f"duckdb:///{folder}/warehouse.duckdb", LEDGER, CURRENT, VERSIONS)
    assert (ledger, current) == ([(1,), (2,), (3,)], source.execute(kiosk.PRESENT))
    assert len(versions) == len(kiosk.HISTORY)


@pytest.mark.parametrize(
    ("damage", "store", "stages"),
    [
        (delete, "ingestion", {"ingest", "process"}),
        in_sweep(delete, "processed", {"process", "load"}),
        in_sweep(change_a_byte, "ingestion", {"ingest", "process"}),
        (change_a_byte, "processed", {"process", "load"}),
    ],
)
def test_a_newest_manifest_is_missed_although_no_later_batch_says_that_it_was_there(
    original: Path,
    source: Database,
    tmp_path: Path,
    damage: Callable[[Path], None],
    store: str,
    stages: set[str],
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(original, folder)
    assert opened(source, folder).run().failures == {}
    file = folder / "lake" / store / "batches/000000000003.json"
    content = file.read_bytes()
    damage(file)
    failures = opened(source, folder).run().failures
    assert set(failures) == stages
    assert all(isinstance(error, LakeDamaged | WarehouseRefused) for error in failures.values())
    assert sum(str(file) in str(error) for error in failures.values()) >= 1
    file.write_bytes(content)
    assert opened(source, folder).run().failures == {}
    assert kiosk.query(f"duckdb:///{folder}/warehouse.duckdb", LEDGER) == [[(1,), (2,), (3,)]]
