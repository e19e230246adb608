"""First loads on a cluster: the same rows as in threads, whatever runs twice or is killed."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Database, rows_of, run_cleanly
from tests.workers.conftest import CLUSTER, ON_SPARK
from tests.workers.tasks import Dying, Twice
from totes import engine
from totes.ingestion import reading
from totes.pipeline import Pipeline
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
    """A checksum of each table of the warehouse; surrogates, and times at which a batch was read, are left out."""
    found = {}
    read = [
        pipeline.ingestion_journal.read(n).position.read_at
        for n in range(1, pipeline.ingestion_journal.last() + 1)
    ]
    times = [time.replace(tzinfo=None) for time in read]
    for model in pipeline.project.models:
        surrogates = {column.name for column in model.columns} - {column.name for column in model.produced}
        left_out = f"* EXCLUDE ({engine.names(surrogates)})" if surrogates else "*"
        each = rows_of(pipeline, f"SELECT {left_out} FROM {model.name}")
        text = sorted(str([f"batch {times.index(v) + 1}" if v in times else v for v in row]) for row in each)
        found[model.name] = f"{len(text)} rows, {hashlib.sha256(json.dumps(text).encode()).hexdigest()[:16]}"
    return found


def marks(pipeline: Pipeline) -> int:
    """How many objects with marks the first batch has of sales orders: one for each piece."""
    return len(pipeline.ingestion_journal.read(1).tables["sales_order"].marks)


@ON_SPARK
def test_a_first_load_and_the_batch_after_it_are_the_same(
    totesys: Database, make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = make(totesys, "here", "local"), make(totesys, "there", CLUSTER)
    for pipeline in (here, there):
        run_cleanly(pipeline)
    assert marks(here) == marks(there) > 2
    demo_source.trade(totesys.url)
    for pipeline in (here, there):
        assert run_cleanly(pipeline).ingested.batch == 2
        assert pipeline.ingest().batch is None
    for batch in (1, 2):
        assert lines(here, batch) == lines(there, batch)
    found = checksums(here)
    assert checksums(there) == found
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
