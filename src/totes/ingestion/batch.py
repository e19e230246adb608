"""Captures one batch: finds what is new in each table of a snapshot, as far as there is time to read it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime

from totes.errors import SourceRefused, TableUnreadable
from totes.failpoint import reach
from totes.ingestion.allowance import Allowance
from totes.ingestion.catalog import SourceTable
from totes.ingestion.content import CapturedContent
from totes.ingestion.diff import TableDiff, Writing, dropped_since, filled, names_of
from totes.ingestion.identity import Standing, is_another
from totes.ingestion.known import KnownRows, key_list
from totes.ingestion.packets import PacketWriter
from totes.ingestion.pieces import PieceReader, ReadTable
from totes.ingestion.planning import CapturePlan, Planning
from totes.ingestion.reading import Rows, TableReader, union
from totes.ingestion.source import Piece, Snapshot
from totes.lake.document import StoredObject
from totes.lake.manifest import IngestionManifest, LeftOut, Position, ResumePoint, TableChanges
from totes.lake.workspace import Handoff
from totes.log import logger

_log = logger(stage="ingest")


class Capture:
    """The capture of one batch: what is new in each table, and which tables could not be read.

    `find` reads the source, which is not needed any more afterwards. Objects are written meanwhile, and `manifest` waits for
    them.

    A table that cannot be captured does not stop the others: it is left out of the batch, with the reason. Once it can be
    captured again, its rows are compared with the captured ones to find all that has changed since.

    When the allowance is used up, the remaining rows of a table are left to the next batch. Tables that were read completely
    before are brought up to the snapshot in any case, and a table comes after those that it refers to, so that no captured
    row refers to a missing one.

    `carried` are tables that this batch does not read, as an earlier one left them.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        known: KnownRows,
        reader: TableReader,
        pieces: PieceReader,
        writer: PacketWriter,
        position: Position,
        previous: IngestionManifest | None,
        compression: str,
        allowance: Allowance,
        standing: Standing,
        content: CapturedContent,
        *,
        dry: bool = False,
        carried: Mapping[str, TableChanges] | None = None,
    ) -> None:
        self._snapshot = snapshot
        self._known = known
        self._reader = reader
        self._pieces = pieces
        self._previous = previous
        self._compression = compression
        self._allowance = allowance
        self._standing, self._content, self._dry = standing, content, dry
        self._planning = Planning(snapshot, known, previous, standing, in_parts=allowance.is_limited)
        self._carried = dict(carried or {})
        self.position = position
        self._writer = writer
        self._writing: list[Writing] = []
        self._diffs: list[TableDiff] = []
        self.tables: dict[str, TableChanges] = {}
        self.left_out: dict[str, LeftOut] = {}
        self.failures: dict[str, SourceRefused] = {}

    def find(self) -> None:
        """Finds what is new in all tables, and leaves out those that cannot be captured.

        A dry capture writes no objects, and its manifest must not be committed.
        """
        if why := self._standing.why_compared:
            _log.warning(f"{why}; all rows are compared with what was captured")
        self._find_in_tables()
        self.position = self.position.model_copy(update={"flushed_lsn": self._snapshot.flushed_lsn()})

    def _find_in_tables(self) -> None:
        for name, why in self._snapshot.selection.left_out.items():
            self._leave_out(name, why)
        tables = self._in_turn()
        if not self._previous:
            new = [(table, self._reader.pieces(table)) for table in tables if table.key_enforced]
            for read in self._pieces.read(new, self._take):
                if read.failure:
                    self._abandon(read.table, read.failure)
                    continue
                diff, file = self._diff_of(read), self._snapshot.file(read.table)
                resume = read.left and ResumePoint(block=read.left.first, file=file)
                self._write(read.began, diff, resume, diff.upserts)
            tables = [table for table in tables if not table.key_enforced]
        for table, plan in self._planning.plans(tables):
            try:
                if isinstance(plan, SourceRefused):
                    raise plan
                self._capture(table, plan)
            except SourceRefused as error:
                self._abandon(table, error)

    def manifest(self, started: datetime, *, always: bool = False) -> IngestionManifest | None:
        """Waits until all objects are written, and returns the batch's manifest; None if nothing is new, unless `always`."""
        for writing in self._writing:
            table = writing.diff.table
            try:
                self.tables[table.name] = self._written(writing)
            except SourceRefused as error:
                self._abandon(table, error)
        names = sorted(self.tables.keys() | self._carried.keys())
        self.tables = {name: self.tables.get(name) or self._carried[name] for name in names}
        self.left_out |= dropped_since(self._previous, self.tables.keys() | self.left_out.keys())
        if not always and not self._is_new():
            return None
        return IngestionManifest(
            batch=self.number,
            previous_sha256=self._previous.sha256() if self._previous else None,
            started_at=started,
            finished_at=datetime.now(UTC),
            schema_name=self._snapshot.selection.schema,
            compression=self._compression,
            position=self.position,
            tables=self.tables,
            left_out=self.left_out,
        )

    def _is_new(self) -> bool:
        """Whether rows, columns or marks have changed, or the source has; changed columns may make models computable."""
        if self._diffs or (self._previous and is_another(self._previous.position, self.position)):
            return True
        before = self._previous.tables if self._previous else {}
        return bool(before) and {
            name: (table.columns, table.rest) for name, table in self.tables.items()
        } != {name: (table.columns, table.rest) for name, table in before.items()}

    @property
    def number(self) -> int:
        """The batch's number."""
        return self._previous.batch + 1 if self._previous else 1

    @property
    def more(self) -> bool:
        """Whether the remaining rows of a table are left to the next batch."""
        return any(table.rest for table in self.tables.values())

    def _take(self) -> bool:
        """Whether another piece may be read; if time is limited, reading does not get ahead of writing."""
        return self._allowance.take(lambda: self._writer.is_behind)

    def _in_turn(self) -> list[SourceTable]:
        """The tables in the order of their capture: first those that were read completely before."""
        before = self._previous.tables if self._previous else {}
        whole = {name for name, table in before.items() if not table.rest}
        others = [table for table in self._snapshot.tables if table.name not in whole]
        return [
            *(table for table in self._snapshot.tables if table.name in whole),
            *(self._snapshot.in_turn(others) if others else ()),
        ]

    def _abandon(self, table: SourceTable, error: SourceRefused) -> None:
        """Leaves out a table whose capture has begun."""
        self._writer.abandon(table)
        self._reader.drop(table)
        self._leave_out(table.name, error)

    def _leave_out(self, table: str, error: SourceRefused) -> None:
        """Leaves a table out. It is a failure if the table is demanded, was captured before, or could not be read."""
        before = self._previous.last_seen(table) if self._previous else None
        if before or table in self._snapshot.selection.demanded or isinstance(error, TableUnreadable):
            self.failures[table] = error
        _log.warning(f"the table is left out: {error.what}", table=table)
        self.left_out[table] = LeftOut(reason=str(error), before=before and before.without_changes())

    def _capture(self, table: SourceTable, plan: CapturePlan) -> None:
        if plan.recent or plan.resume or plan.rows != self._known.rows(table):
            self._write(time.perf_counter(), *self._find(table, plan))
        else:
            self.tables[table.name] = table.description().model_copy(update={"rows": plan.rows})

    def _diff_of(self, read: ReadTable) -> TableDiff:
        """The diff of a table of which new rows were read: they are being written already."""
        diff, table = TableDiff(read.table, pieces=tuple(read.pieces)), read.table
        if not (diff.upserts and self._known.captured(table)):
            return replace(diff, added=diff.upserts)
        if diff.all_new is None:
            return replace(diff, added=self._known.added_by(table, diff.marks_of_pieces()))
        present = union(names_of(diff.all_new), key_list(table))
        return replace(diff, added=self._known.added(table, present, diff.upserts))

    def _write(self, began: float, diff: TableDiff, resume: ResumePoint | None, rows: int) -> None:
        """Begins to write the diff of a table; `began` is when its capture did."""
        table, marks = diff.table, None
        self._reader.drop(table, but=diff.retained)
        objects: list[Future[StoredObject]] = []
        if not self._dry:
            objects += [one for new in diff.new for one in self._writer.write_rows(table, new)]
            objects += self._writer.write_deleted(table, diff.deleted) if diff.deleted else []
            if diff.new or diff.deleted or diff.remarked:
                marks = self._writer.write_marks(table, diff.new, diff.deleted, diff.remarked)
        self._writing.append(Writing(diff, resume, rows, began, objects, marks))

    def _written(self, writing: Writing) -> TableChanges:
        """A table's entry in the manifest, once its objects are written."""
        diff, table, rows = writing.diff, writing.diff.table, writing.rows
        changes = table.description().model_copy(
            update={"upserts": diff.upserts, "deletes": diff.deletes, "rows": rows, "rest": writing.resume}
        )
        if diff.is_empty:
            return changes
        objects, marks = writing.stored()
        self._diffs.append(diff)
        if self._dry:
            return changes
        reach("ingest.table")
        _log.info(
            "captured",
            table=table.name,
            upserts=diff.upserts,
            deletes=diff.deletes,
            rows=rows,
            bytes=sum(entry.bytes for entry in objects),
            seconds=round(time.perf_counter() - writing.began, 3),
        )
        return changes.model_copy(update={"objects": objects, "marks": marks})

    @property
    def saw_all(self) -> bool:
        """Whether all tables of the previous batch were checked for changes, at a later position than the last recorded one."""
        before = self._previous
        if before is None or self.more or self.failures or self.tables.keys() != before.tables.keys():
            return False
        since, now = self._standing.since or before.position, self.position
        later = (since.horizon, since.next_transaction) != (now.horizon, now.next_transaction)
        return later or self._standing.why_compared is not None

    def learn(self) -> None:
        """Adds the batch's rows to the known rows, within the cache's transaction."""
        for diff in self._diffs:
            deleted, name = diff.deleted.name if diff.deleted else None, diff.table.name
            if diff.pieces:
                self._known.learn_written(name, self.number, self.tables[name])
            else:
                self._known.learn(diff.table, names_of(diff.new), deleted, names_of(diff.remarked))

    def handoffs(self) -> dict[str, Handoff]:
        """The rows of the batch's objects, by table, for the next stage; of tables with rows elsewhere there is none."""
        return {
            one.table.name: self._writer.handoff(one.table, one.all_new, one.deleted)
            for one in self._diffs
            if one.all_new is not None and (one.all_new or one.deleted)
        }

    def _find(self, table: SourceTable, plan: CapturePlan) -> tuple[TableDiff, ResumePoint | None, int]:
        """The diff of a table, where the next batch resumes, and how many rows there are, or are captured if it does resume."""
        known, added, resume, rows = self._known, plan.added, plan.resume, plan.rows
        whole, diff = resume is not None and resume.is_whole, TableDiff(table)
        if plan.recent:
            diff += self._find_new(table, [Piece(0, plan.recent)], added)
        if resume:
            more, resume = self._find_from(table, resume, added)
            diff += more
        if resume:
            return diff, resume, known.rows(table) + diff.added
        if whole:
            rows = sum(read.count for read in diff.read) + sum(piece.count for piece in diff.pieces)
        elif rows is None:
            rows = self._snapshot.count(table)
        if not whole and rows > known.rows(table) + diff.added:
            # Rows that were not captured and have no recent transaction id: it should not happen, but they are not in the lake.
            _log.warning("rows without a recent transaction are captured by a full read", table=table.name)
            whole, diff = True, self._find_new(table, self._reader.pieces(table), added)
        return self._find_deleted(diff, rows, read_whole=whole), None, rows

    def _find_from(
        self, table: SourceTable, resume: ResumePoint, added: tuple[int, ...]
    ) -> tuple[TableDiff, ResumePoint | None]:
        """Reads a table on from a resume point, as far as the allowance goes; returns what is new, and where to resume next."""
        condition, compared = None, resume.compared and self._known.captured(table)
        if resume.since and not added:
            condition = self._snapshot.changed_since(resume.since)
        # All rows at once: in the first batch with an added column, since the captured rows lack it, and where PostgreSQL does
        # not enforce the key, since only all rows together show whether it is unique.
        limited = table.key_enforced and not (compared and added)
        pieces = self._reader.pieces(table, resume.block, condition)
        take = self._take if limited else None
        by_content = compared and resume.by_content
        diff = self._find_new(table, pieces, added, compared=compared, by_content=by_content, take=take)
        read = len(diff.read) + len(diff.pieces)
        if read == len(pieces):
            return diff, None
        following = {"block": pieces[read].first, "file": self._snapshot.file(table)}
        return diff, resume.model_copy(update=following)

    def _find_new(
        self,
        table: SourceTable,
        pieces: list[Piece],
        added: tuple[int, ...],
        *,
        compared: bool = True,
        by_content: bool = False,
        take: Callable[[], bool] | None = None,
    ) -> TableDiff:
        """Reads pieces, and finds the rows in them that are not known; without a comparison, these are all rows."""
        known, compared = self._known, compared and self._known.captured(table)
        # Where PostgreSQL does not enforce the key, only all rows together show whether it is unique: before any is written.
        if table.key_enforced and not (compared or self._dry):
            [found] = self._pieces.read([(table, pieces)], take)
            if found.failure:
                raise found.failure
            return self._diff_of(found)
        read = tuple(self._reader.read_rows(table, pieces, take))
        if not read:
            return TableDiff(table)
        if not table.key_enforced:
            known.check_unique(table, names_of(read))
        new, remarked = filled(read), filled([])
        if by_content and self._content.digests(table, digests := self._reader.new_table(table)):
            differing, keys_added, same = known.differing(
                table, names_of(read), digests, self._reader.new_table
            )
            new, remarked = filled([differing]), filled([same])
        elif compared and not by_content:
            target = self._reader.new_table(table)
            unknown, keys_added = known.unknown(table, names_of(read), added, target)
            new = filled([Rows(target, unknown)])
        else:
            present, count = union(names_of(read), key_list(table)), sum(rows.count for rows in read)
            keys_added = known.added(table, present, count)
        return TableDiff(table, read, new, keys_added, remarked=remarked)

    def _find_deleted(self, diff: TableDiff, rows: int, *, read_whole: bool) -> TableDiff:
        known, table = self._known, diff.table
        if rows >= known.rows(table) + diff.added:
            return diff
        read = names_of(diff.read)
        present = union(read, key_list(table)) if read_whole else union(self._reader.read_keys(table))
        deleted = known.find_deleted(table, present, self._reader.new_table(table))
        rows_deleted = known.count(deleted)
        return replace(diff, deleted=Rows(deleted, rows_deleted)) if rows_deleted else diff
