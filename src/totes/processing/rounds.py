"""The transactions of a batch in as few rounds as give each row every version that they made of it. Pure.

A round is processed as a whole batch would be. Two transactions may be in one if no row of the star shows both of them:
what one changed is then seen as of before the other or after it, and nobody can tell. What a row refers to is in an
earlier round than the row or in the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from itertools import groupby
from operator import itemgetter

from totes import engine
from totes.processing.bound.leaf import Leaf
from totes.processing.bound.query import BoundQuery
from totes.processing.source_rows import TURN


def touches(query: BoundQuery, changes: Mapping[str, str], rows: Callable[[Leaf], str]) -> str:
    """A query for what each transaction of a batch touches of a model: its place in the log, a table, and a row of the star.

    Args:
        query: the model.
        changes: relations with the changes of source tables, each with `TURN`.
        rows: gives the rows of a leaf before the batch.
    """
    changed = [leaf for leaf in query.leaves if leaf.relation.name in changes]
    parts = [
        f"SELECT {TURN}, {engine.text(leaf.relation.name)} AS t, NULL::UBIGINT AS row FROM {changes[leaf.relation.name]}"
        for leaf in changed
    ]
    if not query.model.versioned:  # of such a row only the last state is seen
        return " UNION ALL ".join(parts)
    base = query.base
    if base in changed:
        row = _row(query, base.relation.key)
        parts.append(
            f"SELECT {TURN}, {engine.text(base.relation.name)}, {row} FROM {changes[base.relation.name]}"
        )

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

        def only_changed(one: Leaf, leaf: Leaf = leaf, mine: str = mine) -> str:
            semi_join = f"SEMI JOIN {mine} AS o ON {engine.equal('r', 'o', leaf.relation.key)}"
            return f"(SELECT r.* FROM {states(one)} AS r {semi_join})" if one is leaf else states(one)

        same = engine.equal("joined", "change", leaf.key, leaf.relation.key)
        parts.append(
            f"SELECT {TURN}, {engine.text(leaf.relation.name)}, {_row(query, base.key)}"
            f" FROM ({query.touching(leaf, only_changed)}) AS joined JOIN {mine} AS change ON {same}"
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


def _row(query: BoundQuery, key: tuple[str, ...]) -> str:
    """The SQL of what stands for a row of the star: that of the first table that it comes from."""
    return f"hash({engine.text(query.base.relation.name)}, {engine.names(key)})"


def rounds_of(
    touches: Iterable[tuple[int, str, Hashable]], after: Mapping[str, frozenset[str]]
) -> dict[int, int]:
    """The round of each transaction, counted from 1.

    Args:
        touches: what each transaction touches, in the order of the transactions: its place in the log, a source table, and
            a row of the star, or None for what only shows that the table was changed.
        after: by source table, those whose changes are seen by what refers to them, and have to be there by then.
    """
    rounds: dict[int, int] = {}
    of_row: dict[Hashable, int] = {}
    of_table: dict[str, int] = {}
    for turn, touched in groupby(touches, key=itemgetter(0)):
        tables, rows = set[str](), set[Hashable]()
        for _, table, row in touched:
            tables.add(table)
            if row is not None:
                rows.add(row)
        found = max((of_row.get(row, 0) + 1 for row in rows), default=1)
        parents = {parent for table in tables for parent in after.get(table, ())}
        found = max([found, *(of_table.get(parent, 1) for parent in parents)])
        rounds[turn] = found
        of_row.update(dict.fromkeys(rows, found))
        for table in tables:
            of_table[table] = max(of_table.get(table, 1), found)
    return rounds
