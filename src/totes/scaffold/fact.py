"""The model of a table that records what happens: its references first, then its dates, then what there is to say and count."""

from __future__ import annotations

import re
from dataclasses import replace

from totes.scaffold.catalog import Column, Reference, Table
from totes.scaffold.columns import (
    add_bookkeeping,
    add_key,
    described_as,
    own_column,
    plain_columns,
    remark,
    shown_columns,
    title,
)
from totes.scaffold.draft import Draft, DraftColumn, Value
from totes.scaffold.joined import is_sure, passed_on
from totes.scaffold.kind import Kind
from totes.scaffold.meaning import is_bookkeeping, is_created, is_event_date
from totes.scaffold.naming import CALENDAR_MODEL
from totes.scaffold.star import Plan, described
from totes.scaffold.words import listed, plural, snake

_CLOCKS = re.compile(r"_(at|on|time|timestamp|ts|datetime|dt)$")
_DEPTH = 2


def fact(plan: Plan, table: Table) -> Draft:
    """Every version of a row of the table."""
    draft = Draft(plan.names[table.name], Kind.FACT, table.name)
    surrogate = f"{draft.name.removeprefix('fact_')}_record_id"
    draft.add(DraftColumn(surrogate, "BIGINT", None, not_null=True))
    names = {snake(column.name) for column in table.columns}
    dates = _dates(table)
    add_key(
        plan, draft, table, lambda added, column: _dated(added, column, names) if column in dates else added
    )
    key = [one.name for one in draft.columns[1:]]
    links = {name for reference in table.references for name in reference.columns}
    referring = [column for column in plain_columns(table) if column.name in links and column not in dates]
    for column in referring:
        draft.add(own_column(plan, draft, table, column))
    begun = len(draft.sources), len(draft.columns)
    _pull(plan, draft, table, draft.first, sure=True, depth=_DEPTH)
    if not dates:
        _pull_dates(plan, draft, table, draft.first, sure=True, depth=_DEPTH)
    pulled = [one.name for one in draft.columns[begun[1] :]]
    for column in dates:
        _add_date(draft, table, column, names)
    for column in plain_columns(table):
        if column not in dates and column not in referring:
            draft.add(own_column(plan, draft, table, column))
    add_bookkeeping(plan, draft, table, without=dates)
    rows = plural(plan.things[table.name])
    draft.description = described_as(table, f"{title(rows)}, in every version they have had.")
    draft.remarks += [
        f"A fact: {plan.kinds[table.name].reason}.",
        f"{surrogate} numbers the versions; {listed(key)} {'are' if len(key) > 1 else 'is'} the key at the source.",
    ]
    if pulled:
        by = [source.table for source in draft.sources[begun[0] :]]
        draft.remarks.append(f"By way of {listed(by)}: {listed(pulled, 12)}.")
    remark(draft, table)
    return draft


def _dates(table: Table) -> list[Column]:
    """The columns that say when it happened; when the row was made, if no other column does."""
    dates = [column for column in shown_columns(table) if is_event_date(column)]
    return dates or [column for column in shown_columns(table) if is_created(column)]


def _dated(added: DraftColumn, column: Column, existing: set[str]) -> DraftColumn:
    """A date or moment that is part of the key."""
    if column.type != "date":
        return replace(added, name=_moment_names(column, existing)[0])
    refers = added.references is None and not column.infinite
    return replace(added, references=CALENDAR_MODEL) if refers else added


def _add_date(draft: Draft, table: Table, column: Column, existing: set[str]) -> None:
    """Adds a date that refers to the calendar; of a moment, its day, and the moment behind it."""
    if column.type == "date":
        if column.name not in table.key:
            draft.add(_date(passed_on(column, draft.first), column))
        return
    at = next((one.name for one in draft.columns if one.value and one.value.column == column.name), None)
    name, day = _moment_names(column, existing)
    draft.add(_day(column, draft.first, day, f"the day of {at or name}", not_null=not column.nullable))
    if at is None:
        draft.add(passed_on(column, draft.first, name=name))


def _date(added: DraftColumn, column: Column) -> DraftColumn:
    if column.infinite:
        note = "; ".join(
            part for part in (added.note, f"no REFERENCES {CALENDAR_MODEL}: infinity has no day") if part
        )
        return replace(added, note=note)
    return replace(added, references=CALENDAR_MODEL)


def _day(column: Column, alias: str, name: str, what: str, *, not_null: bool) -> DraftColumn:
    zone = ", in UTC" if column.type.endswith("with time zone") else ""
    cast = "CASE WHEN isfinite({}) THEN CAST({} AS DATE) END" if column.infinite else "CAST({} AS DATE)"
    value = Value(alias, column.name, cast)
    return DraftColumn(name, "DATE", value, not_null and not column.infinite, CALENDAR_MODEL, f"{what}{zone}")


def _moment_names(column: Column, existing: set[str]) -> tuple[str, str]:
    """What a timestamp is called, and what its day: `created_at` and `created_date`, and so for `created_date` alone."""
    name = snake(column.name)
    stem = re.sub(r"_(date|day)$", "", name)
    at = name if stem == name else f"{stem}_at"
    day = f"{_CLOCKS.sub('', stem)}_date"
    free = not ({at, day} - {name}) & existing and name not in ("date", "day")
    return (at, day) if free else (name, f"{name}_day")


def _pull(plan: Plan, draft: Draft, table: Table, alias: str, *, sure: bool, depth: int) -> None:
    """Adds the dimensions that a fact has by way of others: a line has its order's customer, a rental its item's film."""
    for reference in plan.refers(table) if depth else ():
        target = plan.tables[reference.table]
        if not _leads_on(plan, table, reference):
            continue
        there = sure and is_sure(table, reference)
        known = draft.references()
        for inner in plan.refers(target):
            if _is_worth(plan, draft, target, inner, known):
                column = target.column(inner.columns[0])
                other = draft.join(alias, reference, plan.role(reference))
                got = own_column(plan, draft, target, column, alias=other)
                draft.add(replace(got, not_null=there and not column.nullable))
        if depth > 1 and any(_leads_on(plan, target, one) for one in plan.refers(target)):
            other = draft.join(alias, reference, plan.role(reference))
            _pull(plan, draft, target, other, sure=there, depth=depth - 1)


def _leads_on(plan: Plan, table: Table, reference: Reference) -> bool:
    """Whether what a table refers to is another fact, or says nothing itself but to what else it belongs."""
    target = plan.tables[reference.table]
    if target.name == table.name or target.name in plan.folded or not plan.joins(table, reference):
        return False
    if plan.kind(target.name) is Kind.FACT:
        return is_sure(table, reference) or not reference.enforced
    return plan.kind(target.name) is Kind.DIMENSION and not described(target) and bool(plan.refers(target))


def _is_worth(plan: Plan, draft: Draft, target: Table, inner: Reference, known: set[str]) -> bool:
    """Whether a fact gets a dimension that another table refers to: one that it does not refer to itself."""
    name, table = inner.columns[0], plan.tables[draft.table]
    return (
        len(inner.columns) == 1
        and inner.table not in (target.name, *(own.table for own in plan.refers(table)))
        and inner.table in plan.names
        and plan.kind(inner.table) is Kind.DIMENSION
        and plan.names[inner.table] not in known
        and not is_bookkeeping(target.column(name))
        and not draft.has(snake(name))
    )


def _pull_dates(plan: Plan, draft: Draft, table: Table, alias: str, *, sure: bool, depth: int) -> bool:
    """Adds the dates of the fact that a fact without dates of its own belongs to; says whether there were some."""
    for reference in plan.refers(table) if depth else ():
        target = plan.tables[reference.table]
        if plan.kind(target.name) is not Kind.FACT or not _leads_on(plan, table, reference):
            continue
        there = sure and is_sure(table, reference)
        dates = [column for column in _dates(target) if not draft.has(snake(column.name))]
        if not dates and not any(plan.kind(one.table) is Kind.FACT for one in plan.refers(target)):
            continue
        other = draft.join(alias, reference, plan.role(reference))
        names = {snake(column.name) for column in target.columns}
        for column in dates:
            not_null = there and not column.nullable
            if column.type == "date":
                draft.add(_date(passed_on(column, other, not_null=not_null), column))
            else:
                at, day = _moment_names(column, names)
                what = f"the day of {plan.names[target.name]}'s {at}"
                draft.add(_day(column, other, day, what, not_null=not_null))
        if dates or _pull_dates(plan, draft, target, other, sure=there, depth=depth - 1):
            return True
    return False
