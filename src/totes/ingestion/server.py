"""What a server says of itself: whether it is a standby, its timeline, and where its write-ahead log stands.

A role that can only SELECT may ask all of it. Some managed services answer only in part, and then it is not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import psycopg

# A position of the log that nothing is behind which the present snapshot sees.
LSN = "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END::text"
# The control file has the timeline of the last checkpoint, which is the previous one until the first of a new one; the
# name of the file that a primary writes its log to has it at once. What a standby shows of its timeline may be behind.
_SERVER_SQL = f"""
    SELECT pg_is_in_recovery(),
           CASE WHEN pg_is_in_recovery()
                THEN greatest(checkpoint.timeline_id, recovery.min_recovery_end_timeline,
                              (SELECT received_tli FROM pg_stat_wal_receiver LIMIT 1))
                ELSE ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int8 END,
           {LSN},
           checkpoint.timeline_id,
           CASE WHEN NOT pg_is_in_recovery() THEN pg_last_wal_replay_lsn() END::text,
           pg_last_xact_replay_timestamp() AT TIME ZONE 'UTC',
           EXISTS (SELECT FROM pg_settings WHERE setting <> '' AND name IN ('recovery_target', 'recovery_target_lsn',
                   'recovery_target_name', 'recovery_target_time', 'recovery_target_xid'))
    FROM pg_control_checkpoint() AS checkpoint, pg_control_recovery() AS recovery
"""
_PLAIN_SQL = "SELECT pg_is_in_recovery(), timeline_id FROM pg_control_checkpoint()"
_FLUSHED_SQL = "SELECT CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_flush_lsn() END::text"
# Aurora has no functions of the log on a replica, and on a primary only with wal_level = logical.
_NOT_ANSWERED = (
    psycopg.errors.FeatureNotSupported,
    psycopg.errors.ObjectNotInPrerequisiteState,
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.UndefinedFunction,
)


@dataclass(frozen=True)
class Server:
    """What a server says of itself shortly before a snapshot.

    `reached` is a position of the write-ahead log that the snapshot is not before. `forked_at` is where the present timeline
    left the previous one, None where that is not known any more, and `replayed_until` when the last transaction before that was
    committed. `recovered_to` is how far its last recovery came. `has_target` says that its settings name a point to
    which it is, or was, to be recovered.
    """

    standby: bool
    reached: str | None = None
    forked_at: str | None = None
    recovered_to: str | None = None
    replayed_until: datetime | None = None
    has_target: bool = False
    timeline: int = 1


def ask_server(connection: psycopg.Connection) -> Server:
    """Asks a server, outside of a transaction."""
    try:
        row = connection.execute(_SERVER_SQL.encode()).fetchone()
    except _NOT_ANSWERED:
        row = connection.execute(_PLAIN_SQL).fetchone()
    assert row is not None
    standby, timeline, *more = row
    if not more:
        return Server(standby, timeline=timeline)
    reached, checkpointed, recovered_to, replayed_until, has_target = more
    # Until its first checkpoint a promoted server's last recovery is that which made it a standby.
    forked_at = recovered_to if checkpointed < timeline else None
    return Server(standby, reached, forked_at, recovered_to, replayed_until, has_target, timeline)


def flushed_lsn(connection: psycopg.Connection) -> str | None:
    """Up to where a primary's log is on disk."""
    row = connection.execute(_FLUSHED_SQL).fetchone()
    return str(row[0]) if row and row[0] else None
