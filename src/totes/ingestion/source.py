"""The source at one instant: a read-only snapshot, shared by a control connection and bulk connections.

A batch reads everything through one Snapshot; nothing here decides what is new.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from operator import itemgetter
from threading import Lock
from typing import Any, NamedTuple

import psycopg

from totes.config import SourceSettings
from totes.display import count, size
from totes.errors import RunnerAtWork, SourceRefused, TableUnreadable
from totes.ingestion.capture import changed_since
from totes.ingestion.catalog import Selection, SourceTable, select_tables
from totes.ingestion.instant import Instant, InstantReader, failure
from totes.ingestion.locks import begin_locked, lock_statement
from totes.ingestion.server import LSN, Server, ask_server, flushed_lsn
from totes.ingestion.session import (
    TransactionCursor,
    begin,
    bulk_settings,
    bulk_target,
    connect,
    showing_life,
    source_errors,
)
from totes.lake.manifest import Position, TableChanges
from totes.progress import report
from totes.sqlstate import concerns_all

_BLOCK_RANGES_SINCE = _HASHED_LISTS_SINCE = 140000
_SIZES_SQL = """
    SELECT measured::int8, coalesce(pg_relation_size(measured), 0) / current_setting('block_size')::int8,
           coalesce(pg_table_size(measured), 0), coalesce(pg_relation_filenode(measured), 0)::int8
    FROM unnest(%s::oid[]) AS measured
"""
_REFERENCES_SQL = """
    SELECT conrelid::int8, confrelid::int8 FROM pg_constraint WHERE contype = 'f' AND conrelid = ANY (%s::oid[])
"""
POSITION_SQL = """
    SELECT {first},
           pg_current_snapshot()::text,
           pg_snapshot_xmin(pg_current_snapshot())::text::int8,
           pg_snapshot_xmax(pg_current_snapshot())::text::int8,
           {clock}() AT TIME ZONE 'UTC',
           (SELECT system_identifier::text FROM pg_control_system()),
           current_database(),
           (SELECT oid::int8 FROM pg_database WHERE datname = current_database()),
           {lsn},
           extract(epoch FROM pg_postmaster_start_time())::text
"""


def position_of(row: tuple[Any, ...], server: Server) -> Position:
    """The position in a row of `POSITION_SQL`."""
    _, _, horizon, next_transaction, read_at, system_identifier, database, oid, lsn, started = row
    return Position(
        database=database,
        database_oid=oid,
        system_identifier=system_identifier,
        timeline=server.timeline,
        horizon=horizon,
        next_transaction=next_transaction,
        read_at=read_at,
        lsn=lsn,
        instance=f"{started} {server.recovered_to or ''}".rstrip(),
    )


class Piece(NamedTuple):
    """A part of a table: its first block, and the condition that selects its rows; None for all rows."""

    first: int
    condition: str | None


class Survey(NamedTuple):
    """How many rows a table has, how many meet a condition (0 if not counted), and the first one's place, its ctid."""

    rows: int
    met: int
    first: str | None


class Snapshot:
    """One instant of the source. All reads see it, and the tables cannot be altered or truncated while it is open.

    TableUnreadable means that one table cannot be read, SourceError that none can.
    """

    def __init__(
        self,
        control: psycopg.Connection,
        instant: Instant,
        selection: Selection,
        row: tuple[Any, ...],
        server: Server,
        release: Callable[[], None],
    ) -> None:
        self._control = control
        self._release = release
        self._asking = Lock()
        self.instant = instant
        self.reader = InstantReader(instant, self._is_readable)
        self.tables = selection.tables
        self.selection = selection
        self.position = position_of(row, server)
        self.seen = str(row[1])  # in PostgreSQL's text form
        self.server = server

    def restrict(self, tables: Container[str], left_out: Mapping[str, SourceRefused]) -> None:
        """Limits what is captured to some tables, and leaves others out, each with a reason."""
        here = {name: error for name, error in left_out.items() if name not in self.selection.left_out}
        self.tables = tuple(table for table in self.tables if table.name in tables and table.name not in here)
        self.selection = replace(self.selection, tables=self.tables, left_out=self.selection.left_out | here)

    def flushed_lsn(self) -> str | None:
        """The position up to which the server's log is on disk; a standby replays only what is."""
        if self.server.standby or self.position.lsn is None:
            return self.position.lsn
        with source_errors("asking for the position of the log"), self._asking:
            return flushed_lsn(self._control)

    def stream(self, sql: str, what: str = "the source") -> AbstractContextManager[Any]:
        """The rows of a query as an Arrow stream: see InstantReader."""
        return self.reader.stream(sql, what)

    def _is_readable(self) -> bool:
        with self._asking:
            try:
                self._control.execute("SELECT 1")
            except psycopg.Error:
                return False
        return True

    def end(self) -> None:
        """Ends the snapshot and releases the locks, so that schema changes and vacuum can proceed."""
        with source_errors("ending the snapshot"), self._asking:
            self._release()
        self.close()

    def show_life(self) -> None:
        """Sends a query, so that the server does not end the transaction as idle."""
        with self._asking, suppress(psycopg.Error):
            self._control.execute("SELECT 1")

    def close(self) -> None:
        """Closes the bulk connections."""
        self.reader.close()

    def pieces(
        self, table: SourceTable, piece_bytes: int, first: int = 0, condition: str | None = None
    ) -> list[Piece]:
        """Divides a table's rows, from block `first` on, into pieces of about `piece_bytes`; one piece if it cannot be divided.

        They are ranges of blocks, which PostgreSQL 14 and later can read without reading the whole table.
        """
        if not self.has_block_ranges(table):
            return [Piece(0, condition)]
        blocks, size, _ = self._sizes[table.relation]
        step = max(1, blocks * piece_bytes // max(size, 1))
        starts = list(range(first, blocks, step)) or [first]
        meets = f"({condition}) AND " if condition else ""
        ends = [f" AND ctid < '({end},0)'" for end in starts[1:]]
        # The last piece has no end: blocks that were added since have no rows that the snapshot sees.
        parts = zip(starts, [*ends, ""], strict=True)
        if not first and not ends:
            return [Piece(0, condition)]
        return [Piece(start, f"{meets}ctid >= '({start},0)'{end}") for start, end in parts]

    def file(self, table: SourceTable) -> int:
        """PostgreSQL's number of the table's file (its filenode); 0 if it has none."""
        return self._sizes[table.relation][2]

    def size_bytes(self, table: SourceTable) -> int:
        """A table's size at the source; 0 for a view."""
        return self._sizes[table.relation][1]

    @cached_property
    def _sizes(self) -> dict[int, tuple[int, int, int]]:
        """The blocks, bytes and file of each table, by its OID."""
        with source_errors("measuring tables"), self._asking:
            rows = self._control.execute(_SIZES_SQL, [[table.relation for table in self.tables]]).fetchall()
        return {number: (int(blocks), int(size), int(file)) for number, blocks, size, file in rows}

    def count(self, table: SourceTable) -> int:
        """How many rows a table has."""
        [(rows,)] = self._ask([table], f"SELECT count(*) FROM {table.reference}")
        return int(rows)

    def surveys(
        self, asked: Sequence[tuple[SourceTable, str]], *, counted: bool = False
    ) -> list[Survey | TableUnreadable]:
        """Counts tables' rows and finds the first of each that meets a condition, in one pass over the table, in PostgreSQL.

        All of them are one query, or one for each half of them where that fails, and in the end one for each table that cannot
        be read. With `counted`, the rows that meet a condition are counted too, for which PostgreSQL evaluates it twice per row.
        """
        tables = [table for table, _ in asked]
        if not asked:
            return []
        report(f"looking for changes in {_named(tables)}, {size(sum(map(self.size_bytes, tables)))}")
        parts = []
        for number, (table, condition) in enumerate(asked):
            met = f"count(*) FILTER (WHERE {condition})" if counted else "0"
            first = f"min(CASE WHEN {condition} THEN ctid END)::text"
            parts.append(f"SELECT {number}, count(*), {met}, {first} FROM {table.reference}")
        try:
            rows = self._ask(tables, " UNION ALL ".join(parts))
        except TableUnreadable as error:
            if len(asked) == 1:
                return [error]
            half = len(asked) // 2
            return [
                part for one in (asked[:half], asked[half:]) for part in self.surveys(one, counted=counted)
            ]
        return [Survey(int(row[1]), int(row[2]), row[3]) for row in sorted(rows, key=itemgetter(0))]

    def _ask(self, tables: Sequence[SourceTable], sql: str) -> list[tuple[Any, ...]]:
        """The rows of a query about some tables; its failure does not end the snapshot."""
        with self._asking:
            try:
                answers = self._control.execute(f"SAVEPOINT asked; {sql}; RELEASE SAVEPOINT asked".encode())
                answers.nextset()
                return answers.fetchall()
            except psycopg.Error as error:
                failed = error
                with suppress(psycopg.Error):
                    self._control.execute("ROLLBACK TO SAVEPOINT asked")
        of_table = not concerns_all(failed) and self._is_readable()
        raise failure(f"counting {_named(tables)}", failed, of_table=of_table) from failed

    def in_turn(self, tables: Iterable[SourceTable]) -> list[SourceTable]:
        """The tables in order: each after those that it refers to, and otherwise the smaller ones first."""
        by_number = {table.relation: table for table in tables}
        with source_errors("reading foreign keys"), self._asking:
            found = self._control.execute(_REFERENCES_SQL, [list(by_number)]).fetchall()
        referred = defaultdict(set)
        for table, other in found:
            referred[table].add(other)
        sizes = {number: self.size_bytes(table) for number, table in by_number.items()}
        ordered: list[SourceTable] = []
        seen: set[int] = set()

        def place(number: int) -> None:
            if number in seen or number not in by_number:
                return
            seen.add(number)  # tables that refer to one another in a circle have no order
            for other in sorted(referred[number], key=lambda known: sizes.get(known, 0)):
                place(other)
            ordered.append(by_number[number])

        for number in sorted(by_number, key=sizes.__getitem__):
            place(number)
        return ordered

    def changed_since(self, previous: Position) -> str | None:
        """The condition that all rows written since another position meet; None if no transaction has begun since."""
        return changed_since(
            previous, self.position, listed=self._control.info.server_version >= _HASHED_LISTS_SINCE
        )

    def has_block_ranges(self, table: SourceTable) -> bool:
        """Whether PostgreSQL can read a range of the table's blocks without reading the whole table."""
        one_heap = table.has_transaction_ids and not table.partitions
        return one_heap and self._control.info.server_version >= _BLOCK_RANGES_SINCE


def _named(tables: Sequence[SourceTable]) -> str:
    return tables[0].name if len(tables) == 1 else count(len(tables), "table")


@contextmanager
def open_snapshot(
    url: str, source: SourceSettings, needed: frozenset[str], turn: int | None = None
) -> Iterator[Snapshot]:
    """Opens the source at the present instant.

    Locks (ACCESS SHARE, as any SELECT takes) come before the snapshot: if a TRUNCATE or a rewriting ALTER TABLE came
    between the two, tables would look empty in the snapshot. A table that cannot be locked within `source.lock_timeout` is
    left out.

    Args:
        url: the PostgreSQL URL.
        source: which schema, tables and keys.
        needed: the tables that models read.
        turn: the number of an advisory lock, which is held until the context ends. The server releases it when this
            process ends, or when its session has been idle for some minutes.

    Raises:
        SourceError: the source cannot be reached or read; the same call may succeed later.
        SourceRefused: no table can be captured.
        RunnerAtWork: another call holds the lock.
    """
    with source_errors("connecting to the source"), connect(url) as control:
        ask = f"SELECT pg_catalog.pg_try_advisory_xact_lock({turn})"

        def release() -> None:
            """Ends the snapshot, and takes the advisory lock again in the same message, so that nobody gets in between."""
            if turn is None:
                control.execute("COMMIT")
            else:
                begin(control, source.lock_timeout, "READ COMMITTED", first=("COMMIT",), last=(ask,))

        try:
            control.cursor_factory = TransactionCursor
            server = ask_server(control)  # before the snapshot, since a standby keeps replaying
            control.cursor_factory = psycopg.Cursor
            selection = begin_locked(control, source, needed)
            if turn is not None and control.execute(ask.encode()).fetchone() != (True,):
                raise RunnerAtWork("another runner is capturing the source for this lake")
            lsn = LSN if server.reached else "NULL"
            sql = POSITION_SQL.format(first="pg_export_snapshot()", lsn=lsn, clock="transaction_timestamp")
            row = control.execute(sql.encode()).fetchone()
            assert row is not None
            target = bulk_target(url, control)
            found = bulk_settings(control.info.server_version, source.lock_timeout)
            lock = lock_statement(selection.tables)

            instant = Instant(target, str(row[0]), found, lock and f"{lock} NOWAIT")
            snapshot = Snapshot(control, instant, selection, row, server, release)
            with showing_life(snapshot.show_life), closing(snapshot):
                yield snapshot
        finally:
            with suppress(psycopg.Error):
                control.execute("ROLLBACK")  # a pool discards a session that is left in a transaction


def describe_source(url: str, source: SourceSettings, needed: frozenset[str]) -> dict[str, TableChanges]:
    """The tables that a batch would capture, by name, without reading any rows."""
    with source_errors("connecting to the source"), connect(url) as connection:
        begin(connection, source.lock_timeout)
        selection = select_tables(connection, source, needed)
        connection.execute("COMMIT")
        for failure in selection.failures():
            raise failure
        return {table.name: table.description() for table in selection.tables}
