"""Reads one piece of a table of which all rows are new, and writes it to the lake: a task that any worker can do.

What it leaves are objects under random names. Only those in a result that is used get into a manifest: a piece that was
read twice, or by a process that was killed, changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
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


class PieceObjects(NamedTuple):
    """A piece's objects, for the manifest."""

    lines: tuple[StoredObject, ...] = ()
    marks: tuple[StoredObject, ...] = ()


@dataclass(frozen=True)
class WrittenPiece:
    """A piece that was read, with its number of rows; what is written of it may still be on its way.

    `native` are the columns that were exact in native types. `rows` are its rows, where they are in the workspace of the batch.
    """

    count: int
    native: frozenset[int]
    writing: Future[PieceObjects] | PieceObjects = field(default_factory=PieceObjects)
    rows: Rows | None = None

    @property
    def objects(self) -> PieceObjects:
        """Its objects, once they are written."""
        return self.writing.result() if isinstance(self.writing, Future) else self.writing


@dataclass(frozen=True)
class Place:
    """Where pieces are read and written: at the source, in the lake, and with how much memory of the engine (`600MB`)."""

    instant: Instant
    store: str
    label: BatchLabel
    memory: str


@dataclass(frozen=True)
class Bench:
    """What a batch works with, in its own process; `connections` are opened together.

    `begin` begins to write rows of a table, so that a store that is slow does not hold up reading, and with it the source.
    """

    workspace: Workspace
    reader: InstantReader
    store: Store
    begin: Callable[[SourceTable, Callable[[], PieceObjects]], Future[PieceObjects]]
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
            return self._here(self._bench, piece) if self._bench else self._elsewhere(piece)
        except SourceRefused as error:
            return error

    def _here(self, bench: Bench, piece: TablePiece) -> WrittenPiece:
        bench.reader.open_connections(bench.connections)
        rows = _read(bench.workspace, bench.reader, piece)
        if not rows.count:
            bench.workspace.drop([rows.name])
            return WrittenPiece(0, rows.native)
        write = partial(self._write, bench.workspace, bench.store, piece, rows)
        return WrittenPiece(rows.count, rows.native, bench.begin(piece.table, write), rows)

    def _elsewhere(self, piece: TablePiece) -> WrittenPiece:
        # Connections do not outlive the piece: an idle one would hold the snapshot, and the source could not be vacuumed.
        place = self._place
        with temporary_folder() as folder, Workspace.open(folder, place.memory) as workspace:
            with closing(InstantReader(place.instant, lambda: True)) as reader:
                rows = _read(workspace, reader, piece)
            store = Store.open(place.store, Path())
            objects = self._write(workspace, store, piece, rows) if rows.count else PieceObjects()
            return WrittenPiece(rows.count, rows.native, objects)

    def _write(self, workspace: Workspace, store: Store, piece: TablePiece, rows: Rows) -> PieceObjects:
        table, writer = piece.table, ObjectWriter(workspace, store, self._place.label)
        line, number = writer.upsert(table), piece.number
        try:
            lines = tuple(writer.put_lines(table, line, rows, which, number) for which in in_parts(rows))
            return PieceObjects(lines, (writer.put_marks(table, [rows], None, [], number),))
        except duckdb.OutOfMemoryException as error:
            raise too_large(table) from error


def _read(workspace: Workspace, reader: InstantReader, piece: TablePiece) -> Rows:
    return RowReader(reader, workspace).read(piece.table, piece.condition, piece.native)
