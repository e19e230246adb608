"""The logical slot and the publication at the source: what state they are in, and the functions that change the slot."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

PLUGIN = "pgoutput"
_SLOT_SQL = """
    SELECT slot_type, plugin::text, database::text, temporary, active_pid, wal_status, confirmed_flush_lsn::text,
           pg_wal_lsn_diff(pg_current_wal_insert_lsn(), restart_lsn)::int8, safe_wal_size,
           pg_size_bytes(current_setting('max_slot_wal_keep_size'))
    FROM pg_replication_slots WHERE slot_name = %s
"""


@dataclass(frozen=True)
class Slot:
    """A replication slot.

    `confirmed` is the position up to which its reader has everything, None if the slot is not a complete logical one.
    `lost` means that the server has removed log that the slot needs, and `kept_bytes` is how much log is kept for it.
    `limit_bytes` is `max_slot_wal_keep_size`, and `room_bytes` how much more log the server can write before it may remove what
    the slot needs; both are None if only the disk limits it.
    """

    name: str
    plugin: str | None
    database: str | None
    temporary: bool
    active_process: int | None
    lost: bool
    confirmed: str | None
    kept_bytes: int | None
    room_bytes: int | None
    limit_bytes: int | None

    @property
    def nears_limit(self) -> bool:
        """Whether half of the limit is kept, or the slot was lost to it."""
        return self.lost or (bool(self.limit_bytes) and 2 * (self.kept_bytes or 0) >= (self.limit_bytes or 0))

    def is_for(self, database: str) -> bool:
        """Whether it decodes a database's changes with the plugin whose messages are read."""
        return self.plugin == PLUGIN and self.database == database and not self.temporary


def find_slot(connection: psycopg.Connection, name: str) -> Slot | None:
    """The slot of a name, if there is one."""
    row = connection.execute(_SLOT_SQL, [name]).fetchone()
    if row is None:
        return None
    _, plugin, database, temporary, active, status, confirmed, kept, room, limit = row
    lost, limit = status == "lost", None if limit < 0 else limit
    return Slot(name, plugin, database, temporary, active, lost, confirmed, kept, room, limit)


def create_slot(connection: psycopg.Connection, name: str) -> None:
    """Creates the slot; waits for all transactions that are running, at most for the transaction's `lock_timeout`.

    Raises:
        psycopg.errors.LockNotAvailable: they run for longer.
        psycopg.errors.DuplicateObject: it exists.
    """
    connection.execute("SELECT pg_create_logical_replication_slot(%s, %s)", [name, PLUGIN])


def drop_slot(connection: psycopg.Connection, name: str) -> None:
    """Drops the slot.

    Raises:
        psycopg.errors.ObjectInUse: another session reads it.
    """
    connection.execute("SELECT pg_drop_replication_slot(%s)", [name])


def advance_slot(connection: psycopg.Connection, name: str, lsn: str) -> None:
    """Lets the server forget the log before a position, which has to be captured. Idempotent.

    Raises:
        psycopg.errors.ObjectInUse: another session reads it.
    """
    connection.execute("SELECT pg_replication_slot_advance(%s, %s::pg_lsn)", [name, lsn])
