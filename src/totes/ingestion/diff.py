"""A table on its way through a batch: what to read of it, how it differs from what was captured, and what is being written."""

from __future__ import annotations

from collections.abc import Container, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import NamedTuple

import duckdb

from totes.ingestion.catalog import SourceTable
from totes.ingestion.piece import WrittenPiece
from totes.ingestion.reading import Rows, too_large
from totes.lake.document import StoredObject
from totes.lake.manifest import IngestionManifest, LeftOut, ResumePoint


@dataclass(frozen=True)
class TableDiff:
    """How one table differs from what was captured.

    `read` are all rows that were read, `new` those that are not known, `deleted` the keys of known rows that no longer
    exist, and `remarked` the keys and marks of rows whose content is known and whose mark has changed. `added` is how many of
    the new rows have an unknown key. `pieces` are further new rows, which are written to objects already, and need not be here.
    """

    table: SourceTable
    read: tuple[Rows, ...] = ()
    new: tuple[Rows, ...] = ()
    added: int = 0
    pieces: tuple[WrittenPiece, ...] = ()
    deleted: Rows | None = None
    remarked: tuple[Rows, ...] = ()

    def __add__(self, other: TableDiff) -> TableDiff:
        """The sum of two diffs that have no row in common."""
        return TableDiff(
            self.table,
            self.read + other.read,
            self.new + other.new,
            self.added + other.added,
            self.pieces + other.pieces,
            remarked=self.remarked + other.remarked,
        )

    @property
    def retained(self) -> list[str]:
        """The names of the workspace's tables that the batch still needs."""
        here = (piece.rows for piece in self.pieces if piece.rows)
        return names_of((*self.new, *here, *self.remarked, *((self.deleted,) if self.deleted else ())))

    @property
    def all_new(self) -> tuple[Rows, ...] | None:
        """All new rows, if they are in the workspace."""
        here = [piece.rows for piece in self.pieces if piece.rows]
        written = sum(piece.count > 0 for piece in self.pieces)
        return (*self.new, *here) if len(here) == written else None

    def marks_of_pieces(self) -> list[StoredObject]:
        """The objects with the marks of the pieces, once they are written."""
        return [entry for piece in self.pieces for entry in piece.objects.marks]

    @property
    def is_empty(self) -> bool:
        """Whether nothing has changed."""
        return not (self.upserts or self.deletes or self.remarked)

    @property
    def upserts(self) -> int:
        """How many rows are new or changed."""
        return sum(rows.count for rows in self.new) + sum(piece.count for piece in self.pieces)

    @property
    def deletes(self) -> int:
        """How many rows are deleted."""
        return self.deleted.count if self.deleted else 0


class Writing(NamedTuple):
    """A table whose objects are being written: its diff, where to resume, its number of rows, and when its capture began."""

    diff: TableDiff
    resume: ResumePoint | None
    rows: int
    began: float
    objects: list[Future[StoredObject]]
    marks: Future[StoredObject] | None

    def stored(self) -> tuple[tuple[StoredObject, ...], tuple[StoredObject, ...]]:
        """The table's objects, and those with its marks, once all are written.

        Raises:
            TableUnreadable: a row is too large for the engine's memory.
        """
        try:
            lines = [entry for piece in self.diff.pieces for entry in piece.objects.lines]
            marks = self.diff.marks_of_pieces() + ([self.marks.result()] if self.marks else [])
            return (*lines, *(each.result() for each in self.objects)), tuple(marks)
        except duckdb.OutOfMemoryException as error:
            raise too_large(self.diff.table) from error


def dropped_since(previous: IngestionManifest | None, seen: Container[str]) -> dict[str, LeftOut]:
    """The tables that were captured before and are not among those seen: they were dropped or deselected since."""
    if previous is None:
        return {}
    found = {}
    for table in previous.tables.keys() | previous.left_out.keys():
        before = previous.last_seen(table)
        if before and table not in seen:
            reason = f"{table} was dropped, or is no longer among the tables to be captured"
            found[table] = LeftOut(reason=reason, before=before.without_changes())
    return found


def names_of(several: Iterable[Rows]) -> list[str]:
    """The names of the workspace's tables."""
    return [rows.name for rows in several]


def filled(several: Iterable[Rows]) -> tuple[Rows, ...]:
    """Those with at least one row."""
    return tuple(rows for rows in several if rows.count)
