"""Writes packets: a batch's changes of one table as objects of the ingestion lake, JSON lines with exact values."""

from __future__ import annotations

import itertools
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from totes import engine
from totes.ingestion import lines
from totes.ingestion.capture import changed_at_expression, position_column
from totes.ingestion.catalog import SourceTable
from totes.ingestion.known import key_names
from totes.ingestion.objects import BatchLabel, ObjectWriter, in_parts, key, row
from totes.ingestion.reading import Rows
from totes.lake.document import StoredObject
from totes.lake.packets import SEQ, TURN
from totes.lake.store import Store
from totes.lake.workspace import Handoff, Workspace

_WORKERS_MAX = 4
T = TypeVar("T")


class PacketWriter:
    """Writes the objects of one batch in threads of its own, so that finding what is new never waits for writing."""

    def __init__(self, workspace: Workspace, store: Store, label: BatchLabel) -> None:
        self._objects = ObjectWriter(workspace, store, label)
        self._numbers: defaultdict[str, Iterator[int]] = defaultdict(lambda: itertools.count(1))
        workers = min(os.cpu_count() or 1, _WORKERS_MAX)
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="totes-write")
        self._begun: defaultdict[str, list[Future[Any]]] = defaultdict(list)

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
        return self._write_lines(table, self._objects.upsert(table), rows)

    def write_deleted(self, table: SourceTable, deleted: Rows) -> list[Future[StoredObject]]:
        """Begins to write the keys of deleted rows of a table, in parts of the same size."""
        line = lines.line(key(table), "delete", engine.text(self._objects.label.read_text))
        return self._write_lines(table, line, deleted)

    def write_changes(
        self, table: SourceTable, rows: Rows, operation: str, at: str, place: lines.Place
    ) -> list[Future[StoredObject]]:
        """Begins to write changes from the log, upserts or deletes, each with its own time and place there."""
        columns = row(table) if operation == "upsert" else key(table)
        return self._write_lines(table, lines.line(columns, operation, at, place), rows)

    def write_marks(
        self, table: SourceTable, new: Sequence[Rows], deleted: Rows | None, remarked: Sequence[Rows]
    ) -> Future[StoredObject]:
        """Begins to write the keys and marks of new and remarked rows, and deleted keys."""
        return self.begin(table, partial(self._objects.put_marks, table, new, deleted, remarked, 1))

    def _write_lines(self, table: SourceTable, line: str, rows: Rows) -> list[Future[StoredObject]]:
        return [self.begin(table, partial(self._put, table, line, rows, part)) for part in in_parts(rows)]

    def _put(self, table: SourceTable, line: str, rows: Rows, which: range) -> StoredObject:
        return self._objects.put_lines(table, line, rows, which, next(self._numbers[table.name]))

    def begin(self, table: SourceTable, work: Callable[[], T]) -> Future[T]:
        """Begins some writing of a table's rows."""
        begun = self._pool.submit(work)
        self._begun[table.name].append(begun)
        return begun

    @property
    def is_behind(self) -> bool:
        """Whether more is waiting to be written than there are threads."""
        waiting = sum(not begun.done() for several in list(self._begun.values()) for begun in list(several))
        return waiting > self._workers

    def abandon(self, table: SourceTable) -> None:
        """Cancels the writing of a table; when it returns, none of its rows are being read any more."""
        begun = self._begun.pop(table.name, [])
        for each in begun:
            each.cancel()
        wait(begun)

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
            at = f"CAST({engine.text(self._objects.label.read_text)} AS TIMESTAMP)"
            parts.append(_handed_off(table, deleted, values, "delete", at))
        tables = tuple(rows.name for rows in (*new, *((deleted,) if deleted else ())))
        return Handoff(
            " UNION ALL ".join(parts), tables, frozenset(table.columns[number].name for number in native)
        )

    def _changed_at(self, table: SourceTable, rows: Rows) -> str:
        """SQL for when a row was changed at the source, as a TIMESTAMP."""
        if table.changed_at and (number := table.columns.index(table.changed_at)) in rows.native:
            changed, read = position_column(number), engine.text(self._objects.label.read_text)
            return f"coalesce(CAST({changed} AS TIMESTAMP), CAST({read} AS TIMESTAMP))"
        return f"CAST({changed_at_expression(table, self._objects.label.read_text)} AS TIMESTAMP)"


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
