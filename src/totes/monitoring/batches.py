"""Batches over time: of each, when the source was read, and rows and seconds by stage. Only the batches asked for are read."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from totes.errors import ConfigurationError, TotesError
from totes.lake.manifest import IngestionManifest, ProcessedManifest
from totes.pipeline import Pipeline
from totes.star.declaration import LEDGER

_READ_AHEAD = 16
_RETAINED_MAX = 20_000
SECONDS_MAX = 5.0  # as long as somebody waits for a page, and no longer than a load waits for a lock


@dataclass(frozen=True)
class StageBatch:
    """What one stage did with a batch: when it ended, how many rows it wrote, and how long that took.

    A load's `seconds` are those from the end of processing until the batch was in the warehouse, waiting included.
    """

    at: datetime
    rows: int
    seconds: float


@dataclass(frozen=True)
class Batch:
    """A batch on its way: `read_at` is the moment of the source that it shows. A stage that it has not reached is None."""

    batch: int
    read_at: datetime
    ingest: StageBatch
    process: StageBatch | None = None
    load: StageBatch | None = None
    quarantined: int = 0

    @property
    def lag_seconds(self) -> float | None:
        """How long after it was read the batch was in the warehouse."""
        return (self.load.at - self.read_at).total_seconds() if self.load else None


@dataclass(frozen=True)
class BatchList:
    """Batches in order; `newest` is the last one captured, and `unreachable` is why nothing is known of loads."""

    batches: list[Batch]
    newest: int
    unreachable: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The list as plain values."""
        return {
            "newest": self.newest,
            "unreachable": self.unreachable,
            "batches": [_plain(asdict(batch)) for batch in self.batches],
        }


@dataclass(frozen=True)
class TableOfBatch:
    """What a batch did with one table, and its objects: place, rows and bytes of each."""

    table: str
    written: int
    deleted: int
    quarantined: int
    objects: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class BatchDetail:
    """One batch in full: `captured` by source table, `computed` by table of the star; only tables that it changed."""

    batch: Batch
    captured: tuple[TableOfBatch, ...]
    computed: tuple[TableOfBatch, ...]
    failures: dict[str, str]
    left_out: dict[str, str]
    calls: dict[str, str]


class Batches:
    """The batches of a pipeline, for a process that asks again and again: a manifest does not change, and is read once.

    Any number of threads may ask at once.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._turn = threading.Lock()
        self._ingested = pipeline.ingestion_journal
        self._processed = pipeline.processed_journal
        self._known: OrderedDict[int, Batch] = OrderedDict()

    def read(self, count: int, last: int | None = None) -> BatchList:
        """The newest batches, or those up to `last`, oldest first; at most `count`.

        Raises:
            StoreError, LakeDamaged: the lake cannot be read.
        """
        with self._turn:
            newest, processed = self._ingested.last(), self._processed.last()
            end = min(last or newest, newest)
            wanted = range(max(1, end - count + 1), end + 1)
            with ThreadPoolExecutor(_READ_AHEAD) as readers:
                found = list(readers.map(lambda batch: self._read(batch, processed), wanted))
        loads, unreachable = self._loads(wanted)
        return BatchList([_with_load(batch, loads.get(batch.batch)) for batch in found], newest, unreachable)

    def detail(self, batch: int) -> BatchDetail:
        """One batch with its tables and objects.

        Raises:
            ConfigurationError: there is no such batch.
            StoreError, LakeDamaged: the lake cannot be read.
        """
        with self._turn:
            newest, processed = self._ingested.last(), self._processed.last()
            if not 1 <= batch <= newest:
                raise ConfigurationError(f"there is no batch {batch}", hint=f"The newest is {newest}")
            ingestion = self._ingested.read(batch)
            processing = self._processed.read(batch) if batch <= processed else None
            summary = _summary(ingestion, processing)
        loads, _ = self._loads(range(batch, batch + 1))
        captured = tuple(
            TableOfBatch(
                name, table.upserts, table.deletes, 0,
                tuple((self._ingested.store.location(one.path), one.rows, one.bytes) for one in table.objects),
            )
            for name, table in ingestion.tables.items()
            if table.objects
        )  # fmt: skip
        computed = tuple(
            TableOfBatch(
                name, model.written, model.deleted, model.quarantined,
                tuple(
                    (self._processed.store.location(one.path), one.rows, one.bytes)
                    for one in (*model.objects, *model.removed, *model.quarantine)
                ),
            )
            for name, model in (processing.models if processing else {}).items()
            if model.written or model.deleted or model.quarantined or model.released
        )  # fmt: skip
        position = ingestion.position
        return BatchDetail(
            _with_load(summary, loads.get(batch)),
            captured,
            computed,
            {name: failure.reason for name, failure in (processing.failures if processing else {}).items()},
            {name: entry.reason for name, entry in ingestion.left_out.items()},
            {"database": position.database, "cluster": position.system_identifier,
             "horizon": str(position.horizon), "written by": f"totes {ingestion.totes}"},
        )  # fmt: skip

    def _read(self, batch: int, processed: int) -> Batch:
        known = self._known.get(batch)
        if known and (known.process or batch > processed):
            return known
        summary = _summary(
            self._ingested.read(batch), self._processed.read(batch) if batch <= processed else None
        )
        self._known[batch] = summary
        while len(self._known) > _RETAINED_MAX:
            self._known.popitem(last=False)
        return summary

    def _loads(self, wanted: range) -> tuple[dict[int, tuple[datetime, int]], str | None]:
        """When batches were loaded and with how many rows, or why that is not known."""
        if not wanted:
            return {}, None
        try:
            with self._pipeline.warehouse(read_only=True) as warehouse:
                if warehouse.newest() is None:
                    return {}, None
                _, rows = warehouse.query(
                    f"SELECT batch_id, loaded_at, rows FROM {warehouse.relation(LEDGER)}"
                    f" WHERE batch_id BETWEEN {wanted.start} AND {wanted.stop - 1}",
                    seconds_max=SECONDS_MAX,
                )
        except TotesError as error:
            return {}, str(error)
        return {int(batch): (at.replace(tzinfo=UTC), int(count)) for batch, at, count in rows}, None


def _summary(ingested: IngestionManifest, processed: ProcessedManifest | None) -> Batch:
    captured = sum(table.upserts + table.deletes for table in ingested.tables.values())
    return Batch(
        ingested.batch,
        ingested.position.read_at.replace(tzinfo=UTC),
        StageBatch(ingested.finished_at, captured, _seconds(ingested.started_at, ingested.finished_at)),
        StageBatch(
            processed.finished_at,
            sum(model.written for model in processed.models.values()),
            _seconds(processed.started_at, processed.finished_at),
        )
        if processed
        else None,
        quarantined=sum(model.quarantined for model in processed.models.values()) if processed else 0,
    )


def _with_load(batch: Batch, load: tuple[datetime, int] | None) -> Batch:
    if load is None or batch.process is None:
        return batch
    at, rows = load
    return Batch(
        batch.batch, batch.read_at, batch.ingest, batch.process,
        StageBatch(at, rows, _seconds(batch.process.at, at)), batch.quarantined,
    )  # fmt: skip


def _seconds(began: datetime, ended: datetime) -> float:
    return round(max(0.0, (ended - began).total_seconds()), 3)  # a clock may have been set back


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return value.isoformat() if isinstance(value, datetime) else value
