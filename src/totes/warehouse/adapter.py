"""What every warehouse does for the loader. One contract suite runs against each adapter."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from totes import engine
from totes.lake.manifest import OutputColumn
from totes.star.declaration import LEDGER
from totes.warehouse.answer import Answer
from totes.warehouse.table import BatchLoad, Dialect, TableLoad, WarehouseTable


class LoadedBatch(NamedTuple):
    """The newest batch of the ledger; all that has been loaded is in it or before it."""

    batch: int
    manifest_sha256: str
    loaded_at: datetime
    rows: int


def newest_batch(rows: Callable[[str], list[tuple[Any, ...]]], schema: str) -> LoadedBatch | None:
    """The newest batch of the ledger of a schema; `rows` gives the rows of a query."""
    found = rows(
        f"SELECT batch_id, manifest_sha256, loaded_at, rows FROM {engine.name(schema, LEDGER)}"
        " ORDER BY batch_id DESC LIMIT 1"
    )
    return LoadedBatch(*found[0]) if found else None


class Warehouse(Protocol):
    """An open warehouse. Methods raise WarehouseError when it fails, and leave no transaction open."""

    dialect: Dialect

    @property
    def state(self) -> str | None:
        """What changes with every write to it, as it was opened, or once it is closed, as this left it; None if unknown."""

    def newest(self) -> LoadedBatch | None:
        """The newest loaded batch; None when nothing is loaded, also when no table is there yet. Changes nothing."""

    def restore(self, loaded: tuple[WarehouseTable, ...], surrogates: dict[str, int]) -> None:
        """Makes sure that what batches were loaded into is there, and as it should be but for its rows.

        Views and indexes that somebody dropped are made again, and comments become what the models say by now.

        Idempotent. What this role may not make is reported in the log, and not made.

        Args:
            loaded: the tables as they were declared in the newest loaded batch.
            surrogates: how many versions each of these has had up to it.

        Raises:
            WarehouseRefused: a table, a column or the newest rows of a table are not there any more.
        """

    def resume(self, at: int) -> LoadedBatch | None:
        """The newest batch of what will be written by `load`, to be asked before it.

        It may be before `at`, the newest loaded batch, where loads do not write what is read: then the batches after it
        have to be loaded there again. It may be after it where another load has been here, or was killed.

        Args:
            at: the newest loaded batch, 0 where nothing is loaded.
        """

    def load(self, tables: tuple[WarehouseTable, ...], batch: BatchLoad) -> bool:
        """Loads a batch in one transaction with its row in the ledger, creating what tables are not there.

        Idempotent: gives False, and changes nothing, where the batch is in the ledger already. Batches must come in
        order. Rows of tables that keep versions close the version before them; rows of latest tables replace the row
        of the same key; removed rows go. A table that is declared otherwise than before becomes what it is declared to
        be, and where the rows are all of its history they are all that it has then. Who reads meanwhile sees the table
        as it was before, or as it is afterwards.

        Raises:
            WarehouseRefused: the batch before this one is not loaded, tables are missing and may not be created or
                altered, something has their names that totes did not make, or what others have made depends on what a
                table would lose.
        """

    def rebuild(self, load: TableLoad, batch: int, star: frozenset[str]) -> bool:
        """Makes a table what a load with all of its rows says, in one transaction; the table may be gone or damaged.

        Idempotent. No other table is written to, nor the ledger.

        Args:
            load: the table and all of its rows.
            batch: the batch after which these are its rows.
            star: the names of the star's tables.

        Returns:
            Whether it did: not, and nothing is changed, where that is no longer the newest batch in the ledger.

        Raises:
            WarehouseRefused: something else has the table's name, or the table may not be created or altered.
        """

    def query(self, sql: str, seconds_max: float | None = None) -> tuple[list[str], list[tuple[Any, ...]]]:
        """The column names and rows of a query that changes nothing.

        Raises:
            QueryTooSlow: it took longer than `seconds_max`, and was ended.
        """

    def ask(self, sql: str) -> AbstractContextManager[Answer]:
        """The answer to one statement of a person, without a semicolon; its rows are read while the context lasts.

        The engine or the server itself sees to it that nothing is written. Few rows are in memory at a time. A
        KeyboardInterrupt ends the statement, in the warehouse too.

        Raises:
            StatementRefused: the statement is not understood, gives no rows, or writes.
            WarehouseError: it failed while it ran; raised by `rows` too.
        """

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
