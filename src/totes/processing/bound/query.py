"""A bound model as SQL for the engine: rows of the warehouse table, each with its problem if it has one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from totes import engine
from totes.processing.bound.declared import Output, checked
from totes.processing.bound.leaf import AT, NO_PLACE, PLACE, Leaf
from totes.star.model import Model


@dataclass(frozen=True, eq=False)
class BoundQuery:
    """A model over the relations of one moment.

    `key` are the output columns that identify a row of the table over time: the primary key of a latest table, and
    of a versioned one the columns that carry the first table's primary key; `key_is_base_key` means that it is just
    the first table's, `key_is_exact` that its values have the same form as the lake's, `key_is_read_from_text`
    that values which differ there may be the same. `leaves` are the tables that the query names, the first table first.
    `key_of_base` are the output columns that carry the first table's key, in the order of that key. `outputs` is how the
    declared columns' values arrive, `hidden` which further columns the query gives. `text` is the query over its leaves, and
    `relaxed_text` the same without WHERE and with inner joins as outer ones.
    """

    model: Model
    leaves: tuple[Leaf, ...]
    key: tuple[str, ...]
    key_of_base: tuple[str, ...]
    key_is_exact: bool
    key_is_read_from_text: bool
    outputs: tuple[Output, ...]
    hidden: tuple[str, ...]
    text: str
    relaxed_text: str

    @property
    def base(self) -> Leaf:
        """The first table."""
        return self.leaves[0]

    @property
    def key_is_base_key(self) -> bool:
        """Whether the key is just the first table's."""
        return bool(self.base.relation.key) and set(self.key_of_base) == set(self.key)

    @property
    def keeps_lineage(self) -> bool:
        """Whether the star table has the hidden key columns too: its own key does not identify the rows it comes from."""
        return len(self.leaves) > 1 or not self.key_is_exact

    @property
    def lineage(self) -> tuple[str, ...]:
        """The hidden columns with the keys of all leaves' rows."""
        return tuple(self.lineage_types)

    @property
    def lineage_types(self) -> dict[str, str]:
        """The types of the hidden columns, by name."""
        return {
            name: leaf.relation.raw_type(part)
            for leaf in self.leaves
            for name, part in zip(leaf.key, leaf.relation.key, strict=True)
        }

    def key_of(self, leaf: Leaf) -> tuple[str, ...]:
        """The columns of the star table with the key of a leaf's row, in the order of the leaf's key."""
        return leaf.key if self.keeps_lineage else self.key_of_base

    @property
    def rowwise(self) -> bool:
        """Whether each row comes from one source row alone and has its key, so that no other row is needed."""
        return len(self.leaves) == 1 and self.key_is_base_key

    @property
    def steps_in_order(self) -> bool:
        """Whether several states of one row of the first table have to be computed, and can be at once, in their order."""
        return self.model.retains_deleted and self.key_is_base_key and not self.key_is_read_from_text

    def touching(self, leaf: Leaf, rows: Callable[[Leaf], str]) -> str:
        """A query for the keys of a leaf's rows and of the first table's rows that these are joined with, under hidden names.

        It takes no notice of WHERE, nor of inner joins that find nothing: whether the row is in the result may depend
        on just that row of the leaf.
        """
        leaves = ", ".join(f"{engine.name(one.name)} AS ({one.sql(rows(one))})" for one in self.leaves)
        found = " AND ".join(f"{engine.name(part)} IS NOT NULL" for part in leaf.key)
        return (
            f'WITH {leaves}, "~rows" AS ({self.relaxed_text})'
            f' SELECT {engine.names(dict.fromkeys((*self.base.key, *leaf.key)))} FROM "~rows" WHERE {found}'
        )

    def sql(self, rows: Callable[[Leaf], str], place: str | None = None) -> str:
        """A query for the model's rows.

        They have the produced columns, `~problem` (what is wrong, as text), `~problems`, the lineage, and `~at`, the
        first table's time.

        Args:
            rows: gives, for each leaf, the relation that it reads.
            place: SQL for the place of a row of the first table among several of one key; then the rows have `~place`.
        """
        places = {self.base.index: place or NO_PLACE}
        leaves = ", ".join(
            f"{engine.name(leaf.name)} AS ({leaf.sql(rows(leaf), places.get(leaf.index, NO_PLACE))})"
            for leaf in self.leaves
        )
        retained = (*self.lineage, AT, PLACE) if place else (*self.lineage, AT)
        return checked(f"WITH {leaves} {self.text}", self.outputs, self.key, self.hidden, retained)
