"""The versions that several changes of one row make, in one query: what each state differs from is the state before it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from totes import engine
from totes.processing.bound.leaf import AT, PLACE
from totes.processing.bound.problem import PROBLEM
from totes.processing.inputs import Inputs
from totes.processing.source_rows import READ
from totes.processing.state import BEGINS, DELETED
from totes.processing.touched import packed, steps
from totes.processing.versions import CHANGED, COMPARED_AS_TEXT, NEWEST, SHORTEST_VERSION

_PLACE = engine.name(PLACE)
_BEFORE_ALL = "-1::BIGINT"  # the place of a known version


def versions_in_order(inputs: Inputs, new: str, old: str, touched: str) -> str:
    """A query like that of `versions`, for computed rows that may have several states, each with its place.

    It has a row for each version, and a row's newest state, which is no version if it does not differ from the one before; of a
    table with one row a key, the newest state alone. A state with a problem is left out: the version before it stays.

    Args:
        inputs: what the model reads.
        new: the relation with its computed rows.
        old: the newest known version of each row that may have changed.
        touched: the relation with the touched keys, where the model has one.
    """
    keys = [f"k{number}" for number in range(len(inputs.query.base.relation.key))]
    partition = ", ".join(keys)
    state = (
        "{'place': place, 'row': CASE WHEN present THEN row ELSE before END, 'present': present, 'changed': changed,"
        " 'own': CASE WHEN begun IS NULL THEN coalesce(own, first_own) ELSE own END, 'read': read}"
    )
    chained = (
        f"SELECT {partition}, any_value(begun) AS begun, list_sort(list({state})) AS states"
        f" FROM (SELECT *, {_changed(inputs)} AS changed FROM ({_beside_the_one_before(inputs, new, old, touched, keys)})"
        f" WHERE place > {_BEFORE_ALL} AND (present OR was)) GROUP BY {partition}"
    )
    columns = ", ".join(
        f"state.row.c{number} AS {engine.name(column)}" for number, column in enumerate(inputs.columns)
    )
    if not inputs.query.model.versioned:
        return (
            f"SELECT {columns}, NULL::TIMESTAMP AS {BEGINS}, NOT state.present AS {DELETED}, changed AS {CHANGED},"
            f" true AS {NEWEST} FROM (SELECT states[-1] AS state, list_bool_or([one.changed FOR one IN states]) AS changed"
            f" FROM ({chained}))"
        )
    return (
        f"SELECT {columns}, begins AS {BEGINS}, NOT state.present AS {DELETED}, state.changed AS {CHANGED},"
        f" newest AS {NEWEST} FROM (SELECT unnest(states) AS state, unnest({_beginnings()}) AS begins,"
        f" generate_subscripts(states, 1) = len(states) AS newest FROM ({chained})) WHERE state.changed OR newest"
    )


def last_states(inputs: Inputs, new: str, touched: str) -> str:
    """The relation with those of the computed rows that are not followed by another state of their row."""
    query = inputs.query
    same = engine.equal("state", "later", query.base.key, query.base.relation.key)
    return (
        f"(SELECT state.* FROM {new} AS state ANTI JOIN ({steps(inputs, touched)}) AS later"
        f" ON {same} AND later.{_PLACE} > state.{_PLACE})"
    )


def _beside_the_one_before(inputs: Inputs, new: str, old: str, touched: str, keys: Sequence[str]) -> str:
    """A query for the states of each row in order, each with the one before it; a known version is the first."""
    query = inputs.query
    same = engine.equal("new", "step", query.base.key, query.base.relation.key)
    no_times = "NULL::TIMESTAMP AS own, NULL::TIMESTAMP AS first_own, NULL::TIMESTAMP AS read"
    states = (
        f"SELECT {_named(query.key_of(query.base), keys, 'old')}, {_BEFORE_ALL} AS place, NOT {DELETED} AS present,"
        f" {packed(inputs.columns, 'old')} AS row, {no_times}, {BEGINS} AS begins FROM {old} AS old"
        f" UNION ALL SELECT {_named(query.base.relation.key, keys, 'step')}, step.{_PLACE}, new.is_there IS NOT NULL,"
        f" {packed(inputs.columns, 'new')}, step._at, new.{engine.name(AT)},"
        f" coalesce(step.{READ}, {inputs.read_at}), NULL"
        f" FROM ({steps(inputs, touched)}) AS step LEFT JOIN (SELECT *, true AS is_there FROM {new}) AS new"
        f" ON {same} AND new.{_PLACE} = step.{_PLACE} WHERE new.{engine.name(PROBLEM)} IS NULL"
    )
    partition = ", ".join(keys)
    return (
        f"SELECT *, lag(present) OVER in_order AS was, lag(row) OVER in_order AS before,"
        f" max(begins) OVER (PARTITION BY {partition}) AS begun FROM ({states})"
        f" WINDOW in_order AS (PARTITION BY {partition} ORDER BY place)"
    )


def _changed(inputs: Inputs) -> str:
    """The SQL of whether a state is a version: whether it differs from the one before."""
    types = {column.name: column.type for column in inputs.query.model.produced}
    differs = " OR ".join(
        f"row.c{number}{as_text} IS DISTINCT FROM before.c{number}{as_text}"
        for number, column in enumerate(inputs.columns)
        if column in types
        for as_text in (COMPARED_AS_TEXT.get(types[column], ""),)
    )
    return f"(NOT present OR was IS NOT TRUE OR {differs})"


def _beginnings() -> str:
    """The SQL of when each of the states began: a single one, or each of several after the one before."""
    unknown = "{'changed': NULL::BOOLEAN, 'own': NULL::TIMESTAMP, 'read': NULL::TIMESTAMP, 'begins': "
    taken = "[{'changed': one.changed, 'own': one.own, 'read': one.read, 'begins': NULL::TIMESTAMP}]"
    chain = (
        f"list_reduce(list_transform(states, lambda one: {taken}), lambda earlier, later: list_append(earlier,"
        f" {unknown}{_begins('later[1]', 'earlier[-1].begins')}}}), [{unknown}begun}}])"
    )
    several = f"list_transform({chain}[2:], lambda one: one.begins)"
    return f"CASE WHEN len(states) = 1 THEN [{_begins('states[1]', 'begun')}] ELSE {several} END"


def _begins(state: str, before: str) -> str:
    """The SQL of when a state began, by the rule of `versions`; one that is no version began with the one before."""
    advanced = f"{state}.own IS NOT NULL AND ({before} IS NULL OR {state}.own > {before})"
    shortest = f"coalesce({before} + INTERVAL '{SHORTEST_VERSION}', {state}.read)"
    return (
        f"CASE WHEN NOT {state}.changed THEN {before} WHEN {advanced} THEN {state}.own"
        f" ELSE greatest({state}.read, {shortest}) END"
    )


def _named(columns: Sequence[str], names: Sequence[str], alias: str) -> str:
    return ", ".join(
        f"{engine.name(alias, column)} AS {name}" for column, name in zip(columns, names, strict=True)
    )
