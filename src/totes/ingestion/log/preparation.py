"""What the source's owner has to run before capture from the log: a role's attribute, settings, and the publication."""

from __future__ import annotations

from collections.abc import Sequence

from totes import engine
from totes.ingestion.catalog import SourceTable
from totes.ingestion.log.publication import Publication, Published

# Beyond this much, the server drops the slot instead of filling its disk; one batch by query heals that.
KEEP_SIZE = "10GB"


def log_statements(
    publication: Publication,
    tables: Sequence[SourceTable],
    role: str,
    *,
    may_replicate: bool,
    wal_level: str | None,
    keep_size: str | None,
) -> list[str]:
    """The statements that are not done yet, for the source's owner or, for settings, its administrator.

    Each table is named in the publication: with all tables of a schema, PostgreSQL would refuse updates of those that have no
    replica identity.

    Args:
        publication: the publication as it is, or is not.
        tables: the tables that are to be captured.
        role: the role that captures.
        may_replicate: whether it may use replication slots.
        wal_level: the server's setting.
        keep_size: its max_slot_wal_keep_size.
    """
    loggable = [table for table in tables if _is_loggable(table, publication.tables.get(table.name))]
    statements = [] if wal_level == "logical" else ["ALTER SYSTEM SET wal_level = 'logical'"]
    if keep_size == "-1":
        statements += [f"ALTER SYSTEM SET max_slot_wal_keep_size = '{KEEP_SIZE}'", "SELECT pg_reload_conf()"]
    if not may_replicate:
        statements.append(f"ALTER ROLE {engine.name(role)} REPLICATION")
    for table in loggable:
        statements += [
            f"ALTER TABLE {identity.table} REPLICA IDENTITY {'DEFAULT' if table.key_enforced else 'FULL'}"
            for identity in publication.tables[table.name].identities
            if not identity.has(table.key)
        ]
    return statements + _publish(publication, loggable)


def _is_loggable(table: SourceTable, entry: Published | None) -> bool:
    """Whether the log can have a table's changes, once it is published."""
    if entry is None or not table.has_transaction_ids:
        return False
    return not entry.inherited and entry.persistence != "u"


def _publish(publication: Publication, tables: Sequence[SourceTable]) -> list[str]:
    name = engine.name(publication.name)
    if not publication.exists:
        listed = ", ".join(table.reference for table in tables)
        return [f"CREATE PUBLICATION {name} FOR TABLE {listed} WITH (publish_via_partition_root = true)"]
    statements = []
    if not publication.by_root:
        statements.append(f"ALTER PUBLICATION {name} SET (publish_via_partition_root = true)")
    if not publication.complete:
        statements.append(f"ALTER PUBLICATION {name} SET (publish = 'insert, update, delete, truncate')")
    missing = [table.reference for table in tables if not publication.tables[table.name].is_published]
    if missing:
        statements.append(f"ALTER PUBLICATION {name} ADD TABLE {', '.join(missing)}")
    return statements
