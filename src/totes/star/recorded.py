"""Warehouse tables as the lake's manifests record them, whatever their models declare now."""

from __future__ import annotations

from pathlib import Path

from totes.lake.manifest import ModelChanges
from totes.star.column import Column
from totes.star.model import HISTORY_COLUMNS, IS_DELETED, Model


def recorded_model(name: str, changes: ModelChanges, described: Model | None = None) -> Model:
    """The model of a table as a manifest records it: its declaration, without its query.

    Args:
        name: the table.
        changes: the table's entry in a manifest.
        described: the present model, for the descriptions of the table and of columns that it still has.
    """
    descriptions = {column.name: column.description for column in described.columns} if described else {}
    added = HISTORY_COLUMNS if changes.kind == "versioned" else [IS_DELETED] * changes.soft_deletes
    columns = tuple(
        Column(c.name, c.type, c.not_null, c.unbounded, c.length_max, c.references, descriptions.get(c.name))
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
        referenced=changes.soft_deletes,
    )
