"""The warehouse in a DuckDB file. What is loaded is written in a shadow of it, so nobody who reads it waits or is waited for."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from totes import engine
from totes.errors import QueryTooSlow, WarehouseError
from totes.failpoint import reach
from totes.lake.manifest import OutputColumn
from totes.messages import message
from totes.permissions import make_folders
from totes.star.declaration import LEDGER, MADE, OUTDATED
from totes.warehouse import comments, ddl
from totes.warehouse.adapter import LoadedBatch, newest_batch
from totes.warehouse.answer import Answer
from totes.warehouse.copies import take_in
from totes.warehouse.duckdb_answer import answer
from totes.warehouse.duckdb_shadow import known_state
from totes.warehouse.duckdb_writer import Writer, connect_to_read
from totes.warehouse.inspection import Inspection
from totes.warehouse.table import BatchLoad, Dialect, TableLoad, WarehouseTable, report_load

SCHEMA = ddl.OWN_SCHEMAS["duckdb"]
_FORMER = "~former"  # the name that a table has while another takes its place
# Of the types whose values may be equal and not the same (a month and 30 days, 0 and -0) one that is neither.
_OTHER_VALUES = {"INTERVAL": "INTERVAL '1 microsecond'", "FLOAT": "1", "DOUBLE": "1"}


class DuckDBWarehouse:
    """A warehouse in a DuckDB file; see the Warehouse protocol for what each method promises."""

    dialect: Dialect = "duckdb"

    def __init__(self, file: Path, schema: str, memory: str, writer: Writer | None = None) -> None:
        self._file = file
        self._schema = schema
        self._memory = memory
        self._writer = writer
        self._seen = known_state(file)
        self._opened: engine.Engine | None = None
        self._at = 0  # the batch that the file is at, of which what is written may be behind

    @property
    def _engine(self) -> engine.Engine:
        """The connection in use: until there is something to write, one that only reads."""
        if self._opened is None:
            self._opened = connect_to_read(self._file, self._memory)
        return self._opened

    def close(self) -> None:
        """Closes the connection."""
        if self._opened:
            self._opened.close()

    @property
    def state(self) -> str | None:
        """See Warehouse."""
        if self._writer and self._writer.is_open:
            return self._writer.published
        return self._seen

    def resume(self, at: int) -> LoadedBatch | None:
        """See Warehouse: what is written may be what had the file's name before, or what a killed load has left."""
        self._at = at
        with _warehouse_errors("reading the ledger"):
            self._prepare(alike=False)
        return self.newest()

    def _prepare(self, *, alike: bool = True) -> None:
        """Goes over to the file's shadow, if it is not in use yet."""
        if self._writer and not self._writer.is_open:
            self._opened = self._writer.open(self._opened, alike=alike)

    def _wrote(self, rows: int | None = None) -> None:
        if self._writer:
            self._writer.wrote(rows)

    def newest(self) -> LoadedBatch | None:
        """See Warehouse."""
        if self._opened is None and not self._file.exists():
            return None
        with _warehouse_errors("reading the ledger"):
            try:
                return newest_batch(self.rows, self._schema)
            except duckdb.CatalogException:
                return None  # there is no ledger yet; to list the tables takes longer than all of the rest
            except duckdb.BinderException:
                Inspection.of(self.rows, self._schema, self.dialect)  # it is somebody else's, and refused
                raise

    def restore(self, loaded: tuple[WarehouseTable, ...], surrogates: dict[str, int]) -> None:
        """See Warehouse."""
        with _warehouse_errors("looking at the warehouse's tables"):
            found = Inspection.of(self.rows, self._schema, self.dialect)
            found.refuse_losses(self.rows, loaded, surrogates)
            if missing := found.missing_views(loaded):
                self._prepare()
            for statement in missing:
                self._engine.execute(statement)
                self._wrote()
            if comments.outdated(self.rows, loaded, self._schema, self.dialect):
                self._prepare()
                self._describe(loaded)
                self._wrote()

    def load(self, tables: tuple[WarehouseTable, ...], batch: BatchLoad) -> bool:
        """See Warehouse."""
        with _warehouse_errors(f"loading batch {batch.batch}"):
            self._prepare()
            self._engine.execute("BEGIN")
            try:
                is_new = self._load(tables, batch)
                reach("duckdb.commit.before")
                self._engine.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise
            if batch.batch > self._at:
                self._wrote(batch.rows if is_new and batch.keeps_tables else None)
            reach("duckdb.commit.after")
        return is_new

    def _load(self, tables: tuple[WarehouseTable, ...], batch: BatchLoad) -> bool:
        """What a load does in its transaction; returns False where that has been done, maybe by one that was killed."""
        found = Inspection.of(self.rows, self._schema, self.dialect)
        if not found.awaits(self.rows, tables, batch):
            return False
        found.refuse_strangers(batch.dropped, batch.loaded)
        created = self._create(tables, found, batch.loaded)
        switched = {one.table.name for one in batch.loads if one.whole or one.is_redeclared} - created
        if found.has_outdated:
            self._engine.execute(f"DROP TABLE {self._name(OUTDATED)}")
        for table in batch.dropped:
            self._drop(table)
            self._engine.execute(f"DELETE FROM {self._name(MADE)} WHERE table_name = ?", [table.name])
        for number, load in enumerate(batch.loads):
            report_load(load, sum(one.count for one in batch.loads[:number]), batch.rows)
            if load.table.name in switched:
                self._switch(load)
            self._write(load, fresh=load.whole or load.table.name in created)
            reach("duckdb.rows")
        for load in reversed(batch.loads):
            self._remove(load)
            reach("duckdb.removed")
        if made := created | switched:
            self._describe(table for table in tables if table.name in made)
        loaded_at = datetime.now(UTC).replace(tzinfo=None)
        self._engine.execute(
            f"INSERT INTO {self._name(LEDGER)} VALUES (?, ?, ?, ?, ?)",
            [batch.batch, batch.manifest_sha256, batch.read_at, loaded_at, batch.rows],
        )
        return True

    def rebuild(self, load: TableLoad, batch: int, star: frozenset[str]) -> bool:
        """See Warehouse."""
        with _warehouse_errors(f"making {load.table.name} again"):
            self._prepare()
            self._engine.execute("BEGIN")
            try:
                found = Inspection.of(self.rows, self._schema, self.dialect)
                newest = newest_batch(self.rows, self._schema)
                if newest is None or newest.batch != batch:
                    self._engine.execute("ROLLBACK")
                    return False
                found.refuse_others((load.table,), star)
                self._drop(load.table)
                self._make(load.table)
                self._write(load, fresh=True)
                self._describe((load.table,))
                reach("duckdb.rebuilt")
                self._engine.execute("COMMIT")
                self._wrote()
            except BaseException:
                self._roll_back()
                raise
        return True

    def query(self, sql: str, seconds_max: float | None = None) -> tuple[list[str], list[tuple[Any, ...]]]:
        """See Warehouse."""
        timer = threading.Timer(seconds_max or 0, self._engine.interrupt)
        with _warehouse_errors("querying the warehouse"):
            if seconds_max is not None:
                timer.start()
            try:
                result = self._engine.execute(sql)
                return [column[0] for column in result.description or []], result.fetchall()
            except duckdb.InterruptException as error:
                raise QueryTooSlow(seconds_max) from error
            finally:
                timer.cancel()

    @contextmanager
    def ask(self, sql: str) -> Iterator[Answer]:
        """See Warehouse."""
        if self._schema != SCHEMA:
            with suppress(duckdb.CatalogException):  # nothing is loaded yet
                self._engine.execute(f"USE {engine.name(self._schema)}")
        with answer(self._engine, sql) as found:
            yield found

    @contextmanager
    def one_moment(self) -> Iterator[None]:
        """See Warehouse: nobody writes the file while it is open."""
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

    def _roll_back(self) -> None:
        try:
            self._engine.execute("ROLLBACK")
        except duckdb.Error:
            # A failed COMMIT has ended the transaction itself, and a fault of the disk all that was open in the file.
            return

    def _create(
        self, tables: tuple[WarehouseTable, ...], found: Inspection, loaded: frozenset[str]
    ) -> set[str]:
        """Creates what is missing, and gives the names of the new tables."""
        missing = [table for table in tables if not found.is_table(table.name)]
        created = {table.name for table in missing}
        if self._schema != SCHEMA:
            self._engine.execute(f"CREATE SCHEMA IF NOT EXISTS {engine.name(self._schema)}")
        for statement in ddl.create_own(self._schema).values():
            self._engine.execute(statement)
        for table in missing:
            self._make(table)
        if unlisted := (created | loaded) - found.listed:
            self._engine.execute(ddl.record_made(unlisted, self._schema))
        return created

    def _make(self, table: WarehouseTable) -> None:
        self._engine.execute(ddl.create_table(table, self._schema, "duckdb"))
        self._engine.execute(ddl.create_view(table, self._schema))

    def _describe(self, tables: Iterable[WarehouseTable]) -> None:
        for statement in comments.outdated(self.rows, tables, self._schema, self.dialect):
            self._engine.execute(statement)

    def _drop(self, table: WarehouseTable) -> None:
        self._engine.execute(f"DROP VIEW IF EXISTS {self._name(table.current)}")
        self._engine.execute(f"DROP TABLE IF EXISTS {self._name(table.name)}")

    def _switch(self, load: TableLoad) -> None:
        """Puts a table in the place of one that was declared otherwise, with the same rows unless the load has all of them."""
        former, declared = engine.name(_FORMER), set(load.table.columns)
        self._engine.execute(f"DROP VIEW IF EXISTS {self._name(load.table.current)}")
        self._engine.execute(f"ALTER TABLE {self._name(load.table.name)} RENAME TO {former}")
        self._make(load.table)
        if not load.whole:
            columns = engine.names(one for one in self.columns(_FORMER) if one in declared)
            self._engine.execute(
                f"INSERT INTO {self._name(load.table.name)} ({columns}) SELECT {columns} FROM {self._name(_FORMER)}"
            )
        self._engine.execute(f"DROP TABLE {self._name(_FORMER)}")
        reach("duckdb.switched")

    def _write(self, load: TableLoad, *, fresh: bool) -> None:
        if not load.rows:
            return
        table, target, rows = load.table, self._name(load.table.name), load.relation
        columns = engine.names(table.columns)
        insert = f"INSERT INTO {target} ({columns}) SELECT {columns} FROM {rows}"
        if table.model.versioned:
            if not fresh:
                self._engine.execute(
                    f"UPDATE {target} AS old SET valid_to = new.valid_from FROM {table.first_versions(rows)} AS new"
                    f" WHERE {engine.equal('old', 'new', table.key)} AND old.valid_to IS NULL"
                )
            self._engine.execute(insert)
        elif fresh:
            self._engine.execute(insert)
        else:
            self._replace(table, insert, rows)

    def _remove(self, load: TableLoad) -> None:
        """Deletes the rows that left a table."""
        if load.removed:
            self._engine.execute(
                f"DELETE FROM {self._name(load.table.name)} AS present USING {engine.parquet(load.removed)} AS gone"
                f" WHERE {engine.equal('present', 'gone', load.table.key)}"
            )

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

    def _name(self, table: str) -> str:
        return engine.name(self._schema, table)


@contextmanager
def open_duckdb(
    file: Path, schema: str, memory: str, reads: tuple[Path, ...] = (), *, read_only: bool = False
) -> Iterator[DuckDBWarehouse]:
    """Opens a DuckDB file when something is asked of it, waiting for a while when another process writes it.

    One that is only read is not made: where there is none, the warehouse is an empty one.

    Raises:
        ConfigurationError: DuckDB does not support this path.
        WarehouseError: its folder cannot be made.
    """
    engine.address(file)
    if not read_only:
        try:
            make_folders(file.parent)
        except OSError as error:
            raise WarehouseError(
                f"the folder of {file} cannot be made: {error}", hint="Check warehouse.url"
            ) from error
    with ExitStack() as opened:
        writer = None if read_only else Writer(file, memory, reads, opened)
        with closing(DuckDBWarehouse(file, schema or SCHEMA, memory, writer)) as warehouse:
            yield warehouse


@contextmanager
def _warehouse_errors(doing: str) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        hint = "Check the free space there" if "No space left" in str(error) else None
        raise WarehouseError(f"{doing} failed: {message(error)}", hint=hint) from error
