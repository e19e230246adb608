"""A warehouse table as the loader sees it: its model, and what identifies a row over time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from totes import engine
from totes.progress import report

if TYPE_CHECKING:
    from totes.star.model import Model

Dialect = Literal["duckdb", "postgresql"]
_MANY_ROWS = 50_000  # from here on progress is reported table by table
_BATCH = engine.name("~batch")


@dataclass(frozen=True)
class WarehouseTable:
    """A table of the star; `key` are the columns that identify a row over time."""

    model: Model
    key: tuple[str, ...]

    @property
    def name(self) -> str:
        """The table's name."""
        return self.model.name

    @property
    def current(self) -> str:
        """The relation with the current, undeleted rows."""
        return f"{self.name}_current"

    def called(self, name: str) -> WarehouseTable:
        """The same table under another name."""
        return replace(self, model=replace(self.model, name=name))

    @property
    def is_current(self) -> str:
        """The SQL condition of the current, undeleted rows."""
        if self.model.versioned:
            return "valid_to IS NULL AND NOT is_deleted"
        return "NOT is_deleted" if self.model.soft_deletes else "true"

    def first_versions(self, rows: str) -> str:
        """The SQL of a relation with the key of each row of a relation of versions, and when its first one there begins."""
        keys = engine.names(self.key)
        return f"(SELECT {keys}, min(valid_from) AS valid_from FROM {rows} GROUP BY {keys})"

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns in order, those of the history included."""
        return tuple(column.name for column in self.model.output)


@dataclass(frozen=True)
class TableLoad:
    """What a batch brings to a table: Parquet files with rows, and with the keys of rows that left a latest table.

    `previous` is the table as the batch before had it declared, None where it is new; `renamed` gives the previous names of
    columns by their present ones. With `whole`, the files hold all rows of the table, and no others are to remain. They may
    be of several batches then: `batches` gives that of each file.
    """

    table: WarehouseTable
    rows: list[Path]
    removed: list[Path]
    count: int
    previous: WarehouseTable | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)
    whole: bool = False
    batches: Mapping[Path, int] = field(default_factory=dict)

    @property
    def is_redeclared(self) -> bool:
        """Whether the table is declared to be another one than before."""
        return self.previous is not None and (
            self.previous.model.output != self.table.model.output
            or self.previous.model.primary_key != self.table.model.primary_key
            or self.previous.key != self.table.key
        )

    @property
    def relation(self) -> str:
        """The SQL of a relation with the rows, as they are to be in the table where they are `whole`."""
        if not self.whole:
            return engine.parquet(self.rows)
        table, keys = self.table, engine.names(self.table.key)
        if not self.rows:
            typed = ", ".join(f"NULL::{c.type} AS {engine.name(c.name)}" for c in table.model.output)
            return f"(SELECT {typed} LIMIT 0)"
        columns = ", ".join(
            f"lead(valid_from) OVER (PARTITION BY {keys} ORDER BY valid_from) AS valid_to"
            if table.model.versioned and column.name == "valid_to"
            else f"CAST({engine.name(column.name)} AS {column.type}) AS {engine.name(column.name)}"
            for column in table.model.output
        )
        if table.model.versioned or not self.batches:
            return f"(SELECT {columns} FROM {engine.parquet(self.rows, alike=False)})"
        written = f"(SELECT {columns}, {_BATCH} FROM {self._numbered(self.rows)})"
        last = f"row_number() OVER (PARTITION BY {keys} ORDER BY {_BATCH} DESC) = 1"
        newest = f"SELECT * FROM {written} QUALIFY {last}"
        if self.removed:
            newest = (
                f"SELECT * FROM ({newest}) AS written WHERE NOT EXISTS (SELECT 1 FROM {self._numbered(self.removed)} AS gone"
                f" WHERE gone.{_BATCH} > written.{_BATCH} AND {engine.equal('written', 'gone', table.key)})"
            )
        return f"(SELECT * EXCLUDE ({_BATCH}) FROM ({newest}))"

    def _numbered(self, files: list[Path]) -> str:
        """The SQL of a relation of files with the batch that each row is of."""
        numbers = ", ".join(f"({engine.text(str(one))}, {self.batches[one]})" for one in files)
        named, file = engine.parquet(files, alike=False, named=True), engine.name(engine.FILE)
        return (
            f"(SELECT rows.* EXCLUDE ({file}), {_BATCH} FROM {named} AS rows"
            f" JOIN (VALUES {numbers}) AS numbered ({file}, {_BATCH}) USING ({file}))"
        )


@dataclass(frozen=True)
class BatchLoad:
    """What a batch brings to the warehouse, tables before those that refer to them.

    `loaded` names the tables into which the batches before were loaded, `dropped` those of them that are no more.
    """

    batch: int
    manifest_sha256: str
    read_at: str
    loads: tuple[TableLoad, ...]
    loaded: frozenset[str] = frozenset()
    dropped: tuple[WarehouseTable, ...] = ()

    @property
    def rows(self) -> int:
        """How many rows the batch brings."""
        return sum(load.count for load in self.loads)

    @property
    def keeps_tables(self) -> bool:
        """Whether every table that was there stays as it is declared."""
        return not self.dropped and not any(load.is_redeclared for load in self.loads)


def report_load(load: TableLoad, rows: int, rows_in_all: int) -> None:
    """Reports that a table is being loaded after so many rows of others; not of a small batch among many."""
    if rows_in_all >= _MANY_ROWS:
        report(f"loading {load.table.name}", rows, rows_in_all)


def warehouse_tables(
    models: Iterable[Model], keys: Mapping[str, tuple[str, ...]]
) -> tuple[WarehouseTable, ...]:
    """The tables of a star in load order: each after those that it refers to.

    Args:
        models: the models.
        keys: the columns that identify a row, by table; a latest table's are its primary key where it has none here.
    """
    named = {model.name: model for model in models}
    order = TopologicalSorter(
        {name: set(model.references.values()) & named.keys() - {name} for name, model in named.items()}
    )
    return tuple(
        WarehouseTable(named[name], keys.get(name) or named[name].primary_key)
        for name in order.static_order()
    )
