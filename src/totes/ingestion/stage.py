"""One ingestion batch: read the source at one instant, write what is new, commit it by its manifest."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from totes.config import SourceSettings
from totes.deadline import NEVER, Deadline
from totes.errors import BatchTaken, SourceRefused
from totes.failpoint import reach
from totes.ingestion.capture import (
    check_continues,
    check_shape,
    may_be_new,
)
from totes.ingestion.catalog import SourceTable
from totes.ingestion.known import KnownRows, key_list
from totes.ingestion.packets import PacketWriter
from totes.ingestion.reading import TableReader, union
from totes.ingestion.source import Snapshot, open_snapshot
from totes.lake.cache import Cache
from totes.lake.journal import ingestion_journal
from totes.lake.manifest import IngestionManifest, LeftOut, Position, StoredObject, TableChanges
from totes.lake.store import Store
from totes.lake.workspace import Workspace
from totes.log import logger

_ATTEMPTS_MAX = 100
_log = logger(stage="ingest")


@dataclass(frozen=True)
class Ingested:
    """What a call of the stage did; `batch` is None when there was nothing new.

    `failures` are tables that should have been captured and could not be: the others were. `captured` is the batch up to
    which all that the snapshot shows is in the lake. `more` says that the source holds more, for which there was no time.
    """

    batch: int | None
    read_at: datetime
    changes: dict[str, TableChanges] = field(default_factory=dict)
    failures: tuple[SourceRefused, ...] = ()
    captured: int = 0
    more: bool = False


def ingest(
    url: str,
    source: SourceSettings,
    store: Store,
    workspace: Workspace,
    *,
    needed: frozenset[str],
    compression: str,
    inspect: Callable[[Snapshot], None] | None = None,
    always: bool = False,
    deadline: Deadline = NEVER,
) -> Ingested:
    """Captures what was committed since the last batch, as one batch, or nothing when there is nothing.

    Safe to be called by any number of runners at once, and to be killed at any moment: a batch exists from the
    instant its manifest does, and a runner that comes second starts over from the winner's batch.

    Args:
        url: the source's PostgreSQL URL.
        source: which schema, tables and keys.
        store: the ingestion lake.
        workspace: where the stage works; the batch's rows stay at hand in it.
        needed: the tables that models read; they must be there and readable.
        compression: zstd, gzip or none.
        inspect: is called with the snapshot when all that it shows is captured, while it is still open.
        always: whether a batch is made also when there is nothing new, so that processing has one to work on.
        deadline: after a quarter of its time no more rows are read; the rest is the next call's.

    Raises:
        SourceError, SourceRefused, StoreError, LakeDamaged: as they say.
    """
    journal = ingestion_journal(store)
    for _ in range(_ATTEMPTS_MAX):
        with Cache.open(workspace, "ingestion", journal) as cache:
            known = KnownRows(cache, journal)
            known.catch_up()
            started = datetime.now(UTC)
            with open_snapshot(url, source, needed) as snapshot, TableReader(snapshot, workspace) as reader:
                reach("ingest.opened")
                previous = journal.read(cache.batch) if cache.batch else None
                capture = Capture(snapshot, known, reader, store, workspace, previous, compression)
                manifest = capture.run(started, always=always)
                if manifest:
                    try:
                        journal.commit(manifest)
                    except BatchTaken:
                        reader.drop()
                        _log.info(
                            "another runner committed this batch first; starting over", batch=manifest.batch
                        )
                        continue
                    cache.begin()
                    capture.learn()
                    cache.commit(manifest.batch, manifest.sha256())
                    workspace.hand_on(manifest.sha256(), capture.at_hand())
                elif capture.saw_all:
                    known.note_looked_through(snapshot.position)
                if inspect:
                    inspect(snapshot)
                return Ingested(
                    manifest.batch if manifest else None,
                    capture.position.read_at if manifest else snapshot.position.read_at,
                    {n: t for n, t in capture.tables.items() if t.upserts or t.deletes},
                    tuple(capture.failures),
                    captured=manifest.batch if manifest else cache.batch,
                )
    raise BatchTaken(f"other runners were first {_ATTEMPTS_MAX} times in a row", hint="Run it again")


@dataclass(frozen=True)
class Found:
    """What is new in one table: tables of the workspace, each with the number of its rows.

    `read` are the rows that were read, `new` those of them that are not known, `gone` the keys of known rows that are
    not there any more. `added` is how many of the new rows have a key that is not known, and `written` the objects that
    hold the new rows, if these have been written already.
    """

    table: SourceTable
    read: list[tuple[str, int]]
    new: list[tuple[str, int]]
    added: int
    written: tuple[StoredObject, ...] = ()
    gone: tuple[str, int] | None = None

    @property
    def kept(self) -> list[str]:
        """The tables that hold what the batch is made of."""
        return [name for name, _ in (*self.new, *((self.gone,) if self.gone else ()))]

    @property
    def upserts(self) -> int:
        """How many rows are new or changed."""
        return sum(rows for _, rows in self.new)

    @property
    def deletes(self) -> int:
        """How many rows are gone."""
        return self.gone[1] if self.gone else 0


class Capture:
    """One batch in the making: what is new in each table, and which tables could not be read.

    A table that cannot be captured does not stop the others: it is left out of the batch with the reason, and when it
    is back, all that has happened to it since is found by comparing its rows with those that were captured.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        known: KnownRows,
        reader: TableReader,
        store: Store,
        workspace: Workspace,
        previous: IngestionManifest | None,
        compression: str,
    ) -> None:
        self._snapshot = snapshot
        self._known = known
        self._reader = reader
        self._previous = previous
        self._compression = compression
        self._batch = previous.batch + 1 if previous else 1
        self.position = _advance_clock(previous.position if previous else None, snapshot.position)
        self._writer = PacketWriter(workspace, reader, store, self._batch, self.position.read_at, compression)
        self._found: list[Found] = []
        self._since = known.looked_through(snapshot.position) if previous else None
        self.tables: dict[str, TableChanges] = {}
        self.left_out: dict[str, LeftOut] = {}
        self.failures: list[SourceRefused] = []

    def run(self, started: datetime, *, always: bool = False) -> IngestionManifest | None:
        """Captures all tables, and gives the batch's manifest; unless `always`, None when there is nothing new.

        Raises:
            SourceRefused: a table that is needed has never been captured, and cannot be.
        """
        for table, error in self._snapshot.selection.left_out.items():
            self._leave_out(table, error)
        for source_table in self._snapshot.tables:
            try:
                self.tables[source_table.name] = self._capture(source_table)
            except SourceRefused as error:
                self._leave_out(source_table.name, error)
        self._remember_former()
        if not always and not self._is_new():
            return None
        return IngestionManifest(
            batch=self._batch,
            previous_sha256=self._previous.sha256() if self._previous else None,
            started_at=started,
            finished_at=datetime.now(UTC),
            schema_name=self._snapshot.tables[0].schema,
            compression=self._compression,
            position=self.position,
            tables=self.tables,
            left_out=self.left_out,
        )

    def _is_new(self) -> bool:
        """Whether there are changes, or a table has come, gone, or another shape: models may be computable again."""
        if any(changes.upserts or changes.deletes for changes in self.tables.values()):
            return True
        before = self._previous.tables if self._previous else {}
        return bool(before) and {name: table.columns for name, table in self.tables.items()} != {
            name: table.columns for name, table in before.items()
        }

    def _leave_out(self, table: str, error: SourceRefused) -> None:
        """Leaves a table out; that is a failure where it ought to be captured, or has been up to now."""
        before = self._previous.last_seen(table) if self._previous else None
        if before or table in self._snapshot.selection.demanded:
            if self._previous is None:
                raise error
            self.failures.append(error)
        _log.warning(f"the table is left out: {error.what}", table=table)
        self.left_out[table] = LeftOut(reason=str(error), before=before and before.without_changes())

    def _remember_former(self) -> None:
        """Notes the tables that were captured once and are not asked for any more, or were dropped."""
        if self._previous is None:
            return
        for table in self._previous.tables.keys() | self._previous.left_out.keys():
            before = self._previous.last_seen(table)
            if before and table not in self.tables and table not in self.left_out:
                reason = f"{table} is not there any more, or not among the tables to be captured"
                self.left_out[table] = LeftOut(reason=reason, before=before.without_changes())

    def _capture(self, table: SourceTable) -> TableChanges:
        began = time.perf_counter()
        snapshot, known, previous = self._snapshot, self._known, self._previous
        before = previous.last_seen(table.name) if previous else None
        added, renewed = check_shape(before, table) if before else ((), None)
        continued = previous is None or previous.position.timeline == snapshot.position.timeline
        if before and table.has_transaction_ids and not continued:
            renewed = renewed or "the source was promoted or restored"
        if renewed:
            _log.warning(f"{renewed}; the table is captured again", table=table.name)
        condition = None
        if (
            before
            and previous
            and not renewed
            and table.has_transaction_ids
            and table.name in previous.tables
        ):
            condition = may_be_new(
                snapshot.changed_since(self._since or previous.position), before, table, added
            )
            rows = known.rows(table)
            if condition:
                rows, condition = snapshot.survey(table, condition)
            if not condition and rows == known.rows(table):
                return table.description().model_copy(update={"rows": rows})
            condition = condition or "false"
        found = self._find_new(table, condition, added, everything=bool(renewed))
        if condition is None:
            rows = sum(count for _, count in found.read)
        elif rows > known.rows(table) + found.added:
            # Rows are there that neither were captured nor carry a new transaction's id. That ought not to be; what
            # is certain is that they are not in the lake.
            _log.warning("rows without a recent transaction are captured by a full read", table=table.name)
            condition = None
            found = self._find_new(table, None, added)
        found = self._find_gone(found, rows, read_whole=condition is None)
        self._reader.drop(but=[name for one in (*self._found, found) for name in one.kept])
        changes = table.description().model_copy(
            update={"upserts": found.upserts, "deletes": found.deletes, "rows": rows}
        )
        if not found.upserts and not found.deletes:
            return changes
        objects = found.written + tuple(
            self._writer.write(table, [] if found.written else found.new, found.gone)
        )
        marks = self._writer.write_marks(table, found.new, found.gone)
        self._found.append(found)
        reach("ingest.table")
        _log.info(
            "captured",
            table=table.name,
            upserts=found.upserts,
            deletes=found.deletes,
            rows=rows,
            bytes=sum(entry.bytes for entry in objects),
            seconds=round(time.perf_counter() - began, 3),
        )
        return changes.model_copy(update={"objects": objects, "marks": marks})

    @property
    def saw_all(self) -> bool:
        """Whether all tables of the batch before were looked at, later than when that was last remembered."""
        before = self._previous
        if before is None or self.failures or self.tables.keys() != before.tables.keys():
            return False
        since, now = self._since or before.position, self._snapshot.position
        return (since.horizon, since.next_transaction) != (now.horizon, now.next_transaction)

    def learn(self) -> None:
        """Takes what the batch has captured into what is known; within the cache's transaction."""
        for found in self._found:
            self._known.learn(found.table, _names(found.new), found.gone and found.gone[0])

    def at_hand(self) -> dict[str, str]:
        """By table, a query for the rows that the batch's objects hold."""
        return {
            found.table.name: self._writer.at_hand(found.table, found.new, found.gone)
            for found in self._found
        }

    def _find_new(
        self, table: SourceTable, condition: str | None, added: tuple[int, ...], *, everything: bool = False
    ) -> Found:
        """Reads the rows that meet a condition, or all, and keeps those that are not known; with `everything`, none is."""
        known, written = self._known, list[StoredObject]()
        all_new = everything or not known.captured(table)

        def write(name: str, rows: int) -> None:
            written.extend(self._writer.write_rows(table, name, rows))

        read = self._reader.read_rows(table, condition, write if all_new and table.key_enforced else None)
        if not table.key_enforced:
            known.check_unique(table, _names(read))
        if all_new:
            return Found(table, read, _filled(read), known.added(table, read), tuple(written))
        target = self._reader.new_table()
        unknown, new_keys = known.unknown(table, _names(read), added, target)
        return Found(table, read, _filled([(target, unknown)]), new_keys)

    def _find_gone(self, found: Found, rows: int, *, read_whole: bool) -> Found:
        known, table = self._known, found.table
        if rows >= known.rows(table) + found.added:
            return found
        present = (
            union(_names(found.read), key_list(table)) if read_whole else union(self._reader.read_keys(table))
        )
        gone = known.find_gone(table, present, self._reader.new_table())
        rows_gone = known.count(gone)
        return replace(found, gone=(gone, rows_gone)) if rows_gone else found


def _names(tables: list[tuple[str, int]]) -> list[str]:
    return [name for name, _ in tables]


def _filled(tables: list[tuple[str, int]]) -> list[tuple[str, int]]:
    return [(name, rows) for name, rows in tables if rows]


def _advance_clock(previous: Position | None, current: Position) -> Position:
    """The position with a read time later than the previous one's, also when the source's clock was set back."""
    if previous:
        check_continues(previous, current)
        if current.read_at <= previous.read_at:
            return current.model_copy(update={"read_at": previous.read_at + timedelta(microseconds=1)})
    return current
