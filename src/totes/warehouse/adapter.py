"""What every warehouse does for the loader. One contract suite runs against each adapter."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from totes import engine
from totes.lake.manifest import OutputColumn
from totes.warehouse.ddl import Dialect
from totes.warehouse.table import BatchLoad, Referrer, WarehouseTable


class LoadedBatch(NamedTuple):
    """The newest batch of the ledger; all that has been loaded is in it or before it."""

    batch: int
    manifest_sha256: str
    loaded_at: datetime
    rows: int


class Warehouse(Protocol):
    """An open warehouse. Methods raise WarehouseError when it fails, and leave no transaction open."""

    dialect: Dialect

    def newest(self) -> LoadedBatch | None:
        """The newest loaded batch; None when nothing is loaded, also when no table is there yet. Changes nothing."""

    def load(self, tables: tuple[WarehouseTable, ...], batch: BatchLoad) -> bool:
        """Loads a batch in one transaction with its row in the ledger, creating what tables are not there.

        Idempotent: gives False, and changes nothing, where the batch is in the ledger already. Batches must come in
        order. Rows of tables that keep versions close the version before them; rows of latest tables replace the row
        of the same key; removed rows go, but for those to which a row of the warehouse refers: these go when it does not
        any more.

        Raises:
            WarehouseRefused: the batch before this one is not loaded, or tables are missing and may not be created.
        """

    def query(self, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """The column names and rows of a query that changes nothing."""

    def one_moment(self) -> AbstractContextManager[None]:
        """All that is read while the context lasts shows the warehouse as it is when it begins; loaders are not kept waiting."""

    def relation(self, table: str) -> str:
        """The quoted name of a table or view with its schema."""

    def columns(self, relation: str) -> tuple[str, ...]:
        """The columns that a table or view has; none where there is no such thing."""

    def copy(
        self, rows: str, columns: tuple[OutputColumn, ...], into: engine.Engine, target: str, condition: str
    ) -> None:
        """Copies the rows of a query into a table of another engine, replacing it; no row is held in memory for it.

        The table has these columns in their types, and `~bent`, true where a value is not one of its column's type.
        Only rows that meet the condition, in the engine's SQL over that table, are taken.
        """

    def present_referrers(self, table: WarehouseTable) -> tuple[Referrer, ...]:
        """The columns that refer to the table: of the star's tables that are there, and of others that have a foreign key."""
