"""The warehouse in a DuckDB file, which one process at a time may write."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from totes import engine
from totes.errors import WarehouseError, WarehouseRefused
from totes.failpoint import reach
from totes.star.project import LEDGER
from totes.warehouse import ddl
from totes.warehouse.adapter import LoadedBatch
from totes.warehouse.table import BatchLoad, TableLoad, WarehouseTable

SCHEMA = ddl.OWN_SCHEMAS["duckdb"]
_LOCK_PATIENCE_SECONDS = 60.0
_LOCK_RETRY_SECONDS = 0.1


class DuckDBWarehouse:
    """A warehouse in a DuckDB file; see the Warehouse protocol for what each method promises."""

    dialect: ddl.Dialect = "duckdb"

    def __init__(self, connection: engine.Engine, schema: str) -> None:
        self._engine = connection
        self._schema = schema

    def newest(self) -> LoadedBatch | None:
        """See Warehouse."""
        with _warehouse_errors("reading the ledger"):
            if LEDGER not in self._present():
                return None
            rows = self._engine.execute(
                "SELECT batch_id, manifest_sha256, loaded_at, rows"
                f" FROM {self._name(LEDGER)} ORDER BY batch_id DESC LIMIT 1"
            ).fetchall()
            return LoadedBatch(*rows[0]) if rows else None

    def load(self, tables: tuple[WarehouseTable, ...], batch: BatchLoad) -> bool:
        """See Warehouse."""
        with _warehouse_errors(f"loading batch {batch.batch}"):
            self._engine.execute("BEGIN")
            try:
                newest = self.newest()
                if newest and newest.batch >= batch.batch:
                    self._engine.execute("ROLLBACK")
                    return False
                if (newest.batch if newest else 0) != batch.batch - 1:
                    raise WarehouseRefused(
                        f"batch {batch.batch - 1} must be loaded before batch {batch.batch}"
                    )
                self._create(tables)
                for load in batch.loads:
                    self._write(load)
                    reach("duckdb.rows")
                for load in reversed(batch.loads):
                    self._remove(load)
                    reach("duckdb.removed")
                self._engine.execute(
                    f"INSERT INTO {self._name(LEDGER)} VALUES (?, ?, ?, ?, ?)",
                    [
                        batch.batch,
                        batch.manifest_sha256,
                        batch.read_at,
                        datetime.now(UTC).replace(tzinfo=None),
                        batch.rows,
                    ],
                )
                reach("duckdb.commit.before")
                self._engine.execute("COMMIT")
                reach("duckdb.commit.after")
            except BaseException:
                self._roll_back()
                raise
        return True

    def query(self, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """See Warehouse."""
        with _warehouse_errors("querying the warehouse"):
            result = self._engine.execute(sql)
            return [column[0] for column in result.description or []], result.fetchall()

    @contextmanager
    def current_rows(self, table: WarehouseTable) -> Iterator[engine.Stream]:
        """See Warehouse."""
        with _warehouse_errors(f"reading {table.name}"):
            columns = engine.names(column.name for column in table.model.produced)
            yield engine.Stream(self._engine, f"SELECT {columns} FROM {self._name(table.current)}")

    def _roll_back(self) -> None:
        try:
            self._engine.execute("ROLLBACK")
        except duckdb.TransactionException:
            return  # a failed COMMIT has ended the transaction itself

    def _create(self, tables: tuple[WarehouseTable, ...]) -> None:
        present = self._present()
        if self._schema != SCHEMA:
            self._engine.execute(f"CREATE SCHEMA IF NOT EXISTS {engine.name(self._schema)}")
        if LEDGER not in present:
            self._engine.execute(ddl.create_ledger(self._schema))
        for table in (table for table in tables if table.name not in present):
            for statement in (
                ddl.create_table(table, self._schema, "duckdb"),
                *ddl.create_view(table, self._schema),
                *ddl.comments(table, self._schema),
            ):
                self._engine.execute(statement)

    def _write(self, load: TableLoad) -> None:
        if not load.rows:
            return
        table, target, rows = load.table, self._name(load.table.name), engine.parquet(load.rows)
        columns = engine.names(table.columns)
        if table.model.versioned:
            self._engine.execute(
                f"UPDATE {target} AS old SET valid_to = new.valid_from FROM {rows} AS new"
                f" WHERE {_equal('old', 'new', table.key)} AND old.valid_to IS NULL"
            )
            self._engine.execute(f"INSERT INTO {target} ({columns}) SELECT {columns} FROM {rows}")
            return
        keys = table.model.primary_key
        others = [column for column in table.columns if column not in keys]
        replaced = ", ".join(f"{engine.name(c)} = excluded.{engine.name(c)}" for c in others)
        self._engine.execute(
            f"INSERT INTO {target} ({columns}) SELECT {columns} FROM {rows}"
            f" ON CONFLICT ({engine.names(keys)}) DO {f'UPDATE SET {replaced}' if others else 'NOTHING'}"
        )

    def _remove(self, load: TableLoad) -> None:
        if not load.removed:
            return
        gone = 1
        while gone:
            [[gone]] = self._engine.execute(
                f"DELETE FROM {self._name(load.table.name)} AS gone USING {engine.parquet(load.removed)} AS removed"
                f" WHERE {_equal('gone', 'removed', load.table.key)}{still_referred(load.table, self._schema)}"
            ).fetchall()
            gone = gone if load.table.refers_to_itself else 0

    def _present(self) -> set[str]:
        rows = self._engine.execute(
            "SELECT table_name FROM duckdb_tables() WHERE schema_name = ?", [self._schema]
        ).fetchall()
        return {name for (name,) in rows}

    def _name(self, table: str) -> str:
        return engine.name(self._schema, table)


def still_referred(table: WarehouseTable, schema: str) -> str:
    """The condition that no row refers to a row `gone`: what history refers to must stay, or it could not be read.

    In a table that refers to itself a removed row may refer to another: deleting goes on until no row goes.
    """
    [key] = table.model.primary_key if len(table.model.primary_key) == 1 else [""]
    return "".join(
        f" AND NOT EXISTS (SELECT 1 FROM {engine.name(schema, referrer)} AS referrer"
        f" WHERE referrer.{engine.name(column)} = gone.{engine.name(key)}"
        f"{f' AND referrer.{engine.name(key)} <> gone.{engine.name(key)}' if referrer == table.name else ''})"
        for referrer, column in table.referrers
    )


def _equal(left: str, right: str, columns: tuple[str, ...]) -> str:
    return " AND ".join(f"{engine.name(left, column)} = {engine.name(right, column)}" for column in columns)


@contextmanager
def open_duckdb(file: Path, schema: str, memory: str) -> Iterator[DuckDBWarehouse]:
    """Opens a DuckDB file, waiting for a while when another process has it open.

    Raises:
        WarehouseError: it stays locked, or is no DuckDB file.
    """
    deadline = time.monotonic() + _LOCK_PATIENCE_SECONDS
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WarehouseError(
            f"the folder of {file} cannot be made: {error}", hint="Check warehouse.url"
        ) from error
    while True:
        try:
            connection = engine.connect(file, memory=memory)
            break
        except duckdb.Error as error:
            locked = isinstance(error, duckdb.IOException) and "lock" in str(error).lower()
            if not locked or time.monotonic() > deadline:
                hint = "Close the program that has it open" if locked else "Check warehouse.url"
                raise WarehouseError(
                    f"opening {file} failed: {str(error).partition(chr(10))[0]}", hint=hint
                ) from error
            time.sleep(_LOCK_RETRY_SECONDS)
    try:
        yield DuckDBWarehouse(connection, schema or SCHEMA)
    finally:
        connection.close()


@contextmanager
def _warehouse_errors(doing: str) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        raise WarehouseError(f"{doing} failed: {str(error).partition(chr(10))[0]}") from error
