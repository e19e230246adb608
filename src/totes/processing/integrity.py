"""What can be wrong with a model's computed rows beside their values: keys that repeat, references that lead nowhere. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from totes import engine
from totes.processing.bound.leaf import PLACE
from totes.processing.bound.problem import PROBLEM, problem
from totes.processing.inputs import Inputs
from totes.processing.state import DELETED
from totes.processing.touched import recomputed_keys


class RowError(NamedTuple):
    """The condition of rows, called `row`, that have a problem, and the problem; where nothing has it, `exists` is 0."""

    condition: str
    problem: str
    exists: str


def repeated_key(inputs: Inputs, new: str) -> RowError:
    """Several of the computed rows have one key."""
    query = inputs.query
    at_once = (*query.key, PLACE) if inputs.in_order else query.key
    keys = engine.names(at_once)
    given = " AND ".join(f"{engine.name(key)} IS NOT NULL" for key in query.key)
    several = f"(SELECT {keys} FROM {new} WHERE {given} GROUP BY {keys} HAVING count(*) > 1)"
    cause = "it is read from text" if query.rowwise else "a join gives more than one row"
    kind = f"several rows have this {', '.join(query.key)}: {cause}"
    return RowError(
        f"EXISTS (SELECT 1 FROM {several} AS several WHERE {engine.same('row', 'several', at_once)})",
        problem(None, kind, message=engine.text(kind)),
        f"SELECT count(*) FROM {several}",
    )


def existing_key(inputs: Inputs, new: str, touched: str) -> RowError:
    """A key that is read from text is that of another source row, which is not computed: '1' and '01' are one INTEGER."""
    query = inputs.query
    source, columns = recomputed_keys(inputs, touched)
    own = query.key_of(query.base)
    kind = f"another row has this {', '.join(query.key)} already: it is read from text"
    condition = (
        f"EXISTS (SELECT 1 FROM {inputs.newest} AS other"
        f" WHERE {engine.same('row', 'other', query.key)} AND NOT other.{DELETED}"
        f" AND NOT ({engine.same('row', 'other', own)})"
        f" AND NOT EXISTS (SELECT 1 FROM {source} AS again WHERE {engine.equal('other', 'again', own, columns)}))"
    )
    return RowError(condition, problem(None, kind, message=engine.text(kind)), _count(new, condition))


def orphan(column: str, target: str, parents: str, new: str) -> RowError:
    """A row refers to one that another table does not have.

    Args:
        column: the column that refers to it.
        target: the other table.
        parents: a relation with the keys that it has, as `k`.
        new: the relation with the computed rows.
    """
    quoted, kind = engine.name(column), f"is not in {target}"
    message = f"{engine.text(f'{column}: ')} || {quoted} || {engine.text(f' {kind}')}"
    correct = f"{engine.name(PROBLEM)} IS NULL"
    return RowError(
        f"row.{quoted} IS NOT NULL AND {correct}"
        f" AND NOT EXISTS (SELECT 1 FROM {parents} AS parent WHERE parent.k = row.{quoted})",
        problem(column, kind, value=quoted, message=message),
        f"SELECT count(*) FROM (SELECT {quoted} AS k FROM {new} WHERE {correct} AND {quoted} IS NOT NULL) AS row"
        f" ANTI JOIN {parents} AS parent ON parent.k = row.k",
    )


def orphans(columns: Iterable[str], parents: str, new: str) -> str:
    """A query for how many references of some columns to one table lead nowhere; `parents` and `new` are as for `orphan`."""
    return f"SELECT count(*) {_leading_nowhere(columns, parents, new)}"


def orphan_keys(columns: Iterable[str], parents: str, new: str) -> str:
    """A query for where they lead, each once, as `k`."""
    return f"SELECT DISTINCT row.k {_leading_nowhere(columns, parents, new)}"


def _leading_nowhere(columns: Iterable[str], parents: str, new: str) -> str:
    return (
        f"FROM (SELECT unnest([{engine.names(columns)}]) AS k FROM {new} WHERE {engine.name(PROBLEM)} IS NULL)"
        f" AS row ANTI JOIN {parents} AS parent ON parent.k = row.k WHERE row.k IS NOT NULL"
    )


def _count(new: str, condition: str) -> str:
    return f"SELECT count(*) FROM {new} AS row WHERE {condition}"
