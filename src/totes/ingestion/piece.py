"""Reads one piece of a table of which all rows are new, and writes it to the lake: a task that any worker can do.

What it leaves are objects under random names. Only those in a result that is used get into a manifest: a piece that was
read twice, or by a process that was killed, changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import duckdb

from totes.errors import SourceRefused
from totes.ingestion.catalog import SourceTable
from totes.ingestion.instant import Instant, InstantReader
from totes.ingestion.objects import BatchLabel, ObjectWriter, in_parts
from totes.ingestion.reading import RowReader, Rows, too_large
from totes.lake.document import StoredObject
from totes.lake.store import Store
from totes.lake.workspace import Workspace
from totes.scratch import temporary_folder


class TablePiece(NamedTuple):
    """A piece of a table to read: which rows, its number in the table, and the columns to read in native types."""

    table: SourceTable
    condition: str | None
    number: int
    native: frozenset[int]


@dataclass(frozen=True)
class WrittenPiece:
    """A piece's entries for the manifest; without rows it has none.

    `native` are the columns that were exact in native types. `rows` are its rows, where they are in the workspace of the batch.
    """

    count: int
    native: frozenset[int]
    objects: tuple[StoredObject, ...] = ()
    marks: tuple[StoredObject, ...] = ()
    rows: Rows | None = None


@dataclass(frozen=True)
class Place:
    """Where pieces are read and written: at the source, in the lake, and with how much memory of the engine (`600MB`)."""

    instant: Instant
    store: str
    label: BatchLabel
    memory: str


@dataclass(frozen=True)
class Bench:
    """A workspace with connections to both, in this process; `connections` are opened together."""

    workspace: Workspace
    reader: InstantReader
    store: Store
    connections: int


class PieceTask:
    """Called with a piece, reads and writes it, in the workspace of the batch, where the rows stay for the next stage.

    In another process than the one that made it, it works in a workspace of its own, which goes with the rows.
    """

    def __init__(self, place: Place, bench: Bench | None = None) -> None:
        self._place = place
        self._bench = bench

    def __reduce__(self) -> tuple[type[PieceTask], tuple[Place]]:
        return PieceTask, (self._place,)

    def __call__(self, piece: TablePiece) -> WrittenPiece | SourceRefused:
        """Returns the error if the table cannot be read: the others may be.

        Raises:
            SourceError: the source cannot be read.
            SourceBusy: a schema change waits for a table.
            StoreError: the lake cannot be written.
        """
        try:
            if self._bench:
                return self._written(self._bench, piece)
            with self._own_bench() as bench:
                return replace(self._written(bench, piece), rows=None)
        except SourceRefused as error:
            return error

    @contextmanager
    def _own_bench(self) -> Iterator[Bench]:
        # Connections do not outlive the piece: an idle one would hold the snapshot, and the source could not be vacuumed.
        place = self._place
        with (
            temporary_folder() as folder,
            Workspace.open(folder, place.memory) as workspace,
            closing(InstantReader(place.instant, lambda: True)) as reader,
        ):
            yield Bench(workspace, reader, Store.open(place.store, Path()), 1)

    def _written(self, bench: Bench, piece: TablePiece) -> WrittenPiece:
        table = piece.table
        bench.reader.open_connections(bench.connections)
        rows = RowReader(bench.reader, bench.workspace).read(table, piece.condition, piece.native)
        if not rows.count:
            bench.workspace.drop([rows.name])
            return WrittenPiece(0, rows.native)
        writer = ObjectWriter(bench.workspace, bench.store, self._place.label)
        line, number = writer.upsert(table), piece.number
        try:
            objects = tuple(writer.put_lines(table, line, rows, which, number) for which in in_parts(rows))
            marks = writer.put_marks(table, [rows], None, [], number)
        except BaseException as error:
            bench.workspace.drop([rows.name])
            if isinstance(error, duckdb.OutOfMemoryException):
                raise too_large(table) from error
            raise
        return WrittenPiece(rows.count, rows.native, objects, (marks,), rows)
