"""Checks what the source's role may do beyond reading, and in which time zones the source's times were written."""

from __future__ import annotations

from totes import engine
from totes.config import SourceSettings
from totes.display import count
from totes.ingestion.reader import READER, reader_statements
from totes.monitoring.diagnosis.check import Area, some
from totes.monitoring.diagnosis.server import Server
from totes.monitoring.diagnosis.tables import Tables

_WRITES = ("INSERT", "UPDATE", "DELETE", "TRUNCATE")
_UTC = {
    "utc",
    "etc/utc",
    "uct",
    "etc/uct",
    "gmt",
    "etc/gmt",
    "zulu",
    "universal",
    "etc/universal",
    "etc/zulu",
}
_GRANTS_SQL = """
    SELECT coalesce(holder.rolname::text, 'PUBLIC'), array_agg(DISTINCT relation.relname::text ORDER BY relation.relname::text)
    FROM pg_catalog.pg_class AS relation
    CROSS JOIN LATERAL pg_catalog.aclexplode(relation.relacl) AS entry
    LEFT JOIN pg_catalog.pg_roles AS holder ON holder.oid = entry.grantee
    WHERE relation.relnamespace = to_regnamespace(%s) AND relation.relkind IN ('r', 'p', 'v', 'm', 'f')
        AND entry.privilege_type = ANY (%s) AND entry.grantee <> relation.relowner
        AND (entry.grantee = 0 OR pg_catalog.pg_has_role(entry.grantee, 'USAGE'))
    GROUP BY 1 ORDER BY 1
"""
_ZONES_SQL = """
    SELECT role.rolname::text, base.datname::text, substr(setting, strpos(setting, '=') + 1)
    FROM pg_catalog.pg_db_role_setting AS own
    CROSS JOIN LATERAL unnest(own.setconfig) AS setting
    LEFT JOIN pg_catalog.pg_roles AS role ON role.oid = own.setrole
    LEFT JOIN pg_catalog.pg_database AS base ON base.oid = own.setdatabase
    WHERE lower(setting) LIKE 'timezone=%%' AND own.setrole <> 0 AND role.rolname <> current_user
        AND (own.setdatabase = 0 OR base.datname = current_database())
    ORDER BY 1, 2
"""


def check_rights(area: Area, server: Server, source: SourceSettings, tables: Tables) -> None:
    """Checks whether the role could do harm: one that can only read is enough."""
    connection, schema = server.connection, engine.name(source.schema_)
    row = connection.execute(
        "SELECT rolsuper, EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = %s),"
        " coalesce(pg_has_role(to_regrole('pg_write_all_data')::oid, 'USAGE'), false)"
        " FROM pg_catalog.pg_roles WHERE rolname = current_user",
        (READER,),
    ).fetchone()
    assert row is not None
    superuser, known, writes_all = row
    owned = [name for name, table in tables.facts.items() if table.owned]
    if superuser or owned:
        what = "is a superuser" if superuser else f"owns tables ({some(owned)})"
        area.warn(
            "rights",
            f"{server.role} {what}: it may do far more than read, which is all that is needed",
            f"As a superuser; then give {READER} a password, and name it in source.url:",
            *reader_statements(server.database, source.schema_, exists=known),
        )
        return
    sql: list[str] = []
    writable: set[str] = set()
    if writes_all:
        sql.append(f"REVOKE pg_write_all_data FROM {server.quoted_role}")
        writable.update(tables.facts)
    for holder, names in connection.execute(_GRANTS_SQL, (schema, list(_WRITES))).fetchall():
        writable.update(names)
        listed = ", ".join(engine.name(source.schema_, name) for name in names)
        quoted = "PUBLIC" if holder == "PUBLIC" else engine.name(holder)
        sql.append(f"REVOKE {', '.join(_WRITES)} ON {listed} FROM {quoted}")
    if writable:
        area.warn(
            "rights",
            f"{server.role} may write {count(len(writable), 'table')} ({some(sorted(writable))}), and needs only to read",
            "As their owner, if nobody else relies on it:",
            *sql,
        )
    else:
        area.ok("rights", f"{server.role} may read, and write nothing in {source.schema_}")


def check_time_zones(area: Area, server: Server, tables: Tables) -> None:
    """Checks in which zones the source's sessions write their times, since a `timestamp` has none."""
    setting, origin = server.time_zone
    times = [f"{name}.{column}" for name in tables.captured for column in tables.facts[name].times]
    database = engine.name(server.database)
    others: dict[str, str] = {}
    if origin not in ("user", "database user", "client", "session") and setting.lower() not in _UTC:
        others[f"the database's is {setting}"] = f"ALTER DATABASE {database} SET TimeZone TO 'UTC'"
    for role, base, value in server.connection.execute(_ZONES_SQL).fetchall():
        if value.strip("\"'").lower() not in _UTC:
            within = f" IN DATABASE {engine.name(base)}" if base else ""
            others[f"that of {role} is {value}"] = (
                f"ALTER ROLE {engine.name(role)}{within} SET TimeZone TO 'UTC'"
            )
    if not times:
        area.ok("time zones", "no captured column is a timestamp without time zone")
    elif not others:
        area.ok(
            "time zones", f"sessions are in UTC; {count(len(times), 'timestamp column')} captured as they are"
        )
    else:
        area.warn(
            "time zones",
            f"sessions write wall-clock time: {'; '.join(others)}. Timestamp columns ({some(times)}) have no "
            "zone, and are captured as they are, while read times are in UTC",
            "If the applications leave their times to the server, set it to UTC (times that are stored already do not "
            "change); if they write UTC themselves, leave it:",
            *others.values(),
        )
