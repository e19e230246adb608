"""Reads tables of the source into a workspace: large ones in pieces, over several connections at one instant."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import duckdb

from totes import engine
from totes.errors import TableUnreadable
from totes.ingestion.capture import (
    MARK,
    key_column,
    mark_expression,
    position_column,
    select_keys,
    select_rows,
)
from totes.ingestion.catalog import SourceTable, TableColumn
from totes.ingestion.instant import InstantReader
from totes.ingestion.source import Piece, Snapshot
from totes.lake.workspace import Workspace
from totes.progress import report
from totes.workers.local import LocalWorkers

PIECE_BYTES = 64 << 20


@dataclass(frozen=True)
class Rows:
    """A table of the workspace, its number of rows, and the positions of the columns that it has in native types."""

    name: str
    count: int
    native: frozenset[int] = frozenset()


class RowReader:
    """Reads rows into new tables of a workspace.

    A table with rows has columns `c0`, `c1`, … and `mark`, one with keys `k0`, `k1`, …. Values are in their raw form, or in
    native types where that is asked for and they are exact.
    """

    def __init__(self, reader: InstantReader, workspace: Workspace) -> None:
        self._reader = reader
        self._workspace = workspace

    def read(self, table: SourceTable, condition: str | None, native: frozenset[int] = frozenset()) -> Rows:
        """Reads rows that meet a condition, with the columns at the positions `native` in native types, if that is exact.

        Raises:
            TableUnreadable: the table cannot be read.
            SourceError: the source cannot be read.
        """
        columns = [
            position_column(number) if number in native else _widened(column, position_column(number))
            for number, column in enumerate(table.columns)
        ]
        select = f"{', '.join(columns)}, {mark_expression(table)} AS {MARK}"
        rows = Rows(*self._fetch(table, select_rows(table, condition, native), select), native)
        inexact = self._find_inexact(table, rows)
        return self.read(table, condition, native - inexact) if inexact else rows

    def read_keys(self, table: SourceTable, condition: str | None) -> str:
        """Reads the keys of rows that meet a condition; errors are those of `read`."""
        keys = [
            _widened(table.columns[position], key_column(number))
            for number, position in enumerate(table.key_positions)
        ]
        return self._fetch(table, select_keys(table, condition), ", ".join(keys))[0]

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
        target, connection = self._workspace.new_table(), self._workspace.connect()
        try:
            with self._reader.stream(query, table.name) as stream:
                connection.register("incoming", stream)
                rows = engine.scalar(connection, f"CREATE TABLE {target} AS SELECT {select} FROM incoming")
        except duckdb.OutOfMemoryException as error:
            raise too_large(table) from error
        finally:
            connection.close()
        return target, int(rows)


class TableReader:
    """Reads what has to be compared with what was captured: in this process, where that is known.

    It remembers the tables of the workspace that belong to a source table, until it drops them.
    """

    def __init__(self, snapshot: Snapshot, workspace: Workspace, connections: int) -> None:
        self._snapshot = snapshot
        self._workspace = workspace
        self._connections = connections
        self._reader = RowReader(snapshot.reader, workspace)
        self._threads = LocalWorkers()
        self._made: dict[str, list[str]] = {}

    def read_rows(
        self, table: SourceTable, pieces: Sequence[Piece], take: Callable[[], bool] | None = None
    ) -> list[Rows]:
        """Reads pieces of a table in raw form, as many as `take` allows, and returns them in order.

        `take` is called before each piece, by one thread at a time.
        """
        bytes_in_all = self._snapshot.size_bytes(table)

        def wanted() -> Iterator[str | None]:
            for number, piece in enumerate(pieces):
                if take is not None and not take():
                    return
                report(f"reading {table.name}", number / len(pieces) * bytes_in_all, bytes_in_all, "bytes")
                yield piece.condition

        found = list(self._threads.map(partial(self._reader.read, table), wanted(), self._connections))
        self.adopt(table, [rows.name for rows in found])
        return found

    def read_keys(self, table: SourceTable) -> list[str]:
        """Reads the keys of all rows, in pieces."""
        conditions = (piece.condition for piece in self.pieces(table))
        found = list(self._threads.map(partial(self._reader.read_keys, table), conditions, self._connections))
        self.adopt(table, found)
        return found

    def pieces(self, table: SourceTable, first: int = 0, condition: str | None = None) -> list[Piece]:
        """The pieces of a table from block `first` on, limited to rows that meet a condition."""
        return self._snapshot.pieces(table, PIECE_BYTES, first, condition)

    def new_table(self, table: SourceTable) -> str:
        """A name for a new table of the workspace that belongs to a source table; `drop` drops it."""
        name = self._workspace.new_table()
        self.adopt(table, [name])
        return name

    def adopt(self, table: SourceTable, names: Iterable[str]) -> None:
        """Has tables of the workspace dropped with the others of a source table."""
        self._made.setdefault(table.name, []).extend(names)

    def drop(self, table: SourceTable, but: Iterable[str] = ()) -> None:
        """Drops the workspace's tables of a source table, except `but`; nothing may be reading that source table."""
        retained, made = set(but), self._made.pop(table.name, [])
        self._workspace.drop(name for name in made if name not in retained)
        self._made[table.name] = [name for name in made if name in retained]

    def drop_all(self) -> None:
        """Drops all tables that were created; nothing may be reading."""
        self._workspace.drop(name for made in self._made.values() for name in made)
        self._made.clear()


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
