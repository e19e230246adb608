"""A model's computed rows beside the newest known version of each: what is new, what differs, what is deleted. Pure."""

from __future__ import annotations

from totes import engine
from totes.processing.bound.leaf import AT
from totes.processing.bound.problem import PROBLEM
from totes.processing.bound.query import BoundQuery
from totes.processing.inputs import Inputs
from totes.processing.source_rows import READ
from totes.processing.state import BEGINS, DELETED

CHANGED, NEWEST = '"~changed"', '"~newest"'
# When the row changed at the source, when that was read, and when the known version began.
_AT, _READ, _BEFORE = '"~changed_at"', '"~read_at"', '"~before"'
SHORTEST_VERSION = "1 microsecond"
# Of intervals, 30 days and a month would be equal; of floats, 0 and -0.
COMPARED_AS_TEXT = dict.fromkeys(("INTERVAL", "FLOAT", "DOUBLE"), "::VARCHAR")


def versions(inputs: Inputs, new: str, old: str, touched: str) -> str:
    """A query for the newest versions of computed rows, and of those that are deleted, each marked whether it changed.

    A version begins at the source's own time when the first table's row has changed, and that time is later than the
    version before it began; otherwise when the batch read the source, or its transaction was committed, or a microsecond
    after the version before it if that is later still.

    Args:
        inputs: what the model reads.
        new: the relation with its computed rows.
        old: the newest known version of each row that may have changed.
        touched: the relation with the touched keys, where the model has one.
    """
    query = inputs.query
    correct = f"(SELECT * FROM {new} WHERE {engine.name(PROBLEM)} IS NULL)"
    change_time = "base_change._at" if _base_changed(inputs) else "NULL::TIMESTAMP"
    source_time = f"CASE WHEN old.{DELETED} IS NULL THEN new.{engine.name(AT)} ELSE {change_time} END"
    # What stands in several places is a column of its own. Otherwise the engine would find that out, and carry all columns
    # through another step for it; within a CASE, it compares each of the columns' comparisons with all others.
    compared = (
        f"SELECT {engine.names(inputs.columns, 'new')}, {source_time} AS {_AT}, {_read_time(inputs)} AS {_READ},"
        f" old.{BEGINS} AS {_BEFORE}, false AS {DELETED},"
        f" (old.{DELETED} IS DISTINCT FROM false OR {_differs(inputs)}) AS {CHANGED}"
        f" FROM {correct} AS new LEFT JOIN {old} AS old ON {inputs.same_key('new', 'old')}"
        f" {_join_base_changes(inputs, 'new', query.base.key)} {_join_touched(inputs, 'new', query.base.key, touched)}"
        f" UNION ALL SELECT {engine.names(inputs.columns, 'old')}, {change_time}, {_read_time(inputs)}, old.{BEGINS}, true, true"
        f" FROM {old} AS old {_join_base_changes(inputs, 'old', query.key_of(query.base))}"
        f" {_join_touched(inputs, 'old', query.key_of(query.base), touched)}"
        f" WHERE NOT old.{DELETED}"
        f" AND NOT EXISTS (SELECT 1 FROM {new} AS new WHERE {inputs.same_key('new', 'old')})"
        f" AND NOT EXISTS (SELECT 1 FROM {new} AS new WHERE {_same_base(inputs)})"
    )
    return (
        f"SELECT {engine.names(inputs.columns)}, CASE WHEN {CHANGED} THEN {_begins(inputs)} ELSE {_BEFORE} END AS {BEGINS},"
        f" {DELETED}, {CHANGED}, true AS {NEWEST} FROM ({compared})"
    )


def end_of_version(query: BoundQuery) -> str:
    """The SQL of when a version ends that is among all those of its row: where the next one begins."""
    return f"lead({BEGINS}) OVER (PARTITION BY {engine.names(query.key)} ORDER BY {BEGINS})"


def _differs(inputs: Inputs) -> str:
    return " OR ".join(
        f"new.{engine.name(column.name)}{as_text} IS DISTINCT FROM old.{engine.name(column.name)}{as_text}"
        for column in inputs.query.model.produced
        for as_text in (COMPARED_AS_TEXT.get(column.type, ""),)
    )


def _read_time(inputs: Inputs) -> str:
    """When the batch read the source; of one from the log, when the transaction was committed that touched the row."""
    if inputs.from_log and not inputs.whole:
        return f"coalesce({'base_change' if inputs.query.rowwise else 'touched'}.{READ}, {inputs.read_at})"
    return inputs.read_at


def _begins(inputs: Inputs) -> str:
    if not inputs.query.model.versioned:
        return "NULL::TIMESTAMP"
    advanced = f"{_AT} IS NOT NULL AND ({_BEFORE} IS NULL OR {_AT} > {_BEFORE})"
    return (
        f"CASE WHEN {advanced} THEN {_AT} ELSE"
        f" greatest({_READ}, coalesce({_BEFORE} + INTERVAL '{SHORTEST_VERSION}', {_READ})) END"
    )


def _same_base(inputs: Inputs) -> str:
    """The condition that `new` has a problem and comes from the row of the first table that `old` comes from."""
    query = inputs.query
    if not query.base.relation.key:
        return "false"
    same = engine.equal("new", "old", query.base.key, query.key_of(query.base))
    return f"(new.{engine.name(PROBLEM)} IS NOT NULL AND {same})"


def _base_changed(inputs: Inputs) -> bool:
    known = (
        inputs.known is not None or inputs.from_log
    )  # else, without an earlier version, there is nothing to compare
    return known and inputs.base_changes is not None and bool(inputs.query.base.relation.key)


def _join_base_changes(inputs: Inputs, rows: str, columns: tuple[str, ...]) -> str:
    """Joins the first table's changes to rows that have its key in these columns, as `base_change`."""
    if not _base_changed(inputs):
        return ""
    key = inputs.query.base.relation.key
    return (
        f"LEFT JOIN {inputs.base_changes} AS base_change ON {engine.equal(rows, 'base_change', columns, key)}"
    )


def _join_touched(inputs: Inputs, rows: str, columns: tuple[str, ...], touched: str) -> str:
    """Joins the time of the transaction that touched them to rows, as `touched`, in a batch from the log."""
    if not inputs.from_log or inputs.whole or inputs.query.rowwise:
        return ""
    key = inputs.query.base.key
    times = f"SELECT {engine.names(key)}, max({READ}) AS {READ} FROM {touched} GROUP BY {engine.names(key)}"
    return f"LEFT JOIN ({times}) AS touched ON {engine.equal(rows, 'touched', columns, key)}"
