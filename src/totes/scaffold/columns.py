"""The columns that a model has of its own table: its key, its references, its bookkeeping; and those that it omits. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from totes.scaffold.catalog import Column, Reference, Table
from totes.scaffold.draft import Draft, DraftColumn
from totes.scaffold.joined import passed_on
from totes.scaffold.kind import Kind
from totes.scaffold.meaning import is_bookkeeping, is_changed, is_created, is_generated_text, is_secret
from totes.scaffold.star import Plan
from totes.scaffold.words import listed, phrase, snake
from totes.star.declaration import NAME_BYTES_MAX


def shown_columns(table: Table) -> list[Column]:
    """The columns that a model of the table has."""
    return [column for column in table.columns if column.name in table.key or not _is_left_out(table, column)]


def plain_columns(table: Table) -> list[Column]:
    """Those of them that are neither of the key nor bookkeeping."""
    return [one for one in shown_columns(table) if one.name not in table.key and not is_bookkeeping(one)]


def own_column(plan: Plan, draft: Draft, table: Table, column: Column, *, alias: str = "") -> DraftColumn:
    """A column of a table, with REFERENCES where it refers to a dimension and the star can have it.

    The table is the model's own, or the one that is joined under an alias.
    """
    reference, alias = plan.reference_of(table, column.name), alias or draft.first
    if reference is None:
        outside = [one.table for one in table.references if one.columns[0] == column.name]
        note = f"a row of {outside[0]}, which has no model" if outside else ""
        return passed_on(column, alias, as_key=column.name in table.key, note=note)
    is_whole_key = reference.target == plan.tables[reference.table].key and len(reference.columns) == 1
    if is_whole_key and plan.declares(table, reference):
        return replace(passed_on(column, alias, as_key=True), references=plan.names[reference.table])
    return passed_on(column, alias, as_key=True, note=_whose(plan, table, column, reference))


def _whose(plan: Plan, table: Table, column: Column, reference: Reference) -> str:
    """What a column without REFERENCES refers to, and why it has none."""
    target = plan.names.get(reference.table)
    first, *others = reference.columns
    if target is None or column.name != first:
        return ""
    whose = (
        f"with {listed([snake(name) for name in others])} a row of {target}"
        if others
        else f"a row of {target}"
    )
    if (table.name, reference.columns) in plan.circular:
        return f"{whose}; REFERENCES would make a circle"
    if reference.by_name:
        return f"{whose}; the source has no foreign key"
    if not reference.enforced:
        return f"{whose}; the foreign key is not validated"
    if not plan.joins(table, reference):
        return f"{whose}; PostgreSQL compares these otherwise than DuckDB"
    return whose


def add_key(
    plan: Plan,
    draft: Draft,
    table: Table,
    shaped: Callable[[DraftColumn, Column], DraftColumn] = lambda added, _: added,
) -> None:
    """Adds the columns that identify a row of the table, which are the primary key of all but facts.

    Args:
        plan: the star.
        draft: the model.
        table: its table.
        shaped: gives a column as it is to be added.
    """
    names = []
    for part in table.key:
        column = table.column(part)
        added = shaped(replace(own_column(plan, draft, table, column), not_null=True), column)
        names.append(draft.add(replace(added, name=key_name(plan, table, column) or added.name)).name)
    if draft.kind is not Kind.FACT:
        draft.key = tuple(names)


def key_name(plan: Plan, table: Table, column: Column) -> str | None:
    """What a key is called that is an `id` and nothing more: those that refer to it say whose."""
    name = f"{plan.things[table.name]}_id"
    free = name not in {snake(other.name) for other in table.columns} and len(name.encode()) <= NAME_BYTES_MAX
    return name if table.key == (column.name,) and snake(column.name) == "id" and free else None


def add_bookkeeping(plan: Plan, draft: Draft, table: Table, without: Iterable[Column] = ()) -> None:
    """Adds what says when and by whom a row was written: its making first, its change last."""
    known = {column.name for column in without} | set(table.key)
    columns = [one for one in shown_columns(table) if is_bookkeeping(one) and one.name not in known]
    for column in sorted(columns, key=lambda one: (is_changed(one), not is_created(one))):
        draft.add(own_column(plan, draft, table, column))


def remark(draft: Draft, table: Table) -> None:
    """Says what of the table its model does not have, and how its key is known."""
    left_out = [one for one in table.columns if one.name not in table.key and _is_left_out(table, one)]
    secrets = [column.name for column in left_out if is_secret(table, column)]
    searched = [column.name for column in left_out if is_generated_text(column)]
    if len(secrets) == 1:
        draft.remarks.append(
            f"Left out: {secrets[0]}, which looks like a secret. The lake has it, as it has every column."
        )
    elif secrets:
        draft.remarks.append(
            f"Left out: {listed(secrets)}, which look like secrets. The lake has them, as it has every column."
        )
    if searched:
        draft.remarks.append(f"Left out: {listed(searched)}, made for searching.")
    if table.key_chosen:
        draft.remarks.append("It has no primary key: source.keys in totes.toml says what identifies a row.")


def title(name: str) -> str:
    """A name as a sentence begins."""
    shown = phrase(name)
    return shown[:1].upper() + shown[1:]


def described_as(table: Table, otherwise: str) -> str:
    """What the source says of a table, or something else where it says nothing."""
    return " ".join(table.comment.split()) or otherwise


def _is_left_out(table: Table, column: Column) -> bool:
    return is_secret(table, column) or is_generated_text(column)
