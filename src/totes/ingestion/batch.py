"""One batch in the making: what is new in each table of a snapshot, and how far the tables are read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import NamedTuple

from totes.errors import SourceRefused
from totes.failpoint import reach
from totes.ingestion.allowance import Allowance
from totes.ingestion.capture import check_continues, check_shape, may_be_new
from totes.ingestion.catalog import SourceTable
from totes.ingestion.known import KnownRows, key_list
from totes.ingestion.packets import PacketWriter
from totes.ingestion.reading import ReadPiece, Rows, TableReader, union
from totes.ingestion.source import Piece, Snapshot
from totes.lake.manifest import IngestionManifest, LeftOut, Position, Rest, StoredObject, TableChanges
from totes.lake.store import Store
from totes.lake.workspace import AtHand, Workspace
from totes.log import logger

_log = logger(stage="ingest")
# So many rows or more that were written lately are read in pieces, of which a batch may leave some to the next.
MANY_ROWS = 1_000_000


class Outlook(NamedTuple):
    """What of a table is to be read.

    `recent` is the condition of rows that were written lately, None where there is none. `rest` is the part that no batch
    has read yet, and `added` are the positions of columns that are new.
    """

    recent: str | None = None
    rest: Rest | None = None
    added: tuple[int, ...] = ()


@dataclass(frozen=True)
class Found:
    """What is new in one table.

    `read` are the rows that were read, `new` those of them that are not known, `gone` the keys of known rows that are
    not there any more. `added` is how many of the new rows have a key that is not known, `unwritten` which of the new rows are
    not in an object yet, and `written` the objects of the others.
    """

    table: SourceTable
    read: tuple[Rows, ...] = ()
    new: tuple[Rows, ...] = ()
    added: int = 0
    unwritten: tuple[Rows, ...] = ()
    written: tuple[StoredObject, ...] = ()
    gone: Rows | None = None

    def __add__(self, other: Found) -> Found:
        """Both together: no row is in both."""
        return Found(
            self.table,
            self.read + other.read,
            self.new + other.new,
            self.added + other.added,
            self.unwritten + other.unwritten,
            self.written + other.written,
        )

    @property
    def kept(self) -> list[str]:
        """The tables that hold what the batch is made of."""
        return _names((*self.new, *((self.gone,) if self.gone else ())))

    @property
    def upserts(self) -> int:
        """How many rows are new or changed."""
        return sum(rows.count for rows in self.new)

    @property
    def deletes(self) -> int:
        """How many rows are gone."""
        return self.gone.count if self.gone else 0


class Capture:
    """One batch in the making: what is new in each table, and which tables could not be read.

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
        store: Store,
        workspace: Workspace,
        previous: IngestionManifest | None,
        compression: str,
        allowance: Allowance,
    ) -> None:
        self._snapshot = snapshot
        self._known = known
        self._reader = reader
        self._previous = previous
        self._compression = compression
        self._allowance = allowance
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
        for source_table, capture in self._captures():
            try:
                self.tables[source_table.name] = capture()
            except SourceRefused as error:
                self._reader.drop(source_table)
                self._leave_out(source_table.name, error)
        self.tables = {t.name: self.tables[t.name] for t in self._snapshot.tables if t.name in self.tables}
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
        return bool(before) and {
            name: (table.columns, table.rest) for name, table in self.tables.items()
        } != {name: (table.columns, table.rest) for name, table in before.items()}

    @property
    def more(self) -> bool:
        """Whether the rest of a table is left to the next batch."""
        return any(table.rest for table in self.tables.values())

    def _captures(self) -> Iterator[tuple[SourceTable, Callable[[], TableChanges]]]:
        """The tables in the order in which they are captured, each with what captures it."""
        if self._previous or self._allowance.is_limited:
            for table in self._in_turn():
                yield table, partial(self._capture, table)
        else:
            for table, pieces in self._reader.read_all(self._writer.write_rows):
                yield table, partial(self._capture_all, table, pieces)

    def _in_turn(self) -> list[SourceTable]:
        """The tables in the order in which they are captured one after the other."""
        tables, before = self._snapshot.tables, self._previous.tables if self._previous else {}
        if not self._allowance.is_limited:
            return list(tables)
        whole = {name for name, table in before.items() if not table.rest}
        return [
            *(table for table in tables if table.name in whole),
            *(table for table in self._snapshot.in_turn(tables) if table.name not in whole),
        ]

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
        rows, outlook = None, self._outlook(table)
        if not outlook.rest:
            rows, outlook = self._surveyed(table, outlook)
            if not outlook.recent and not outlook.rest and rows == self._known.rows(table):
                return table.description().model_copy(update={"rows": rows})
        return self._written(began, *self._find(table, outlook, rows))

    def _capture_all(self, table: SourceTable, pieces: list[ReadPiece]) -> TableChanges:
        """Captures a table that was read wholly, and of which nothing is known."""
        found = self._not_known(table, pieces, (), compared=False)
        return self._written(min(piece.began for piece in pieces), found, None, found.upserts)

    def _written(self, began: float, found: Found, rest: Rest | None, rows: int) -> TableChanges:
        """Writes what is found in a table, whose capture was begun at some time; gives its entry in the manifest."""
        table = found.table
        self._reader.drop(table, but=found.kept)
        changes = table.description().model_copy(
            update={"upserts": found.upserts, "deletes": found.deletes, "rows": rows, "rest": rest}
        )
        if not found.upserts and not found.deletes:
            return changes
        objects = found.written + tuple(self._writer.write(table, found.unwritten, found.gone))
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
        if before is None or self.more or self.failures or self.tables.keys() != before.tables.keys():
            return False
        since, now = self._since or before.position, self._snapshot.position
        return (since.horizon, since.next_transaction) != (now.horizon, now.next_transaction)

    def learn(self) -> None:
        """Takes what the batch has captured into what is known; within the cache's transaction."""
        for found in self._found:
            self._known.learn(found.table, _names(found.new), found.gone.name if found.gone else None)

    def at_hand(self) -> dict[str, AtHand]:
        """The rows that the batch's objects hold, by table."""
        return {one.table.name: self._writer.at_hand(one.table, one.new, one.gone) for one in self._found}

    def _outlook(self, table: SourceTable) -> Outlook:
        """What of a table is to be read; all of it where what was captured does not tell what is new."""
        previous = self._previous
        before = previous.last_seen(table.name) if previous else None
        if previous is None or before is None:
            return Outlook(rest=Rest())
        added, renewed = check_shape(before, table)
        if table.has_transaction_ids and previous.position.timeline != self._snapshot.position.timeline:
            renewed = renewed or "the source was promoted or restored"
        if renewed:
            _log.warning(f"{renewed}; the table is captured again", table=table.name)
            return Outlook(rest=Rest(), added=added)
        if not table.has_transaction_ids or table.name not in previous.tables:
            return Outlook(rest=Rest(compared=True), added=added)
        since = self._snapshot.changed_since(self._since or previous.position)
        recent, rest = may_be_new(since, before, table, added), before.rest
        if rest and rest.file != self._snapshot.file(table):
            rest = Rest(compared=True)  # its rows may stand in other blocks now
        if rest and recent:
            recent = f"({recent}) AND ctid < '({rest.block},0)'" if rest.block else None
        return Outlook(recent, rest, added)

    def _surveyed(self, table: SourceTable, outlook: Outlook) -> tuple[int, Outlook]:
        """How many rows a table has, and where in it those stand that were written lately: mostly at its end."""
        recent = outlook.recent
        if recent is None:
            return self._known.rows(table), outlook
        assert self._previous is not None
        rows, met, first = self._snapshot.survey(table, recent, counted=self._allowance.is_limited)
        if first is None:
            return rows, outlook._replace(recent=None)
        if not self._snapshot.has_block_ranges(table):
            return rows, outlook
        if self._allowance.is_limited and met >= MANY_ROWS:
            block = int(first.strip("()").partition(",")[0])
            rest = Rest(block=block, since=self._since or self._previous.position, compared=True)
            return rows, outlook._replace(recent=None, rest=rest)
        return rows, outlook._replace(recent=f"({recent}) AND ctid >= '{first}'")

    def _find(self, table: SourceTable, outlook: Outlook, rows: int | None) -> tuple[Found, Rest | None, int]:
        """Finds what is new and gone; gives what is left of the table with it, and how many rows there are, or are captured."""
        known, added, rest = self._known, outlook.added, outlook.rest
        whole, found = rest is not None and rest.is_whole, Found(table)
        if outlook.recent:
            found += self._find_new(table, [Piece(0, outlook.recent)], added)
        if rest:
            more, rest = self._find_in_rest(table, rest, added)
            found += more
        if rest:
            return found, rest, known.rows(table) + found.added
        if whole:
            rows = sum(read.count for read in found.read)
        elif rows is None:
            rows = self._snapshot.survey(table).rows
        if not whole and rows > known.rows(table) + found.added:
            # Rows are there that neither were captured nor carry a new transaction's id. That ought not to be; what
            # is certain is that they are not in the lake.
            _log.warning("rows without a recent transaction are captured by a full read", table=table.name)
            whole, found = True, self._find_new(table, self._reader.pieces(table), added)
        return self._find_gone(found, rows, read_whole=whole), None, rows

    def _find_in_rest(
        self, table: SourceTable, rest: Rest, added: tuple[int, ...]
    ) -> tuple[Found, Rest | None]:
        """Reads as much of the rest of a table as is allowed; gives what is new in that, and what is left."""
        condition, compared = None, rest.compared and self._known.captured(table)
        if rest.since and not added:
            condition = self._snapshot.changed_since(rest.since)
        # Rows that were captured without a column have to be seen in the batch that sees it first; and that a key tells rows
        # apart which PostgreSQL does not enforce is seen only in all of them.
        limited = table.key_enforced and not (compared and added)
        pieces = self._reader.pieces(table, rest.block, condition)
        take = self._allowance.take if limited else None
        found = self._find_new(table, pieces, added, compared=compared, take=take)
        if len(found.read) == len(pieces):
            return found, None
        following = {"block": pieces[len(found.read)].first, "file": self._snapshot.file(table)}
        return found, rest.model_copy(update=following)

    def _find_new(
        self,
        table: SourceTable,
        pieces: list[Piece],
        added: tuple[int, ...],
        *,
        compared: bool = True,
        take: Callable[[], bool] | None = None,
    ) -> Found:
        """Reads pieces, and keeps the rows that are not known; none is known where they are not compared."""
        compared = compared and self._known.captured(table)
        read = self._reader.read_rows(table, pieces, None if compared else self._writer.write_rows, take)
        return self._not_known(table, read, added, compared=compared)

    def _not_known(
        self, table: SourceTable, pieces: list[ReadPiece], added: tuple[int, ...], *, compared: bool
    ) -> Found:
        """Keeps the rows of pieces that are not known; these are all where they are not compared."""
        known, read = self._known, tuple(piece.rows for piece in pieces)
        if not read:
            return Found(table)
        if not table.key_enforced:
            known.check_unique(table, _names(read))
        if compared:
            target = self._reader.new_table(table)
            unknown, keys_added = known.unknown(table, _names(read), added, target)
            new = _filled([Rows(target, unknown)])
        else:
            new, keys_added = _filled(read), known.added(table, read)
        written = tuple(entry for piece in pieces for entry in piece.objects)
        return Found(table, read, new, keys_added, () if written else new, written)

    def _find_gone(self, found: Found, rows: int, *, read_whole: bool) -> Found:
        known, table = self._known, found.table
        if rows >= known.rows(table) + found.added:
            return found
        present = (
            union(_names(found.read), key_list(table)) if read_whole else union(self._reader.read_keys(table))
        )
        gone = known.find_gone(table, present, self._reader.new_table(table))
        rows_gone = known.count(gone)
        return replace(found, gone=Rows(gone, rows_gone)) if rows_gone else found


def _names(several: Iterable[Rows]) -> list[str]:
    return [rows.name for rows in several]


def _filled(several: Iterable[Rows]) -> tuple[Rows, ...]:
    return tuple(rows for rows in several if rows.count)


def _advance_clock(previous: Position | None, current: Position) -> Position:
    """The position with a read time later than the previous one's, also when the source's clock was set back."""
    if previous:
        check_continues(previous, current)
        if current.read_at <= previous.read_at:
            return current.model_copy(update={"read_at": previous.read_at + timedelta(microseconds=1)})
    return current
