"""Packets: a batch's changes of one table as objects of the ingestion lake, JSON lines that hold exact values."""

from __future__ import annotations

import tempfile
from datetime import datetime
from pathlib import Path

from totes import engine
from totes.ingestion.capture import MARK, changed_at_expression, key_column, position_column
from totes.ingestion.catalog import SourceTable
from totes.ingestion.known import GONE, NEW
from totes.lake.layout import new_object_path
from totes.lake.manifest import StoredObject
from totes.lake.store import Store

PART_ROWS_MAX = 1_000_000
MARKS_FOLDER = "marks"
_ENDINGS = {"zstd": "jsonl.zst", "gzip": "jsonl.gz", "none": "jsonl"}


class PacketWriter:
    """Writes the packets of one batch."""

    def __init__(
        self, connection: engine.Engine, store: Store, batch: int, read_at: datetime, compression: str
    ) -> None:
        self._engine = connection
        self._store = store
        self._batch = batch
        self._read_at = read_at
        self._compression = compression

    def write(self, table: SourceTable) -> tuple[StoredObject, ...]:
        """Writes the new rows and the gone keys of a table, in parts of at most a million lines."""
        upserts = int(engine.scalar(self._engine, f"SELECT count(*) FROM {NEW}"))
        deletes = int(engine.scalar(self._engine, f"SELECT count(*) FROM {GONE}"))
        parts = [
            (min(PART_ROWS_MAX, upserts - first), self._upserts(table, first))
            for first in range(0, upserts, PART_ROWS_MAX)
        ]
        parts += [
            (min(PART_ROWS_MAX, deletes - first), self._deletes(table, first))
            for first in range(0, deletes, PART_ROWS_MAX)
        ]
        ending = _ENDINGS[self._compression]
        return tuple(
            self._put(
                lines,
                rows,
                new_object_path(
                    table.name, batch=self._batch, part=number, read_at=self._read_at, ending=ending
                ),
            )
            for number, (rows, lines) in enumerate(parts, start=1)
        )

    def write_marks(self, table: SourceTable) -> tuple[StoredObject, ...]:
        """Writes keys and marks of the new rows, and the gone keys without a mark, so that a lost cache can return."""
        keys = engine.names(key_column(number) for number in range(len(table.key)))
        rows = f"SELECT {keys}, {MARK} FROM {NEW} UNION ALL SELECT {keys}, NULL FROM {GONE}"
        count = int(engine.scalar(self._engine, f"SELECT count(*) FROM ({rows})"))
        path = new_object_path(
            MARKS_FOLDER, table.name, batch=self._batch, part=1, read_at=self._read_at, ending="parquet"
        )
        return (self._copy(rows, "FORMAT parquet, COMPRESSION zstd", count, path),)

    def _upserts(self, table: SourceTable, first: int) -> str:
        read_at = self._read_at.isoformat(timespec="microseconds")
        columns = list(enumerate(table.columns))
        members = [
            f"{engine.text(column.name)}, {position_column(number)}"
            for number, column in columns
            if column.entry.kind != "json"
        ]
        members += ["'_op', 'upsert'", f"'_at', {changed_at_expression(table, read_at)}"]
        documents = [
            (column.name, position_column(number))
            for number, column in columns
            if column.entry.kind == "json"
        ]
        return f"SELECT {_line(members, documents)} FROM {NEW} WHERE {self._part(NEW, first)}"

    def _deletes(self, table: SourceTable, first: int) -> str:
        read_at = self._read_at.isoformat(timespec="microseconds")
        # As in the lines of rows, documents stand in the order of the table's columns.
        parts = [
            (table.columns[position], key_column(number))
            for position, number in sorted((part, number) for number, part in enumerate(table.key_positions))
        ]
        members = [
            f"{engine.text(column.name)}, {key}" for column, key in parts if column.entry.kind != "json"
        ]
        members += ["'_op', 'delete'", f"'_at', {engine.text(read_at)}"]
        documents = [(column.name, key) for column, key in parts if column.entry.kind == "json"]
        return f"SELECT {_line(members, documents)} FROM {GONE} WHERE {self._part(GONE, first)}"

    def _part(self, table: str, first: int) -> str:
        # Row ids are consecutive, but within a transaction they do not begin at 0.
        return f"rowid - (SELECT min(rowid) FROM {table}) BETWEEN {first} AND {first + PART_ROWS_MAX - 1}"

    def _put(self, lines: str, rows: int, path: str) -> StoredObject:
        # A CSV of one column without quoting is text as it is; the delimiter cannot stand in JSON.
        raw = (
            "FORMAT csv, HEADER false, QUOTE '', ESCAPE '', DELIMITER e'\\x01', "
            f"COMPRESSION {'uncompressed' if self._compression == 'none' else self._compression}"
        )
        return self._copy(lines, raw, rows, path)

    def _copy(self, query: str, options: str, rows: int, path: str) -> StoredObject:
        with tempfile.TemporaryDirectory(prefix="totes-") as scratch:
            file = Path(scratch) / "part"
            engine.copy_out(self._engine, f"COPY ({query}) TO {engine.text(str(file))} ({options})", rows)
            return self._store.put_file(path, file, rows)


def _line(members: list[str], documents: list[tuple[str, str]]) -> str:
    """A line's SQL: a JSON object of members, and behind them documents, pairs of a name and the SQL of its text.

    Documents go in as PostgreSQL wrote them, since reading them here would round their numbers. Each stands between
    tabs: a tab or line break of its own can only stand between its tokens. One more blank tells JSON's null from SQL's.
    """
    behind = "".join(
        f" || chr(9) || ',' || to_json({engine.text(name)}) || ':' || chr(9)"
        f" || CASE WHEN ltrim({value}) = 'null' THEN ' ' ELSE '' END"
        f" || coalesce(translate({value}, chr(9) || chr(10) || chr(13), '   '), 'null')"
        for name, value in documents
    )
    end = " || chr(9) || '}'" if documents else " || '}'"
    return f"left(json_object({', '.join(members)})::VARCHAR, -1){behind}{end}"
