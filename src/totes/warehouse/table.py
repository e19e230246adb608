"""A warehouse table as the loader sees it: its model, what identifies a row over time, and who refers to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from totes import engine

if TYPE_CHECKING:
    from totes.star.model import Model


class Referrer(NamedTuple):
    """A column that refers to a table.

    Rows of a `versioned` table never go. `relation` is the SQL of a table that is none of the star's, but somebody's own.
    """

    table: str
    column: str
    versioned: bool
    relation: str | None = None


@dataclass(frozen=True)
class WarehouseTable:
    """A table of the star.

    `key` are the columns that identify a row over time, `referrers` the columns that refer to the primary key, those of
    tables whose models are no longer there among them.
    """

    model: Model
    key: tuple[str, ...]
    referrers: tuple[Referrer, ...] = ()

    @property
    def name(self) -> str:
        """The table's name."""
        return self.model.name

    @property
    def current(self) -> str:
        """The relation with the current, undeleted rows."""
        return f"{self.name}_current" if self.model.versioned else self.name

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns in order, those of the history included."""
        return tuple(column.name for column in self.model.output)

    @property
    def can_be_referred_to(self) -> bool:
        """Whether other rows may refer to a row of the table by its primary key."""
        return not self.model.versioned and len(self.model.primary_key) == 1


@dataclass(frozen=True)
class TableLoad:
    """What a batch brings to a table: Parquet files with rows, and with the keys of rows that left a latest table.

    `retyped` columns have a narrower type in the files than the table is declared with by now.
    """

    table: WarehouseTable
    rows: list[Path]
    removed: list[Path]
    count: int
    retyped: dict[str, str] = field(default_factory=dict)

    @property
    def relation(self) -> str:
        """The SQL of a relation with the rows, in the types that the table is declared with."""
        files = engine.parquet(self.rows)
        casts = [
            f"CAST({engine.name(name)} AS {kind}) AS {engine.name(name)}"
            for name, kind in self.retyped.items()
        ]
        return f"(SELECT * REPLACE ({', '.join(casts)}) FROM {files})" if casts else files


@dataclass(frozen=True)
class BatchLoad:
    """What a batch brings to the warehouse, tables before those that refer to them.

    `relaxed` tables may be narrower in the warehouse than they are declared by now.
    """

    batch: int
    manifest_sha256: str
    read_at: str
    loads: tuple[TableLoad, ...]
    relaxed: tuple[WarehouseTable, ...] = ()

    @property
    def rows(self) -> int:
        """How many rows the batch brings."""
        return sum(load.count for load in self.loads)


def warehouse_tables(
    models: tuple[Model, ...], keys: dict[str, tuple[str, ...]], former: tuple[Model, ...] = ()
) -> tuple[WarehouseTable, ...]:
    """The tables of a star in load order: each after those that it refers to.

    Args:
        models: the models.
        keys: the columns that identify a row, by table; a latest table's are its primary key where it has none here.
        former: models that are no longer there, whose tables are as they were and may refer to the others.
    """
    referrers: dict[str, list[Referrer]] = {}
    for model in (*models, *former):
        for column, target in model.references.items():
            referrers.setdefault(target, []).append(Referrer(model.name, column, model.versioned))
    named = {model.name: model for model in models}
    order = TopologicalSorter(
        {name: set(model.references.values()) & named.keys() - {name} for name, model in named.items()}
    )
    return tuple(
        WarehouseTable(named[name], keys.get(name) or named[name].primary_key, tuple(referrers.get(name, ())))
        for name in order.static_order()
    )
