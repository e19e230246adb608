"""What every warehouse does for the loader. One contract suite runs against each adapter."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from totes import engine
from totes.warehouse.ddl import Dialect
from totes.warehouse.table import BatchLoad, WarehouseTable


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
        of the same key; removed rows go, but for those to which a version of history still refers.

        Raises:
            WarehouseRefused: the batch before this one is not loaded, or tables are missing and may not be created.
        """

    def query(self, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """The column names and rows of a query that changes nothing."""

    def current_rows(self, table: WarehouseTable) -> AbstractContextManager[engine.Stream]:
        """The current rows of a table, to be read while the context lasts.

        They have the columns that its query gives, in their declared types.
        """
