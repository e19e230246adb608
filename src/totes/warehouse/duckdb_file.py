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
from totes.lake.manifest import OutputColumn
from totes.star.declaration import KEPT, LEDGER
from totes.warehouse import ddl
from totes.warehouse.adapter import LoadedBatch
from totes.warehouse.copies import take_in
from totes.warehouse.kept import Removal
from totes.warehouse.relaxation import relax
from totes.warehouse.table import BatchLoad, Referrer, TableLoad, WarehouseTable

SCHEMA = ddl.OWN_SCHEMAS["duckdb"]
_LOCK_PATIENCE_SECONDS = 60.0
_LOCK_RETRY_SECONDS = 0.1
# A file that another process is just making is no DuckDB file yet.
_MAKING_PATIENCE_SECONDS = 1.0
# Of the types whose values may be equal and not the same (a month and 30 days, 0 and -0) one that is neither.
_OTHER_VALUES = {"INTERVAL": "INTERVAL '1 microsecond'", "FLOAT": "1", "DOUBLE": "1"}


class DuckDBWarehouse:
    """A warehouse in a DuckDB file; see the Warehouse protocol for what each method promises."""

    dialect: ddl.Dialect = "duckdb"

    def __init__(self, connection: engine.Engine, schema: str) -> None:
        self._engine = connection
        self._schema = schema

    def newest(self) -> LoadedBatch | None:
        """See Warehouse."""
        with _warehouse_errors("reading the ledger"):
            try:
                return self._newest()
            except duckdb.CatalogException:
                return None  # there is no ledger yet; to list the tables takes longer than all of the rest

    def load(self, tables: tuple[WarehouseTable, ...], batch: BatchLoad) -> bool:
        """See Warehouse."""
        with _warehouse_errors(f"loading batch {batch.batch}"):
            self._engine.execute("BEGIN")
            try:
                present = self._present()
                newest = self._newest() if LEDGER in present else None
                if newest and newest.batch >= batch.batch:
                    self._engine.execute("ROLLBACK")
                    return False
                if (newest.batch if newest else 0) != batch.batch - 1:
                    raise WarehouseRefused(
                        f"batch {batch.batch - 1} must be loaded before batch {batch.batch}"
                    )
                created = self._create(tables, present)
                for table in batch.relaxed:
                    relax(self, self._schema, table)
                removal = Removal(self)
                for load in batch.loads:
                    self._write(load, removal, fresh=load.table.name in created)
                    reach("duckdb.rows")
                for load in reversed(batch.loads):
                    removal.remove(load.table, engine.parquet(load.removed) if load.removed else None)
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
    def one_moment(self) -> Iterator[None]:
        """See Warehouse: no other process can write the file while it is open."""
        yield

    def columns(self, relation: str) -> tuple[str, ...]:
        """See Warehouse."""
        with _warehouse_errors(f"looking at {relation}"):
            found = self._engine.execute(
                "SELECT column_name FROM duckdb_columns() WHERE schema_name = ? AND table_name = ?"
                " ORDER BY column_index",
                [self._schema, relation],
            ).fetchall()
            return tuple(name for (name,) in found)

    def copy(
        self, rows: str, columns: tuple[OutputColumn, ...], into: engine.Engine, target: str, condition: str
    ) -> None:
        """See Warehouse."""
        with _warehouse_errors("reading the warehouse"):
            selected = engine.names(column.name for column in columns)
            stream = engine.Stream(self._engine, f"SELECT {selected} FROM ({rows}) AS chosen")
            take_in(into, stream, columns, target, as_text=False, condition=condition)

    def present_referrers(self, table: WarehouseTable) -> tuple[Referrer, ...]:
        """See Warehouse."""
        present = self._present()
        return tuple(referrer for referrer in table.referrers if referrer.table in present)

    def relation(self, table: str) -> str:
        """See Warehouse."""
        return self._name(table)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """See Statements."""
        return self._engine.execute(sql).fetchall()

    def execute(self, sql: str) -> int:
        """See Statements."""
        changed = self._engine.execute(sql).fetchall()
        return int(changed[0][0]) if changed else 0

    def prepare_search(self, referrers: tuple[Referrer, ...]) -> None:
        """See Statements: a column is searched at the speed of reading it, which needs no index."""

    def _roll_back(self) -> None:
        try:
            self._engine.execute("ROLLBACK")
        except duckdb.Error:
            # A failed COMMIT has ended the transaction itself, and a fault of the disk all that was open in the file.
            return

    def _newest(self) -> LoadedBatch | None:
        rows = self._engine.execute(
            "SELECT batch_id, manifest_sha256, loaded_at, rows"
            f" FROM {self._name(LEDGER)} ORDER BY batch_id DESC LIMIT 1"
        ).fetchall()
        return LoadedBatch(*rows[0]) if rows else None

    def _create(self, tables: tuple[WarehouseTable, ...], present: set[str]) -> set[str]:
        """Creates what is missing, and gives the names of the new tables."""
        if self._schema != SCHEMA:
            self._engine.execute(f"CREATE SCHEMA IF NOT EXISTS {engine.name(self._schema)}")
        if LEDGER not in present:
            self._engine.execute(ddl.create_ledger(self._schema))
        if KEPT not in present:
            self._engine.execute(ddl.create_kept(self._schema))
        missing = [table for table in tables if table.name not in present]
        for table in missing:
            for statement in (
                ddl.create_table(table, self._schema, "duckdb"),
                *ddl.create_view(table, self._schema),
                *ddl.comments(table, self._schema),
            ):
                self._engine.execute(statement)
        return {table.name for table in missing}

    def _write(self, load: TableLoad, removal: Removal, *, fresh: bool) -> None:
        if not load.rows:
            return
        table, target, rows = load.table, self._name(load.table.name), load.relation
        columns = engine.names(table.columns)
        insert = f"INSERT INTO {target} ({columns}) SELECT {columns} FROM {rows}"
        if table.model.versioned:
            if not fresh:
                self._engine.execute(
                    f"UPDATE {target} AS old SET valid_to = new.valid_from FROM {rows} AS new"
                    f" WHERE {engine.equal('old', 'new', table.key)} AND old.valid_to IS NULL"
                )
            self._engine.execute(insert)
            return
        if fresh:
            self._engine.execute(insert)
        else:
            self._replace(table, insert, rows)
        removal.take_back(table, rows)

    def _replace(self, table: WarehouseTable, insert: str, rows: str) -> None:
        """Inserts rows of a latest table, each in the place of one with its key."""
        self._make_way(table, rows)
        keys = table.model.primary_key
        others = [column for column in table.columns if column not in keys]
        replaced = ", ".join(f"{engine.name(c)} = excluded.{engine.name(c)}" for c in others)
        self._engine.execute(
            f"{insert} ON CONFLICT ({engine.names(keys)}) DO {f'UPDATE SET {replaced}' if others else 'NOTHING'}"
        )

    def _make_way(self, table: WarehouseTable, rows: str) -> None:
        """Changes values to which new ones are equal and not the same: DuckDB would not write these."""
        for column in (column for column in table.model.produced if column.type in _OTHER_VALUES):
            old, new = engine.name("old", column.name), engine.name("new", column.name)
            self._engine.execute(
                f"UPDATE {self._name(table.name)} AS old SET {engine.name(column.name)} = {_OTHER_VALUES[column.type]}"
                f" FROM {rows} AS new WHERE {engine.equal('old', 'new', table.model.primary_key)}"
                f" AND {old} = {new}::{column.type} AND {old}::VARCHAR <> {new}::{column.type}::VARCHAR"
            )

    def _present(self) -> set[str]:
        rows = self._engine.execute(
            "SELECT table_name FROM duckdb_tables() WHERE schema_name = ?", [self._schema]
        ).fetchall()
        return {name for (name,) in rows}

    def _name(self, table: str) -> str:
        return engine.name(self._schema, table)


@contextmanager
def open_duckdb(file: Path, schema: str, memory: str) -> Iterator[DuckDBWarehouse]:
    """Opens a DuckDB file, waiting for a while when another process has it open.

    Raises:
        WarehouseError: it stays locked, or is no DuckDB file.
    """
    began = time.monotonic()
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
            patience = _LOCK_PATIENCE_SECONDS if locked else _MAKING_PATIENCE_SECONDS
            if time.monotonic() - began > patience:
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
        hint = "Check the free space there" if "No space left" in str(error) else None
        raise WarehouseError(f"{doing} failed: {engine.first_line(error)}", hint=hint) from error
