"""What a model gets from the tables that its own table refers to: names of columns, and the columns of lookups. Pure."""

from __future__ import annotations

import re

from totes.scaffold.catalog import Column, Reference, Table
from totes.scaffold.declared import declared
from totes.scaffold.draft import Draft, DraftColumn, Value
from totes.scaffold.star import Plan, described, label
from totes.scaffold.words import singular, snake

_KEY_ENDINGS = re.compile(r"_(id|code|key|no|number|uuid|guid|fk|ref)$")
_NUMBERS = ("smallint", "integer", "bigint", "uuid")


def role(reference: Reference) -> str:
    """What a row is to the one that refers to it: `ship_address_id` leads to a `ship_address`."""
    if len(reference.columns) != 1:
        return singular(snake(reference.table))
    own = _KEY_ENDINGS.sub("", snake(reference.columns[0]))
    return own if own and own != "id" else singular(snake(reference.table))


def is_plain_role(reference: Reference) -> bool:
    """Whether the role is what the other table is called."""
    name, own = singular(snake(reference.table)), role(reference)
    return own in (name, snake(reference.table)) or name.endswith(f"_{own}")


def joined_name(prefix: str, table: str, column: str) -> str:
    """The name of another table's column: after the role that its row has, once."""
    name, own = snake(column), singular(snake(table))
    if name.startswith(prefix):
        return name
    if name == own or name.startswith(f"{own}_"):
        return prefix + name.removeprefix(own)
    return f"{prefix}_{name}"


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
        within: the role of that table in the model, where it is another than its name says.

    Returns:
        The names of what was added.
    """
    if not plan.joins(table, reference):
        return []
    target = plan.tables[reference.table]
    is_lookup = reference.table in plan.folded
    wanted = described(target) if is_lookup else label(target)
    if not wanted and not (is_lookup and plan.refers(target)):
        return []
    prefix = f"{within}_{role(reference)}" if within else role(reference)
    there = sure and is_sure(table, reference)
    other = draft.join(alias, reference, prefix)
    links = {name: one for one in plan.refers(target) for name in one.columns[-1:]} if is_lookup else {}
    added = []
    for column in target.columns:
        if column.name in wanted:
            name = joined_name(prefix, target.name, column.name)
            added.append(
                draft.add(passed_on(column, other, name=name, not_null=there and not column.nullable)).name
            )
        elif column.name in links:
            inner = "" if is_plain_role(reference) and not within else prefix
            added += add_joined(plan, draft, target, links[column.name], other, sure=there, within=inner)
    return added


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
