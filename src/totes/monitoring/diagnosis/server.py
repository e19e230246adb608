"""Checks the source's server, and the session that a batch would have there. No rows are read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg.conninfo import conninfo_to_dict

from totes import engine
from totes.config import SourceSettings
from totes.ingestion.session import TransactionCursor
from totes.libpq import is_this_machine, with_limits
from totes.messages import message
from totes.monitoring.diagnosis.check import Area
from totes.monitoring.health import utc_now
from totes.sqlstate import next_step

VERSION_MIN, VERSION_TESTED = 13, 18  # pg_current_snapshot() came with 13
SKEW_SECONDS_MAX = 30
_CONNECTIONS = 2
_FUNCTIONS = (
    "pg_control_system()",
    "pg_control_checkpoint()",
    "pg_export_snapshot()",
    "pg_current_snapshot()",
)
_SESSION_SQL = """
    SELECT current_user::text, current_database()::text, setting, source FROM pg_catalog.pg_settings WHERE name = 'TimeZone'
"""
# Timeouts of a role or database that would end a session that reads for long.
_TIMEOUTS = (
    "statement_timeout", "transaction_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout",
)  # fmt: skip


@dataclass(frozen=True)
class Server:
    """An open connection to the source, with what the server reports.

    `time_zone` is a session's default time zone, and where it is configured.
    """

    connection: psycopg.Connection
    role: str
    database: str
    time_zone: tuple[str, str]

    @property
    def quoted_role(self) -> str:
        """The role as SQL names it."""
        return engine.name(self.role)


@contextmanager
def connect(area: Area, url: str, source: SourceSettings) -> Iterator[Server | None]:
    """Connects as a batch does, and checks the server and the session; yields None if there is no connection.

    The connection has the settings of a batch's session.
    """
    try:
        connection = psycopg.connect(
            with_limits(url),
            autocommit=True,
            prepare_threshold=None,
            client_encoding="UTF8",
            cursor_factory=TransactionCursor,
        )
    except psycopg.Error as error:
        fix, *sql = _fix_connection(url, error)
        area.fail("connection", f"there is no connection: {message(error)}", fix, *sql)
        yield None
        return
    with connection:
        try:
            # The session's defaults, so not with this connection's own cursors.
            row = psycopg.Cursor(connection).execute(_SESSION_SQL).fetchone()
            connection.execute("SELECT 1")
        except psycopg.Error as error:
            area.fail("connection", f"there is no transaction: {message(error)}", next_step(error))
            yield None
            return
        assert row is not None
        server = Server(connection, row[0], row[1], (row[2], row[3]))
        with area.checking("connection", "asking the server who it is"):
            _check_connection(area, server)
        with area.checking("functions", "looking at the functions that a batch calls"):
            _check_functions(area, server)
        with area.checking("clock", "asking for the server's time"):
            _check_clock(area, server)
        with area.checking("timeouts", "setting up a session"):
            _check_session(area, server, source.connections + 1)
        yield server


def _fix_connection(url: str, error: psycopg.Error) -> tuple[str, ...]:
    try:
        parts = conninfo_to_dict(url)
    except psycopg.Error:
        return (
            "Write source.url as postgresql://user:password@host:port/database, special characters percent-encoded",
        )
    role, database = (engine.name(str(parts.get(part))) for part in ("user", "dbname"))
    if "CONNECT privilege" in str(error):
        return "As the database's owner:", f"GRANT CONNECT ON DATABASE {database} TO {role}"
    if "not permitted to log in" in str(error):
        return "As a superuser:", f"ALTER ROLE {role} LOGIN"
    return (next_step(error),)


def _check_connection(area: Area, server: Server) -> None:
    info = server.connection.info
    version = info.server_version // 10000
    place = f"{info.host}:{info.port}" if not info.host.startswith("/") else info.host
    encrypted = bool(server.connection.pgconn.ssl_in_use)
    area.ok(
        "connection",
        f"PostgreSQL {info.parameter_status('server_version')} at {place}, database {server.database}, "
        f"as {server.role}, {'with' if encrypted else 'without'} TLS",
    )
    if not encrypted and not is_this_machine(info.host):
        area.warn(
            "tls",
            "data and the login cross the network in the clear",
            "Add ?sslmode=verify-full to source.url, or at least sslmode=require",
        )
    if version < VERSION_MIN:
        area.fail(
            "version",
            f"PostgreSQL {version} has no pg_current_snapshot(), by which changes are found",
            f"Upgrade the server to {VERSION_MIN} or newer, or read from a logical replica that is",
        )
    elif version > VERSION_TESTED:
        area.warn(
            "version",
            f"PostgreSQL {version} is newer than {VERSION_TESTED}, the newest that totes was tested with",
            "Look for a newer totes, and run totes verify after the first batches",
        )
    else:
        area.ok(
            "version",
            f"PostgreSQL {version} is one of the supported versions, {VERSION_MIN} to {VERSION_TESTED}",
        )
    encoding = info.parameter_status("server_encoding")
    if encoding == "SQL_ASCII":
        area.warn(
            "encoding",
            "the database's encoding is SQL_ASCII: it takes any bytes for text, and one that is not UTF-8 stops a batch",
            "Dump the database and restore it into one with ENCODING 'UTF8'",
        )
    else:
        area.ok("encoding", f"the database's encoding is {encoding}, and text arrives as UTF-8")
    limit = server.connection.execute(
        "SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user"
    ).fetchone()
    if limit and 0 <= limit[0] < _CONNECTIONS:
        area.fail(
            "connections",
            f"{server.role} may have {limit[0]} connection at a time, and a batch needs {_CONNECTIONS}",
            "As a superuser:",
            f"ALTER ROLE {server.quoted_role} CONNECTION LIMIT {_CONNECTIONS + 2}",
        )


def _check_functions(area: Area, server: Server) -> None:
    asked = ", ".join(
        f"has_function_privilege(to_regproc({engine.text(f.removesuffix('()'))})::oid, 'EXECUTE')"
        for f in _FUNCTIONS
    )
    row = server.connection.execute(f"SELECT {asked}".encode()).fetchone()
    assert row is not None
    denied = [function for function, allowed in zip(_FUNCTIONS, row, strict=True) if allowed is False]
    if not denied:
        area.ok(
            "functions", "the functions that report a batch's position in the source's history may be called"
        )
        return
    area.fail(
        "functions",
        f"{server.role} may not call {', '.join(denied)}, which report a batch's position in the source's history",
        f"As a superuser, in the database {server.database}:",
        *(f"GRANT EXECUTE ON FUNCTION pg_catalog.{function} TO {server.quoted_role}" for function in denied),
    )


def _check_clock(area: Area, server: Server) -> None:
    before = utc_now()
    row = server.connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    after = utc_now()
    there: datetime = row[0]
    seconds = (there - before - (after - before) / 2).total_seconds()
    if abs(seconds) > SKEW_SECONDS_MAX:
        area.warn(
            "clock",
            f"the source's clock is {abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} this machine's",
            "Set both by NTP. Nothing is lost, but lag and freshness are wrong",
        )
    else:
        area.ok("clock", "the source's clock and this machine's agree")


def _check_session(area: Area, server: Server, connections: int) -> None:
    connection = server.connection
    before, left = _timeouts(psycopg.Cursor(connection)), _timeouts(connection.cursor())
    left.pop("idle_in_transaction_session_timeout", None)  # a batch sends a query more often than that
    row = connection.execute(
        "SELECT pg_backend_pid(), current_setting('old_snapshot_threshold', true)"
    ).fetchone()
    assert row is not None
    if row[0] != connection.info.backend_pid:
        area.ok(
            "pooler",
            "there is a connection pooler in between: all that a batch sets or locks ends with its transactions, and the pool "
            f"needs {connections} free connections",
        )
    if row[1] not in (None, "-1"):
        area.warn(
            "snapshot age",
            f"old_snapshot_threshold is {row[1]}: a batch that reads for longer is ended with 'snapshot too old'",
            "As a superuser, and then restart the server:",
            "ALTER SYSTEM SET old_snapshot_threshold = -1",
        )
    if left:
        listed = ", ".join(f"{name} = {value}" for name, value in left.items())
        area.warn(
            "timeouts",
            f"a batch that takes longer is cut off: {listed}",
            "As a superuser:",
            *(
                f"ALTER ROLE {server.quoted_role} IN DATABASE {engine.name(server.database)} SET {name} = 0"
                for name in left
            ),
        )
    elif before:
        listed = ", ".join(f"{name} = {value}" for name, value in before.items())
        area.ok(
            "timeouts", f"{listed}: set for the role or the database, and lifted in a batch's own session"
        )
    else:
        area.ok("timeouts", "no timeout cuts a long read short")


def _timeouts(cursor: psycopg.Cursor) -> dict[str, str]:
    """The timeouts that are in effect."""
    rows = cursor.execute(
        "SELECT name, current_setting(name) FROM pg_catalog.pg_settings WHERE name = ANY(%s) AND setting <> '0'",
        (list(_TIMEOUTS),),
    ).fetchall()
    return {str(name): str(value) for name, value in rows}
