"""Writes a lake of many small batches fast: a true first load, then one order changed in each batch.

The batches are what runs would have written: objects with their digests, manifests that are chained, caches and a DuckDB
warehouse that are where the lake is. Only the first two are made by runs; the others are made after the second.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from benchmarks.measurement import BenchmarkFailed
from benchmarks.workbench import Source
from totes.config import Settings
from totes.lake.document import StoredObject
from totes.lake.journal import ingestion_journal, processed_journal
from totes.lake.layout import manifest_path, new_object_path
from totes.lake.manifest import IngestionManifest, Manifest, ProcessedManifest
from totes.pipeline import Pipeline

ORDERS = 500
_TABLE, _MODEL = "sales_order", "fact_sales_order"
_BAD_ORDER = 1  # in quarantine from the first batch on


def write(folder: Path, source: Source, batches: int) -> Settings:
    """Writes a lake with so many batches into a folder, from a source with `ORDERS` orders; it ends where the source is.

    Raises:
        BenchmarkFailed: a run failed.
    """
    settings = Settings.model_validate(
        {
            "base": folder,
            "source": {"url": source.url},
            "warehouse": {"url": "duckdb:///warehouse.duckdb"},
            "lake": {"compression": "none"},
        }
    )
    source.execute(f"UPDATE {_TABLE} SET agreed_delivery_date = 'soon' WHERE sales_order_id = {_BAD_ORDER}")
    _run(settings)
    source.execute(
        f"UPDATE {_TABLE} SET units_sold = 1, last_updated = localtimestamp WHERE sales_order_id = 2"
    )
    _run(settings)
    lake = _Lake(Pipeline(settings))
    for batch in range(3, batches):
        lake.add(batch)
    for journal in (Pipeline(settings).ingestion_journal, Pipeline(settings).processed_journal):
        journal.last()
        while journal.write_chapter():
            pass
    lake.bring_up(settings.cache_folder, folder / "warehouse.duckdb")
    Pipeline(settings).replay_table(_MODEL)
    source.execute(*lake.present())
    _run(settings)
    return settings


def _run(settings: Settings) -> None:
    for stage, error in Pipeline(settings).run().failures.items():
        raise BenchmarkFailed(f"{stage}: {error}")


class _Lake:
    """A lake to which batches are added, all of them like its newest one."""

    def __init__(self, pipeline: Pipeline) -> None:
        captured, made = (
            ingestion_journal(pipeline.ingestion_store),
            processed_journal(pipeline.processed_store),
        )
        newest, processed = captured.newest(), made.newest()
        assert newest is not None
        assert processed is not None
        self._folders: dict[type[Manifest], Path] = {
            IngestionManifest: Path(captured.store.url),
            ProcessedManifest: Path(made.store.url),
        }
        self._captured, self._made = newest, processed
        self._digests = [(newest.sha256(), processed.sha256())]
        self._began = newest.position.read_at
        self._changed: dict[int, tuple[int, datetime]] = {}
        self._lines = _lines(captured.read(1), Path(captured.store.url))
        self._engine = duckdb.connect()
        [first] = made.read(1).models[_MODEL].objects
        self._engine.execute(f"CREATE TABLE facts AS FROM '{made.store.url}/{first.path}'")
        self._engine.execute("ALTER TABLE facts DROP COLUMN date")

    def add(self, batch: int) -> None:
        """Adds a batch: the next order has as many units sold as there are batches."""
        order, at = 2 + batch % (ORDERS - 1), self._began + timedelta(seconds=batch / 10)
        self._changed[order] = batch, at
        changes = {"units_sold": batch, "last_updated": f"{at:%Y-%m-%d %H:%M:%S.%f}", "_op": "upsert"}
        line = self._lines[order] | changes | {"_at": f"{at:%Y-%m-%dT%H:%M:%S.%f}"}
        packet = self._put(
            IngestionManifest, (_TABLE,), "jsonl", json.dumps(line, separators=(",", ":")).encode() + b"\n"
        )
        marks = self._copy(
            IngestionManifest, ("marks", _TABLE), f"SELECT {order}::BIGINT AS k0, {batch}::BIGINT AS mark"
        )
        table = self._captured.tables[_TABLE]
        changed = table.model_copy(update={"objects": (packet,), "marks": (marks,), "upserts": 1})
        position = self._captured.position.model_copy(update={"read_at": at})
        self._captured = self._next(
            self._captured, {"position": position, "tables": self._captured.tables | {_TABLE: changed}}
        )
        model = self._made.models[_MODEL]
        rows = self._copy(
            ProcessedManifest,
            (_MODEL,),
            f"SELECT * REPLACE ({model.surrogates + 1}::BIGINT AS sales_record_id, {batch}::INTEGER AS units_sold,"
            f" DATE '{at:%Y-%m-%d}' AS last_updated_date, TIME '{at:%H:%M:%S.%f}' AS last_updated_time,"
            f" TIMESTAMP '{at}' AS valid_from, {batch}::BIGINT AS batch_id) FROM facts WHERE sales_order_id = {order}",
        )
        written = model.model_copy(
            update={"objects": (rows,), "written": 1, "surrogates": model.surrogates + 1}
        )
        self._made = self._next(
            self._made,
            {
                "ingestion_sha256": self._captured.sha256(),
                "read_at": at,
                "models": self._made.models | {_MODEL: written},
            },
        )
        self._digests.append((self._captured.sha256(), self._made.sha256()))

    def bring_up(self, cache: Path, warehouse: Path) -> None:
        """Has caches and warehouse know of the batches.

        A cache goes on from the batch before every order has changed once more, as if it had read all before: the newest
        change of each is what counts.
        """
        back = min(len(self._digests), 2 * ORDERS)
        for number, stage in enumerate(("ingestion", "processing")):
            with closing(duckdb.connect(str(cache / f"{stage}.duckdb"))) as file:
                file.execute(
                    "UPDATE totes_position SET batch = ?, manifest_sha256 = ?",
                    [self._captured.batch - back + 1, self._digests[-back][number]],
                )
        with closing(duckdb.connect(str(warehouse))) as file:
            rows = [[2 + number, made] for number, (_, made) in enumerate(self._digests)][1:]
            file.execute("BEGIN")
            file.execute("CREATE TEMP TABLE added (batch BIGINT, digest VARCHAR)")
            for start in range(0, len(rows), 1000):
                values = ", ".join(f"({batch}, '{digest}')" for batch, digest in rows[start : start + 1000])
                file.execute(f"INSERT INTO added VALUES {values}")
            file.execute(
                "INSERT INTO totes_batches SELECT batch, digest, localtimestamp, localtimestamp, 1 FROM added"
            )
            file.execute("DROP TABLE added")
            file.execute("COMMIT")

    def present(self) -> list[str]:
        """The statements that bring the source to where the lake is."""
        return [
            f"UPDATE {_TABLE} SET units_sold = {units}, last_updated = '{at}' WHERE sales_order_id = {order}"
            for order, (units, at) in self._changed.items()
        ]

    def _next(self, before: Any, changes: dict[str, object]) -> Any:
        now = datetime.now(UTC)
        following = before.model_copy(
            update={
                "batch": before.batch + 1, "previous_sha256": before.sha256(), "started_at": now, "finished_at": now,
                "content_sha256": "", **changes,
            }
        )  # fmt: skip
        following._stored = None
        content = following.content()
        following._stored = content
        (self._folders[type(before)] / manifest_path(following.batch)).write_bytes(content)
        return following

    def _path(self, kind: type[Manifest], folders: tuple[str, ...], ending: str) -> tuple[str, Path]:
        path = new_object_path(
            *folders, batch=self._captured.batch + 1, part=1, read_at=self._began, ending=ending
        )
        file = self._folders[kind] / path
        file.parent.mkdir(parents=True, exist_ok=True)
        return path, file

    def _put(
        self, kind: type[Manifest], folders: tuple[str, ...], ending: str, content: bytes
    ) -> StoredObject:
        path, file = self._path(kind, folders, ending)
        file.write_bytes(content)
        return StoredObject(path=path, rows=1, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())

    def _copy(self, kind: type[Manifest], folders: tuple[str, ...], query: str) -> StoredObject:
        path, file = self._path(kind, folders, "parquet")
        self._engine.execute(f"COPY ({query}) TO '{file}' (FORMAT parquet, COMPRESSION zstd)")
        content = file.read_bytes()
        return StoredObject(path=path, rows=1, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def _lines(first: IngestionManifest, store: Path) -> dict[int, dict[str, Any]]:
    """The rows of the orders as the first batch captured them, by order."""
    found = {}
    for entry in first.tables[_TABLE].objects:
        for line in (store / entry.path).read_text("utf-8").splitlines():
            row = json.loads(line)
            found[row["sales_order_id"]] = row
    return found
