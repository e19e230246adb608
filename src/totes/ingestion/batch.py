"""One batch in the making: what is new in each table of a snapshot, and how far the tables are read."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import duckdb

from totes.errors import SourceRefused, TableUnreadable
from totes.failpoint import reach
from totes.ingestion.allowance import Allowance
from totes.ingestion.capture import check_shape, may_be_new
from totes.ingestion.catalog import SourceTable
from totes.ingestion.content import CapturedContent
from totes.ingestion.diff import CapturePlan, TableDiff, Writing, filled, names_of
from totes.ingestion.identity import Standing, is_another
from totes.ingestion.known import KnownRows, key_list
from totes.ingestion.packets import PacketWriter
from totes.ingestion.reading import ReadPiece, Rows, TableReader, too_large, union
from totes.ingestion.source import Piece, Snapshot
from totes.lake.manifest import IngestionManifest, LeftOut, Position, ResumePoint, TableChanges
from totes.lake.workspace import Handoff
from totes.log import logger

_log = logger(stage="ingest")
# So many rows or more that were written lately are read in pieces, of which a batch may leave some to the next.
MANY_ROWS = 1_000_000


class Capture:
    """One batch in the making: what is new in each table, and which tables could not be read.

    First `find` reads the source; after that nothing is asked of it any more. Meanwhile objects are written, and `manifest`
    waits for them.

    A table that cannot be captured does not stop the others: it is left out of the batch with the reason, and when it
    is back, all that has happened to it since is found by comparing its rows with those that were captured.

    Where the allowance is spent, the rest of a table is left to the next batch. What was read wholly before is brought up to
    the snapshot in any case, and tables that others refer to come before these, so that no row refers to one that is missing.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        known: KnownRows,
        reader: TableReader,
        writer: PacketWriter,
        position: Position,
        previous: IngestionManifest | None,
        compression: str,
        allowance: Allowance,
        standing: Standing,
        content: CapturedContent,
        *,
        dry: bool = False,
    ) -> None:
        self._snapshot = snapshot
        self._known = known
        self._reader = reader
        self._previous = previous
        self._compression = compression
        self._allowance = allowance
        self._standing, self._content, self._dry = standing, content, dry
        self.position = position
        self._writer = writer
        self._writing: list[Writing] = []
        self._diffs: list[TableDiff] = []
        self.tables: dict[str, TableChanges] = {}
        self.left_out: dict[str, LeftOut] = {}
        self.failures: dict[str, SourceRefused] = {}

    def find(self) -> None:
        """Finds what is new in all tables, and leaves out those that cannot be read, or that another reason keeps out.

        A dry capture writes no objects, and its manifest is not to be committed.
        """
        if why := self._standing.why_compared:
            _log.warning(f"{why}; all rows are compared with what was captured")
        self._find_in_tables()
        self.position = self.position.model_copy(update={"flushed_lsn": self._snapshot.flushed_lsn()})

    def _find_in_tables(self) -> None:
        for table, error in self._snapshot.selection.left_out.items():
            self._leave_out(table, error)
        if self._previous:
            for source_table in self._in_turn():
                try:
                    self._capture(source_table)
                except SourceRefused as error:
                    self._abandon(source_table, error)
            return
        tables = self._snapshot.in_turn(self._snapshot.tables)
        for source_table, pieces, left in self._reader.read_all(tables, self._writer.write_rows, self._take):
            try:
                if isinstance(pieces, SourceRefused):
                    raise pieces
                self._capture_all(source_table, pieces, left)
            except SourceRefused as error:
                self._abandon(source_table, error)

    def manifest(self, started: datetime, *, always: bool = False) -> IngestionManifest | None:
        """Waits for what is being written, and gives the batch's manifest; unless `always`, None when there is nothing new."""
        for writing in self._writing:
            table = writing.diff.table
            try:
                self.tables[table.name] = self._written(writing)
            except SourceRefused as error:
                self._abandon(table, error)
        self.tables = {t.name: self.tables[t.name] for t in self._snapshot.tables if t.name in self.tables}
        self._remember_former()
        if not always and not self._is_new():
            return None
        return IngestionManifest(
            batch=self._previous.batch + 1 if self._previous else 1,
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
        """Whether there are changes, or another shape, mark or source: models may be computable again."""
        if self._diffs or (self._previous and is_another(self._previous.position, self.position)):
            return True
        before = self._previous.tables if self._previous else {}
        return bool(before) and {
            name: (table.columns, table.rest) for name, table in self.tables.items()
        } != {name: (table.columns, table.rest) for name, table in before.items()}

    @property
    def more(self) -> bool:
        """Whether the rest of a table is left to the next batch."""
        return any(table.rest for table in self.tables.values())

    def _take(self) -> bool:
        """Whether another piece may be read; where time is limited, no more is read than can be written."""
        return self._allowance.take(lambda: self._writer.is_behind)

    def _in_turn(self) -> list[SourceTable]:
        """The tables in the order in which they are captured one after the other."""
        before = self._previous.tables if self._previous else {}
        whole = {name for name, table in before.items() if not table.rest}
        others = [table for table in self._snapshot.tables if table.name not in whole]
        return [
            *(table for table in self._snapshot.tables if table.name in whole),
            *(self._snapshot.in_turn(others) if others else ()),
        ]

    def _abandon(self, table: SourceTable, error: SourceRefused) -> None:
        """Leaves a table out whose capture was begun."""
        self._writer.abandon(table)
        self._reader.drop(table)
        self._leave_out(table.name, error)

    def _leave_out(self, table: str, error: SourceRefused) -> None:
        """Leaves a table out; that is a failure where it ought to be captured, or has been up to now, or could not be read."""
        before = self._previous.last_seen(table) if self._previous else None
        if before or table in self._snapshot.selection.demanded or isinstance(error, TableUnreadable):
            self.failures[table] = error
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

    def _capture(self, table: SourceTable) -> None:
        began = time.perf_counter()
        rows, plan = None, self._plan(table)
        if not plan.rest:
            rows, plan = self._surveyed(table, plan)
            if not plan.recent and not plan.rest and rows == self._known.rows(table):
                self.tables[table.name] = table.description().model_copy(update={"rows": rows})
                return
        self._write(began, *self._find(table, plan, rows))

    def _capture_all(self, table: SourceTable, pieces: list[ReadPiece], left: Piece | None) -> None:
        """Captures a table of which nothing is known, wholly, or up to the piece that is left to the next batch."""
        diff = self._not_known(table, pieces, (), compared=False)
        rest = ResumePoint(block=left.first, file=self._snapshot.file(table)) if left else None
        began = min((piece.began for piece in pieces), default=time.perf_counter())
        self._write(began, diff, rest, diff.upserts)

    def _write(self, began: float, diff: TableDiff, rest: ResumePoint | None, rows: int) -> None:
        """Begins to write the diff of a table, whose capture was begun at some time."""
        table, marks = diff.table, None
        self._reader.drop(table, but=diff.retained)
        objects = list(diff.written)
        if not self._dry:
            objects += [one for new in diff.unwritten for one in self._writer.write_rows(table, new)]
            objects += self._writer.write_deleted(table, diff.deleted) if diff.deleted else []
            if diff.new or diff.deleted or diff.remarked:
                marks = self._writer.write_marks(table, diff.new, diff.deleted, diff.remarked)
        self._writing.append(Writing(diff, rest, rows, began, objects, marks))

    def _written(self, writing: Writing) -> TableChanges:
        """A table's entry in the manifest, once its objects are written."""
        diff, table, rows = writing.diff, writing.diff.table, writing.rows
        changes = table.description().model_copy(
            update={"upserts": diff.upserts, "deletes": diff.deletes, "rows": rows, "rest": writing.rest}
        )
        if writing.marks is None:
            self._diffs += [diff] if diff.new or diff.deleted or diff.remarked else []
            return changes
        try:
            objects = tuple(each.result() for each in writing.objects)
            marks = (writing.marks.result(),)
        except duckdb.OutOfMemoryException as error:
            raise too_large(table) from error
        self._diffs.append(diff)
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
        """Whether all tables of the batch before were looked at, later than when that was last remembered."""
        before = self._previous
        if before is None or self.more or self.failures or self.tables.keys() != before.tables.keys():
            return False
        since, now = self._standing.since or before.position, self.position
        later = (since.horizon, since.next_transaction) != (now.horizon, now.next_transaction)
        return later or self._standing.why_compared is not None

    def learn(self) -> None:
        """Takes what the batch has captured into what is known; within the cache's transaction."""
        for diff in self._diffs:
            deleted = diff.deleted.name if diff.deleted else None
            self._known.learn(diff.table, names_of(diff.new), deleted, names_of(diff.remarked))

    def handoffs(self) -> dict[str, Handoff]:
        """The rows that the batch's objects hold, by table."""
        return {
            one.table.name: self._writer.handoff(one.table, one.new, one.deleted)
            for one in self._diffs
            if one.new or one.deleted
        }

    def _plan(self, table: SourceTable) -> CapturePlan:
        """What of a table is to be read; all of it where what was captured does not tell what is new."""
        previous = self._previous
        before = previous.last_seen(table.name) if previous else None
        if previous is None or before is None:
            return CapturePlan(rest=ResumePoint())
        added, renewed = check_shape(before, table)
        if renewed:
            _log.warning(f"{renewed}; all its rows are compared with what was captured", table=table.name)
        marked = table.has_transaction_ids
        # While it was not captured, all may have happened to a table that happens to a source.
        if renewed or (marked and (self._standing.why_compared or table.name not in previous.tables)):
            return CapturePlan(rest=ResumePoint(compared=True, by_content=True), added=added)
        if not marked:
            return CapturePlan(rest=ResumePoint(compared=True), added=added)
        since = self._snapshot.changed_since(self._standing.since or previous.position)
        recent, rest = may_be_new(since, before, table, added), before.rest
        if rest and rest.file != self._snapshot.file(table):
            rest = ResumePoint(compared=True, by_content=rest.by_content)  # rows may be in other blocks now
        if rest and recent:
            recent = f"({recent}) AND ctid < '({rest.block},0)'" if rest.block else None
        return CapturePlan(recent, rest, added)

    def _surveyed(self, table: SourceTable, plan: CapturePlan) -> tuple[int, CapturePlan]:
        """How many rows a table has, and where in it those stand that were written lately: mostly at its end."""
        recent = plan.recent
        if recent is None:
            return self._known.rows(table), plan
        assert self._previous is not None
        rows, met, first = self._snapshot.survey(table, recent, counted=self._allowance.is_limited)
        if first is None:
            return rows, plan._replace(recent=None)
        if not self._snapshot.has_block_ranges(table):
            return rows, plan
        if self._allowance.is_limited and met >= MANY_ROWS:
            block = int(first.strip("()").partition(",")[0])
            rest = ResumePoint(
                block=block, since=self._standing.since or self._previous.position, compared=True
            )
            return rows, plan._replace(recent=None, rest=rest)
        return rows, plan._replace(recent=f"({recent}) AND ctid >= '{first}'")

    def _find(
        self, table: SourceTable, plan: CapturePlan, rows: int | None
    ) -> tuple[TableDiff, ResumePoint | None, int]:
        """Gives what is new and deleted, the part that remains to be read, and how many rows there are, or are captured."""
        known, added, rest = self._known, plan.added, plan.rest
        whole, diff = rest is not None and rest.is_whole, TableDiff(table)
        if plan.recent:
            diff += self._find_new(table, [Piece(0, plan.recent)], added)
        if rest:
            more, rest = self._find_in_rest(table, rest, added)
            diff += more
        if rest:
            return diff, rest, known.rows(table) + diff.added
        if whole:
            rows = sum(read.count for read in diff.read)
        elif rows is None:
            rows = self._snapshot.survey(table).rows
        if not whole and rows > known.rows(table) + diff.added:
            # Rows are there that neither were captured nor carry a new transaction's id. That ought not to be; what
            # is certain is that they are not in the lake.
            _log.warning("rows without a recent transaction are captured by a full read", table=table.name)
            whole, diff = True, self._find_new(table, self._reader.pieces(table), added)
        return self._find_deleted(diff, rows, read_whole=whole), None, rows

    def _find_in_rest(
        self, table: SourceTable, rest: ResumePoint, added: tuple[int, ...]
    ) -> tuple[TableDiff, ResumePoint | None]:
        """Reads as much of the rest of a table as is allowed; gives what is new in that, and what is left."""
        condition, compared = None, rest.compared and self._known.captured(table)
        if rest.since and not added:
            condition = self._snapshot.changed_since(rest.since)
        # Rows that were captured without a column have to be seen in the batch that sees it first; and that a key tells rows
        # apart which PostgreSQL does not enforce is seen only in all of them.
        limited = table.key_enforced and not (compared and added)
        pieces = self._reader.pieces(table, rest.block, condition)
        take = self._take if limited else None
        by_content = compared and rest.by_content
        diff = self._find_new(table, pieces, added, compared=compared, by_content=by_content, take=take)
        if len(diff.read) == len(pieces):
            return diff, None
        following = {"block": pieces[len(diff.read)].first, "file": self._snapshot.file(table)}
        return diff, rest.model_copy(update=following)

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
        """Reads pieces, and keeps the rows that are not known; none is known where they are not compared."""
        compared = compared and self._known.captured(table)
        use = None if compared or self._dry else self._writer.write_rows
        read = self._reader.read_rows(table, pieces, use, take)
        return self._not_known(table, read, added, compared=compared, by_content=by_content)

    def _not_known(
        self,
        table: SourceTable,
        pieces: list[ReadPiece],
        added: tuple[int, ...],
        *,
        compared: bool,
        by_content: bool = False,
    ) -> TableDiff:
        """Keeps the rows of pieces that are not known; these are all where they are not compared."""
        known, read = self._known, tuple(piece.rows for piece in pieces)
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
            keys_added = known.added(table, read)
        written = tuple(entry for piece in pieces for entry in piece.objects)
        return TableDiff(table, read, new, keys_added, () if written else new, written, remarked=remarked)

    def _find_deleted(self, diff: TableDiff, rows: int, *, read_whole: bool) -> TableDiff:
        known, table = self._known, diff.table
        if rows >= known.rows(table) + diff.added:
            return diff
        read = names_of(diff.read)
        present = union(read, key_list(table)) if read_whole else union(self._reader.read_keys(table))
        deleted = known.find_deleted(table, present, self._reader.new_table(table))
        rows_deleted = known.count(deleted)
        return replace(diff, deleted=Rows(deleted, rows_deleted)) if rows_deleted else diff
