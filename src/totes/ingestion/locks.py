"""Locks on the source's tables: the weakest kind, all acquired before the snapshot, and never waiting while one is held."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import psycopg

from totes.config import SourceSettings
from totes.errors import SourceError, TableUnreadable
from totes.ingestion.catalog import Selection, SourceTable, select_tables
from totes.ingestion.session import begin
from totes.messages import message
from totes.sqlstate import concerns_all, next_step

UNREADABLE = "Correct that at the source; a table that no model reads can be left out with source.exclude"
_OPENINGS_MAX = 10


def begin_locked(control: psycopg.Connection, source: SourceSettings, needed: frozenset[str]) -> Selection:
    """Begins a transaction that holds locks on all tables that it selects, and starts over if the tables changed meanwhile.

    It holds no lock while it waits for a table, so that nobody ever has to wait for a batch that is itself waiting.
    """
    waiting_ends = time.monotonic() + source.lock_timeout.total_seconds()
    refused: dict[str, TableUnreadable] = {}
    openings = 0
    while openings < _OPENINGS_MAX:
        begin(control, source.lock_timeout, "READ COMMITTED")
        expected = _without(select_tables(control, source, needed), refused)
        control.execute("COMMIT")
        begin(control, source.lock_timeout)
        blocked = _first_blocked(control, expected.tables)
        if blocked:
            control.execute("ROLLBACK")
            patience = timedelta(seconds=max(0.001, waiting_ends - time.monotonic()))
            failure = _wait_for(control, blocked, patience)
            if failure:
                refused[blocked.name] = failure
            openings += failure is None
            continue
        selection = _without(select_tables(control, source, needed), refused)
        if {table.name for table in selection.tables} == {table.name for table in expected.tables}:
            return selection
        control.execute("ROLLBACK")
        openings += 1
    raise SourceError(
        "tables are created, dropped or locked again and again while the source is being opened"
    )


def _first_blocked(control: psycopg.Connection, tables: tuple[SourceTable, ...]) -> SourceTable | None:
    """Locks tables without waiting; returns the first one that cannot be locked, if any."""
    control.execute("SAVEPOINT unlocked")
    blocked = None
    if not _lock_at_once(control, tables):
        control.execute("ROLLBACK TO SAVEPOINT unlocked")
        blocked = next((table for table in tables if not _lock_at_once(control, [table])), None)
    if blocked is None:
        control.execute("RELEASE SAVEPOINT unlocked")  # a snapshot is not exported out of a subtransaction
    return blocked


def _lock_at_once(control: psycopg.Connection, tables: Iterable[SourceTable]) -> bool:
    """Locks tables, all or none, without waiting; returns whether they are locked."""
    try:
        if statement := lock_statement(tables):
            control.execute(f"{statement} NOWAIT".encode())
    except psycopg.Error as error:
        if concerns_all(error):
            raise
        return False
    return True


def _wait_for(control: psycopg.Connection, table: SourceTable, patience: timedelta) -> TableUnreadable | None:
    """Waits until a table can be locked; returns the error if it cannot be within that time."""
    begin(control, patience)
    try:
        control.execute(lock_statement([table]).encode())
    except psycopg.errors.UndefinedTable:
        return None  # the next selection does not have it any more
    except psycopg.Error as error:
        if concerns_all(error):
            raise
        return TableUnreadable(
            f"locking {table.name} failed: {message(error)}",
            hint=next_step(error, otherwise=UNREADABLE),
        )
    finally:
        with suppress(psycopg.OperationalError):
            control.execute("ROLLBACK")
    return None


def lock_statement(tables: Iterable[SourceTable]) -> str:
    """The statement that protects tables from being altered or truncated; empty if none can be locked."""
    listed = ", ".join(table.reference for table in tables if table.lockable)
    return f"LOCK TABLE {listed} IN ACCESS SHARE MODE" if listed else ""


def _without(selection: Selection, refused: dict[str, TableUnreadable]) -> Selection:
    """The selection with the refused tables left out."""
    if not refused:
        return selection
    tables = tuple(table for table in selection.tables if table.name not in refused)
    return replace(selection, tables=tables, left_out={**selection.left_out, **refused})
