"""Writes objects of the ingestion lake: a table's rows as JSON lines with exact values, and the keys and marks of rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from totes import engine
from totes.ingestion import lines
from totes.ingestion.capture import MARK, changed_at_expression, key_column, position_column
from totes.ingestion.catalog import SourceTable, TableColumn
from totes.ingestion.known import key_list, key_names
from totes.ingestion.reading import Rows, union
from totes.lake.document import StoredObject
from totes.lake.layout import new_object_path
from totes.lake.store import Store
from totes.lake.workspace import Workspace
from totes.scratch import temporary_folder

PART_ROWS_MAX = 1_000_000
MARKS_FOLDER = "marks"
_ENDINGS = {"zstd": "jsonl.zst", "gzip": "jsonl.gz", "none": "jsonl"}


@dataclass(frozen=True)
class BatchLabel:
    """What all objects of a batch have in common: its number, its read time, and the compression of its lines."""

    batch: int
    read_at: datetime
    compression: str

    @property
    def read_text(self) -> str:
        """The read time in ISO 8601, to the microsecond."""
        return self.read_at.isoformat(timespec="microseconds")


class ObjectWriter:
    """Writes a batch's objects from tables of a workspace, each on a connection of its own, so that several threads can."""

    def __init__(self, workspace: Workspace, store: Store, label: BatchLabel) -> None:
        self.label = label
        self._workspace = workspace
        self._store = store

    def put_lines(self, table: SourceTable, line: str, rows: Rows, which: range, part: int) -> StoredObject:
        """Writes the lines of some of a table's rows.

        Args:
            table: the table.
            line: the SQL for a row's line.
            rows: its rows.
            which: which of them.
            part: the number in the object's name.
        """
        as_text = [f"{value}::VARCHAR AS {value}" for value in map(position_column, sorted(rows.native))]
        columns = f"* REPLACE ({', '.join(as_text)})" if as_text else "*"
        compression = self.label.compression

        def write(connection: engine.Engine, file: Path) -> None:
            lines.write(connection, line, columns, rows.name, which, file, compression)

        return self._put(self._path(table.name, part=part, ending=_ENDINGS[compression]), len(which), write)

    def put_marks(
        self,
        table: SourceTable,
        new: Sequence[Rows],
        deleted: Rows | None,
        remarked: Sequence[Rows],
        part: int,
    ) -> StoredObject:
        """Writes the keys and marks of new and remarked rows, and deleted keys, from which a lost cache is rebuilt."""
        keys = engine.names(key_names(table))
        relations = [union([rows.name for rows in new], f"{key_list(table)}, {MARK}")] if new else []
        relations += [rows.name for rows in remarked]
        if deleted:
            kind = "BIGINT" if table.has_transaction_ids else "VARCHAR"
            relations.append(f"(SELECT {keys}, NULL::{kind} AS {MARK} FROM {deleted.name})")
        count = sum(rows.count for rows in (*new, *remarked, *((deleted,) if deleted else ())))
        rows = " UNION ALL ".join(f"FROM {relation}" for relation in relations)

        def write(connection: engine.Engine, file: Path) -> None:
            to = f"{engine.text(str(file))} (FORMAT parquet, COMPRESSION zstd)"
            engine.copy_out(connection, f"COPY ({rows}) TO {to}", count)

        return self._put(self._path(MARKS_FOLDER, table.name, part=part, ending="parquet"), count, write)

    def upsert(self, table: SourceTable) -> str:
        """The SQL for the line of a row of the table."""
        return lines.line(row(table), "upsert", changed_at_expression(table, self.label.read_text))

    def _path(self, *folders: str, part: int, ending: str) -> str:
        label = self.label
        return new_object_path(*folders, batch=label.batch, part=part, read_at=label.read_at, ending=ending)

    def _put(self, path: str, rows: int, write: Callable[[engine.Engine, Path], None]) -> StoredObject:
        with closing(self._workspace.connect()) as connection, temporary_folder() as scratch:
            file = scratch / "part"
            write(connection, file)
            return self._store.put_file(path, file, rows)


def row(table: SourceTable) -> list[tuple[TableColumn, str]]:
    """The columns of a row, each with the SQL for its value."""
    return [(column, position_column(number)) for number, column in enumerate(table.columns)]


def key(table: SourceTable) -> list[tuple[TableColumn, str]]:
    """The columns of a key, in the order of the table's columns, as documents are in the lines of rows."""
    return [
        (table.columns[position], key_column(number))
        for position, number in sorted((part, number) for number, part in enumerate(table.key_positions))
    ]


def in_parts(rows: Rows) -> list[range]:
    """The rows in parts of at most a million."""
    return [
        range(first, min(first + PART_ROWS_MAX, rows.count)) for first in range(0, rows.count, PART_ROWS_MAX)
    ]
