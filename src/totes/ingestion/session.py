"""Sessions at the source. Settings are made per transaction, so that a pooled session is never changed.

Nothing here lasts longer than a transaction: no setting, no lock, no prepared statement, no temporary table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from threading import Event, Thread
from typing import Any

import adbc_driver_manager
import psycopg
from adbc_driver_manager import dbapi
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from totes import engine
from totes.errors import SourceError
from totes.libpq import connect_arrow, with_limits
from totes.messages import message
from totes.sqlstate import next_step

# Settings of a role or database that could end a long read, change what our statements mean, or change PostgreSQL's text forms.
_SETTINGS = {
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "5min",  # for the session of a runner that was stopped half-way
    "search_path": "",
    "standard_conforming_strings": "on",
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "quote_all_identifiers": "off",
    "lc_monetary": "C",
    "client_encoding": "UTF8",
    "row_security": "off",
}
_LIFE_SECONDS = 30.0
_TRANSACTION_TIMEOUT_SINCE = 170000
_MODE = "ISOLATION LEVEL {level}, READ ONLY"
# ADBC reads the server's types before any transaction of ours, by the names of their functions, which must not be quoted.
# If transactions are serializable by default, a standby refuses that query, and a deferrable one may wait forever.
_BEFORE_TRANSACTIONS_SQL = """
    SELECT name, CASE name WHEN 'quote_all_identifiers' THEN 'off' ELSE '"repeatable read"' END FROM pg_catalog.pg_settings
    WHERE (name, reset_val) IN (('quote_all_identifiers', 'on'), ('default_transaction_isolation', 'serializable'))
"""


def _settings(server_version: int, lock_timeout: timedelta) -> dict[str, str]:
    """The settings of a transaction."""
    found = _SETTINGS | {"lock_timeout": f"{int(lock_timeout.total_seconds() * 1000)}ms"}
    return found | ({"transaction_timeout": "0"} if server_version >= _TRANSACTION_TIMEOUT_SINCE else {})


def bulk_settings(server_version: int, lock_timeout: timedelta) -> dict[str, str]:
    """The settings of a bulk connection's transaction, which may be idle for as long as other connections read."""
    return _settings(server_version, lock_timeout) | {"idle_in_transaction_session_timeout": "0"}


def connect(url: str) -> closing[psycopg.Connection]:
    """A connection on which `begin` begins transactions.

    It is closed without a rollback: on a lost connection that would fail with an error that nothing here masks.
    """
    # No prepared statements: they would stay in a pooled session.
    return closing(
        psycopg.connect(with_limits(url), autocommit=True, prepare_threshold=None, client_encoding="UTF8")
    )


def begin(
    connection: psycopg.Connection,
    lock_timeout: timedelta,
    level: str = "REPEATABLE READ",
    *,
    first: tuple[str, ...] = (),
    last: tuple[str, ...] = (),
) -> None:
    """Begins a read-only transaction with its settings, without a snapshot or lock yet.

    The statements `first` and `last` are sent in the same message, to run immediately before and after it.
    """
    found = _settings(connection.info.server_version, lock_timeout)
    each = [f"SET LOCAL {name} = {engine.text(value)}" for name, value in found.items()]
    statements = [*first, f"BEGIN {_MODE.format(level=level)}", *each, *last]
    psycopg.Cursor(connection).execute("; ".join(statements).encode())


class TransactionCursor(psycopg.Cursor[Any]):
    """Runs each statement in a transaction of its own, with the settings of a batch."""

    def execute(self, query: Any, params: Any = None, **how: Any) -> TransactionCursor:
        """Runs a statement; its rows can be fetched afterwards."""
        begin(self.connection, timedelta(seconds=30), "READ COMMITTED")
        try:
            super().execute(query, params, **how)
        finally:
            psycopg.Cursor(self.connection).execute("ROLLBACK")
        return self


def bulk_target(url: str, control: psycopg.Connection) -> str:
    """The target of bulk connections: the same server as the control connection's, if the URL names several."""
    info, parts = control.info, conninfo_to_dict(with_limits(url))
    place: dict[str, Any] = {"host": info.host, "port": info.port, "client_encoding": "UTF8"}
    if info.hostaddr:
        place["hostaddr"] = info.hostaddr
    rows = psycopg.Cursor(control).execute(_BEFORE_TRANSACTIONS_SQL).fetchall()
    if rows:
        options = [str(parts.get("options") or ""), *(f"-c {name}={_escaped(value)}" for name, value in rows)]
        place["options"] = " ".join(options).strip()
    return make_conninfo(with_limits(url), **place)


def _escaped(value: str) -> str:
    return value.strip('"').replace(" ", "\\ ")


class BulkConnection:
    """A connection that reads rows as Arrow, in an exported snapshot if one is given."""

    def __init__(
        self, target: str, snapshot: str | None, found: dict[str, str], lock: str | None = None
    ) -> None:
        """Connects, and locks the tables without waiting.

        Raises:
            adbc_driver_manager.Error: the server cannot be reached, has no such snapshot, or a table cannot be locked.
        """
        import nanoarrow

        # The driver begins the transaction: a BEGIN of ours would be prepared first and executed then, which a pool in
        # transaction mode sees as two transactions.
        self._connection: dbapi.Connection = connect_arrow(target, autocommit=False)
        try:
            self._cursor = self._connection.cursor()
            self._cursor.execute(f"SET TRANSACTION {_MODE.format(level='REPEATABLE READ')}")
            if snapshot:
                self._cursor.execute(f"SET TRANSACTION SNAPSHOT {engine.text(snapshot)}")
            each = (
                f"pg_catalog.set_config({engine.text(n)}, {engine.text(v)}, true)" for n, v in found.items()
            )
            nanoarrow.ArrayStream(self.rows(f"SELECT {', '.join(each)}")).read_all()
            if lock:
                self._cursor.execute(lock)
        except BaseException:
            self._connection.close()
            raise

    def rows(self, sql: str) -> Any:
        """The rows of a query, as an Arrow stream that has to be read before the next query."""
        self._cursor.execute(sql)
        return self._cursor.fetch_arrow()

    def is_alive(self) -> bool:
        """Ends the transaction, and returns whether the server still answers."""
        try:
            self._connection.adbc_connection.set_autocommit(True)
        except adbc_driver_manager.Error:
            return False
        return True

    def close(self) -> None:
        """Ends the transaction and closes the connection."""
        with closing(self._connection), closing(self._cursor):
            self.is_alive()


@contextmanager
def showing_life(show: Callable[[], None]) -> Iterator[None]:
    """Calls a function that sends a query to the server regularly while the context lasts."""
    ended = Event()

    def repeat() -> None:
        while not ended.wait(_LIFE_SECONDS):
            show()

    thread = Thread(target=repeat, name="totes-life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def source_errors(doing: str) -> Iterator[None]:
    """Turns errors of the drivers into SourceError.

    Raises:
        SourceError: `doing` failed.
    """
    try:
        yield
    except (psycopg.Error, adbc_driver_manager.Error) as error:
        raise SourceError(f"{doing} failed: {message(error)}", hint=next_step(error)) from error
