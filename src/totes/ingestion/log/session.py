"""The source while its log is read: a control connection in a transaction, and a bulk connection for the messages."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from threading import Lock
from typing import Any, TypeVar

import adbc_driver_manager
import duckdb
import psycopg

from totes import engine
from totes.config import SourceSettings
from totes.errors import RunnerAtWork, SourceError, SourceRefused
from totes.ingestion.catalog import Selection, select_tables
from totes.ingestion.identity import lsn_number
from totes.ingestion.log.publication import Publication, find_publication
from totes.ingestion.log.slot import Slot, advance_slot, create_slot, drop_slot, find_slot
from totes.ingestion.server import Server, ask_server
from totes.ingestion.session import (
    BulkConnection,
    TransactionCursor,
    begin,
    bulk_settings,
    bulk_target,
    connect,
    showing_life,
    source_errors,
)
from totes.ingestion.source import POSITION_SQL, position_of
from totes.lake.manifest import Position
from totes.messages import message
from totes.sqlstate import next_step, sqlstate

# A commit that did not wait for the disk is there after three times wal_writer_delay.
_FLUSH_SECONDS, _PAUSE_SECONDS = 3.0, 0.02
_IN_USE, _UNDEFINED = "55006", "42704"
_DESCRIBED_SQL = """
    WITH RECURSIVE asked AS (SELECT * FROM unnest(%s::oid[], %s::int4[]) AS listed (type, modifier)),
    types AS (
        SELECT type, modifier, type AS base, modifier AS base_modifier FROM asked
        UNION ALL
        SELECT types.type, types.modifier, domain.typbasetype, domain.typtypmod
        FROM types JOIN pg_catalog.pg_type AS domain ON domain.oid = types.base WHERE domain.typtype = 'd'
    )
    SELECT types.type::int8, types.modifier, pg_catalog.format_type(types.base, types.base_modifier)
    FROM types JOIN pg_catalog.pg_type AS base ON base.oid = types.base WHERE base.typtype <> 'd'
"""
# Without a transaction id of its own, a session has age() count back from the next one.
_NEXT_SQL = """
    SELECT whole - low + low_at_least + age(low_at_least::text::xid) FROM (
        SELECT whole, whole % 4294967296 AS low, greatest(whole % 4294967296, 3) AS low_at_least
        FROM (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::int8) AS following (whole)
    ) AS parts
"""
# A managed service may have a role for it instead of the attribute.
_ROLE_SQL = """
    SELECT rolname::text, rolreplication OR rolsuper OR EXISTS (
        SELECT FROM pg_catalog.pg_roles AS other WHERE other.rolname IN ('rds_replication', 'cloudsqlsuperuser')
            AND pg_catalog.pg_has_role(other.oid, 'USAGE')), rolsuper
    FROM pg_catalog.pg_roles WHERE rolname = current_user
"""
T = TypeVar("T")


class LogUnusable(Exception):
    """The log cannot be read on from where the last batch ended; the message is the reason."""


class LogSession:
    """The source's log, and what the catalog says of the slot, the publication and the tables.

    Each statement sees the present. The transaction holds the advisory lock of the lake's runners, no lock on a table, and no
    snapshot while it is idle.
    """

    def __init__(self, control: psycopg.Connection, server: Server, url: str, source: SourceSettings) -> None:
        self._control = control
        self._url = url
        self._source = source
        self._asking = Lock()
        self.server = server

    @property
    def database(self) -> str:
        """The database's name."""
        return self._control.info.dbname

    def position(self) -> tuple[Position, str]:
        """The present position, whose log is on disk up to its `lsn`, and the present snapshot in PostgreSQL's text form."""
        sql = POSITION_SQL.format(
            first="NULL", lsn="pg_current_wal_flush_lsn()::text", clock="clock_timestamp"
        )
        row = self._ask("asking for the position of the log", lambda c: c.execute(sql.encode()).fetchone())
        assert row is not None
        position = position_of(row, self.server)
        return position.model_copy(update={"flushed_lsn": position.lsn}), str(row[1])

    def flushed(self, position: Position) -> Position:
        """A position, once all that was committed before it is on disk, as far as that happens by itself."""
        deadline = time.monotonic() + _FLUSH_SECONDS
        while True:
            now, _ = self.position()
            reached = lsn_number(now.lsn or "0/0") >= lsn_number(position.lsn or "0/0")
            if reached or time.monotonic() > deadline:
                # Behind the last commit there may be records of a running transaction, which nothing flushes.
                lsn = position.lsn if reached else now.lsn
                return position.model_copy(update={"lsn": lsn, "flushed_lsn": lsn})
            time.sleep(_PAUSE_SECONDS)

    def snapshot(self) -> str:
        """The present snapshot in PostgreSQL's text form."""
        row = self._ask(
            "asking for a snapshot", lambda c: c.execute("SELECT pg_current_snapshot()::text").fetchone()
        )
        assert row is not None
        return str(row[0])

    def next_transaction(self) -> int:
        """The first transaction id that is not assigned yet; a snapshot only has the first one that has not ended.

        PostgreSQL reports the same number again within one transaction.
        """
        row = self._ask("asking for the next transaction", lambda c: c.execute(_NEXT_SQL).fetchone())
        assert row is not None
        return int(row[0])

    def slot(self) -> Slot | None:
        """The slot, if there is one."""
        return self._ask("looking at the slot", lambda c: find_slot(c, self._source.slot))

    def publication(self) -> Publication:
        """The publication, whether it exists or not, and the tables."""
        found = self._source.publication, self._source.schema_
        return self._ask("looking at the publication", lambda c: find_publication(c, *found))

    def setting(self, name: str) -> str | None:
        """A setting of the server, in the unit that PostgreSQL shows."""
        row = self._ask(
            "reading a setting", lambda c: c.execute("SELECT current_setting(%s, true)", [name]).fetchone()
        )
        return None if row is None else str(row[0])

    def role(self) -> tuple[str, bool, bool]:
        """The name of the session's role, whether it may replicate, and whether it is a superuser."""
        row = self._ask("asking for the role", lambda c: c.execute(_ROLE_SQL).fetchone())
        assert row is not None
        return row

    def has_role(self, name: str) -> bool:
        """Whether the server has a role of a name."""
        sql = "SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = %s"
        return bool(self._ask("asking for a role", lambda c: c.execute(sql, [name]).fetchall()))

    def selection(self, needed: frozenset[str]) -> Selection:
        """The tables that are to be captured."""
        return self._ask("reading the catalog", lambda c: select_tables(c, self._source, needed))

    def types(self, asked: set[tuple[int, int]]) -> dict[tuple[int, int], str]:
        """PostgreSQL's names of types, by OID and modifier; for a domain, of its base type."""
        listed = sorted(asked)
        parameters = [[oid for oid, _ in listed], [modifier for _, modifier in listed]]
        rows = self._ask("reading types", lambda c: c.execute(_DESCRIBED_SQL, parameters).fetchall())
        return {(oid, modifier): name for oid, modifier, name in rows}

    def create(self) -> None:
        """Creates the slot."""
        self._ask("creating the slot", lambda c: create_slot(c, self._source.slot))

    def drop(self) -> None:
        """Drops the slot."""
        self._ask("dropping the slot", lambda c: drop_slot(c, self._source.slot))

    def advance(self, lsn: str) -> None:
        """Lets the server forget the log before a position."""
        self._ask("advancing the slot", lambda c: advance_slot(c, self._source.slot, lsn))

    @contextmanager
    def messages(self, until: str, changes_max: int) -> Iterator[Any]:
        """The messages of whole transactions as an Arrow stream with `number` and `data`, without advancing the slot.

        Args:
            until: the position up to which the log is read.
            changes_max: after so many messages, no further transaction is read.

        Raises:
            LogUnusable: the publication did not exist all the time.
        """
        publication = engine.text(engine.name(self._source.publication))
        peek = (
            "FROM pg_catalog.pg_logical_slot_peek_binary_changes("
            f"{engine.text(self._source.slot)}, {engine.text(until)}, {changes_max}, 'proto_version', '1',"
            f" 'publication_names', {publication}) WITH ORDINALITY AS change (lsn, xid, data, number)"
        )
        try:
            found = bulk_settings(self._control.info.server_version, self._source.lock_timeout)
            bulk = BulkConnection(bulk_target(self._url, self._control), None, found)
            with closing(bulk):
                yield bulk.rows(f"SELECT number, data {peek}")
        except adbc_driver_manager.Error as error:
            raise self._failure("reading the log", error) from error
        except duckdb.Error as error:
            if "'incoming' failed: " not in str(error):
                raise
            # The engine reports the text only: once more, for the error itself.
            self._ask("reading the log", lambda c: c.execute(f"SELECT count(*) {peek}".encode()))
            raise SourceError(f"reading the log failed: {message(error)}", hint=next_step(error)) from error

    def show_life(self) -> None:
        """Sends a query to the server, so that it does not end the transaction as idle."""
        with self._asking, suppress(psycopg.Error):
            self._control.execute("SELECT 1")

    def _ask(self, doing: str, ask: Callable[[psycopg.Connection], T]) -> T:
        with self._asking:
            try:
                self._control.execute("SAVEPOINT asked")
                answer = ask(self._control)
                self._control.execute("RELEASE SAVEPOINT asked")
            except psycopg.Error as error:
                with suppress(psycopg.Error):
                    self._control.execute("ROLLBACK TO SAVEPOINT asked")
                raise self._failure(doing, error) from error
        return answer

    def _failure(self, doing: str, error: Exception) -> Exception:
        state, slot = sqlstate(error), self._source.slot
        if state == _IN_USE:
            return RunnerAtWork(
                f"the slot {slot} is being read by another session",
                hint="One lake has one slot: set source.slot to another name for another lake",
            )
        if state == _UNDEFINED and "publication" in str(error):
            return LogUnusable(f"the publication {self._source.publication} did not exist all the time")
        return SourceError(f"{doing} failed: {message(error)}", hint=next_step(error))


@contextmanager
def open_log(
    url: str, source: SourceSettings, turn: int | None, *, ready: bool = True
) -> Iterator[LogSession]:
    """Opens the source to read its log.

    Args:
        url: the PostgreSQL URL.
        source: which schema, tables, slot and publication.
        turn: the number of an advisory lock, which is held until the context ends; None for none.
        ready: whether the server has to be ready for logical decoding.

    Raises:
        SourceError: the source cannot be reached or read; the same call may succeed later.
        SourceRefused: the server does not support logical decoding, or is a standby.
        RunnerAtWork: another call holds the lock.
    """
    with source_errors("connecting to the source"), connect(url) as control:
        try:
            control.cursor_factory = TransactionCursor
            server = ask_server(control)
            control.cursor_factory = psycopg.Cursor
            if ready:
                _check_server(control, server)
            begin(control, source.lock_timeout, "READ COMMITTED")
            lock = f"SELECT pg_catalog.pg_try_advisory_xact_lock({turn})"
            if turn is not None and control.execute(lock.encode()).fetchone() != (True,):
                raise RunnerAtWork("another runner is capturing the source for this lake")
            session = LogSession(control, server, url, source)
            with showing_life(session.show_life):
                yield session
        finally:
            with suppress(psycopg.Error):
                control.execute("ROLLBACK")  # a pool discards a session that is left in a transaction


def _check_server(control: psycopg.Connection, server: Server) -> None:
    by_query = 'or set source.capture = "query"'
    if server.standby:
        raise SourceRefused(
            "the source is a standby, and capture from the log needs the primary",
            hint=f"Point source.url at the primary, {by_query}",
        )
    if control.info.server_version < 140000:
        raise SourceRefused(
            "capture from the log needs PostgreSQL 14 or later", hint=f"Upgrade it, {by_query}"
        )
    row = control.execute("SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_level'").fetchone()
    if row != ("logical",):
        raise SourceRefused(
            f"capture from the log needs wal_level = logical, and it is {row[0] if row else 'unknown'}",
            hint=f"totes source sql prints what its owner has to set, {by_query}",
        )
