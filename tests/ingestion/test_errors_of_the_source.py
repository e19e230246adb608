"""What PostgreSQL says when something is wrong, and the next step that totes names: every error here is a server's own."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from threading import Thread

import psycopg
import pytest

from tests.conftest import Database
from totes.errors import SourceError
from totes.ingestion.session import connect, source_errors
from totes.terrifictotes.server import LocalServer

RUN = "run it again"
# What was done, what the server says, and what totes says to do.
STATEMENTS = {
    "SELECT FROM hidden": ("permission denied for table hidden", "GRANT what the message names to the role of source.url"),
    "SELECT FROM lost": (
        "does not exist", "What its query reads no longer exists: create it again, or leave it out with source.exclude",
    ),
    "SELECT * FROM counted": (
        "cannot execute nextval() in a read-only transaction",
        "Reading it writes something, and a batch only reads: leave it out with source.exclude",
    ),
    "SELECT FROM empty": (
        'materialized view "empty" has not been populated',
        "REFRESH it if it is a materialized view without data, or leave it out with source.exclude",
    ),
    "SELECT * FROM divided": ("division by zero", "Its query fails for some of its rows: correct the query or the rows"),
    "SELECT * FROM unqualified": (
        "function inner_() does not exist", "A function that its query calls without a schema is not found: name it with its schema there",
    ),
    "SET LOCAL lock_timeout = 1; LOCK TABLE held IN ACCESS SHARE MODE": (
        "canceling statement due to lock timeout",
        "A schema change or another session holds it; the next run captures it once that is over. To wait longer,"
        " raise source.lock_timeout",
    ),
    "SET LOCAL statement_timeout = 1; SELECT pg_sleep(9)": (
        "canceling statement due to statement timeout", f"Somebody or a timeout cancelled the statement: {RUN}",
    ),
    "SELECT pg_terminate_backend(pg_backend_pid())": (
        "terminating connection due to administrator command",
        f"The server was stopped, or an administrator ended the session: {RUN} once it is up",
    ),
    "SET LOCAL transaction_timeout = 200; SELECT pg_sleep(9)": (
        "terminating connection due to transaction timeout",
        "transaction_timeout ended the batch: ALTER ROLE … SET transaction_timeout = 0, for the role of source.url",
    ),
    "SET TRANSACTION SNAPSHOT '00000003-0000001B-1'": (
        'snapshot "00000003-0000001B-1" does not exist', "The batch's connections reached different servers, or the first one was lost: name one server in"
        " source.url, not an address with several behind it",
    ),
}  # fmt: skip


def read(url: str, statements: Iterable[str]) -> None:
    with source_errors("reading"), connect(url) as connection:
        for statement in ("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY", *statements):
            connection.execute(statement.encode())


def refused(url: str, *statements: str) -> SourceError:
    """What a batch's session fails with."""
    with pytest.raises(SourceError) as caught:
        read(url, statements)
    return caught.value


@pytest.fixture
def reader(database: Database) -> Iterator[str]:
    """A role that may read some of a database in which much is wrong, and another session that holds a table."""
    role = f"reader_{database.name}"
    database.execute(
        "CREATE TABLE hidden (id int)", "CREATE TABLE held (id int)", "CREATE SEQUENCE numbers",
        "CREATE VIEW counted AS SELECT nextval('numbers') AS id",
        "CREATE MATERIALIZED VIEW empty AS SELECT 1 AS id WITH NO DATA",
        "CREATE VIEW divided AS SELECT 1 / (n - n) AS id FROM generate_series(1, 2) AS n",
        "CREATE FUNCTION public.inner_() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE FUNCTION public.outer_() RETURNS int LANGUAGE plpgsql SET search_path = '' AS 'BEGIN RETURN inner_(); END'",
        "CREATE VIEW unqualified AS SELECT public.outer_() AS id",
        f"CREATE ROLE {role} LOGIN PASSWORD 'x'",
        f"GRANT SELECT ON held, counted, empty, divided, unqualified TO {role}", f"GRANT ALL ON SEQUENCE numbers TO {role}",
    )  # fmt: skip
    with database.connect() as holder:
        holder.execute("LOCK TABLE held")
        yield database.url.replace("//postgres:", f"//{role}:", 1).replace(
            database.url.split(":")[2].split("@")[0], "x", 1
        )
        holder.rollback()


def test_each_error_of_a_statement_has_its_own_next_step(reader: str) -> None:
    for statement, (said, step) in STATEMENTS.items():
        error = refused(reader, *statement.split("; "))
        assert said in error.what, statement
        assert error.hint == step, statement


def test_a_deadlock_is_said_to_be_one(database: Database) -> None:
    database.execute(
        f"ALTER DATABASE {database.name} SET deadlock_timeout = '50ms'",
        "CREATE TABLE one (id int)", "CREATE TABLE two (id int)",
    )  # fmt: skip
    waits = "DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM pg_locks WHERE NOT granted) LOOP PERFORM pg_sleep(0.01); END LOOP; END $$"
    held = "SELECT 1 FROM pg_locks WHERE relation = 'one'::regclass AND mode = 'AccessShareLock' AND granted"

    def cross(other: psycopg.Connection) -> None:
        while not database.execute(held):
            pass
        other.execute("LOCK TABLE one")  # granted when the reading session is ended

    with database.connect() as other:
        other.execute("SET deadlock_timeout = '60s'")
        other.execute("LOCK TABLE two")
        crossing = Thread(target=cross, args=(other,), daemon=True)
        crossing.start()
        error = refused(
            database.url, "LOCK TABLE one IN ACCESS SHARE MODE", waits, "LOCK TABLE two IN ACCESS SHARE MODE"
        )
        crossing.join()
        other.rollback()
    assert error.what == "reading failed: deadlock detected"
    assert (
        error.hint == f"Sessions waited for one another, and the server ended this one's transaction: {RUN}"
    )


def test_each_reason_not_to_be_let_in_has_its_own_next_step(database: Database, server: LocalServer) -> None:
    role, place = f"guest_{database.name}", database.url.rpartition("@")[2].rpartition("/")[0]
    database.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'right'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        unused = free.getsockname()[1]
    right = f"postgresql://{role}:right@{place}/{database.name}"

    def step(url: str, *before: str) -> str | None:
        database.execute(*before or ("SELECT 1",))
        return refused(url).hint

    assert step(right.replace(place, f"127.0.0.1:{unused}")) == (
        "Nothing listens there: check host and port in source.url, and that the server is up"
    )
    assert step(right.replace(place, "no-such-host.invalid")) == (
        "No such host is known: check the host in source.url, and this machine's DNS"
    )
    assert step(right.replace(":right", ":wrong")) == "Check user and password in source.url"
    assert step(right + "_no") == "Check the database's name in source.url"
    assert step(right + "?sslmode=require") == (
        "Turn on TLS at the server (ssl = on). To send password and rows in the clear on purpose, add sslmode=disable to source.url"
    )
    assert step(right, f"ALTER ROLE {role} CONNECTION LIMIT 0") == (
        "All of the server's connections are in use: wait until some are free, or raise max_connections"
        " or the role's CONNECTION LIMIT"
    )
    assert step(right, f"ALTER ROLE {role} CONNECTION LIMIT 9 NOLOGIN") == (
        "As a superuser: ALTER ROLE … LOGIN, for the role of source.url"
    )
    assert step(
        right, f"ALTER ROLE {role} LOGIN", f"REVOKE CONNECT ON DATABASE {database.name} FROM PUBLIC"
    ) == ("As the database's owner: GRANT CONNECT ON DATABASE … TO the role of source.url")


def test_a_full_lock_table_is_said_to_be_one() -> None:
    few = {
        "max_locks_per_transaction": "10",
        "max_connections": "5",
        "max_worker_processes": "0",
        "shared_buffers": "1MB",
    }
    with LocalServer.start(settings=few) as small:
        with psycopg.connect(small.url(), autocommit=True) as connection:
            for number in range(900):
                connection.execute(f"CREATE TABLE t{number} (id int)".encode())
        error = refused(small.url(), *(f"LOCK TABLE t{number} IN ACCESS SHARE MODE" for number in range(900)))
    assert error.what == "reading failed: out of shared memory"
    assert error.hint == (
        "The server has no memory or no locks left: raise max_locks_per_transaction there, or name fewer tables in"
        " source.tables"
    )
