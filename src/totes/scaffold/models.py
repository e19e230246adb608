"""The models of a star before they are written: one for each table that is no lookup of others. Pure."""

from __future__ import annotations

from totes.scaffold.catalog import Table
from totes.scaffold.columns import (
    add_bookkeeping,
    add_key,
    described_as,
    own_column,
    plain_columns,
    remark,
    title,
)
from totes.scaffold.draft import Draft
from totes.scaffold.fact import fact
from totes.scaffold.joined import add_joined, is_number
from totes.scaffold.kind import Kind
from totes.scaffold.star import Plan
from totes.scaffold.words import listed, phrase, plural


def draft_models(plan: Plan) -> list[Draft]:
    """A draft for each table that has a model, in the order of their names."""
    makers = {Kind.DIMENSION: dimension, Kind.FACT: fact, Kind.BRIDGE: bridge}
    drafts = [makers[plan.kind(name)](plan, plan.tables[name]) for name in plan.names]
    return sorted(drafts, key=lambda draft: draft.name)


def dimension(plan: Plan, table: Table) -> Draft:
    """One row a row of the table, with its lookups."""
    draft = Draft(plan.names[table.name], Kind.DIMENSION, table.name)
    add_key(plan, draft, table)
    shown: list[str] = []
    for part in table.key:
        shown += _join(plan, draft, table, part)
    for column in plain_columns(table):
        reference = plan.reference_of(table, column.name)
        if reference is None:
            draft.add(own_column(plan, draft, table, column))
            continue
        if not (reference.table in plan.folded and is_number(column)):
            draft.add(own_column(plan, draft, table, column))
        shown += _join(plan, draft, table, column.name)
    add_bookkeeping(plan, draft, table)
    rows = plural(plan.things[table.name])
    with_them = f", with their {listed([phrase(one) for one in dict.fromkeys(shown)], 5)}" if shown else ""
    draft.description = described_as(table, f"{title(rows)}{with_them}.")
    draft.remarks.append(f"A dimension: {plan.kinds[table.name].reason}.")
    remark(draft, table)
    return draft


def _join(plan: Plan, draft: Draft, table: Table, column: str) -> list[str]:
    """Adds what a column leads to that ends a reference; gives what the rows there are to this one."""
    reference = plan.reference_of(table, column)
    if reference is None or reference.columns[-1] != column:
        return []
    added = add_joined(plan, draft, table, reference, draft.first, sure=True)
    return [plan.role(reference)] if added and reference.table != table.name else []


def bridge(plan: Plan, table: Table) -> Draft:
    """One row a link between rows of other tables."""
    draft = Draft(plan.names[table.name], Kind.BRIDGE, table.name)
    add_key(plan, draft, table)
    for column in plain_columns(table):
        draft.add(own_column(plan, draft, table, column))
    add_bookkeeping(plan, draft, table)
    sides = [phrase(plural(plan.role(reference))) for reference in plan.refers(table)]
    draft.description = described_as(table, f"{title(listed(sides))}: one row a link.")
    draft.remarks.append(f"A bridge: {plan.kinds[table.name].reason}.")
    remark(draft, table)
    return draft
