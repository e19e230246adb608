"""First loads on a cluster: the same rows as in threads, whatever runs twice or is killed."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Database, rows_of, run_cleanly
from tests.processing import freight
from tests.workers.conftest import CLUSTER, ON_SPARK
from tests.workers.tasks import Dying, Twice
from totes import engine
from totes.ingestion import reading
from totes.pipeline import Pipeline
from totes.processing import pieces
from totes.terrifictotes import demo_source
from totes.workers.protocol import Workers

Make = Callable[..., Pipeline]


@pytest.fixture
def make(
    make_pipeline: Any,
    open_workers: Callable[[str], Workers],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Make:
    """Makes pipelines, each with a lake of its own, that read many small pieces with workers of some kind."""
    monkeypatch.setattr(reading, "PIECE_BYTES", 16_384)
    monkeypatch.setattr(pieces, "PIECE_ROWS_MIN", 1)

    def made(
        database: Database,
        name: str,
        url: str,
        around: Callable[[Workers], Workers] = lambda one: one,
        **more: Any,
    ) -> Pipeline:
        pipeline: Pipeline = make_pipeline(database.url, folder=tmp_path / name, workers={"url": url}, **more)
        workers = around(open_workers(url))
        monkeypatch.setattr(pipeline, "workers", lambda: workers)
        return pipeline

    return made


def lines(pipeline: Pipeline, batch: int) -> dict[str, list[dict[str, Any]]]:
    """The lines of a batch, by table, in order, each without the time of the batch."""
    manifest, found = pipeline.ingestion_journal.read(batch), {}
    read_at = manifest.position.read_at.isoformat(timespec="microseconds")
    connection = engine.connect(None, memory="1GB", reads=pipeline.lake_folders)
    for name, table in manifest.tables.items():
        with pipeline.ingestion_store.local(list(table.objects)) as files:
            text = engine.text_lines(files, manifest.compression, line_bytes_max=1 << 20)
            each = connection.execute(f"SELECT json FROM {text}").fetchall() if files else []
        found[name] = sorted(line.replace(read_at, "") for (line,) in each)
        assert len(found[name]) == sum(entry.rows for entry in table.objects) == table.upserts + table.deletes
    return found


def checksums(pipeline: Pipeline) -> dict[str, str]:
    """A checksum of each table of the warehouse; the first batch's surrogates, and times at which a batch was read, are left out."""
    found = {}
    read = [
        pipeline.ingestion_journal.read(n).position.read_at
        for n in range(1, pipeline.ingestion_journal.last() + 1)
    ]
    times = [time.replace(tzinfo=None) for time in read]
    for model in pipeline.project.models:
        number = model.surrogate
        later = f" REPLACE (CASE WHEN batch_id > 1 THEN {number} END AS {number})" if number else ""
        each = rows_of(pipeline, f"SELECT *{later} FROM {model.name}")
        text = sorted(str([f"batch {times.index(v) + 1}" if v in times else v for v in row]) for row in each)
        found[model.name] = f"{len(text)} rows, {hashlib.sha256(json.dumps(text).encode()).hexdigest()[:16]}"
    return found


def change_models(folder: Path, star: dict[str, tuple[str, str]]) -> None:
    """Replaces text in models of a project."""
    for name, (text, replacement) in star.items():
        file = folder / "models" / f"{name}.sql"
        file.write_text(file.read_text().replace(text, replacement))


TERRIFIC = Path(demo_source.__file__).parent
TERRIFIC_CHANGES = {
    "dim_location": ("address.city", "upper(address.city) AS city"),
    "fact_sales_order": ("sales_order.units_sold,", "sales_order.units_sold * 2 AS units_sold,"),
}
MANY_SHIPMENTS = """INSERT INTO shipment SELECT 'Z', n, d.id, d.id, NULL, n, 'sent', '2026-01-01'
    FROM (SELECT id FROM "Depot" LIMIT 1) AS d, generate_series(1, 600) n"""
FREIGHT_CHANGES = {"fact_shipment": ("'heavy' ELSE", "'weighty' ELSE")}


@pytest.mark.parametrize("executors", [pytest.param(number, marks=ON_SPARK) for number in (2, 3)])
@pytest.mark.parametrize("star", ["terrifictotes", "freight"])
def test_a_first_load_batches_after_it_and_a_rebuild_are_the_same(
    star: str,
    executors: int,
    database: Database,
    totesys: Database,
    make: Make,
    tmp_path: Path,
    write_project: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if star == "freight":
        source, project = database, write_project(freight.MODELS, name="star")
        source.execute(freight.SCHEMA)
        traders = freight.Traders(source, 0)
        traders.trade(60)
        source.execute(MANY_SHIPMENTS)
        trade, changes, table = partial(traders.trade, 20), FREIGHT_CHANGES, "shipment"
    else:
        source, project = totesys, {"name": "star", "path": shutil.copytree(TERRIFIC, tmp_path / "star")}
        trade, changes, table = partial(demo_source.trade, source.url), TERRIFIC_CHANGES, "sales_order"
    stars = {"here": "local", "there": f"local-cluster[{executors},1,1024]"}

    def made() -> tuple[Pipeline, ...]:
        return tuple(make(source, name, url, project=project) for name, url in stars.items())

    here, there = made()
    for batch in range(1, 5):
        for pipeline in (here, there):
            assert run_cleanly(pipeline).ingested.batch == batch
            assert pipeline.ingest().batch is None
        assert lines(here, batch) == lines(there, batch)
        assert checksums(here) == checksums(there)
        trade()
    first = [len(one.ingestion_journal.read(1).tables[table].marks) for one in (here, there)]
    assert first[0] == first[1] > 1
    change_models(tmp_path / "star", changes)
    rebuilt = made()
    for pipeline in rebuilt:
        pipeline.apply()
        newest = pipeline.processed_journal.newest()
        assert newest is not None
        assert {
            name for name, entry in newest.models.items() if entry.since == newest.batch
        } >= changes.keys()
    found = checksums(rebuilt[0])
    assert checksums(rebuilt[1]) == found
    with capsys.disabled():
        sys.stdout.writelines(f"\n{name}: {checksum}, here and there" for name, checksum in found.items())


@pytest.mark.parametrize("url", ["local", pytest.param(CLUSTER, marks=ON_SPARK)])
def test_pieces_that_are_read_twice_change_nothing(totesys: Database, make: Make, url: str) -> None:
    once, twice = make(totesys, "once", "local"), make(totesys, "twice", url, Twice)
    for pipeline in (once, twice):
        run_cleanly(pipeline)
    assert lines(twice, 1) == lines(once, 1)
    assert checksums(twice) == checksums(once)
    named = {
        entry.path for table in twice.ingestion_journal.read(1).tables.values() for entry in table.objects
    }
    written = {path for path in twice.ingestion_store.list("") if ".jsonl" in path}
    assert len(written) == 2 * len(named)  # what is left over is not data
    assert twice.ingest().batch is None


@ON_SPARK
def test_executors_that_are_killed_change_nothing(totesys: Database, make: Make, tmp_path: Path) -> None:
    here = make(totesys, "here", "local")
    killed = make(totesys, "killed", CLUSTER, lambda workers: Dying(workers, tmp_path, 2))
    for pipeline in (here, killed):
        run_cleanly(pipeline)
    assert len(list(tmp_path.glob("killed-*"))) == 2
    assert lines(killed, 1) == lines(here, 1)
    assert checksums(killed) == checksums(here)
    named = {
        entry.path for table in killed.ingestion_journal.read(1).tables.values() for entry in table.objects
    }
    assert {path for path in killed.ingestion_store.list("") if ".jsonl" in path} > named
