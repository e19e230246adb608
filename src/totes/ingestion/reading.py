"""Reads tables of the source into the workspace: large ones in pieces, over several connections in one snapshot."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event, Lock
from types import TracebackType
from typing import NamedTuple, TypeVar

import duckdb

from totes import engine
from totes.errors import SourceRefused, TableUnreadable
from totes.ingestion.capture import (
    MARK,
    key_column,
    mark_expression,
    position_column,
    select_keys,
    select_rows,
)
from totes.ingestion.catalog import SourceTable, TableColumn
from totes.ingestion.source import Piece, Snapshot
from totes.lake.document import StoredObject
from totes.lake.workspace import Workspace
from totes.progress import report

_WORKERS_MAX = 4
PIECE_BYTES = 64 << 20
Argument = TypeVar("Argument")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Rows:
    """A table of the workspace, its number of rows, and the positions of the columns that it has in native types."""

    name: str
    count: int
    native: frozenset[int] = frozenset()


class ReadPiece(NamedTuple):
    """A piece that was read, with the objects that are being written from its rows, and when reading it began."""

    rows: Rows
    objects: list[Future[StoredObject]]
    began: float


# Begins to write objects from rows of a table, and does not wait for them.
Use = Callable[[SourceTable, Rows], list[Future[StoredObject]]]


class _Read:
    """A table that is being read: its finished pieces, how many remain, and why reading it stopped early, if it did."""

    def __init__(self, table: SourceTable, pieces: list[Piece], bytes_in_all: int) -> None:
        self.table = table
        self.pieces = pieces
        self.bytes = bytes_in_all
        self.done: dict[Piece, ReadPiece] = {}
        self.remaining = len(pieces)
        self.failure: SourceRefused | None = None
        self.left: Piece | None = None

    def in_order(self) -> list[ReadPiece]:
        """The pieces that were read, in the table's order."""
        return [self.done[piece] for piece in self.pieces if piece in self.done]


class _Work:
    """A queue of the pieces of several tables, for threads; a table whose pieces are all done is put into `finished`."""

    def __init__(self, reads: list[_Read], take: Callable[[], bool]) -> None:
        self.reads = reads
        self.pieces = sum(len(read.pieces) for read in reads)
        self.bytes_in_all, self.bytes_done = sum(read.bytes for read in reads), 0.0
        self.finished: SimpleQueue[_Read | BaseException] = SimpleQueue()
        self._following = iter([(read, piece) for read in reads for piece in read.pieces])
        self._take = take
        self._taking, self._stopped = Lock(), Event()

    def __iter__(self) -> Iterator[tuple[_Read, Piece]]:
        """The pieces for the calling thread to read."""
        while not self._stopped.is_set():
            with self._taking:
                found = next(self._following, None)
                wanted = found is not None and self._is_wanted(*found)
            if found is None:
                return
            if wanted:
                yield found
            else:
                self.finish(found[0])

    def _is_wanted(self, read: _Read, piece: Piece) -> bool:
        if read.failure or read.left:
            return False
        if read.table.key_enforced and not self._take():
            read.left = piece
        return read.left is None

    def finish(self, read: _Read) -> None:
        """Counts a piece as done, whether it was read or skipped."""
        with self._taking:
            self.bytes_done += read.bytes / len(read.pieces)
            read.remaining -= 1
            is_last = read.remaining == 0
        if is_last:
            self.finished.put(read)

    def stop(self) -> None:
        """Hands out no more pieces."""
        self._stopped.set()


class TableReader:
    """Reads tables of one snapshot into tables of the workspace, and returns the names of these.

    A table with rows has columns `c0`, `c1`, … and `mark`, one with keys `k0`, `k1`, …. Values are in their raw form. Rows that
    are written without being compared have native types instead, as far as these are exact, except for keys.
    """

    def __init__(self, snapshot: Snapshot, workspace: Workspace) -> None:
        self._snapshot = snapshot
        self._workspace = workspace
        self._workers = min(os.cpu_count() or 1, _WORKERS_MAX)
        self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="totes-read")
        self._made: dict[str, list[str]] = {}
        self._inexact: defaultdict[str, set[int]] = defaultdict(set)

    def __enter__(self) -> TableReader:
        """Returns itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the threads."""
        self._pool.shutdown(cancel_futures=True)

    def read_rows(
        self,
        table: SourceTable,
        pieces: Sequence[Piece],
        use: Use | None = None,
        take: Callable[[], bool] | None = None,
    ) -> list[ReadPiece]:
        """Reads pieces of a table, as many as `take` allows, and returns them in order.

        `use` is called with each piece that has rows, in the piece's thread, while the rows are still in memory; it is not
        called if the source does not enforce the table's key. `take` is called before each piece, by one thread at a time.
        """
        following, taking, done = iter(range(len(pieces))), Lock(), dict[int, ReadPiece]()
        bytes_in_all = self._snapshot.size_bytes(table)

        def read_on(_: object) -> None:
            with taking:
                number = next(following) if take is None or take() else None
            if number is not None:
                read = len(done) / len(pieces)
                report(f"reading {table.name}", read * bytes_in_all, bytes_in_all, "bytes")
                done[number] = self._read(table, pieces[number], use)

        self.each(read_on, pieces)
        return [done[number] for number in sorted(done)]

    def read_all(
        self, tables: Iterable[SourceTable], use: Use, take: Callable[[], bool]
    ) -> Iterator[tuple[SourceTable, list[ReadPiece] | SourceRefused, Piece | None]]:
        """Reads all rows of several tables, and yields each table once it is read.

        All pieces are in one queue, so that no thread waits for the last piece of a table. `use` and `take` are called as by
        `read_rows`. A table that cannot be read is yielded with the error. If `take` refuses a piece of a table, that piece is
        yielded, and reading the table ends before it; a table whose key PostgreSQL does not enforce is always read to the end.
        """
        reads = [_Read(table, self.pieces(table), self._snapshot.size_bytes(table)) for table in tables]
        work = _Work(reads, take)

        def read_on() -> None:
            try:
                for read, piece in work:
                    report(f"reading {read.table.name}", work.bytes_done, work.bytes_in_all, "bytes")
                    try:
                        read.done[piece] = self._read(read.table, piece, use)
                    except SourceRefused as error:
                        read.failure = read.failure or error
                    work.finish(read)
            except BaseException as error:
                work.finished.put(error)

        self._snapshot.open_connections(min(self._workers, work.pieces))
        threads = [self._pool.submit(read_on) for _ in range(self._workers)]
        try:
            for _ in work.reads:
                read = work.finished.get()
                if isinstance(read, BaseException):
                    raise read
                yield read.table, read.failure or read.in_order(), read.left
        finally:
            work.stop()
            wait(threads)

    def pieces(self, table: SourceTable, first: int = 0, condition: str | None = None) -> list[Piece]:
        """The pieces of a table from block `first` on, limited to rows that meet a condition."""
        return self._snapshot.pieces(table, PIECE_BYTES, first, condition)

    def read_keys(self, table: SourceTable) -> list[str]:
        """Reads the keys of all rows, in pieces."""
        keys = [
            _widened(table.columns[position], key_column(number))
            for number, position in enumerate(table.key_positions)
        ]
        return self.each(
            lambda piece: self._fetch(table, select_keys(table, piece.condition), ", ".join(keys))[0],
            self.pieces(table),
        )

    def each(self, work: Callable[[Argument], Result], arguments: Iterable[Argument]) -> list[Result]:
        """Calls `work` with each argument, in threads if there is more than one, and returns the results in order."""
        listed = list(arguments)
        if len(listed) == 1:
            return [work(listed[0])]
        begun = [self._pool.submit(work, argument) for argument in listed]
        wait(begun, return_when=FIRST_EXCEPTION)
        for each in begun:
            each.cancel()  # has an effect only after a failure: otherwise all are done
        wait(begun)
        failed = [each for each in begun if not each.cancelled() and each.exception()]
        return [each.result() for each in failed or begun]

    def new_table(self, table: SourceTable) -> str:
        """A name for a new table of the workspace that belongs to a source table; `drop` drops it."""
        name = self._workspace.new_table()
        self._made.setdefault(table.name, []).append(name)
        return name

    def drop(self, table: SourceTable, but: Iterable[str] = ()) -> None:
        """Drops the workspace's tables of a source table, except `but`; nothing may be reading that source table."""
        retained, made = set(but), self._made.pop(table.name, [])
        self._workspace.drop(name for name in made if name not in retained)
        self._made[table.name] = [name for name in made if name in retained]

    def drop_all(self) -> None:
        """Drops all tables that were created; nothing may be reading."""
        self._workspace.drop(name for made in self._made.values() for name in made)
        self._made.clear()

    def _read(self, table: SourceTable, piece: Piece, use: Use | None) -> ReadPiece:
        began, use = time.perf_counter(), use if table.key_enforced else None
        rows = self._fetch_rows(table, piece, self._native(table) if use else frozenset())
        objects = use(table, rows) if use and rows.count else []
        return ReadPiece(rows, objects, began)

    def _native(self, table: SourceTable) -> frozenset[int]:
        """The columns to read in native types; none if marks are digests, which are computed from text."""
        if not table.has_transaction_ids:
            return frozenset()
        native = {number for number, column in enumerate(table.columns) if column.native}
        return frozenset(native.difference(table.key_positions, self._inexact[table.name]))

    def _fetch_rows(self, table: SourceTable, piece: Piece, native: frozenset[int]) -> Rows:
        columns = [
            position_column(number) if number in native else _widened(column, position_column(number))
            for number, column in enumerate(table.columns)
        ]
        select = f"{', '.join(columns)}, {mark_expression(table)} AS {MARK}"
        rows = Rows(*self._fetch(table, select_rows(table, piece.condition, native), select), native)
        inexact = self._find_inexact(table, rows)
        if not inexact:
            return rows
        self._inexact[table.name] |= inexact
        return self._fetch_rows(table, piece, native - inexact)

    def _find_inexact(self, table: SourceTable, rows: Rows) -> set[int]:
        """The columns with values that their native types cannot hold exactly; if there are any, the rows are dropped."""
        missing = {number: table.columns[number].misses(position_column(number)) for number in rows.native}
        checked = {number: misses for number, misses in missing.items() if misses}
        if not checked or not rows.count:
            return set()
        with closing(self._workspace.connect()) as connection:
            [found] = connection.execute(f"SELECT {', '.join(checked.values())} FROM {rows.name}").fetchall()
            inexact = {number for number, misses in zip(checked, found, strict=True) if misses}
            if inexact:
                connection.execute(f"DROP TABLE {rows.name}")
        return inexact

    def _fetch(self, table: SourceTable, query: str, select: str) -> tuple[str, int]:
        target, connection = self.new_table(table), self._workspace.connect()
        try:
            with self._snapshot.stream(query, table.name) as stream:
                connection.register("incoming", stream)
                rows = engine.scalar(connection, f"CREATE TABLE {target} AS SELECT {select} FROM incoming")
        except duckdb.OutOfMemoryException as error:
            raise too_large(table) from error
        finally:
            connection.close()
        return target, int(rows)


def too_large(table: SourceTable) -> TableUnreadable:
    """The error for a table with values that are too large for the engine's memory."""
    return TableUnreadable(
        f"{table.schema}.{table.name} has values that need more memory than the engine has",
        hint="Raise lake.memory, or leave the table out with source.exclude",
    )


def _widened(column: TableColumn, name: str) -> str:
    """SQL for a column with integers widened to BIGINT, since their type at the source may change."""
    return f"{name}::BIGINT AS {name}" if column.entry.kind == "integer" else name


def union(tables: Iterable[str], columns: str = "*") -> str:
    """SQL for the rows of several tables together."""
    return "(" + " UNION ALL ".join(f"SELECT {columns} FROM {table}" for table in tables) + ")"
