"""A session of a PostgreSQL warehouse, and what it is set to whatever the role's or the database's own settings are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import adbc_driver_manager
import duckdb
import psycopg

from totes import engine
from totes.errors import WarehouseError
from totes.lake.manifest import OutputColumn
from totes.libpq import connect_arrow, with_limits
from totes.messages import message
from totes.sqlstate import next_step
from totes.warehouse import binary_form

# A role's or database's own timeouts are meant for people's queries. What a load must not do is keep its locks when its
# runner was stopped half-way: after a while without a statement the server ends the transaction. Not all versions have all.
SET_TIMEOUTS = """SELECT pg_catalog.set_config(timeouts.name, timeouts.value, true) FROM (VALUES
    ('lock_timeout', '60s'), ('idle_in_transaction_session_timeout', '5min'), ('statement_timeout', '0'),
    ('transaction_timeout', '0')) AS timeouts (name, value) WHERE pg_catalog.current_setting(timeouts.name, true) IS NOT NULL"""
_EXISTS = ("42P07", "42710")  # a relation, a constraint or a type has the name of one that is to be made
# What decides the text forms of values; a role or a database may have other settings of its own.
SET_TEXT_FORMS = """SELECT pg_catalog.set_config(forms.name, forms.value, true) FROM (VALUES
    ('TimeZone', 'UTC'), ('DateStyle', 'ISO, YMD'), ('IntervalStyle', 'postgres'), ('extra_float_digits', '1'),
    ('bytea_output', 'hex')) AS forms (name, value)"""


class Session:
    """A connection on which rows come and go as Arrow; what is executed is not committed until `commit`."""

    def __init__(self, url: str, local: engine.Engine) -> None:
        """Connects.

        Args:
            url: the server's.
            local: an engine of this session alone, which rows that are sent or received pass through; it is closed
                with the session.

        Raises:
            adbc_driver_manager.Error: the server cannot be reached.
        """
        self._local = local
        self._connection = connect_arrow(with_limits(url), autocommit=False)
        self._cursor = self._connection.cursor()
        self.execute("SET standard_conforming_strings = on")  # engine.text() relies on it
        self.commit()

    def execute(self, sql: str) -> int:
        """Runs a statement, and gives how many rows it changed."""
        self._cursor.execute(sql)
        return max(int(self._cursor.rowcount), 0)

    def stream(self, sql: str) -> Any:
        """The rows of a query, as an Arrow stream that is to be read before the next statement."""
        self._cursor.execute(sql)
        return self._cursor.fetch_arrow()

    def query(self, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """The column names and rows of a query."""
        self._local.register("incoming", self.stream(sql))
        try:
            result = self._local.execute("SELECT * FROM incoming")
            return [column[0] for column in result.description or []], result.fetchall()
        finally:
            self._local.unregister("incoming")

    def send(self, table: str, columns: Iterable[OutputColumn], rows: str, **where: Any) -> None:
        """Copies rows into a table whose columns have the types that they are declared with.

        Args:
            table: the table's name, unquoted.
            columns: the columns.
            rows: a relation of the engine.
            where: `db_schema_name`, or `temporary`.
        """
        self._cursor.adbc_ingest(
            table, self._local.sql(binary_form.select(columns, rows)), mode="append", **where
        )

    def commit(self) -> None:
        """Ends the transaction; the next statement begins another."""
        self._connection.commit()

    def roll_back(self) -> None:
        """Ends the transaction, and undoes it; where the connection is gone, the transaction is gone with it."""
        with suppress(adbc_driver_manager.Error):
            self._connection.rollback()

    def cancel(self) -> None:
        """Ends the statement that another thread waits for, if there is one; that thread gets an error."""
        with suppress(adbc_driver_manager.Error):  # there is none
            self._connection.adbc_cancel()

    def close(self) -> None:
        """Ends the connection, and undoes what is not committed."""
        with closing(self._local), closing(self._connection), closing(self._cursor):
            self.roll_back()


@contextmanager
def connection_errors() -> Iterator[None]:
    """Reports that a warehouse cannot be reached."""
    try:
        yield
    except (psycopg.Error, adbc_driver_manager.Error) as error:
        raise WarehouseError(
            f"connecting to the warehouse failed: {message(error)}",
            hint=next_step(error, "warehouse.url"),
        ) from error


@contextmanager
def warehouse_errors(doing: str) -> Iterator[None]:
    """Reports what the server, a driver or the engine raised as a failure of the warehouse."""
    try:
        yield
    except (psycopg.Error, adbc_driver_manager.Error, duckdb.Error) as error:
        denied = getattr(error, "sqlstate", None) == "42501" or "permission denied" in str(error)
        hint = (
            "Grant it: docs/how-to/warehouse-in-postgresql.md lists what the role needs" if denied else None
        )
        if getattr(error, "sqlstate", None) in _EXISTS:
            hint = "Give what has that name another one, or set warehouse.schema to a schema of its own"
        raise WarehouseError(f"{doing} failed: {message(error)}", hint=hint) from error
