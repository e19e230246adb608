"""Locks of a PostgreSQL warehouse: who holds what a load waits for, and the wait for one that keeps readers out.

A load takes no lock on a table that a reader's gets in the way of, and none that gets in a reader's way. Only a table that is
to be altered has to be for itself for a moment.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import psycopg

from totes import engine
from totes.errors import WarehouseError
from totes.warehouse.postgresql_session import SET_TIMEOUTS, Session

NOT_AVAILABLE = "55P03"
# How long readers that come later have to stand behind a wait for a table, how long they are let in before the next one,
# and how long all of that goes on.
ALTER_LOCK_TIMEOUT = "500ms"
_PAUSE_SECONDS = 2.0
_PATIENCE_SECONDS = 60.0
_HOLDERS = """
SELECT DISTINCT 'process ' || activity.pid || ' (' || concat_ws(', ', usename, nullif(application_name, ''), state,
    'since ' || to_char(xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC') || ')'
FROM pg_catalog.pg_locks AS lock
JOIN pg_catalog.pg_stat_activity AS activity USING (pid)
WHERE granted AND activity.pid <> pg_catalog.pg_backend_pid()
    AND lock.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
    AND (locktype = 'relation' AND lock.relation IN (
            SELECT pg_class.oid FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace AS n ON n.oid = relnamespace
            WHERE nspname = {schema} AND {relations})
        AND mode NOT IN ({harmless})
        OR locktype = 'advisory' AND lock.objid = {turn}::oid)
ORDER BY 1
"""
_BESIDE_A_LOAD = ("AccessShareLock", "RowShareLock", "RowExclusiveLock", "ShareUpdateExclusiveLock")


def holders(
    control: psycopg.Connection, schema: str, turn: int, tables: tuple[str, ...] | None = None
) -> str:
    """The sessions in the way of a load: of an ordinary one, or with `tables`, of one that has to alter these.

    Args:
        control: a connection that waits for nothing.
        schema: the schema of the star.
        turn: the number of the advisory lock by which loads take turns.
        tables: relations of the schema.
    """
    listed = ", ".join(map(engine.text, tables or ()))
    query = _HOLDERS.format(
        schema=engine.text(schema),
        relations=f"relname IN ({listed})" if tables else "true",
        harmless="''" if tables else ", ".join(map(engine.text, _BESIDE_A_LOAD)),
        turn=turn,
    )
    return ", ".join(str(row[0]) for row in control.execute(query.encode()).fetchall())


# Locks that come too late are given back, and the transaction goes on: the driver would not let it after an error.
_HOLD = """
BEGIN
    PERFORM pg_catalog.set_config('lock_timeout', '{timeout}', true);
    LOCK TABLE {relations} IN ACCESS EXCLUSIVE MODE;
    PERFORM pg_catalog.set_config('totes.held', 'yes', true);
EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
    PERFORM pg_catalog.set_config('totes.held', 'no', true);
END
"""


def hold(session: Session, relations: list[str]) -> bool:
    """Locks relations for the session's transaction alone, all of them or none; gives whether it could at once.

    Args:
        session: the session.
        relations: their quoted names.
    """
    session.execute(
        f"DO {engine.text(_HOLD.format(timeout=ALTER_LOCK_TIMEOUT, relations=', '.join(relations)))}"
    )
    [(held,)] = session.query("SELECT pg_catalog.current_setting('totes.held')")[1]
    session.execute(SET_TIMEOUTS)
    return bool(held == "yes")


def alter(attempt: Callable[[], bool], in_the_way: Callable[[], str], table: str) -> None:
    """Alters a table as soon as nobody reads it, without keeping readers out while waiting for that.

    Args:
        attempt: does it, and gives whether it could `hold` the table.
        in_the_way: says who holds the table.
        table: its name.

    Raises:
        WarehouseError: somebody held it all the time.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not attempt():
        if time.monotonic() > deadline:
            raise WarehouseError(
                f"{table} has to be altered to its new declaration, and is in use by {in_the_way() or 'others'}",
                hint="End that session; the next load alters the table",
            )
        time.sleep(_PAUSE_SECONDS)
