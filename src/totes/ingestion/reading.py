"""Reading a table of the source into the workspace: in pieces where it is large, by several connections at one snapshot."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass
from threading import Lock
from types import TracebackType
from typing import NamedTuple, TypeVar

import duckdb

from totes import engine
from totes.errors import SourceError
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
from totes.lake.manifest import StoredObject
from totes.lake.workspace import Workspace
from totes.redaction import redact

_WORKERS_MAX = 4
PIECE_BYTES = 64 << 20
Argument = TypeVar("Argument")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Rows:
    """A table of the workspace, how many rows it has, and the positions of the columns that it holds as native types."""

    name: str
    count: int
    native: frozenset[int] = frozenset()


class ReadPiece(NamedTuple):
    """A piece that was read, with the objects made of its rows, and when it was begun."""

    rows: Rows
    objects: list[StoredObject]
    began: float


# Makes objects of rows of a table.
Use = Callable[[SourceTable, Rows], list[StoredObject]]


class TableReader:
    """Reads tables of one snapshot into tables of the workspace, whose names it gives.

    A table with rows has columns `c0`, `c1`, … and `mark`, one with keys `k0`, `k1`, …. Values are in their raw form; where
    rows are written at once and compared with no others, they are of native types as far as these are exact, but for keys.
    """

    def __init__(self, snapshot: Snapshot, workspace: Workspace) -> None:
        self._snapshot = snapshot
        self._workspace = workspace
        workers = min(os.cpu_count() or 1, _WORKERS_MAX)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="totes-read")
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
        """Reads pieces of a table, as many as `take` allows; gives these in order.

        `use` is called with each piece that has rows while it is still in memory, in the piece's thread; not where the source
        does not enforce the table's key. `take` is called before each, by one thread at a time.
        """
        following, taking, done = iter(range(len(pieces))), Lock(), dict[int, ReadPiece]()

        def read_on(_: object) -> None:
            with taking:
                number = next(following) if take is None or take() else None
            if number is not None:
                done[number] = self._read(table, pieces[number], use)

        self.each(read_on, pieces)
        return [done[number] for number in sorted(done)]

    def read_all(self, use: Use) -> Iterator[tuple[SourceTable, list[ReadPiece]]]:
        """Reads all rows of all tables, whose pieces follow one another in the threads; gives each table once it is read.

        So no thread waits for the last piece of a table, nor for what is done with what is given. `use` is called as by
        `read_rows`. What fails for a piece is raised before another table is given.
        """
        begun = [
            (table, [self._pool.submit(self._read, table, piece, use) for piece in self.pieces(table)])
            for table in self._snapshot.longest_first()
        ]
        left = {future: (table, futures) for table, futures in begun for future in futures}
        for done in as_completed(left):
            done.result()
            table, futures = left.pop(done)
            if not any(future in left for future in futures):
                yield table, [future.result() for future in futures]

    def pieces(self, table: SourceTable, first: int = 0, condition: str | None = None) -> list[Piece]:
        """The pieces of a table from a block on, of the rows that meet a condition."""
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
        """Does the same for several arguments, in threads where there is more than one."""
        listed = list(arguments)
        if len(listed) == 1:
            return [work(listed[0])]
        return list(self._pool.map(work, listed))

    def new_table(self, table: SourceTable) -> str:
        """The name of a new table of the workspace for what is read of a table; `drop` will drop it."""
        name = self._workspace.new_table()
        self._made.setdefault(table.name, []).append(name)
        return name

    def drop(self, table: SourceTable, but: Iterable[str] = ()) -> None:
        """Drops what was made for a table of which nothing is being read, but for what is still needed."""
        kept, made = set(but), self._made.pop(table.name, [])
        self._workspace.drop(name for name in made if name not in kept)
        self._made[table.name] = [name for name in made if name in kept]

    def drop_all(self) -> None:
        """Drops all tables that were made, when nothing is being read."""
        self._workspace.drop(name for made in self._made.values() for name in made)
        self._made.clear()

    def _read(self, table: SourceTable, piece: Piece, use: Use | None) -> ReadPiece:
        began, use = time.perf_counter(), use if table.key_enforced else None
        rows = self._fetch_rows(table, piece, self._native(table) if use else frozenset())
        objects = use(table, rows) if use and rows.count else []
        return ReadPiece(rows, objects, began)

    def _native(self, table: SourceTable) -> frozenset[int]:
        """The columns to be read as native types; none where rows are told apart by their content, which is a digest of text."""
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
        """The columns with values that their native types do not hold; then the rows are dropped."""
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
        except duckdb.Error as error:
            if "incoming" not in str(error):
                raise
            message = redact(" ".join(str(error).split()))
            raise SourceError(f"reading {table.name} failed: {message}", hint="Run it again") from error
        finally:
            connection.close()
        return target, int(rows)


def _widened(column: TableColumn, name: str) -> str:
    """Integers come as narrow as they are at the source, and are kept as wide as they may become."""
    return f"{name}::BIGINT AS {name}" if column.entry.kind == "integer" else name


def union(tables: Iterable[str], columns: str = "*") -> str:
    """The relation of some tables' rows together."""
    return "(" + " UNION ALL ".join(f"SELECT {columns} FROM {table}" for table in tables) + ")"
