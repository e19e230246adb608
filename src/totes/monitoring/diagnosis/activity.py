"""Checks for activity at the source that would slow batches down or end them: old transactions, recovery, transaction ids."""

from __future__ import annotations

from datetime import timedelta

from totes import engine
from totes.monitoring.diagnosis.check import Area, some
from totes.monitoring.diagnosis.server import Server

_AGE_WARNING, _AGE_ERROR = 1_500_000_000, 2_000_000_000
_HELD_TRANSACTIONS_MAX = 1_000_000


def check_activity(area: Area, server: Server, every: timedelta) -> None:
    """Checks for transactions holding the horizon back for longer than `every`, for recovery, and the use of transaction ids."""
    with area.checking("standby", "asking whether the server is a standby"):
        _check_standby(area, server)
    with area.checking("transactions", "looking for old transactions"):
        _check_transactions(area, server, every)
    with area.checking("transaction ids", "asking for the age of transaction ids"):
        row = server.connection.execute(
            "SELECT age(datfrozenxid) FROM pg_catalog.pg_database WHERE datname = current_database()"
        ).fetchone()
        assert row is not None
        check_age(area, row[0])


def _check_standby(area: Area, server: Server) -> None:
    row = server.connection.execute(
        "SELECT pg_is_in_recovery(), current_setting('hot_standby_feedback')::bool,"
        " current_setting('max_standby_streaming_delay'),"
        " (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'max_standby_streaming_delay')::int8"
    ).fetchone()
    assert row is not None
    standby, feedback, delay, milliseconds = row
    if not standby:
        area.ok("standby", "the server is a primary")
    elif feedback or milliseconds == -1:
        area.ok(
            "standby", "the server is a standby, and its queries are not cancelled for vacuum on the primary"
        )
    else:
        area.warn(
            "standby",
            f"the server is a standby without hot_standby_feedback: a batch that reads for longer than {delay} "
            "may be cancelled, because vacuum on the primary removed what it sees",
            "As a superuser, on the standby; dead rows then stay on the primary while a batch reads:",
            "ALTER SYSTEM SET hot_standby_feedback = on",
            "SELECT pg_reload_conf()",
        )


def _check_transactions(area: Area, server: Server, every: timedelta) -> None:
    """Finds transactions that hold the horizon back: each batch reads all rows written since again, and then drops them."""
    connection, seconds = server.connection, every.total_seconds()
    prepared = connection.execute(
        "SELECT gid, prepared, database::text FROM pg_catalog.pg_prepared_xacts"
        " WHERE prepared < clock_timestamp() - make_interval(secs => %s) ORDER BY prepared",
        (seconds,),
    ).fetchall()
    if prepared:
        area.warn(
            "prepared transactions",
            f"{len(prepared)} prepared since {prepared[0][1]:%Y-%m-%d %H:%M}: each batch reads again all that was "
            "written since, and vacuum cannot clean up",
            "End each: COMMIT PREPARED if its other half was committed, otherwise, as its owner or a superuser, in "
            f"the database {some(sorted({database for *_, database in prepared}))}:",
            *(f"ROLLBACK PREPARED {engine.text(gid)}" for gid, *_ in prepared),
        )
    open_ones = connection.execute(
        "SELECT pid, usename::text, xact_start FROM pg_catalog.pg_stat_activity"
        " WHERE backend_xid IS NOT NULL AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        " AND xact_start < clock_timestamp() - make_interval(secs => %s) ORDER BY xact_start",
        (seconds,),
    ).fetchall()
    held = connection.execute(
        "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::int8 - pg_snapshot_xmin(pg_current_snapshot())::text::int8"
    ).fetchone()
    assert held is not None
    what = "each batch reads again all that was written since it began"
    if open_ones:
        who = some([f"{pid} of {user}" for pid, user, _ in open_ones])
        area.warn(
            "transactions",
            f"open since {open_ones[0][2]:%Y-%m-%d %H:%M}, for longer than a cycle of {every}: process {who}; {what}",
            "Let its application end it, or as a superuser:",
            *(f"SELECT pg_terminate_backend({pid})" for pid, _, _ in open_ones),
        )
    elif held[0] > _HELD_TRANSACTIONS_MAX:
        area.warn(
            "transactions",
            f"a transaction has been open since before {held[0]:,} others began: {what}",
            "Only pg_monitor may see which; grant it, and run totes doctor again:",
            f"GRANT pg_monitor TO {server.quoted_role}",
        )
    elif not prepared:
        area.ok("transactions", f"none that this role can see is open for longer than a cycle of {every}")


def check_age(area: Area, age: int) -> None:
    """Checks how many transaction ids have been used since the database's oldest rows were frozen."""
    fix = "As a superuser, in that database, and find out what keeps autovacuum from it:"
    found = f"{age:,} transaction ids are in use; at about 2,147,000,000 PostgreSQL accepts no more writes"
    if age > _AGE_ERROR:
        area.fail("transaction ids", found, fix, "VACUUM (FREEZE)")
    elif age > _AGE_WARNING:
        area.warn("transaction ids", found, fix, "VACUUM (FREEZE)")
    else:
        area.ok("transaction ids", f"{age:,} are in use, far from the limit")
