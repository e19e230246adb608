"""The warehouse in PostgreSQL. Rows go in as Arrow over binary COPY; statements run on the same connection."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from functools import cached_property
from typing import Any
from zlib import crc32

import adbc_driver_manager
import duckdb
import psycopg

from totes import engine
from totes.errors import WarehouseError, WarehouseRefused
from totes.failpoint import reach
from totes.lake.manifest import OutputColumn
from totes.libpq import with_limits
from totes.redaction import redact
from totes.star.declaration import KEPT, LEDGER, NAME_BYTES_MAX
from totes.warehouse import ddl
from totes.warehouse.adapter import LoadedBatch
from totes.warehouse.building import Building, left_over
from totes.warehouse.copies import take_in
from totes.warehouse.kept import Removal
from totes.warehouse.postgresql_session import SET_TIMEOUTS, TEXT_FORMS, Session
from totes.warehouse.references import foreign_referrers, index_references, suspend_foreign_keys
from totes.warehouse.relaxation import relax
from totes.warehouse.table import BatchLoad, Referrer, TableLoad, WarehouseTable

SCHEMA = ddl.OWN_SCHEMAS["postgresql"]
_FIND_TABLE = (
    "SELECT 1 FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace ON pg_namespace.oid = relnamespace"
    " WHERE nspname = %s AND relname = %s AND relkind IN ('r', 'p')"
)
_STAGED_ROWS, _STAGED_KEYS = "totes_staged_rows", "totes_staged_keys"


class PostgreSQLWarehouse:
    """A warehouse in PostgreSQL; see the Warehouse protocol for what each method promises."""

    dialect: ddl.Dialect = "postgresql"

    def __init__(self, control: psycopg.Connection, url: str, schema: str, memory: str) -> None:
        self._control = control
        self._url = url
        self._schema = schema
        self._memory = memory
        self._opened = ExitStack()
        self._depth = 0
        self._unfinished: list[str] = []

    @cached_property
    def _session(self) -> Session:
        # It takes many times as long to open as the other connection, and an idle cycle never needs it.
        return self._opened.enter_context(closing(self._connect()))

    @cached_property
    def _engine(self) -> engine.Engine:
        return self._opened.enter_context(closing(engine.connect(None, memory=self._memory)))

    def close(self) -> None:
        """Ends the connection that rows went through, and what was not committed on it."""
        self._opened.close()

    def newest(self) -> LoadedBatch | None:
        """See Warehouse."""
        with _warehouse_errors("reading the ledger"):
            row = self._control.execute(_FIND_TABLE, [self._schema, LEDGER]).fetchone()
            row = row and self._control.execute(self._newest_sql().encode()).fetchone()
            return LoadedBatch(*row) if row else None

    def load(self, tables: tuple[WarehouseTable, ...], batch: BatchLoad) -> bool:
        """See Warehouse."""
        try:
            with self._transaction(f"loading batch {batch.batch}"):
                loaded = self._load(tables, batch)
        except BaseException:
            with suppress(psycopg.Error):  # the next load drops them
                self._drop(self._unfinished)
            raise
        finally:
            self._unfinished = []
        if loaded:
            reach("postgresql.commit.after")
        return loaded

    def _load(self, tables: tuple[WarehouseTable, ...], batch: BatchLoad) -> bool:
        # What other sessions commit meanwhile is seen here, whatever the role's or the database's default is.
        self._execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        self._execute(SET_TIMEOUTS)
        # Loaders take turns; the ledger's primary key would refuse the second in any case.
        self._execute(
            f"SELECT pg_catalog.pg_advisory_xact_lock({crc32(f'totes.{self._schema}'.encode())}::bigint)"
        )
        present = self._present()
        newest = self._newest(present)
        if newest and newest.batch >= batch.batch:
            return False
        if (newest.batch if newest else 0) != batch.batch - 1:
            raise WarehouseRefused(f"batch {batch.batch - 1} must be loaded before batch {batch.batch}")
        self._drop(left_over(present))
        self._set_text_forms()
        created = self._create(tables, present, batch)
        for table in batch.relaxed:
            relax(self, self._schema, table)
        removal = Removal(self)
        again = [
            statement
            for load in batch.loads
            if load.table.name not in created
            for statement in suspend_foreign_keys(self, self._schema, load.table.name, load.count)
        ]
        for load in batch.loads:
            self._write(load, removal, fresh=load.table.name in created)
            reach("postgresql.rows")
        for load in reversed(batch.loads):
            self._remove(load, removal)
            reach("postgresql.removed")
        for table in (table for table in tables if table.name in created):
            for column, target in table.model.references.items():
                if target not in created:
                    self._execute(ddl.create_foreign_key(table, column, self._schema))
        for statement in again:
            self._execute(statement)
        loaded_at = datetime.now(UTC).replace(tzinfo=None).isoformat(sep=" ")
        values = (
            f"{batch.batch}, {engine.text(batch.manifest_sha256)}, {engine.text(batch.read_at)}::timestamp"
        )
        self._execute(
            f"INSERT INTO {self._name(LEDGER)} VALUES ({values}, {engine.text(loaded_at)}::timestamp, {batch.rows})"
        )
        reach("postgresql.commit.before")
        return True

    def query(self, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """See Warehouse."""
        with self._transaction("querying the warehouse"):
            return self._session.query(sql)

    @contextmanager
    def one_moment(self) -> Iterator[None]:
        """See Warehouse."""
        with self._transaction("reading the warehouse"):
            self._execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield

    def columns(self, relation: str) -> tuple[str, ...]:
        """See Warehouse."""
        with self._transaction(f"looking at {relation}"):
            found = self.rows(
                "SELECT attname::text FROM pg_catalog.pg_attribute JOIN pg_catalog.pg_class ON pg_class.oid = attrelid"
                " JOIN pg_catalog.pg_namespace ON pg_namespace.oid = relnamespace WHERE attnum > 0 AND NOT attisdropped"
                f" AND nspname = {engine.text(self._schema)} AND relname = {engine.text(relation)} ORDER BY attnum"
            )
            return tuple(name for (name,) in found)

    def copy(
        self, rows: str, columns: tuple[OutputColumn, ...], into: engine.Engine, target: str, condition: str
    ) -> None:
        """See Warehouse."""
        with self._transaction("reading the warehouse"):
            self._set_text_forms()
            # Text, since ADBC bends what it has no type for, infinities among it.
            selected = ", ".join(f"{name}::text AS {name}" for name in (engine.name(c.name) for c in columns))
            stream = self._session.stream(f"SELECT {selected} FROM ({rows}) AS chosen")
            take_in(into, stream, columns, target, as_text=True, condition=condition)

    def present_referrers(self, table: WarehouseTable) -> tuple[Referrer, ...]:
        """See Warehouse."""
        with self._transaction(f"looking at {table.name}"):
            present = self._present()
            known = tuple(referrer for referrer in table.referrers if referrer.table in present)
            return known + foreign_referrers(self, self._schema, table, known)

    def relation(self, table: str) -> str:
        """See Warehouse."""
        return self._name(table)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """See Statements."""
        return self._session.query(sql)[1]

    def execute(self, sql: str) -> int:
        """See Statements."""
        return self._session.execute(sql)

    def prepare_search(self, referrers: tuple[Referrer, ...]) -> None:
        """See Statements: without an index each gone row would cost a reading of all rows that may refer to it."""
        index_references(self, self._schema, referrers)

    def _newest(self, present: set[str]) -> LoadedBatch | None:
        rows = self.rows(self._newest_sql()) if LEDGER in present else []
        return LoadedBatch(*rows[0]) if rows else None

    def _newest_sql(self) -> str:
        return (
            f"SELECT batch_id, manifest_sha256, loaded_at, rows FROM {self._name(LEDGER)}"
            " ORDER BY batch_id DESC LIMIT 1"
        )

    def _create(
        self, tables: tuple[WarehouseTable, ...], present: set[str], batch: BatchLoad
    ) -> frozenset[str]:
        """Creates what is missing, tables with their rows, and gives the names of the new tables."""
        missing = [table for table in tables if table.name not in present]
        own = {LEDGER: ddl.create_ledger, KEPT: ddl.create_kept}
        lacking = [name for name in own if name not in present]
        if not missing and not lacking:
            return frozenset()
        if len(self._schema.encode()) > NAME_BYTES_MAX:  # PostgreSQL would make one of another name
            raise WarehouseRefused(
                f"warehouse.schema is longer than {NAME_BYTES_MAX} bytes", hint="Choose a shorter one"
            )
        try:
            if not self.rows(f"SELECT 1 FROM pg_namespace WHERE nspname = {engine.text(self._schema)}"):
                # Committed at once: what other connections build is to be in it.
                self._control.execute(f"CREATE SCHEMA IF NOT EXISTS {engine.name(self._schema)}".encode())
            for name in lacking:
                self._execute(own[name](self._schema))
            self._build(missing, {load.table.name: load for load in batch.loads})
        except (psycopg.Error, adbc_driver_manager.Error) as error:
            if getattr(error, "sqlstate", None) != "42501":
                raise
            names = ", ".join([table.name for table in missing] or lacking)
            raise WarehouseRefused(
                f"the warehouse lacks {names}, and the role may not create tables in {self._schema}",
                hint="Have its owner run the output of `totes warehouse sql`",
            ) from error
        return frozenset(table.name for table in missing)

    def _build(self, tables: list[WarehouseTable], loads: dict[str, TableLoad]) -> None:
        """Builds new tables with their rows, and takes them in: with this transaction they are there."""
        if not tables:
            return
        building = Building(tables, self._schema, self._connect)
        self._unfinished = list(building.names.values())
        building.build(loads, pulse=lambda: self._execute("SELECT 1"))
        for table in tables:
            built = self._name(building.names[table.name])
            self._execute(f"ALTER TABLE {built} RENAME TO {engine.name(table.name)}")
            for statement in (*ddl.create_view(table, self._schema), *ddl.comments(table, self._schema)):
                self._execute(statement)

    def _drop(self, tables: list[str]) -> None:
        """Drops tables that were built for a load which is not to be, at once."""
        if not tables:
            return
        with self._control.transaction():
            self._control.execute(SET_TIMEOUTS.encode())
            listed = ", ".join(self._name(table) for table in tables)
            self._control.execute(f"DROP TABLE IF EXISTS {listed}".encode())

    def _write(self, load: TableLoad, removal: Removal, *, fresh: bool) -> None:
        if not load.rows:
            return
        table, target = load.table, self._name(load.table.name)
        if fresh:  # its rows are there
            if not table.model.versioned:
                removal.take_back(table, target)
            return
        staged = self._stage(_STAGED_ROWS, table.model.output, load.relation)
        columns = engine.names(table.columns)
        insert = f"INSERT INTO {target} ({columns}) SELECT {columns} FROM {staged}"
        if table.model.versioned:
            # Without statistics a few rows are taken for many, and joined by reading all history.
            self._execute(f"ANALYZE {staged}")
            self._execute(
                f"UPDATE {target} AS old SET valid_to = new.valid_from FROM {staged} AS new"
                f" WHERE old.valid_to IS NULL AND {engine.equal('old', 'new', table.key)}"
            )
            self._execute(insert)
        else:
            keys = table.model.primary_key
            others = [column for column in table.columns if column not in keys]
            replaced = ", ".join(f"{engine.name(c)} = excluded.{engine.name(c)}" for c in others)
            self._execute(
                f"{insert} ON CONFLICT ({engine.names(keys)}) DO {f'UPDATE SET {replaced}' if others else 'NOTHING'}"
            )
            removal.take_back(table, staged)
        self._execute(f"DROP TABLE {staged}")

    def _remove(self, load: TableLoad, removal: Removal) -> None:
        if not load.removed:
            removal.remove(load.table, None)
            return
        keys = [column for column in load.table.model.output if column.name in load.table.key]
        staged = self._stage(_STAGED_KEYS, keys, engine.parquet(load.removed))
        self._execute(f"ANALYZE {staged}")
        removal.remove(load.table, staged)
        self._execute(f"DROP TABLE {staged}")

    def _stage(self, name: str, columns: Iterable[OutputColumn], rows: str) -> str:
        """Puts rows into a temporary table, and gives its quoted name."""
        self._execute(ddl.create_staged(name, columns))
        self._session.send(name, columns, rows, temporary=True)
        return f"pg_temp.{name}"

    def _present(self) -> set[str]:
        rows = self.rows(
            "SELECT relname::text FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"
            f" WHERE nspname = {engine.text(self._schema)} AND relkind IN ('r', 'p')"
        )
        return {name for (name,) in rows}

    def _set_text_forms(self) -> None:
        for setting, value in TEXT_FORMS.items():
            self._execute(f"SET LOCAL {setting} = {engine.text(value)}")

    def _execute(self, sql: str) -> None:
        self._session.execute(sql)

    def _name(self, table: str) -> str:
        return engine.name(self._schema, table)

    @contextmanager
    def _transaction(self, doing: str) -> Iterator[None]:
        """One transaction; within another one, a part of it."""
        session = self._session
        self._depth += 1
        try:
            with _warehouse_errors(doing):
                yield
                if self._depth == 1:
                    session.commit()
        except BaseException:
            session.roll_back()
            raise
        finally:
            self._depth -= 1

    def _connect(self) -> Session:
        with _connection_errors():
            return Session(self._url, engine.another(self._engine))


@contextmanager
def open_postgresql(url: str, schema: str, memory: str) -> Iterator[PostgreSQLWarehouse]:
    """Connects to a PostgreSQL warehouse.

    Raises:
        WarehouseError: it cannot be reached.
    """
    with _connection_errors():
        control = psycopg.connect(with_limits(url), autocommit=True)
    with closing(control), closing(PostgreSQLWarehouse(control, url, schema or SCHEMA, memory)) as warehouse:
        yield warehouse


@contextmanager
def _connection_errors() -> Iterator[None]:
    try:
        yield
    except (psycopg.Error, adbc_driver_manager.Error) as error:
        raise WarehouseError(
            f"connecting to the warehouse failed: {_message(error)}",
            hint="Check warehouse.url and that the server is up",
        ) from error


@contextmanager
def _warehouse_errors(doing: str) -> Iterator[None]:
    try:
        yield
    except (psycopg.Error, adbc_driver_manager.Error, duckdb.Error) as error:
        denied = getattr(error, "sqlstate", None) == "42501" or "permission denied" in str(error)
        hint = (
            "Grant it: docs/how-to/warehouse-in-postgresql.md lists what the role needs" if denied else None
        )
        raise WarehouseError(f"{doing} failed: {_message(error)}", hint=hint) from error


def _message(error: Exception) -> str:
    """What PostgreSQL said, without the statement that it said it of."""
    text = " ".join(str(error).split())
    return redact(text[max(text.find("ERROR: "), 0) :])
