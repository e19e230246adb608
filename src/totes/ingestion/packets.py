"""Packets: a batch's changes of one table as objects of the ingestion lake, JSON lines that hold exact values."""

from __future__ import annotations

import itertools
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path

from totes import engine
from totes.ingestion import lines
from totes.ingestion.capture import MARK, changed_at_expression, key_column, position_column
from totes.ingestion.catalog import SourceTable
from totes.ingestion.known import key_list, key_names
from totes.ingestion.reading import Rows, TableReader, union
from totes.lake.layout import new_object_path
from totes.lake.manifest import StoredObject
from totes.lake.store import Store
from totes.lake.workspace import AtHand, Workspace

PART_ROWS_MAX = 1_000_000
MARKS_FOLDER = "marks"
_ENDINGS = {"zstd": "jsonl.zst", "gzip": "jsonl.gz", "none": "jsonl"}


class PacketWriter:
    """Writes the packets of one batch, several at once where there are cores."""

    def __init__(
        self,
        workspace: Workspace,
        reader: TableReader,
        store: Store,
        batch: int,
        read_at: datetime,
        compression: str,
    ) -> None:
        self._workspace = workspace
        self._reader = reader
        self._store = store
        self._batch = batch
        self._read_at = read_at
        self._compression = compression
        self._numbers: defaultdict[str, Iterator[int]] = defaultdict(lambda: itertools.count(1))

    def write_rows(self, table: SourceTable, rows: Rows) -> list[StoredObject]:
        """Writes new rows of a table in parts of at most a million lines; any number of threads may."""
        line = self._upsert(table)
        return [self._put(table, (line, rows, part)) for part in _parts(rows)]

    def write(self, table: SourceTable, new: Sequence[Rows], gone: Rows | None) -> list[StoredObject]:
        """Writes new rows and gone keys of a table in such parts."""
        parts = [(self._upsert(table), rows, part) for rows in new for part in _parts(rows)]
        if gone:
            parts += [(self._delete(table), gone, part) for part in _parts(gone)]
        return self._reader.each(lambda part: self._put(table, part), parts)

    def _put(self, table: SourceTable, part: tuple[str, Rows, range]) -> StoredObject:
        line, rows, which = part
        as_text = [f"{value}::VARCHAR AS {value}" for value in map(position_column, sorted(rows.native))]
        columns = f"* REPLACE ({', '.join(as_text)})" if as_text else "*"
        path = new_object_path(
            table.name,
            batch=self._batch,
            part=next(self._numbers[table.name]),
            read_at=self._read_at,
            ending=_ENDINGS[self._compression],
        )
        return self._store_file(
            path,
            len(which),
            lambda connection, file: lines.write(
                connection, line, columns, rows.name, which, file, self._compression
            ),
        )

    def write_marks(
        self, table: SourceTable, new: Sequence[Rows], gone: Rows | None
    ) -> tuple[StoredObject, ...]:
        """Writes keys and marks of the new rows, and the gone keys without a mark, so that a lost cache can return."""
        keys = engine.names(key_names(table))
        relations = [union([rows.name for rows in new], f"{key_list(table)}, {MARK}")] if new else []
        if gone:
            kind = "BIGINT" if table.has_transaction_ids else "VARCHAR"
            relations.append(f"(SELECT {keys}, NULL::{kind} AS {MARK} FROM {gone.name})")
        count = sum(rows.count for rows in (*new, *((gone,) if gone else ())))
        path = new_object_path(
            MARKS_FOLDER, table.name, batch=self._batch, part=1, read_at=self._read_at, ending="parquet"
        )
        rows = " UNION ALL ".join(f"FROM {relation}" for relation in relations)

        def write(connection: engine.Engine, file: Path) -> None:
            to = f"{engine.text(str(file))} (FORMAT parquet, COMPRESSION zstd)"
            engine.copy_out(connection, f"COPY ({rows}) TO {to}", count)

        return (self._store_file(path, count, write),)

    def _store_file(self, path: str, rows: int, write: Callable[[engine.Engine, Path], None]) -> StoredObject:
        """Stores a file that is written on a connection of its own."""
        with (
            closing(self._workspace.connect()) as connection,
            tempfile.TemporaryDirectory(prefix="totes-") as scratch,
        ):
            file = Path(scratch) / "part"
            write(connection, file)
            return self._store.put_file(path, file, rows)

    def at_hand(self, table: SourceTable, new: Sequence[Rows], gone: Rows | None) -> AtHand:
        """What reading the written lines would give: the columns by name, `_op` and `_at`; native ones where all rows are."""
        native = frozenset.intersection(*(rows.native for rows in new)) if new else frozenset()
        parts = []
        for rows in new:
            values = {
                number: f"{position_column(number)}::{column.entry.raw_type}"
                if number in rows.native - native
                else position_column(number)
                for number, column in enumerate(table.columns)
            }
            at = self._changed_at(table, rows)
            parts.append(f"SELECT {_selected(table, values)}, 'upsert' AS _op, {at} AS _at FROM {rows.name}")
        if gone:
            values = dict.fromkeys(native, "NULL")
            values |= dict(zip(table.key_positions, key_names(table), strict=True))
            at = f"CAST({engine.text(self._read)} AS TIMESTAMP)"
            parts.append(f"SELECT {_selected(table, values)}, 'delete' AS _op, {at} AS _at FROM {gone.name}")
        tables = tuple(rows.name for rows in (*new, *((gone,) if gone else ())))
        return AtHand(
            " UNION ALL ".join(parts), tables, frozenset(table.columns[number].name for number in native)
        )

    def _changed_at(self, table: SourceTable, rows: Rows) -> str:
        """When each of some rows was changed at the source, as a TIMESTAMP."""
        if table.changed_at and (number := table.columns.index(table.changed_at)) in rows.native:
            changed, read = position_column(number), engine.text(self._read)
            return f"coalesce(CAST({changed} AS TIMESTAMP), CAST({read} AS TIMESTAMP))"
        return f"CAST({changed_at_expression(table, self._read)} AS TIMESTAMP)"

    @property
    def _read(self) -> str:
        return self._read_at.isoformat(timespec="microseconds")

    def _upsert(self, table: SourceTable) -> str:
        columns = [(column, position_column(number)) for number, column in enumerate(table.columns)]
        return lines.line(columns, "upsert", changed_at_expression(table, self._read))

    def _delete(self, table: SourceTable) -> str:
        # As in the lines of rows, documents stand in the order of the table's columns.
        columns = [
            (table.columns[position], key_column(number))
            for position, number in sorted((part, number) for number, part in enumerate(table.key_positions))
        ]
        return lines.line(columns, "delete", engine.text(self._read))


def _selected(table: SourceTable, values: dict[int, str]) -> str:
    """All columns by name, in the form that they have when they are read from lines; NULL where there is no value."""
    selected = []
    for number, column in enumerate(table.columns):
        value = values.get(number, f"NULL::{column.entry.raw_type}")
        if column.entry.kind == "json":
            value = lines.on_one_line(value)
        selected.append(f"{value} AS {engine.name(column.name)}")
    return ", ".join(selected)


def _parts(rows: Rows) -> list[range]:
    return [
        range(first, min(first + PART_ROWS_MAX, rows.count)) for first in range(0, rows.count, PART_ROWS_MAX)
    ]
