"""Reading a table of the source into the workspace: in pieces where it is large, by several connections at one snapshot."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from types import TracebackType
from typing import TypeVar

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
from totes.lake.workspace import Workspace
from totes.redaction import redact

_WORKERS_MAX = 4
PIECE_BYTES = 64 << 20
Argument = TypeVar("Argument")
Result = TypeVar("Result")


class TableReader:
    """Reads tables of one snapshot into tables of the workspace, whose names it gives.

    A table with rows has columns `c0`, `c1`, … and `mark`, one with keys `k0`, `k1`, ….
    """

    def __init__(self, snapshot: Snapshot, workspace: Workspace) -> None:
        self._snapshot = snapshot
        self._workspace = workspace
        workers = min(os.cpu_count() or 1, _WORKERS_MAX)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="totes-read")
        self._made: list[str] = []

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
        use: Callable[[str, int], None] | None = None,
        take: Callable[[], bool] | None = None,
    ) -> list[tuple[str, int]]:
        """Reads pieces of a table, as many as `take` allows; gives each of these, in order, with the number of its rows.

        `use` is called with each piece that has rows while it is still in memory, in the piece's thread. `take` is called
        before each, by one thread at a time.
        """
        columns = [_widened(column, position_column(number)) for number, column in enumerate(table.columns)]
        select = f"{', '.join(columns)}, {mark_expression(table)} AS {MARK}"

        def read(number: int) -> tuple[str, int]:
            name, rows = self._fetch(table, select_rows(table, pieces[number].condition), select)
            if use and rows:
                use(name, rows)
            return name, rows

        following, taking, done = iter(range(len(pieces))), Lock(), dict[int, tuple[str, int]]()

        def read_on(_: object) -> None:
            with taking:
                number = next(following) if take is None or take() else None
            if number is not None:
                done[number] = read(number)

        self.each(read_on, pieces)
        return [done[number] for number in sorted(done)]

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

    def new_table(self) -> str:
        """The name of a new table, which `drop` will drop."""
        self._made.append(self._workspace.new_table())
        return self._made[-1]

    def drop(self, but: Iterable[str] = ()) -> None:
        """Drops all tables that were made so far, but for those that are still needed."""
        kept = set(but)
        self._workspace.drop(name for name in self._made if name not in kept)
        self._made = [name for name in self._made if name in kept]

    def _fetch(self, table: SourceTable, query: str, select: str) -> tuple[str, int]:
        target, connection = self.new_table(), self._workspace.connect()
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
