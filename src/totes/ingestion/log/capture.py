"""Captures from the log: reads on from the last batch, commits what it finds, and then advances the slot.

Where the log cannot be read on, it says which tables have to be compared by query first, and has a slot ready before that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import psycopg

from totes.config import SourceSettings
from totes.deadline import NEVER, Deadline
from totes.errors import SourceError, SourceRefused
from totes.failpoint import reach
from totes.ingestion.catalog import SourceTable
from totes.ingestion.identity import Follow, lsn_number, lsn_text
from totes.ingestion.known import KnownRows
from totes.ingestion.log.batch import LogBatch
from totes.ingestion.log.continuation import (
    Comparison,
    captured_until,
    changed_tables,
    waiting_tables,
    why_unusable,
)
from totes.ingestion.log.notes import is_due, newest_note, write_note
from totes.ingestion.log.publication import Publication, not_in_log
from totes.ingestion.log.session import LogSession, LogUnusable
from totes.ingestion.log.slot import Slot
from totes.ingestion.source import Snapshot
from totes.lake.cache import Cache
from totes.lake.journal import Journal
from totes.lake.manifest import IngestionManifest, SourceColumn
from totes.lake.store import Store
from totes.lake.workspace import Workspace
from totes.log import logger

# How much of the log is read at a time. Changes take about as much room in it as in the lake.
WINDOW_BYTES = 256 << 20
_log = logger(stage="ingest")


@dataclass
class Captured:
    """What was captured from the log: the batch's manifest, None if there was nothing.

    `comparison` is a batch by query that has to come next, and `refused` the tables that cannot be captured from the log, each
    with the reason. `failures` are those of them that should have been.
    """

    publication: Publication
    read_at: datetime
    manifest: IngestionManifest | None = None
    changes: dict[str, tuple[int, int]] = field(default_factory=dict)
    comparison: Comparison | None = None
    refused: dict[str, SourceRefused] = field(default_factory=dict)
    failures: dict[str, SourceRefused] = field(default_factory=dict)
    described: dict[str, tuple[SourceColumn, ...]] = field(default_factory=dict)
    log_from: str | None = None
    more: bool = False


@dataclass(frozen=True)
class LogCapture:
    """One attempt to capture from the log, wired up with what it reads from and writes to."""

    session: LogSession
    source: SourceSettings
    store: Store
    workspace: Workspace
    cache: Cache
    known: KnownRows
    journal: Journal[IngestionManifest]
    needed: frozenset[str]
    compression: str
    follow: Follow
    always: bool = False
    deadline: Deadline = NEVER

    def run(
        self, previous: IngestionManifest | None, started: datetime, at: Snapshot | None = None
    ) -> Captured:
        """Captures what was committed since the previous batch, or reports what has to be compared first.

        Args:
            previous: the newest batch.
            started: when the batch began.
            at: captures exactly what this snapshot sees; by default, all that is committed.

        Raises:
            SourceBusy: what the snapshot sees is not the state at one place of the log; another one will.
            BatchConflict: another runner committed this batch first.
            SourceError: the source cannot be read.
            SourceRefused: the source, its publication or its slot cannot be used.
            RunnerAtWork: another session reads the slot.
        """
        session, source = self.session, self.source
        publication = session.publication()
        if not publication.exists:
            raise SourceRefused(
                f"the source has no publication {source.publication}, which capture from the log reads",
                hint="totes source sql prints the statements for its owner",
            )
        selection = session.selection(self.needed)
        refused = not_in_log(selection.tables, publication)
        tables = {table.name: table for table in selection.tables if table.name not in refused}
        if not tables:
            raise next(iter(refused.values()))
        position, seen = session.position()
        done = Captured(publication, position.read_at, refused=refused)
        for name, error in (selection.left_out | refused).items():
            if name in selection.demanded or (previous and previous.last_seen(name)):
                done.failures[name] = error
        # Before anything is changed at a source that may be another one.
        changed_source = (
            previous and self.follow(previous.position, None, position, session.server).why_compared
        )
        slot = self._checked(session.slot())
        noted = self._noted(previous, slot)
        why = why_unusable(previous, slot, source.slot, noted) or changed_source
        if previous is None or why:
            return self._compare_all(done, previous, tables, slot, why or "nothing is captured yet")
        changed, again = changed_tables(previous, tables, publication), waiting_tables(previous, seen)
        done.described = {
            name: table.description().columns for name, table in tables.items() if name not in changed
        }
        resumed = frozenset(name for name, table in previous.tables.items() if table.rest)
        if resumed:
            compared = frozenset(name for name, table in previous.tables.items() if table.seam)
            return self._compare(done, previous, {}, dict.fromkeys(compared, "it was not read to its end"))
        base = captured_until(previous.position, noted)
        assert base is not None
        try:
            altered = self._read_on(done, previous, base, started, at)
        except LogUnusable as error:
            return self._compare_all(done, previous, tables, slot, str(error), lost=True)
        changed |= {name: "its columns have changed" for name in altered if name not in changed}
        if (changed or again) and not done.more:
            return self._compare(done, done.manifest or previous, changed, again)
        return done

    def _checked(self, slot: Slot | None) -> Slot | None:
        """The slot, unless it is somebody else's."""
        if slot and not slot.is_for(self.session.database):
            raise SourceRefused(
                f"the slot {slot.name} is of the database {slot.database} and the plugin {slot.plugin}",
                hint="Set source.slot to a name that is free",
            )
        return slot

    def _noted(self, previous: IngestionManifest | None, slot: Slot | None) -> str | None:
        base = captured_until(previous.position) if previous else None
        if previous is None or slot is None or slot.confirmed is None or base is None:
            return None
        if lsn_number(slot.confirmed) <= lsn_number(base):
            return None
        return newest_note(self.store, slot.name, previous.batch, slot.confirmed)

    def _read_on(
        self,
        done: Captured,
        previous: IngestionManifest,
        base: str,
        started: datetime,
        at: Snapshot | None,
    ) -> frozenset[str]:
        """Reads windows of the log until there is a batch, the log ends or half of the time is over.

        Returns:
            The tables whose shape has changed.
        """
        session, slot = self.session, self.source.slot
        while True:
            position, _ = session.position() if at is None else (session.flushed(at.position), "")
            done.read_at = position.read_at
            end = position.lsn or base
            until = min(end, lsn_text(lsn_number(base) + WINDOW_BYTES), key=lsn_number)
            if lsn_number(end) <= lsn_number(base) and not self.always:
                return frozenset()
            batch = LogBatch(
                session,
                self.workspace,
                self.known,
                previous,
                base,
                self.source.changed_at,
                self.journal,
                done.described,
            )
            try:
                read = batch.read(until, seen=at.seen if at else None)
                reach("ingest.log.read")
                done.more = read.end is None and (read.more or until != end)
                if batch.find(read) or (self.always and not done.more):
                    done.changes = batch.changes
                    if done.more:  # the lake is not as recent as the source
                        position = position.model_copy(update={"read_at": batch.last_commit(read)})
                    done.manifest = batch.manifest(
                        read, position, self.store, self.compression, started, slot
                    )
                    self._commit(done.manifest, batch)
                    session.advance(read.lsn)
                    return read.altered
            finally:
                batch.close()
            if is_due(base, read.lsn):
                write_note(self.store, slot, previous.batch, read.lsn)
                reach("ingest.log.noted")
                session.advance(read.lsn)
                if done.more and self.deadline.half_over():
                    return read.altered
            if read.end is not None or not done.more:
                done.more = False
                return read.altered
            base = read.lsn

    def _commit(self, manifest: IngestionManifest, batch: LogBatch) -> None:
        self.journal.commit(manifest)
        self.cache.begin()
        batch.learn()
        self.cache.commit(manifest.batch, manifest.sha256())
        self.workspace.hand_off(manifest.sha256(), batch.handoffs())
        reach("ingest.log.committed")

    def _compare(
        self, done: Captured, previous: IngestionManifest, changed: dict[str, str], again: dict[str, str]
    ) -> Captured:
        """Has some tables compared, while the log of the others goes on.

        Args:
            done: what was captured so far.
            previous: the newest batch.
            changed: tables whose log has everything of transactions from here on only, each with the reason.
            again: tables that were compared for such a reason before.
        """
        tables = again | changed
        for name, why in tables.items():
            _log.warning(f"the log of a table is interrupted: {why}", table=name)
        waits_for = max((previous.tables[name].waits_for or 0 for name in again), default=0)
        if changed:
            waits_for = self.session.next_transaction()
        done.comparison = Comparison("the log is interrupted", frozenset(tables), waits_for)
        done.log_from = captured_until(previous.position)
        return done

    def _compare_all(
        self,
        done: Captured,
        previous: IngestionManifest | None,
        tables: Mapping[str, SourceTable],
        slot: Slot | None,
        why: str,
        *,
        lost: bool = False,
    ) -> Captured:
        """Has all tables compared, after making sure that there is a slot from which the log can be read afterwards."""
        session = self.session
        if previous:
            since = previous.position.read_at.isoformat(sep=" ", timespec="seconds")
            _log.warning(f"{why}: changes since {since} are captured without the steps between")
        if slot and (lost or slot.lost or slot.confirmed is None):
            session.drop()
            slot = None
        waits_for = None
        if previous and slot and not changed_tables(previous, tables, done.publication):
            waits_for = previous.position.log_waits_for
        if slot is None:
            try:
                session.create()
            except SourceError as error:
                if not isinstance(error.__cause__, psycopg.errors.LockNotAvailable):
                    raise
                _log.warning("the slot is not created yet: transactions have been running for too long")
                done.comparison = Comparison(why)
                return done
            reach("ingest.log.created")
            slot = session.slot()
        done.comparison = Comparison(why, waits_for=waits_for or session.next_transaction())
        done.log_from = slot.confirmed if slot else None
        return done
