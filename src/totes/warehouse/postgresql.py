"""The warehouse in PostgreSQL. Rows go in as Arrow over binary COPY; statements run on the same connection."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from functools import cached_property
from typing import Any
from zlib import crc32

import adbc_driver_manager
import duckdb
import psycopg

from totes import engine
from totes.errors import QueryTooSlow, WarehouseError
from totes.failpoint import reach
from totes.lake.manifest import OutputColumn
from totes.libpq import with_limits
from totes.log import logger
from totes.messages import message
from totes.reused import Reused
from totes.star.declaration import LEDGER
from totes.warehouse import comments, ddl, locks
from totes.warehouse.adapter import LoadedBatch, newest_batch
from totes.warehouse.answer import Answer
from totes.warehouse.building import Building, left_over
from totes.warehouse.copies import take_in
from totes.warehouse.inspection import Inspection
from totes.warehouse.postgresql_answer import answer
from totes.warehouse.postgresql_session import (
    SET_TEXT_FORMS,
    SET_TIMEOUTS,
    Session,
    connection_errors,
    warehouse_errors,
)
from totes.warehouse.postgresql_star import StarLoad
from totes.warehouse.postgresql_switch import Switch
from totes.warehouse.table import BatchLoad, Dialect, TableLoad, WarehouseTable

SCHEMA = ddl.OWN_SCHEMAS["postgresql"]
_log = logger(stage="load")
_CANCELLED = "57014"  # what a statement ends with that took too long
_MANY_ROWS = 100_000  # from here on a table that takes them is altered before, so that its readers need not wait for them


class PostgreSQLWarehouse:
    """A warehouse in PostgreSQL; see the Warehouse protocol for what each method promises."""

    dialect: Dialect = "postgresql"
    state = None

    def __init__(
        self, control: psycopg.Connection, url: str, schema: str, local: Reused[engine.Engine]
    ) -> None:
        self._control = control
        self._url = url
        self._schema = schema
        self._local = local
        self._opened = ExitStack()
        self._depth = 0
        self._unfinished: list[str] = []
        self._turn = crc32(f"totes.{schema}".encode())

    @cached_property
    def _session(self) -> Session:
        # It takes many times as long to open as the other connection, and an idle cycle never needs it.
        return self._opened.enter_context(closing(self._connect()))

    @cached_property
    def _engine(self) -> engine.Engine:
        return self._opened.enter_context(self._local.use())

    def close(self) -> None:
        """Ends the connection that rows went through, and what was not committed on it."""
        self._opened.close()

    def newest(self) -> LoadedBatch | None:
        """See Warehouse."""
        with warehouse_errors("reading the ledger"):
            try:
                return newest_batch(self._ask, self._schema)
            except psycopg.errors.UndefinedTable:
                return None
            except psycopg.errors.UndefinedColumn:
                Inspection.of(self._ask, self._schema, self.dialect)  # it is somebody else's, and refused
                raise

    def restore(self, loaded: tuple[WarehouseTable, ...], surrogates: dict[str, int]) -> None:
        """See Warehouse."""
        with warehouse_errors("looking at the warehouse's tables"):
            found = Inspection.of(self._ask, self._schema, self.dialect)
            found.refuse_losses(self._ask, loaded, surrogates)
            for statement in (*found.missing_indexes(loaded), *found.missing_views(loaded)):
                try:
                    self._change(statement)
                except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UniqueViolation) as error:
                    # Its owner can; rows that speak against it are what totes verify names.
                    _log.warning("what is missing cannot be made", sql=statement, reason=message(error))
            for statement in comments.outdated(self._ask, loaded, self._schema, self.dialect):
                try:
                    self._change(statement, f"SET LOCAL lock_timeout = '{locks.ALTER_LOCK_TIMEOUT}'")
                except psycopg.errors.LockNotAvailable as error:  # the next load tries again
                    _log.info("a description has to wait", sql=statement, reason=message(error))

    def _change(self, statement: str, timeouts: str = SET_TIMEOUTS) -> None:
        """Runs a statement in a transaction of its own."""
        with self._control.transaction():
            self._control.execute("SET LOCAL standard_conforming_strings = on")  # engine.text() relies on it
            self._control.execute(timeouts.encode())
            self._control.execute(statement.encode())

    def _ask(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a query on the connection that is open anyway."""
        if self._control.info.parameter_status("standard_conforming_strings") == "on":
            return self._control.execute(sql.encode()).fetchall()
        with self._control.transaction():
            self._control.execute("SET LOCAL standard_conforming_strings = on")  # engine.text() relies on it
            return self._control.execute(sql.encode()).fetchall()

    def resume(self, at: int) -> LoadedBatch | None:
        """See Warehouse: what is written is what is read."""
        return self.newest()

    def load(self, tables: tuple[WarehouseTable, ...], batch: BatchLoad) -> bool:
        """See Warehouse."""
        for load in batch.loads:
            if load.count >= _MANY_ROWS and (load.whole or load.is_redeclared):
                self._loosen(load, batch)
        with self._loading(f"loading batch {batch.batch}"):
            loaded = self._load(tables, batch)
        if loaded:
            reach("postgresql.commit.after")
        return loaded

    def rebuild(self, load: TableLoad, batch: int, star: frozenset[str]) -> bool:
        """See Warehouse."""
        with self._loading(f"making {load.table.name} again"):
            self._take_turn()
            found = Inspection.of(self._ask, self._schema, self.dialect)
            newest = newest_batch(self._ask, self._schema)
            if newest is None or newest.batch != batch:
                return False
            found.refuse_others((load.table,), star)
            self._drop(left_over(found.kinds))
            self._execute(SET_TEXT_FORMS)
            self._star_load(star, found).bring((load.table,), (load,))
            reach("postgresql.rebuilt")
        return True

    @contextmanager
    def _loading(self, doing: str) -> Iterator[None]:
        """One transaction that writes tables; what it was building goes where it fails, and who was in its way is named."""
        try:
            with self._transaction(doing):
                yield
        except BaseException as error:
            self._drop(self._unfinished)
            if getattr(error.__cause__, "sqlstate", None) == locks.NOT_AVAILABLE:
                holders = locks.holders(self._control, self._schema, self._turn)
                raise WarehouseError(
                    f"{doing} waited for {holders or 'another session'} in vain",
                    hint="End that session if it does not end by itself; the next load tries again",
                ) from error
            raise
        finally:
            self._unfinished = []

    def _load(self, tables: tuple[WarehouseTable, ...], batch: BatchLoad) -> bool:
        self._take_turn()
        found = Inspection.of(self._ask, self._schema, self.dialect)
        if not found.awaits(self._ask, tables, batch):
            return False
        self._drop(left_over(found.kinds))
        self._execute(SET_TEXT_FORMS)
        star = batch.loaded | {table.name for table in tables}
        self._star_load(star, found).bring(tables, batch.loads, batch.dropped)
        loaded_at = datetime.now(UTC).replace(tzinfo=None).isoformat(sep=" ")
        values = (
            f"{batch.batch}, {engine.text(batch.manifest_sha256)}, {engine.text(batch.read_at)}::timestamp"
        )
        self._execute(
            f"INSERT INTO {self._name(LEDGER)} VALUES ({values}, {engine.text(loaded_at)}::timestamp, {batch.rows})"
        )
        reach("postgresql.commit.before")
        return True

    def _star_load(self, star: frozenset[str], found: Inspection) -> StarLoad:
        return StarLoad(
            self._session, self._schema, star, found, ask=self._ask, hold=self._hold, build=self._build
        )

    def _build(
        self, tables: list[WarehouseTable], loads: Mapping[str, TableLoad], replaced: frozenset[str]
    ) -> dict[str, str]:
        """Builds new tables with their rows; gives the names that these have for now."""
        if not self.rows(f"SELECT 1 FROM pg_namespace WHERE nspname = {engine.text(self._schema)}"):
            # Committed at once: what other connections build is to be in it.
            self._control.execute(f"CREATE SCHEMA IF NOT EXISTS {engine.name(self._schema)}".encode())
        building = Building(tables, self._schema, self._connect, replaced)
        self._unfinished = list(building.names.values())
        building.build(loads, pulse=lambda: self._execute("SELECT 1"))
        return building.names

    def _loosen(self, load: TableLoad, batch: BatchLoad) -> None:
        """Has a table take many new rows, in a transaction of its own: whoever reads it then waits for that alone."""

        def attempt() -> bool:
            with self._transaction(f"altering {load.table.name}"):
                self._take_turn()
                found = Inspection.of(self._ask, self._schema, self.dialect)
                newest = newest_batch(self._ask, self._schema) if found.has(LEDGER) else None
                if newest is None or newest.batch >= batch.batch or not found.is_table(load.table.name):
                    return True
                switch = Switch(self._session, self._schema, load, batch.loaded)
                if switch.is_replaced or switch.is_loosened:
                    return True
                switch.check()
                held = locks.hold(self._session, switch.relations())
                if held:
                    switch.loosen()
                return held

        self._alone(attempt, [load.table.name, load.table.current], load.table.name)
        reach("postgresql.loosened")

    def _hold(self, relations: list[str], named: str) -> None:
        """Locks relations for this transaction alone; none of them is held while others are waited for."""
        if relations:
            listed = list(dict.fromkeys(relations))
            self._alone(lambda: locks.hold(self._session, listed), listed, named)

    def _alone(self, attempt: Callable[[], bool], relations: list[str], named: str) -> None:
        names = tuple(name.rpartition('"."')[2].strip('"') for name in relations)
        locks.alter(attempt, lambda: locks.holders(self._control, self._schema, self._turn, names), named)

    def _take_turn(self) -> None:
        """Begins a transaction that changes the warehouse; the ledger's primary key would refuse a second in any case.

        Whatever is committed from now on is committed here: until something is written, the other connection sees the same.
        """
        # What other sessions commit meanwhile is seen here, whatever the role's or the database's default is.
        self._execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        self._execute(SET_TIMEOUTS)
        self._execute(f"SELECT pg_catalog.pg_advisory_xact_lock({self._turn}::bigint)")

    def query(self, sql: str, seconds_max: float | None = None) -> tuple[list[str], list[tuple[Any, ...]]]:
        """See Warehouse."""
        with self._transaction("querying the warehouse"):
            if seconds_max is None:
                return self._session.query(sql)
            self._execute(f"SET LOCAL statement_timeout = {round(seconds_max * 1000)}")
            try:
                return self._session.query(sql)
            except (adbc_driver_manager.Error, duckdb.Error) as error:
                if "statement timeout" not in str(error) and getattr(error, "sqlstate", None) != _CANCELLED:
                    raise
                raise QueryTooSlow(seconds_max) from error

    def ask(self, sql: str) -> AbstractContextManager[Answer]:
        """See Warehouse."""
        return answer(self._control, sql, self._schema)

    @contextmanager
    def one_moment(self) -> Iterator[None]:
        """See Warehouse."""
        with self._transaction("reading the warehouse"):
            self._execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            self._execute(SET_TEXT_FORMS)
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
            self._execute(SET_TEXT_FORMS)
            # Text, since ADBC bends what it has no type for, infinities among it.
            selected = ", ".join(f"{name}::text AS {name}" for name in (engine.name(c.name) for c in columns))
            stream = self._session.stream(f"SELECT {selected} FROM ({rows}) AS chosen")
            take_in(into, stream, columns, target, as_text=True, condition=condition)

    def relation(self, table: str) -> str:
        """See Warehouse."""
        return self._name(table)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """See Statements."""
        return self._session.query(sql)[1]

    def execute(self, sql: str) -> int:
        """See Statements."""
        return self._session.execute(sql)

    def _drop(self, tables: list[str]) -> None:
        """Drops tables that were built for a load which is not to be, at once; or the next load does, if somebody reads them."""
        if not tables:
            return
        with suppress(psycopg.Error), self._control.transaction():
            self._control.execute(f"SET LOCAL lock_timeout = '{locks.ALTER_LOCK_TIMEOUT}'".encode())
            listed = ", ".join(self._name(table) for table in tables)
            self._control.execute(f"DROP TABLE IF EXISTS {listed}".encode())

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
            with warehouse_errors(doing):
                yield
                if self._depth == 1:
                    session.commit()
        except BaseException:
            session.roll_back()
            raise
        finally:
            self._depth -= 1

    def _connect(self) -> Session:
        with connection_errors():
            return Session(self._url, engine.another(self._engine))


@contextmanager
def open_postgresql(url: str, schema: str, local: Reused[engine.Engine]) -> Iterator[PostgreSQLWarehouse]:
    """Connects to a PostgreSQL warehouse; rows pass through `local`, an engine in memory, which is opened when the first do.

    Raises:
        WarehouseError: it cannot be reached.
    """
    with connection_errors():
        # A statement that is prepared stays in a pooled session.
        control = psycopg.connect(with_limits(url), autocommit=True, prepare_threshold=None)
    with (
        closing(control),
        closing(PostgreSQLWarehouse(control, url, schema or SCHEMA, local)) as warehouse,
    ):
        yield warehouse
