"""Warehouse tables as the lake's manifests declare them, whatever their models are now."""

from __future__ import annotations

from pathlib import Path

from sqlglot import exp

from totes.lake.manifest import ModelChanges
from totes.star.column import Column
from totes.star.model import HISTORY_COLUMNS, IS_DELETED, Model


def former_model(name: str, changes: ModelChanges, described: Model | None = None) -> Model:
    """The model of a table as far as the table itself goes: its query is not known.

    Args:
        name: the table.
        changes: what a batch's manifest says of it.
        described: the model that describes the table and those of its columns that are still there.
    """
    said = {column.name: column.description for column in described.columns} if described else {}
    added = HISTORY_COLUMNS if changes.kind == "versioned" else [IS_DELETED] * changes.soft_deletes
    columns = tuple(
        Column(c.name, c.type, c.not_null, c.unbounded, c.length_max, c.references, said.get(c.name))
        for c in changes.columns
        if c.name not in added
    )
    return Model(
        name=name,
        path=Path(f"{name}.sql"),
        description=described.description if described else "",
        columns=columns,
        primary_key=(changes.surrogate,) if changes.surrogate else changes.key,
        surrogate=changes.surrogate,
        query=exp.Select(),
        referenced=changes.soft_deletes,
    )
