"""Checks what capture from the log needs: the server, the role, the publication, and the slot with the log that it keeps."""

from __future__ import annotations

from totes import engine
from totes.config import Settings
from totes.display import count
from totes.ingestion.log.preparation import KEEP_SIZE, log_statements
from totes.ingestion.log.publication import Publication, not_in_log
from totes.ingestion.log.session import LogSession, open_log
from totes.ingestion.log.slot import Slot
from totes.monitoring.diagnosis.check import Area, some
from totes.monitoring.retained_log import look

_MANY_BYTES = 1 << 30


def check_log(area: Area, url: str, settings: Settings, needed: frozenset[str]) -> None:
    """Checks the source for capture from the log; does nothing with capture by query."""
    source = settings.source
    if source.capture != "log":
        return
    with area.checking("log", "looking at the log"), open_log(url, source, None) as session:
        area.ok("log", "the server's wal_level is logical")
        _check_role(area, session)
        publication = session.publication()
        _check_tables(area, session, publication, needed)
        _check_identities(area, publication)
        _check_slot(area, session, session.slot(), settings)


def _check_role(area: Area, session: LogSession) -> None:
    name, may_replicate, _ = session.role()
    if may_replicate:
        area.ok("replication", f"{name} may use replication slots")
    else:
        area.fail(
            "replication",
            f"{name} may not use replication slots",
            "As a superuser; on a managed service, as docs/how-to/capture-from-the-log.md says:",
            f"ALTER ROLE {engine.name(name)} REPLICATION",
        )


def _check_tables(area: Area, session: LogSession, publication: Publication, needed: frozenset[str]) -> None:
    selection, (name, _, _) = session.selection(needed), session.role()
    refused = not_in_log(selection.tables, publication)
    sql = log_statements(
        publication, selection.tables, name, may_replicate=True, wal_level="logical", keep_size=None
    )
    if not publication.exists:
        area.fail("publication", f"there is no publication {publication.name}", "As the tables' owner:", *sql)
    elif refused:
        first = next(iter(refused.values()))
        report = area.warn if selection.demanded.isdisjoint(refused) else area.fail
        number = count(len(refused), "table")
        report(
            "publication", f"{number} cannot be captured from the log: {first.what}", first.hint or "", *sql
        )
    else:
        area.ok("publication", f"{publication.name} has {count(len(selection.tables), 'table')} in full")


def _check_identities(area: Area, publication: Publication) -> None:
    """Checks that the publication does not stop the application: PostgreSQL refuses what it could not publish."""
    blocked = {
        name: [identity.table for identity in table.identities if identity.columns == frozenset()]
        for name, table in publication.tables.items()
        if table.is_published
    }
    names = [name for name, tables in blocked.items() if tables]
    if names:
        area.fail(
            "replica identity",
            f"PostgreSQL refuses to update or delete rows of {some(names)}: published without a replica identity",
            "As their owner, at once; or give them a primary key, or take them out of the publication:",
            *(f"ALTER TABLE {one} REPLICA IDENTITY FULL" for tables in blocked.values() for one in tables),
        )
    else:
        area.ok("replica identity", "all published tables have one")


def _check_slot(area: Area, session: LogSession, slot: Slot | None, settings: Settings) -> None:
    name, retained = settings.source.slot, look(session, settings)
    found = retained.sentence().rstrip(".")
    if slot is None:
        area.ok("slot", f"the next batch creates the slot {name}, and reads by query once")
    elif not slot.is_for(session.database):
        area.fail("slot", f"the slot {name} is somebody else's", "Set source.slot to a name that is free")
    elif slot.lost:
        area.warn(
            "slot",
            found,
            "The steps in between are not known. Run more often, or raise max_slot_wal_keep_size",
        )
    elif not slot.nears_limit and (slot.kept_bytes or 0) < _MANY_BYTES:
        area.ok("slot", found)
    else:
        area.warn(
            "slot",
            found,
            "Run totes: the server may remove what is captured, unless a transaction that began before it is still open. Or"
            " raise max_slot_wal_keep_size, if the disk has room. If this lake is no longer used:",
            f"SELECT pg_drop_replication_slot({engine.text(name)})",
        )
    if session.setting("max_slot_wal_keep_size") == "-1":
        area.warn(
            "slot limit",
            "max_slot_wal_keep_size is not set: while totes does not run, the log fills the server's disk",
            "As a superuser, with a size that the disk has room for; a slot that was lost to it heals by itself:",
            f"ALTER SYSTEM SET max_slot_wal_keep_size = '{KEEP_SIZE}'",
            "SELECT pg_reload_conf()",
        )
