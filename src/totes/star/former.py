"""Warehouse tables whose models are no longer in the project, as the lake's manifests declare them."""

from __future__ import annotations

from pathlib import Path

from sqlglot import exp

from totes.lake.manifest import ModelChanges
from totes.star.column import Column
from totes.star.model import HISTORY_COLUMNS, Model


def former_model(name: str, changes: ModelChanges) -> Model:
    """The model of a table as far as the table itself goes: its query is not known, nor what its file said of it."""
    versioned = changes.kind == "versioned"
    columns = tuple(
        Column(c.name, c.type, c.not_null, c.unbounded, c.length_max, c.references)
        for c in changes.columns
        if not (versioned and c.name in HISTORY_COLUMNS)
    )
    return Model(
        name=name,
        path=Path(f"{name}.sql"),
        description="",
        columns=columns,
        primary_key=(changes.surrogate,) if changes.surrogate else changes.key,
        surrogate=changes.surrogate,
        query=exp.Select(),
    )
