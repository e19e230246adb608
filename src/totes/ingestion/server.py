"""Asks a server for its state: whether it is a standby, its timeline, and the position of its write-ahead log.

A role that can only SELECT may ask all of this. Some managed services answer only in part; the remaining values are None.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import psycopg

# A position of the log before which everything was written that the present snapshot sees.
LSN = "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END::text"
# The control file has the timeline of the last checkpoint, which is the previous timeline until the first checkpoint of a new
# one; the name of a primary's current log file always has the new one. A standby may report an older timeline than it follows.
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
# Aurora does not support these functions on a replica, and on a primary only with wal_level = logical.
_NOT_ANSWERED = (
    psycopg.errors.FeatureNotSupported,
    psycopg.errors.ObjectNotInPrerequisiteState,
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.UndefinedFunction,
)


@dataclass(frozen=True)
class Server:
    """The state that a server reports, shortly before a snapshot.

    `reached` is the position of the write-ahead log; the snapshot sees at least everything before it. `forked_at` is where
    the present timeline branched off from the previous one, None if that is no longer known, and `replayed_until` the commit
    time of the last transaction before that. `recovered_to` is how far its last recovery got. `has_target` means that its
    settings have a recovery target.
    """

    standby: bool
    reached: str | None = None
    forked_at: str | None = None
    recovered_to: str | None = None
    replayed_until: datetime | None = None
    has_target: bool = False
    timeline: int = 1


def ask_server(connection: psycopg.Connection) -> Server:
    """Asks a server for its state. Not for use in a transaction."""
    try:
        row = connection.execute(_SERVER_SQL.encode()).fetchone()
    except _NOT_ANSWERED:
        row = connection.execute(_PLAIN_SQL).fetchone()
    assert row is not None
    standby, timeline, *more = row
    if not more:
        return Server(standby, timeline=timeline)
    reached, checkpointed, recovered_to, replayed_until, has_target = more
    # Until its first checkpoint, a promoted server's last recovery is that of its time as a standby.
    forked_at = recovered_to if checkpointed < timeline else None
    return Server(standby, reached, forked_at, recovered_to, replayed_until, has_target, timeline)


def flushed_lsn(connection: psycopg.Connection) -> str | None:
    """The position up to which a primary's log is on disk."""
    row = connection.execute(_FLUSHED_SQL).fetchone()
    return str(row[0]) if row and row[0] else None
