"""The transactions of a batch in as few rounds as give each row every version that they made of it. Pure.

A round is processed as a whole batch would be. Two transactions may be in one if no row of the star shows both of them:
what one changed is then seen as of before the other or after it, and nobody can tell. The changes of one source row stay in
order, and what a row refers to is in an earlier round than the row or in the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import groupby
from typing import NamedTuple

from totes import engine
from totes.lake.packets import TURN
from totes.processing.bound.leaf import Leaf
from totes.processing.bound.query import BoundQuery
from totes.processing.touched import only


class Touch(NamedTuple):
    """What a transaction touches: a row, by a number that stands for it, because of a change in a table.

    With `shown`, it is a row of a versioned table, which shows the transaction; else a row of the source.
    """

    turn: int
    table: str
    row: int
    shown: bool


def touches(query: BoundQuery, changes: Mapping[str, str], rows: Callable[[Leaf], str]) -> str:
    """A query for what each transaction of a batch touches of a model, as in `Touch`.

    Args:
        query: the model.
        changes: relations with the changes of source tables, each with `TURN`.
        rows: gives the rows of a leaf before the batch.
    """
    changed = [leaf for leaf in query.leaves if leaf.relation.name in changes]
    parts = [
        f"SELECT {TURN}, {engine.text(leaf.relation.name)} AS t, {_row(leaf, leaf.relation.key)} AS r,"
        f" {str(query.model.versioned and leaf is query.base).lower()} AS shown FROM {changes[leaf.relation.name]}"
        for leaf in changed
    ]
    if not query.model.versioned:  # of such a row only the last state is seen
        return " UNION ALL ".join(parts)

    def states(leaf: Leaf) -> str:
        """All rows that a leaf has before the batch or at any moment of it."""
        if leaf.relation.name not in changes:
            return rows(leaf)
        columns = engine.names([*(column.name for column in leaf.relation.columns), "_at"])
        return (
            f"(SELECT {columns} FROM {rows(leaf)} UNION ALL"
            f" SELECT {columns} FROM {changes[leaf.relation.name]} WHERE _op = 'upsert')"
        )

    for leaf in changed if len(query.leaves) > 1 else ():
        mine = changes[leaf.relation.name]
        same = engine.equal("joined", "change", leaf.key, leaf.relation.key)
        joined = query.touching(leaf, only(states, leaf, mine, leaf.relation.key))
        parts.append(
            f"SELECT {TURN}, {engine.text(leaf.relation.name)}, {_row(query.base, query.base.key)}, true"
            f" FROM ({joined}) AS joined JOIN {mine} AS change ON {same}"
        )
    return " UNION ALL ".join(parts)


def parents(queries: Collection[BoundQuery]) -> dict[str, frozenset[str]]:
    """By source table, the tables whose changes show in the rows that the rows of its models refer to."""
    read = {query.model.name: {leaf.relation.name for leaf in query.leaves} for query in queries}
    found: dict[str, set[str]] = {}
    for query in queries:
        seen = set().union(*(read.get(target, ()) for target in query.model.references.values()))
        for table in read[query.model.name]:
            found.setdefault(table, set()).update(seen)
    return {table: frozenset(seen) for table, seen in found.items()}


def _row(leaf: Leaf, key: tuple[str, ...]) -> str:
    """The SQL of what stands for a row of a source table, and for the row of the star of which that is the first table's."""
    return f"hash({engine.text(leaf.relation.name)}, {engine.names(key)})"


def rounds_of(touches: Iterable[Touch], after: Mapping[str, frozenset[str]]) -> dict[int, int]:
    """The round of each transaction, counted from 1, by its place in the log.

    Args:
        touches: what each transaction touches, in the order of the transactions.
        after: by source table, those whose changes are seen by what refers to them, and have to be there by then.
    """
    rounds: dict[int, int] = {}
    of_row: dict[int, int] = {}
    of_table: dict[str, int] = {}
    for turn, group in groupby(touches, key=lambda touch: touch.turn):
        touched = list(group)
        tables = {touch.table for touch in touched}
        seen = {parent for table in tables for parent in after.get(table, ())}
        found = max(
            1,
            *(of_row.get(touch.row, 1 - touch.shown) + touch.shown for touch in touched),
            *(of_table.get(table, 1) for table in seen),
        )
        rounds[turn] = found
        of_row.update((touch.row, found) for touch in touched)
        of_table.update((table, max(of_table.get(table, 1), found)) for table in tables)
    return rounds
