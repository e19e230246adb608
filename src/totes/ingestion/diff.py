"""What a batch is to read of a table, how the table differs from what was captured, and what is being written of that."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import NamedTuple

from totes.ingestion.catalog import SourceTable
from totes.ingestion.reading import Rows
from totes.lake.manifest import ResumePoint, StoredObject


class CapturePlan(NamedTuple):
    """What a batch is to read of a table.

    `recent` is the condition of rows that were written lately, None where there is none. `rest` is the part that no batch
    has read yet, and `added` are the positions of columns that are new.
    """

    recent: str | None = None
    rest: ResumePoint | None = None
    added: tuple[int, ...] = ()


@dataclass(frozen=True)
class TableDiff:
    """How one table differs from what was captured.

    `read` are the rows that were read, `new` those of them that are not known, `deleted` the keys of known rows that are
    not there any more, and `remarked` keys and marks of rows that are as they were captured, under another mark. `added` is how
    many of the new rows have a key that is not known, `unwritten` which of the new rows no object is being made of yet, and
    `written` the objects that are being made of the others.
    """

    table: SourceTable
    read: tuple[Rows, ...] = ()
    new: tuple[Rows, ...] = ()
    added: int = 0
    unwritten: tuple[Rows, ...] = ()
    written: tuple[Future[StoredObject], ...] = ()
    deleted: Rows | None = None
    remarked: tuple[Rows, ...] = ()

    def __add__(self, other: TableDiff) -> TableDiff:
        """Both together: no row is in both."""
        return TableDiff(
            self.table,
            self.read + other.read,
            self.new + other.new,
            self.added + other.added,
            self.unwritten + other.unwritten,
            self.written + other.written,
            remarked=self.remarked + other.remarked,
        )

    @property
    def retained(self) -> list[str]:
        """The tables that hold what the batch is made of."""
        return names_of((*self.new, *self.remarked, *((self.deleted,) if self.deleted else ())))

    @property
    def upserts(self) -> int:
        """How many rows are new or changed."""
        return sum(rows.count for rows in self.new)

    @property
    def deletes(self) -> int:
        """How many rows are deleted."""
        return self.deleted.count if self.deleted else 0


class Writing(NamedTuple):
    """A table's diff while its objects are being written, how many rows there are, and when it was begun."""

    diff: TableDiff
    rest: ResumePoint | None
    rows: int
    began: float
    objects: list[Future[StoredObject]]
    marks: Future[StoredObject] | None


def names_of(several: Iterable[Rows]) -> list[str]:
    """The names of the tables."""
    return [rows.name for rows in several]


def filled(several: Iterable[Rows]) -> tuple[Rows, ...]:
    """Those that have rows."""
    return tuple(rows for rows in several if rows.count)
