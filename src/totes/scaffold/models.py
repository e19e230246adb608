"""The models of a star before they are written: dimensions, facts and bridges. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from totes.scaffold.catalog import Column, Reference, Table
from totes.scaffold.draft import Draft, DraftColumn, Value
from totes.scaffold.joined import add_joined, is_number, is_sure, passed_on, role
from totes.scaffold.kind import Kind
from totes.scaffold.meaning import (
    is_bookkeeping,
    is_changed,
    is_created,
    is_event_date,
    is_generated_text,
    is_secret,
)
from totes.scaffold.star import CALENDAR_MODEL, Plan, described
from totes.scaffold.words import listed, phrase, plural, singular, snake

_CLOCKS = re.compile(r"_(at|on|time|timestamp|ts|datetime|dt)$")
_PULL_DEPTH = 2


def draft_models(plan: Plan) -> list[Draft]:
    """A draft for each table that has a model."""
    makers = {Kind.DIMENSION: _dimension, Kind.FACT: _fact, Kind.BRIDGE: _bridge}
    return [makers[plan.kind(table)](plan, plan.tables[table]) for table in plan.names]


def _dimension(plan: Plan, table: Table) -> Draft:
    draft = Draft(plan.names[table.name], Kind.DIMENSION, table.name)
    things: list[str] = []
    _add_key(plan, draft, table)
    for column in _told(table):
        if is_bookkeeping(column) or column.name in table.key:
            continue
        reference = _reference_of(plan, table, column)
        if reference is None:
            draft.add(passed_on(column, draft.first))
            continue
        is_lookup = reference.table in plan.folded
        if not (is_lookup and is_number(column)):
            draft.add(_referring(plan, draft, table, column))
        if reference.columns[-1] == column.name and add_joined(
            plan, draft, table, reference, draft.first, sure=True
        ):
            things.append(role(reference))
    for part in table.key:
        reference = _reference_of(plan, table, table.column(part))
        if reference and reference.table != table.name and reference.columns[-1] == part:
            things += [role(reference)] * bool(
                add_joined(plan, draft, table, reference, draft.first, sure=True)
            )
    _add_bookkeeping(plan, draft, table)
    rows = _sentence(plural(_thing(table)))
    with_them = f", with their {listed([phrase(one) for one in dict.fromkeys(things)], 5)}" if things else ""
    draft.description = _described(table, f"{rows}{with_them}." if with_them else f"{rows}.")
    draft.remarks.append(f"A dimension, as {plan.kinds[table.name].reason}.")
    _remark(plan, draft, table)
    return draft


def _fact(plan: Plan, table: Table) -> Draft:
    draft = Draft(plan.names[table.name], Kind.FACT, table.name)
    surrogate = f"{draft.name.removeprefix('fact_')}_record_id"
    draft.add(DraftColumn(surrogate, "BIGINT", None, not_null=True))
    _add_key(plan, draft, table)
    others = [column for column in _told(table) if column.name not in table.key]
    for column in others:
        if _reference_of(plan, table, column) and not is_bookkeeping(column):
            draft.add(_referring(plan, draft, table, column))
    pulled = _pull(plan, draft, table, draft.first, sure=True, depth=_PULL_DEPTH)
    dates = [column for column in _told(table) if is_event_date(column)]
    dates = dates or [column for column in _told(table) if is_created(column)]
    names = {snake(column.name) for column in table.columns}
    for column in dates:
        _add_date(draft, table, column, names, draft.first, sure=True)
    if not dates:
        pulled += _pull_dates(plan, draft, table)
    for column in others:
        if column not in dates and not is_bookkeeping(column) and not _reference_of(plan, table, column):
            draft.add(passed_on(column, draft.first))
    _add_bookkeeping(plan, draft, table, without=dates)
    rows = _sentence(plural(_thing(table)))
    draft.description = _described(table, f"{rows}, in every version they have had.")
    key = [column.name for column in draft.columns if column.value and column.value.column in table.key]
    draft.remarks.append(f"A fact, as {plan.kinds[table.name].reason}.")
    draft.remarks.append(f"{surrogate} numbers versions; a row's key at the source is {listed(key)}.")
    if pulled:
        draft.remarks.append(
            f"{_sentence(listed(pulled, 12))} {'come' if len(pulled) > 1 else 'comes'} from what it refers to."
        )
    _remark(plan, draft, table)
    return draft


def _bridge(plan: Plan, table: Table) -> Draft:
    draft = Draft(plan.names[table.name], Kind.BRIDGE, table.name)
    _add_key(plan, draft, table)
    for column in _told(table):
        if column.name not in table.key and not is_bookkeeping(column):
            draft.add(
                _referring(plan, draft, table, column)
                if _reference_of(plan, table, column)
                else passed_on(column, draft.first)
            )
    _add_bookkeeping(plan, draft, table)
    sides = [plural(phrase(role(one))) for one in plan.refers(table)]
    draft.description = _described(table, f"{_sentence(listed(sides))}: one row a link.")
    draft.remarks.append(f"A bridge, as {plan.kinds[table.name].reason}.")
    _remark(plan, draft, table)
    return draft


def _add_key(plan: Plan, draft: Draft, table: Table) -> None:
    """Adds the columns that identify a row of the table, which are the primary key of all but facts."""
    names = []
    for part in table.key:
        column = table.column(part)
        added = _referring(plan, draft, table, column)
        if plan.kind(table.name) is Kind.FACT and is_event_date(column) and column.type != "date":
            added = replace(added, name=_moment_names(column, {snake(one.name) for one in table.columns})[0])
        names.append(draft.add(replace(added, not_null=True)).name)
    if draft.kind is not Kind.FACT:
        draft.key = tuple(names)


def _referring(plan: Plan, draft: Draft, table: Table, column: Column) -> DraftColumn:
    """A column of a key or of a reference, with REFERENCES where the star can have it."""
    reference = _reference_of(plan, table, column)
    if reference is None:
        return passed_on(column, draft.first, as_key=True)
    target = plan.names.get(reference.table)
    direct = len(reference.columns) == 1 and reference.target == plan.tables[reference.table].key
    if direct and plan.declares(table, reference):
        added = passed_on(column, draft.first, as_key=True)
        return replace(added, references=target)
    return passed_on(column, draft.first, as_key=True, note=_why_not(plan, table, reference, target))


def _why_not(plan: Plan, table: Table, reference: Reference, target: str | None) -> str:
    """Why a column that refers to a table has no REFERENCES."""
    if target is None:
        return ""
    if plan.kind(reference.table) is not Kind.DIMENSION:
        return f"its row is in {target}"
    if (table.name, reference.columns) in plan.circular:
        return f"of {target}; REFERENCES would make a circle"
    if not reference.enforced:
        return f"of {target}, by its name: the source has no foreign key"
    if not plan.joins(table, reference):
        return f"of {target}; PostgreSQL compares these otherwise than DuckDB"
    return (
        f"of {target}, by more than its key" if len(reference.columns) == 1 else f"of {target}, with others"
    )


def _reference_of(plan: Plan, table: Table, column: Column) -> Reference | None:
    """The reference that a column is part of; of several, the one of fewest columns."""
    found = [reference for reference in plan.refers(table) if column.name in reference.columns]
    return min(found, key=lambda reference: (len(reference.columns), not reference.enforced), default=None)


def _pull(plan: Plan, draft: Draft, table: Table, alias: str, *, sure: bool, depth: int) -> list[str]:
    """Adds the dimensions that a fact has by way of others: a line has its order's customer, a rental its item's film."""
    added: list[str] = []
    for reference in plan.refers(table) if depth else ():
        target = plan.tables[reference.table]
        if not _passes(plan, table, reference, target):
            continue
        there = sure and is_sure(table, reference)
        for inner in plan.refers(target):
            known = draft.references()
            if (
                len(inner.columns) == 1
                and inner.table != target.name
                and plan.declares(target, inner)
                and inner.target == plan.tables[inner.table].key
                and plan.names[inner.table] not in known
                and not is_bookkeeping(target.column(inner.columns[0]))
                and not draft.has(snake(inner.columns[0]))
            ):
                column = target.column(inner.columns[0])
                other = draft.join(alias, reference, role(reference))
                got = passed_on(column, other, not_null=there and not column.nullable, as_key=True)
                added.append(draft.add(replace(got, references=plan.names[inner.table])).name)
        if (
            any(_passes(plan, target, one, plan.tables[one.table]) for one in plan.refers(target))
            and depth > 1
        ):
            other = draft.join(alias, reference, role(reference))
            added += _pull(plan, draft, target, other, sure=there, depth=depth - 1)
    return added


def _passes(plan: Plan, table: Table, reference: Reference, target: Table) -> bool:
    """Whether what a table refers to is another fact, or says nothing itself but to what else it belongs."""
    if target.name == table.name or not plan.joins(table, reference) or target.name in plan.folded:
        return False
    if plan.kind(target.name) is Kind.FACT:
        return is_sure(table, reference) or not reference.enforced
    return plan.kind(target.name) is Kind.DIMENSION and not described(target) and bool(plan.refers(target))


def _pull_dates(plan: Plan, draft: Draft, table: Table) -> list[str]:
    """Adds the dates of the fact that a fact without dates belongs to."""
    for reference in plan.refers(table):
        target = plan.tables[reference.table]
        dates = [column for column in target.columns if is_event_date(column)]
        if plan.kind(target.name) is Kind.FACT and dates and _passes(plan, table, reference, target):
            alias = draft.join(draft.first, reference, role(reference))
            names = {snake(column.name) for column in target.columns}
            sure = is_sure(table, reference)
            return [
                _add_date(draft, target, column, names, alias, sure=sure, moment=False)
                for column in dates
                if not draft.has(snake(column.name))
            ]
    return []


def _add_date(
    draft: Draft,
    table: Table,
    column: Column,
    names: set[str],
    alias: str,
    *,
    sure: bool,
    moment: bool = True,
) -> str:
    """Adds a date that refers to the calendar, and behind it the moment that it is the day of, where there is one."""
    not_null = sure and not column.nullable
    if column.type == "date":
        if column.name in table.key and alias == draft.first:
            place, known = next(
                (place, known)
                for place, known in enumerate(draft.columns)
                if known.value and known.value.column == column.name
            )
            draft.columns[place] = replace(known, references=known.references or CALENDAR_MODEL)
            return known.name
        return draft.add(replace(passed_on(column, alias, not_null=not_null), references=CALENDAR_MODEL)).name
    at, day = _moment_names(column, names)
    zone = ", in UTC" if column.type.endswith("with time zone") else ""
    value = Value(alias, column.name, "CAST({} AS DATE)")
    said = " ".join(column.comment.split()) if not moment else ""
    note = said or f"the day of {at if moment else snake(column.name)}{zone}"
    added = draft.add(DraftColumn(day, "DATE", value, not_null, CALENDAR_MODEL, note))
    if moment and column.name not in table.key:
        draft.add(passed_on(column, alias, name=at, not_null=not_null))
    return added.name


def _moment_names(column: Column, taken: set[str]) -> tuple[str, str]:
    """What a timestamp is called, and what its day: `created_at` and `created_date`, and so for `created_date` alone."""
    name = snake(column.name)
    stem = re.sub(r"_(date|day)$", "", name)
    at = name if stem == name else f"{stem}_at"
    names = at, f"{_CLOCKS.sub('', stem)}_date"
    free = not (set(names) - {name}) & taken and name not in ("date", "day")
    return names if free else (name, f"{name}_day")


def _told(table: Table) -> list[Column]:
    """The columns that a model of the table has."""
    return [
        column
        for column in table.columns
        if column.name in table.key or not (is_secret(table, column) or is_generated_text(column))
    ]


def _add_bookkeeping(plan: Plan, draft: Draft, table: Table, without: Iterable[Column] = ()) -> None:
    known = {column.name for column in without} | set(table.key)
    columns = [one for one in _told(table) if is_bookkeeping(one) and one.name not in known]
    for column in sorted(columns, key=lambda one: (is_changed(one), not is_created(one))):
        draft.add(_referring(plan, draft, table, column))


def _remark(plan: Plan, draft: Draft, table: Table) -> None:
    """Says what of the table is not in its model, and what is told by nothing but names."""
    secrets = [
        column.name for column in table.columns if column.name not in table.key and is_secret(table, column)
    ]
    if secrets:
        draft.remarks.append(
            f"Left out: {listed(secrets)}, as {'they look like secrets' if len(secrets) > 1 else 'it looks like a secret'}. "
            "The lake has every column."
        )
    searched = [column.name for column in table.columns if is_generated_text(column)]
    if searched:
        draft.remarks.append(f"Left out: {listed(searched)}, made for searching.")
    if table.key_chosen:
        draft.remarks.append(
            f"{table.name} has no primary key; source.keys in totes.toml says that {listed(list(table.key))} identifies a row."
        )


def _thing(table: Table) -> str:
    return singular(snake(table.name)) or table.name


def _sentence(text: str) -> str:
    shown = phrase(text)
    return shown[:1].upper() + shown[1:]


def _described(table: Table, otherwise: str) -> str:
    said = " ".join(table.comment.split())
    return said or otherwise
