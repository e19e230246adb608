"""What the rows of one model are computed from in one batch, as relations in SQL. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from totes import engine
from totes.processing.bound.leaf import Leaf
from totes.processing.bound.query import BoundQuery
from totes.processing.state import BEGINS, DELETED


def moment(time: datetime) -> str:
    """A time as SQL."""
    return f"TIMESTAMP {engine.text(time.isoformat(sep=' ', timespec='microseconds'))}"


@dataclass(frozen=True)
class Inputs:
    """The relations that a model reads in a batch.

    Attributes:
        query: the model.
        changes: the relation with the first table's rows that changed in this batch; None where there are none.
        seen: relations with the changes of joined tables that the model sees, by the leaf's index.
        rows: gives the relation with all present rows of a leaf.
        known: the relation with the newest version of each row of the model's table; None where there is none.
        whole: whether every row is computed.
        read_at: when the batch read the source, as SQL.
        from_log: whether changes have the time of their own transaction's commit, which then counts in its place.
        retried: a relation with rows of the first table that are in quarantine and computed again, though unchanged.
        steps: a relation with all changes of the first table, if some rows have several; `changes` has the last one of each.
    """

    query: BoundQuery
    changes: str | None
    seen: Mapping[int, str]
    rows: Callable[[Leaf], str]
    known: str | None
    whole: bool
    read_at: str
    from_log: bool = False
    retried: str | None = None
    steps: str | None = None

    @property
    def base_changes(self) -> str | None:
        """The first table's changes, and its rows that are computed again as if they had changed."""
        return self._with_retried(self.changes)

    @property
    def base_steps(self) -> str | None:
        """The same, with all changes of each row."""
        return self._with_retried(self.steps)

    @property
    def in_order(self) -> bool:
        """Whether the model's rows are computed for each change of the first table, in order."""
        return self.steps is not None and not self.whole and self.query.steps_in_order

    def _with_retried(self, changes: str | None) -> str | None:
        parts = [part for part in (changes, self.retried) if part]
        return (
            parts[0]
            if len(parts) == 1
            else f"(FROM {' UNION ALL BY NAME FROM '.join(parts)})"
            if parts
            else None
        )

    @property
    def reads_changes(self) -> bool:
        """Whether the changes of the first table are all that is read."""
        return self.query.rowwise and not self.whole

    @property
    def base_rows(self) -> str:
        """The first table's rows that the new rows are computed from, and possibly more."""
        if self.reads_changes:
            return f"(FROM {self.base_changes} WHERE _op = 'upsert')"
        return self.rows(self.query.base)

    @property
    def columns(self) -> list[str]:
        """The columns of the newest versions, but for when each began and whether it is deleted."""
        lineage = self.query.lineage if self.query.keeps_lineage else ()
        return [*(column.name for column in self.query.model.produced), *lineage]

    def same_key(self, left: str, right: str) -> str:
        """The condition that two rows have the same key; a plain one is far cheaper where no key can be NULL."""
        given = {column.name for column in self.query.model.produced if column.not_null}
        compare = engine.equal if given.issuperset(self.query.key) else engine.same
        return compare(left, right, self.query.key)

    @property
    def newest(self) -> str:
        """The relation with the newest version of each row, which may be empty."""
        if self.known:
            return self.known
        return none_known(self.query)


def none_known(query: BoundQuery) -> str:
    """A relation in the shape of the newest versions of rows, without any."""
    types = {column.name: column.type for column in query.model.produced}
    types |= query.lineage_types if query.keeps_lineage else {}
    columns = ", ".join(f"NULL::{kind} AS {engine.name(name)}" for name, kind in types.items())
    return f"(SELECT {columns}, NULL::TIMESTAMP AS {BEGINS}, NULL::BOOLEAN AS {DELETED} WHERE false)"
