"""Has workers read tables of which all rows are new, in pieces, and collects what they have written."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from totes.errors import SourceRefused
from totes.ingestion.catalog import SourceTable
from totes.ingestion.objects import BatchLabel
from totes.ingestion.packets import PacketWriter
from totes.ingestion.piece import Bench, PieceTask, Place, TablePiece, WrittenPiece
from totes.ingestion.reading import TableReader
from totes.ingestion.source import Piece, Snapshot
from totes.lake.store import Store
from totes.lake.workspace import Workspace
from totes.progress import report
from totes.workers.local import threads
from totes.workers.protocol import Workers


class ReadTable(NamedTuple):
    """A table that was read as far as it may be.

    `pieces` are in order; `left` is the first one that was not taken, and `failure` why the table cannot be read. `began` is when
    the first piece was given to a worker.
    """

    table: SourceTable
    pieces: list[WrittenPiece]
    left: Piece | None
    failure: SourceRefused | None
    began: float


@dataclass
class _Reading:
    """A table that is being read; `native` are the columns to read in native types, as far as is known by now."""

    table: SourceTable
    pieces: Sequence[Piece]
    bytes: int
    native: frozenset[int]
    written: list[WrittenPiece] = field(default_factory=list)
    left: Piece | None = None
    failure: SourceRefused | None = None
    began: float = field(default_factory=time.perf_counter)

    def add(self, result: WrittenPiece | SourceRefused) -> None:
        """Takes in the result of the next piece."""
        if isinstance(result, SourceRefused):
            self.failure = self.failure or result
        else:
            self.written.append(result)
            self.native &= result.native

    def done(self) -> ReadTable:
        """The table, once the results of its pieces are there."""
        return ReadTable(self.table, self.written, self.left, self.failure, self.began)


class PieceReader:
    """Reads new rows of a snapshot's tables with workers, on at most `connections` connections to the source.

    The tables that it leaves in the workspace are dropped by `tables`.
    """

    def __init__(
        self,
        workers: Workers,
        connections: int,
        snapshot: Snapshot,
        workspace: Workspace,
        store: Store,
        label: BatchLabel,
        tables: TableReader,
        writer: PacketWriter,
    ) -> None:
        self._workers = workers
        self._connections = connections
        self._snapshot = snapshot
        self._tables = tables
        self._place = Place(snapshot.instant, store.url, label, workspace.memory)
        self._bench = partial(Bench, workspace, snapshot.reader, store, writer.begin)

    def read(
        self, tables: Sequence[tuple[SourceTable, Sequence[Piece]]], take: Callable[[], bool] | None = None
    ) -> Iterator[ReadTable]:
        """Reads pieces of several tables, and yields each table once it is read, in order.

        The pieces of all tables are in one queue, so that no worker waits for the last piece of a table. `take` is called before
        each piece, by one thread at a time; if it refuses one, reading that table ends before it. A table that cannot be read
        is yielded with the error.

        Args:
            tables: tables whose keys PostgreSQL enforces, each with its pieces.
            take: whether another piece may be read; by default all are.
        """
        reads = [
            _Reading(table, pieces, self._snapshot.size_bytes(table), _native(table))
            for table, pieces in tables
        ]
        given: deque[int] = deque()
        pieces = sum(len(read.pieces) for read in reads)
        task = PieceTask(self._place, self._bench(min(threads(self._connections), pieces)))
        yielded = 0
        with closing(self._workers.map(task, self._pieces(reads, given, take), self._connections)) as results:
            for result in results:
                number = given.popleft()
                while yielded < number:
                    yield reads[yielded].done()
                    yielded += 1
                reads[number].add(result)
                if isinstance(result, WrittenPiece) and result.rows:
                    self._tables.adopt(reads[number].table, [result.rows.name])
        for read in reads[yielded:]:
            yield read.done()

    def _pieces(
        self, reads: Sequence[_Reading], given: deque[int], take: Callable[[], bool] | None
    ) -> Iterator[TablePiece]:
        """The pieces to read; `given` gets the number of the table of each, before a worker does."""
        bytes_in_all, bytes_begun = sum(read.bytes for read in reads), 0.0
        for position, read in enumerate(reads):
            read.began = time.perf_counter()
            for number, piece in enumerate(read.pieces, start=1):
                report(f"reading {read.table.name}", bytes_begun, bytes_in_all, "bytes")
                bytes_begun += read.bytes / len(read.pieces)
                if read.failure:
                    break
                if take is not None and not take():
                    read.left = piece
                    break
                given.append(position)
                yield TablePiece(read.table, piece.condition, number, read.native)


def _native(table: SourceTable) -> frozenset[int]:
    """The columns to read in native types; none if marks are digests, which are computed from text."""
    if not table.has_transaction_ids:
        return frozenset()
    native = {number for number, column in enumerate(table.columns) if column.native}
    return frozenset(native.difference(table.key_positions))
