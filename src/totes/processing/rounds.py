"""The transactions of a batch in as few rounds as give each row every version that they made of it. Pure.

A round is processed as a whole batch would be. Two transactions may be in one if no row of the star shows both of them: what
one changed is then seen as of before the other or after it, and nobody can tell. They also may if a row shows both by its own
changes alone, which are processed in order. The changes of one source row stay in order, and what a row refers to is in an
earlier round than the row or in the same one; in a later one, where it came after the row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from totes import engine
from totes.lake.packets import TURN
from totes.processing.bound.leaf import Leaf
from totes.processing.bound.query import BoundQuery
from totes.processing.touched import only, seen_changes
from totes.star.model import Model


class Touch(NamedTuple):
    """What a transaction touches: a row, by a number that stands for it, because of a change in a table.

    With `alone`, no other transaction that touches the row can be in its round: it is a row of the star whose states cannot be
    computed at once.
    """

    turn: int
    table: str
    row: int
    alone: bool


@dataclass(frozen=True)
class Round:
    """What changes in a round: relations by the name of what changed.

    `changes` has the last change of each row, `steps` all changes, where rows have several.
    """

    changes: dict[str, str]
    steps: dict[str, str]


def split(
    connection: engine.Engine,
    changes: Mapping[str, str],
    keys: Mapping[str, tuple[str, ...]],
    turns: Mapping[int, int],
) -> list[Round]:
    """The rounds of a batch, in order.

    Args:
        connection: the batch's.
        changes: relations with all changes, by the name of what changed, each with `TURN`.
        keys: the key of each of these.
        turns: the round of each transaction; one that has none is in the first.
    """
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE rounds AS SELECT unnest(?::BIGINT[]) AS {TURN}, unnest(?::BIGINT[]) AS round",
        [list(turns), list(turns.values())],
    )
    rounds = [Round({}, {}) for _ in range(max(turns.values(), default=1))]
    for name, relation in changes.items():
        last = f"{TURN} = max({TURN}) OVER (PARTITION BY round, {engine.names(keys[name])}) AS is_last"
        rows = (
            f"SELECT * REPLACE (coalesce(round, 1) AS round) FROM {relation} LEFT JOIN rounds USING ({TURN})"
        )
        table = engine.create_temporary(connection, "in_rounds", name, f"SELECT *, {last} FROM ({rows})")
        found = f"SELECT round, bool_and(is_last) FROM {table} GROUP BY round"
        for number, is_once in connection.execute(found).fetchall():
            rows = f"SELECT * EXCLUDE (round, is_last) FROM {table} WHERE round = {number}"
            rounds[number - 1].changes[name] = f"({rows} AND is_last)"
            if not is_once:
                rounds[number - 1].steps[name] = f"({rows})"
    return rounds


def touches(
    queries: Iterable[BoundQuery],
    changes: Mapping[str, str],
    rows: Callable[[Leaf], str],
    present: Callable[[Model], Mapping[str, str]],
    waiting: Callable[[BoundQuery], str | None],
) -> str:
    """A query for what each transaction of a batch touches, in the order of the transactions; empty where that is nothing.

    Args:
        queries: the models.
        changes: relations with the changes of source tables, each with `TURN`.
        rows: gives the rows of a leaf before the batch.
        present: gives, by each table that a model refers to, the relation with the keys that it had before the batch, as `k`.
        waiting: gives a query for the first table's rows that were in quarantine then, if there are any.
    """
    named = {query.model.name: query for query in queries}
    found = [_touches(query, changes, rows) for query in named.values()]
    for query in named.values():
        keys, quarantined = present(query.model), waiting(query)
        for column, target in query.model.references.items():
            if target in named:
                found.append(
                    _arrivals(query, column, named[target], keys[target], quarantined, changes, rows)
                )
    asked = " UNION ".join(filter(None, found))
    return f"{asked} ORDER BY 1" if asked else ""


def _touches(query: BoundQuery, changes: Mapping[str, str], rows: Callable[[Leaf], str]) -> str:
    """A query for what each transaction touches of a model."""
    parts = [
        f"SELECT {TURN}, {engine.text(leaf.relation.name)} AS t, {_row(leaf, leaf.relation.key)} AS r,"
        f" {_is_alone(query, leaf)} AS alone FROM {changes[leaf.relation.name]}"
        for leaf in _changed(query, changes)
    ]
    limit = _limit(query, changes)
    if limit is not None:
        parts += [
            f"SELECT {TURN}, {engine.text(leaf.relation.name)}, {_row(query.base, query.base.key)}, true FROM ({joined}){limit}"
            for leaf, joined in _joined(query, changes, rows)
        ]
    return " UNION ALL ".join(parts)


def _arrivals(
    query: BoundQuery,
    column: str,
    target: BoundQuery,
    present: str,
    waiting: str | None,
    changes: Mapping[str, str],
    rows: Callable[[Leaf], str],
) -> str:
    """A query for what new rows of another table touch: rows that have referred to them in a column before they were there.

    Empty where columns of source tables do not show which row refers to which.
    """
    base, other = query.base, target.base
    [carrier] = [output.carrier for output in query.outputs if output.column.name == column]
    if not carrier or carrier[0] is not base or not target.key_is_base_key:
        return ""
    [key], [own] = target.model.primary_key, other.relation.key
    came = [
        f"SELECT {TURN}, {engine.name(other.key[0])} AS k FROM ({joined})"
        for _, joined in _joined(target, changes, rows)
    ]
    if other.relation.name in changes:
        came.append(f"SELECT {TURN}, {engine.name(own)} AS k FROM {changes[other.relation.name]}")
    [kind] = [output.column.type for output in target.outputs if output.column.name == key]
    referred = f"{engine.name(carrier[1].name)}::VARCHAR AS k, {_row(base, base.relation.key)} AS r"
    referring = [f"SELECT {referred}, -1 AS since FROM ({waiting})"] if waiting else []
    if base.relation.name in changes:
        referring.append(f"SELECT {referred}, {TURN} AS since FROM {changes[base.relation.name]}")
    if not came or not referring:
        return ""
    return (
        f"SELECT came.{TURN}, {engine.text(other.relation.name)}, r, true FROM ({' UNION ALL '.join(came)}) AS came"
        f" JOIN ({' UNION ALL '.join(referring)}) AS referring ON referring.k = came.k::VARCHAR AND since < came.{TURN}"
        f" ANTI JOIN {present} AS present ON present.k = TRY_CAST(came.k AS {kind})"
    )


def _changed(query: BoundQuery, changes: Mapping[str, str]) -> list[Leaf]:
    return [leaf for leaf in query.leaves if leaf.relation.name in changes]


def _joined(
    query: BoundQuery, changes: Mapping[str, str], rows: Callable[[Leaf], str]
) -> Iterator[tuple[Leaf, str]]:
    """By each changed leaf but the first, a query for the keys of the first table's rows that were joined with its changed rows.

    They have `TURN`, and hidden names as `touching` gives them.
    """

    def states(leaf: Leaf) -> str:
        """All rows that a leaf has before the batch or at any moment of it."""
        if leaf.relation.name not in changes:
            return rows(leaf)
        columns = engine.names([*(column.name for column in leaf.relation.columns), "_at"])
        return (
            f"(SELECT {columns} FROM {rows(leaf)} UNION ALL"
            f" SELECT {columns} FROM {changes[leaf.relation.name]} WHERE _op = 'upsert')"
        )

    for leaf in _changed(query, changes):
        if leaf is not query.base:
            mine = f"({seen_changes(leaf, changes[leaf.relation.name], rows(leaf), from_log=True)})"
            same = engine.equal("joined", "change", leaf.key, leaf.relation.key)
            joined = query.touching(leaf, only(states, leaf, mine, leaf.relation.key))
            keys = engine.names(query.base.key, "joined")
            yield (
                leaf,
                f"SELECT {TURN}, {keys} FROM (SELECT DISTINCT * FROM ({joined})) AS joined JOIN {mine} AS change ON {same}",
            )


def parents(queries: Collection[BoundQuery]) -> dict[str, frozenset[str]]:
    """By source table, the tables whose changes show in the rows that the rows of its models refer to."""
    read = {query.model.name: {leaf.relation.name for leaf in query.leaves} for query in queries}
    found: dict[str, set[str]] = {}
    for query in queries:
        seen = set().union(*(read.get(target, ()) for target in query.model.references.values()))
        for table in read[query.model.name]:
            found.setdefault(table, set()).update(seen)
    return {table: frozenset(seen) for table, seen in found.items()}


def related(queries: Collection[BoundQuery], model: Model) -> tuple[set[str], set[str]]:
    """The tables that a model refers to, directly or not, and itself; and the relations that all of these read."""
    named = {query.model.name: query for query in queries}
    reached, following = set[str](), [model.name]
    while following:
        name = following.pop()
        if name not in reached:
            reached.add(name)
            following += named[name].model.references.values() if name in named else []
    read = {leaf.relation.name for name in reached & named.keys() for leaf in named[name].leaves}
    return reached, read


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
    same = engine.equal("touched", "deleted", query.base.key, query.base.relation.key)
    return f" AS touched SEMI JOIN (FROM {deleted} WHERE _op = 'delete') AS deleted ON {same}"


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
