"""A warehouse table as the loader sees it: its model, what identifies a row over time, and who refers to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from totes.star.model import Model


@dataclass(frozen=True)
class WarehouseTable:
    """A table of the star.

    `key` are the columns that identify a row over time, `referrers` the (table, column) pairs that refer to the
    primary key.
    """

    model: Model
    key: tuple[str, ...]
    referrers: tuple[tuple[str, str], ...] = ()

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
    def refers_to_itself(self) -> bool:
        """Whether rows of the table refer to other rows of it."""
        return any(referrer == self.name for referrer, _ in self.referrers)


@dataclass(frozen=True)
class TableLoad:
    """What a batch brings to a table: Parquet files with rows, and with the keys of rows that left a latest table."""

    table: WarehouseTable
    rows: list[Path]
    removed: list[Path]
    count: int


@dataclass(frozen=True)
class BatchLoad:
    """What a batch brings to the warehouse, tables before those that refer to them."""

    batch: int
    manifest_sha256: str
    read_at: str
    loads: tuple[TableLoad, ...]

    @property
    def rows(self) -> int:
        """How many rows the batch brings."""
        return sum(load.count for load in self.loads)


def warehouse_tables(
    models: tuple[Model, ...], keys: dict[str, tuple[str, ...]]
) -> tuple[WarehouseTable, ...]:
    """The tables of a star in load order.

    Args:
        models: the models in load order.
        keys: the columns that identify a row, by table; a latest table's are its primary key where it has none here.
    """
    referrers: dict[str, list[tuple[str, str]]] = {}
    for model in models:
        for column, target in model.references.items():
            referrers.setdefault(target, []).append((model.name, column))
    return tuple(
        WarehouseTable(model, keys.get(model.name) or model.primary_key, tuple(referrers.get(model.name, ())))
        for model in models
    )
