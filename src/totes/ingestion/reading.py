"""Reading a table of the source into the workspace: in pieces where it is large, by several connections at one snapshot."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
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
from totes.ingestion.source import Snapshot
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
        self, table: SourceTable, condition: str | None, use: Callable[[str, int], None] | None = None
    ) -> list[tuple[str, int]]:
        """Reads the rows that meet a condition, or all, in pieces; gives each with the number of its rows.

        `use` is called with each piece that has rows while it is still in memory, in the piece's thread.
        """
        columns = [_widened(column, position_column(number)) for number, column in enumerate(table.columns)]
        select = f"{', '.join(columns)}, {mark_expression(table)} AS {MARK}"

        def read(part: str | None) -> tuple[str, int]:
            name, rows = self._fetch(table, select_rows(table, part), select)
            if use and rows:
                use(name, rows)
            return name, rows

        return self.each(read, [condition] if condition else self._snapshot.pieces(table, PIECE_BYTES))

    def read_keys(self, table: SourceTable) -> list[str]:
        """Reads the keys of all rows, in pieces."""
        keys = [
            _widened(table.columns[position], key_column(number))
            for number, position in enumerate(table.key_positions)
        ]
        return self.each(
            lambda part: self._fetch(table, select_keys(table, part), ", ".join(keys))[0],
            self._snapshot.pieces(table, PIECE_BYTES),
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
