"""The transactions of a batch in as few rounds as give each row every version that they made of it. Pure.

A round is processed as a whole batch would be. Two transactions may be in one if no row of the star shows both of them: what
one changed is then seen as of before the other or after it, and nobody can tell. They also may if a row shows both by its own
changes alone, which are processed in order. The changes of one source row stay in order, and what a row refers to is in an
earlier round than the row or in the same one.
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

    With `alone`, no other transaction that touches the row can be in its round: it is a row of the star whose states cannot be
    computed at once.
    """

    turn: int
    table: str
    row: int
    alone: bool


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
        f" {_is_alone(query, leaf)} AS alone FROM {changes[leaf.relation.name]}"
        for leaf in changed
    ]

    def states(leaf: Leaf) -> str:
        """All rows that a leaf has before the batch or at any moment of it."""
        if leaf.relation.name not in changes:
            return rows(leaf)
        columns = engine.names([*(column.name for column in leaf.relation.columns), "_at"])
        return (
            f"(SELECT {columns} FROM {rows(leaf)} UNION ALL"
            f" SELECT {columns} FROM {changes[leaf.relation.name]} WHERE _op = 'upsert')"
        )

    for leaf in (leaf for leaf in changed if leaf is not query.base):
        limit = _limit(query, changes)
        if limit is None:
            continue
        mine = changes[leaf.relation.name]
        same = engine.equal("joined", "change", leaf.key, leaf.relation.key)
        joined = query.touching(leaf, only(states, leaf, mine, leaf.relation.key))
        parts.append(
            f"SELECT {TURN}, {engine.text(leaf.relation.name)}, {_row(query.base, query.base.key)}, true"
            f" FROM (SELECT DISTINCT * FROM ({joined})) AS joined{limit} JOIN {mine} AS change ON {same}"
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


def _is_alone(query: BoundQuery, leaf: Leaf) -> str:
    """The SQL of whether changes of a leaf's rows, as such, have to be in rounds of their own."""
    return str(query.model.retains_deleted and leaf is query.base and not query.steps_in_order).lower()


def _limit(query: BoundQuery, changes: Mapping[str, str]) -> str | None:
    """Limits rows to those of which more than the last state is seen; None where that is none of them.

    In a table with one row a key, these are deleted rows that stay there as they were before.
    """
    if query.model.versioned:
        return ""
    deleted = changes.get(query.base.relation.name)
    if not deleted or not query.model.retains_deleted:
        return None
    same = engine.equal("joined", "deleted", query.base.key, query.base.relation.key)
    return f" SEMI JOIN (FROM {deleted} WHERE _op = 'delete') AS deleted ON {same}"


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
    alone: dict[int, bool] = {}
    of_table: dict[str, int] = {}
    for turn, group in groupby(touches, key=lambda touch: touch.turn):
        touched = list(group)
        tables = {touch.table for touch in touched}
        seen = {parent for table in tables for parent in after.get(table, ())}
        after_rows = (
            of_row[each.row] + (each.alone or alone[each.row]) for each in touched if each.row in of_row
        )
        found = max([1, *after_rows, *(of_table.get(table, 1) for table in seen)])
        rounds[turn] = found
        for touch in touched:
            alone[touch.row] = touch.alone or (alone.get(touch.row, False) and of_row[touch.row] == found)
            of_row[touch.row] = found
        of_table.update((table, max(of_table.get(table, 1), found)) for table in tables)
    return rounds
