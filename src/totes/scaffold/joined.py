"""What a model gets from the tables that its own table refers to: names of columns, and the columns of lookups. Pure."""

from __future__ import annotations

from totes.scaffold.catalog import Column, Reference, Table
from totes.scaffold.declared import declared
from totes.scaffold.draft import Draft, DraftColumn, Value
from totes.scaffold.star import Plan, described, label
from totes.scaffold.words import snake

_NUMBERS = ("smallint", "integer", "bigint", "uuid")


def joined_name(prefix: str, thing: str, column: str) -> str:
    """The name of another table's column: after the role that its row has, with no word said twice in between.

    Args:
        prefix: the role.
        thing: what a row of the other table is called.
        column: the column's name.
    """
    name = snake(column)
    if name.startswith(prefix):
        return name
    if name == thing or name.startswith(f"{thing}_"):
        return prefix + name.removeprefix(thing)
    before, after = prefix.split("_"), name.split("_")
    alike = next((n for n in range(min(len(before), len(after)), 0, -1) if before[-n:] == after[:n]), 0)
    return "_".join([*before, *after[alike:]])


def add_joined(
    plan: Plan, draft: Draft, table: Table, reference: Reference, alias: str, *, sure: bool, within: str = ""
) -> list[str]:
    """Adds what a reference leads to: all that describes a lookup, and the name of a row that has a model of its own.

    Args:
        plan: the star.
        draft: the model.
        table: the table that refers.
        reference: its reference.
        alias: the table's alias in the model.
        sure: whether the row of that table is always there.
        within: the role of that table in the model, where it is another than what its rows are called.

    Returns:
        The names of what was added.
    """
    if not plan.joins(table, reference):
        return []
    target = plan.tables[reference.table]
    wanted = _wanted(plan, table, reference, target)
    links = {one.columns[-1]: one for one in plan.refers(target)} if reference.table in plan.folded else {}
    if not wanted and not links:
        return []
    own = plan.role(reference)
    prefix = f"{within}_{own}" if within else own
    there = sure and is_sure(table, reference)
    other = draft.join(alias, reference, prefix)
    added = []
    for column in target.columns:
        if column.name in wanted:
            name = joined_name(prefix, plan.things[target.name], column.name)
            added.append(
                draft.add(passed_on(column, other, name=name, not_null=there and not column.nullable)).name
            )
        elif column.name in links:
            again = any(
                one.table == links[column.name].table for one in plan.refers(plan.tables[draft.table])
            )
            inner = "" if own == plan.things[target.name] and not within and not again else prefix
            added += add_joined(plan, draft, target, links[column.name], other, sure=there, within=inner)
    return added


def _wanted(plan: Plan, table: Table, reference: Reference, target: Table) -> list[str]:
    """Which columns of another table a model shows: all that a row of its own is in both of them, or that has no other place."""
    columns = described(target)
    if reference.table not in plan.folded and not (
        reference.columns == table.key and len(columns) <= len(described(table))
    ):
        columns = label(target)
    return [name for name in columns if name not in reference.target]


def is_sure(table: Table, reference: Reference) -> bool:
    """Whether there always is a row that a reference leads to."""
    return reference.enforced and not any(table.column(name).nullable for name in reference.columns)


def passed_on(
    column: Column,
    alias: str,
    *,
    name: str = "",
    not_null: bool | None = None,
    as_key: bool = False,
    note: str = "",
) -> DraftColumn:
    """A source column as a column of a model."""
    found = declared(column, as_key=as_key)
    said = [" ".join(column.comment.split()), note or found.note]
    return DraftColumn(
        name or snake(column.name) or "unnamed",
        found.type,
        Value(alias, column.name, found.template),
        not column.nullable if not_null is None else not_null,
        note="; ".join(part for part in said if part),
    )


def is_number(column: Column) -> bool:
    """Whether a key says nothing to people, so that a model need not have it once what it leads to is joined."""
    return column.type in _NUMBERS
