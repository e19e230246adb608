"""One ingestion batch: read the source at one instant, write what is new, commit it by its manifest."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from totes.config import SourceSettings
from totes.errors import BatchTaken
from totes.failpoint import reach
from totes.ingestion.capture import changed_since, check_continues, check_shape, having_values, key_column
from totes.ingestion.catalog import SourceTable
from totes.ingestion.known import KnownRows
from totes.ingestion.packets import PacketWriter
from totes.ingestion.source import Snapshot, open_snapshot
from totes.lake.cache import Cache
from totes.lake.journal import ingestion_journal
from totes.lake.manifest import IngestionManifest, Position, TableChanges
from totes.lake.store import Store
from totes.log import logger

_ATTEMPTS_MAX = 100
_log = logger(stage="ingest")


@dataclass(frozen=True)
class Ingested:
    """What a call of the stage did; `batch` is None when there was nothing new."""

    batch: int | None
    read_at: datetime
    changes: dict[str, TableChanges] = field(default_factory=dict)


def ingest(
    url: str,
    source: SourceSettings,
    store: Store,
    *,
    needed: frozenset[str],
    compression: str,
    cache: Path,
    memory: str,
    inspect: Callable[[Snapshot], None] | None = None,
) -> Ingested:
    """Captures what was committed since the last batch, as one batch, or nothing when there is nothing.

    Safe to be called by any number of runners at once, and to be killed at any moment: a batch exists from the
    instant its manifest does, and a runner that comes second starts over from the winner's batch.

    Args:
        url: the source's PostgreSQL URL.
        source: which schema, tables and keys.
        store: the ingestion lake.
        needed: the tables that models read; they must be there and readable.
        compression: zstd, gzip or none.
        cache: a local folder.
        memory: the most memory for the engine.
        inspect: is called with the snapshot when all that it shows is captured, while it is still open.

    Raises:
        SourceError, SourceRefused, StoreError, LakeDamaged: as they say.
    """
    journal = ingestion_journal(store)
    for _ in range(_ATTEMPTS_MAX):
        with Cache.open(cache, "ingestion", journal, memory) as opened:
            known = KnownRows(opened, journal)
            known.catch_up()
            started = datetime.now(UTC)
            with open_snapshot(url, source, needed) as snapshot:
                reach("ingest.opened")
                for table, reason in snapshot.left_out.items():
                    _log.warning(f"the table {reason} and is left out", table=table)
                previous = journal.read(opened.batch) if opened.batch else None
                opened.begin()
                manifest = _capture(snapshot, known, store, previous, started, compression)
                if manifest is None:
                    opened.rollback()
                    if inspect:
                        inspect(snapshot)
                    return Ingested(None, snapshot.position.read_at)
                try:
                    journal.commit(manifest)
                except BatchTaken:
                    opened.rollback()
                    _log.info(
                        "another runner committed this batch first; starting over", batch=manifest.batch
                    )
                    continue
                opened.commit(manifest.batch, manifest.sha256())
                if inspect:
                    inspect(snapshot)
                changes = {
                    name: table for name, table in manifest.tables.items() if table.upserts or table.deletes
                }
                return Ingested(manifest.batch, manifest.position.read_at, changes)
    raise BatchTaken(f"other runners were first {_ATTEMPTS_MAX} times in a row", hint="Run it again")


def _capture(
    snapshot: Snapshot,
    known: KnownRows,
    store: Store,
    previous: IngestionManifest | None,
    started: datetime,
    compression: str,
) -> IngestionManifest | None:
    position = _advance_clock(previous.position if previous else None, snapshot.position)
    batch = previous.batch + 1 if previous else 1
    writer = PacketWriter(known.engine, store, batch, position.read_at, compression)
    tables = {
        table.name: _capture_table(snapshot, known, writer, table, previous) for table in snapshot.tables
    }
    if not any(changes.upserts or changes.deletes for changes in tables.values()):
        return None
    return IngestionManifest.model_validate(
        {
            "batch": batch,
            "previous_sha256": previous.sha256() if previous else None,
            "started_at": started,
            "finished_at": datetime.now(UTC),
            "schema_name": snapshot.tables[0].schema,
            "compression": compression,
            "position": position,
            "tables": tables,
        }
    )


def _capture_table(
    snapshot: Snapshot,
    known: KnownRows,
    writer: PacketWriter,
    table: SourceTable,
    previous: IngestionManifest | None,
) -> TableChanges:
    began = time.perf_counter()
    before = previous.tables.get(table.name) if previous else None
    added, renewed = check_shape(before, table) if before else ((), False)
    condition = None
    if renewed:
        _log.warning("columns were renamed or replaced; the table is captured again", table=table.name)
    elif previous and previous.position.timeline != snapshot.position.timeline and table.has_transaction_ids:
        _log.warning("the source was promoted or restored; the table is captured again", table=table.name)
        renewed = True
    elif previous and table.has_transaction_ids and known.captured(table):
        condition = having_values(changed_since(previous.position, snapshot.position), table, added)
        rows, candidates = snapshot.survey(table, condition)
        if not candidates and rows == known.rows(table):
            return table.description().model_copy(update={"rows": rows})
    upserts = known.read(snapshot, table, condition, added, everything=renewed)
    if condition is None:
        rows = known.count_read()
    if condition is not None and rows > known.rows(table) + known.added(table):
        # Rows are there that neither were captured nor carry a new transaction's id. That ought not to be; what is
        # certain is that they are not in the lake.
        _log.warning("rows without a recent transaction are captured by a full read", table=table.name)
        condition = None
        upserts = known.read(snapshot, table, None)
    if rows < known.rows(table) + known.added(table):
        present = known.keys_read(table) if condition is None else known.read_keys(snapshot, table)
        deletes = known.find_gone(table, present)
    else:
        deletes = known.none_gone(table)
    changes = table.description().model_copy(update={"upserts": upserts, "deletes": deletes, "rows": rows})
    if not upserts and not deletes:
        return changes
    objects, marks = writer.write(table), writer.write_marks(table)
    known.learn(table.name, [key_column(number) for number in range(len(table.key))])
    reach("ingest.table")
    _log.info(
        "captured",
        table=table.name,
        upserts=upserts,
        deletes=deletes,
        rows=rows,
        bytes=sum(entry.bytes for entry in objects),
        seconds=round(time.perf_counter() - began, 3),
    )
    return changes.model_copy(update={"objects": objects, "marks": marks})


def _advance_clock(previous: Position | None, current: Position) -> Position:
    """The position with a read time later than the previous one's, also when the source's clock was set back."""
    if previous:
        check_continues(previous, current)
        if current.read_at <= previous.read_at:
            return current.model_copy(update={"read_at": previous.read_at + timedelta(microseconds=1)})
    return current
