"""Writes packets: a batch's changes of one table as objects of the ingestion lake, JSON lines with exact values."""

from __future__ import annotations

import itertools
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from datetime import datetime
from functools import partial
from pathlib import Path
from types import TracebackType

from totes import engine
from totes.ingestion import lines
from totes.ingestion.capture import MARK, changed_at_expression, key_column, position_column
from totes.ingestion.catalog import SourceTable, TableColumn
from totes.ingestion.known import key_list, key_names
from totes.ingestion.reading import Rows, union
from totes.lake.document import StoredObject
from totes.lake.layout import new_object_path
from totes.lake.packets import SEQ, TURN
from totes.lake.store import Store
from totes.lake.workspace import Handoff, Workspace
from totes.scratch import temporary_folder

PART_ROWS_MAX = 1_000_000
MARKS_FOLDER = "marks"
_WORKERS_MAX = 4
_ENDINGS = {"zstd": "jsonl.zst", "gzip": "jsonl.gz", "none": "jsonl"}


class PacketWriter:
    """Writes the objects of one batch in threads of its own, so that reading the source never waits for writing."""

    def __init__(
        self, workspace: Workspace, store: Store, batch: int, read_at: datetime, compression: str
    ) -> None:
        self._workspace = workspace
        self._store = store
        self._batch = batch
        self._read_at = read_at
        self._compression = compression
        self._numbers: defaultdict[str, Iterator[int]] = defaultdict(lambda: itertools.count(1))
        self._workers = min(os.cpu_count() or 1, _WORKERS_MAX)
        self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="totes-write")
        self._begun: defaultdict[str, list[Future[StoredObject]]] = defaultdict(list)

    def __enter__(self) -> PacketWriter:
        """Returns itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the threads; objects that were not begun are not written."""
        self._pool.shutdown(cancel_futures=True)

    def write_rows(self, table: SourceTable, rows: Rows) -> list[Future[StoredObject]]:
        """Begins to write new rows of a table, in parts of at most a million lines."""
        line = self._upsert(table)
        return [self._begin(table, partial(self._put, table, (line, rows, part))) for part in _parts(rows)]

    def write_deleted(self, table: SourceTable, deleted: Rows) -> list[Future[StoredObject]]:
        """Begins to write the keys of deleted rows of a table, in parts of the same size."""
        line = self._delete(table)
        return [
            self._begin(table, partial(self._put, table, (line, deleted, part))) for part in _parts(deleted)
        ]

    def write_changes(
        self, table: SourceTable, rows: Rows, operation: str, at: str, place: lines.Place
    ) -> list[Future[StoredObject]]:
        """Begins to write changes from the log, upserts or deletes, each with its own time and place there."""
        columns = self._row(table) if operation == "upsert" else self._key(table)
        line = lines.line(columns, operation, at, place)
        return [self._begin(table, partial(self._put, table, (line, rows, part))) for part in _parts(rows)]

    def _begin(self, table: SourceTable, work: Callable[[], StoredObject]) -> Future[StoredObject]:
        begun = self._pool.submit(work)
        self._begun[table.name].append(begun)
        return begun

    @property
    def is_behind(self) -> bool:
        """Whether more objects are waiting to be written than there are threads."""
        waiting = sum(not begun.done() for several in list(self._begun.values()) for begun in list(several))
        return waiting > self._workers

    def abandon(self, table: SourceTable) -> None:
        """Cancels the writing of a table; when it returns, none of its rows are being read any more."""
        begun = self._begun.pop(table.name, [])
        for each in begun:
            each.cancel()
        wait(begun)

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
        self, table: SourceTable, new: Sequence[Rows], deleted: Rows | None, remarked: Sequence[Rows]
    ) -> Future[StoredObject]:
        """Begins to write the keys and marks of new and remarked rows, and deleted keys, from which a lost cache is rebuilt."""
        keys = engine.names(key_names(table))
        relations = [union([rows.name for rows in new], f"{key_list(table)}, {MARK}")] if new else []
        relations += [rows.name for rows in remarked]
        if deleted:
            kind = "BIGINT" if table.has_transaction_ids else "VARCHAR"
            relations.append(f"(SELECT {keys}, NULL::{kind} AS {MARK} FROM {deleted.name})")
        count = sum(rows.count for rows in (*new, *remarked, *((deleted,) if deleted else ())))
        path = new_object_path(
            MARKS_FOLDER, table.name, batch=self._batch, part=1, read_at=self._read_at, ending="parquet"
        )
        rows = " UNION ALL ".join(f"FROM {relation}" for relation in relations)

        def write(connection: engine.Engine, file: Path) -> None:
            to = f"{engine.text(str(file))} (FORMAT parquet, COMPRESSION zstd)"
            engine.copy_out(connection, f"COPY ({rows}) TO {to}", count)

        return self._begin(table, lambda: self._store_file(path, count, write))

    def _store_file(self, path: str, rows: int, write: Callable[[engine.Engine, Path], None]) -> StoredObject:
        """Writes a file, on a connection of its own, and stores it."""
        with (
            closing(self._workspace.connect()) as connection,
            temporary_folder() as scratch,
        ):
            file = scratch / "part"
            write(connection, file)
            return self._store.put_file(path, file, rows)

    def handoff(self, table: SourceTable, new: Sequence[Rows], deleted: Rows | None) -> Handoff:
        """The handoff of a table's changes: columns by name, `_op` and `_at`, as in its lines; native if they are in all rows."""
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
            parts.append(_handed_off(table, rows, values, "upsert", at))
        if deleted:
            values = dict.fromkeys(native, "NULL") | _key_values(table)
            at = f"CAST({engine.text(self._read)} AS TIMESTAMP)"
            parts.append(_handed_off(table, deleted, values, "delete", at))
        tables = tuple(rows.name for rows in (*new, *((deleted,) if deleted else ())))
        return Handoff(
            " UNION ALL ".join(parts), tables, frozenset(table.columns[number].name for number in native)
        )

    def _changed_at(self, table: SourceTable, rows: Rows) -> str:
        """SQL for when a row was changed at the source, as a TIMESTAMP."""
        if table.changed_at and (number := table.columns.index(table.changed_at)) in rows.native:
            changed, read = position_column(number), engine.text(self._read)
            return f"coalesce(CAST({changed} AS TIMESTAMP), CAST({read} AS TIMESTAMP))"
        return f"CAST({changed_at_expression(table, self._read)} AS TIMESTAMP)"

    @property
    def _read(self) -> str:
        return self._read_at.isoformat(timespec="microseconds")

    def _upsert(self, table: SourceTable) -> str:
        return lines.line(self._row(table), "upsert", changed_at_expression(table, self._read))

    def _delete(self, table: SourceTable) -> str:
        return lines.line(self._key(table), "delete", engine.text(self._read))

    def _row(self, table: SourceTable) -> list[tuple[TableColumn, str]]:
        return [(column, position_column(number)) for number, column in enumerate(table.columns)]

    def _key(self, table: SourceTable) -> list[tuple[TableColumn, str]]:
        # As in the lines of rows, documents are in the order of the table's columns.
        return [
            (table.columns[position], key_column(number))
            for position, number in sorted((part, number) for number, part in enumerate(table.key_positions))
        ]


def handoff_of_log(table: SourceTable, upserts: Rows, deletes: Rows) -> Handoff:
    """The handoff of a table's changes from the log, as in their lines."""
    every = {number: position_column(number) for number in range(len(table.columns))}
    place = "committed", "lsn", "seq"
    query = (
        f"{_handed_off(table, upserts, every, 'upsert', *place)} UNION ALL"
        f" {_handed_off(table, deletes, _key_values(table), 'delete', *place)}"
    )
    return Handoff(query, (upserts.name, deletes.name))


def _handed_off(
    table: SourceTable,
    rows: Rows,
    values: dict[int, str],
    operation: str,
    at: str,
    turn: str = "NULL::BIGINT",
    number: str = "NULL::BIGINT",
) -> str:
    return (
        f"SELECT {_selected(table, values)}, '{operation}' AS _op, {at} AS _at, {turn} AS {TURN}, {number} AS {SEQ}"
        f" FROM {rows.name}"
    )


def _key_values(table: SourceTable) -> dict[int, str]:
    return dict(zip(table.key_positions, key_names(table), strict=True))


def _selected(table: SourceTable, values: dict[int, str]) -> str:
    """SQL for all columns by name, in the form in which they are read from lines; NULL for those without a value."""
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
