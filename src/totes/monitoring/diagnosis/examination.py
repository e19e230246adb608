"""Runs all checks in the order of the data flow; later checks use the findings of earlier ones, and none hides another."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import duckdb

from totes import engine
from totes.config import Settings
from totes.display import count
from totes.errors import TotesError
from totes.ingestion.capture import select_rows
from totes.ingestion.source import Snapshot, open_snapshot
from totes.lake.manifest import IngestionManifest
from totes.messages import message
from totes.monitoring.diagnosis.activity import check_activity
from totes.monitoring.diagnosis.alerts import check_alerts
from totes.monitoring.diagnosis.check import Area, Diagnosis
from totes.monitoring.diagnosis.lake import check_history, check_lake
from totes.monitoring.diagnosis.log import check_log
from totes.monitoring.diagnosis.project import check_binding, check_project
from totes.monitoring.diagnosis.publishing import check_publishing
from totes.monitoring.diagnosis.role import check_rights, check_time_zones
from totes.monitoring.diagnosis.server import Server, connect
from totes.monitoring.diagnosis.settings import check_settings, known_url
from totes.monitoring.diagnosis.tables import Tables, check_tables
from totes.monitoring.diagnosis.warehouse import check_warehouse
from totes.pipeline import Pipeline
from totes.star.project import Project

AREAS = ("settings", "project", "source", "lake", "warehouse", "publish", "alerts")
Progress = Callable[[str], None]


def diagnose(pipeline: Pipeline, file: Path, progress: Progress) -> Diagnosis:
    """Checks everything that a batch will need, and changes nothing.

    It writes one object per store, outside of the data, to see whether the store refuses to overwrite it.

    Args:
        pipeline: the pipeline.
        file: the settings file, whether it exists or not.
        progress: called with a line about what is being done.
    """
    areas = {name: Area(name) for name in AREAS}
    settings = pipeline.settings
    progress("looking at the settings")
    check_settings(areas["settings"], settings, file)
    progress("reading the project")
    project = check_project(areas["project"], settings)
    progress("looking at the lake")
    newest = check_lake(areas["lake"], settings, project)
    progress("asking the source")
    source = _check_source(areas, settings, project, newest)
    progress("asking the warehouse")
    check_warehouse(areas["warehouse"], pipeline, project, source)
    check_publishing(areas["publish"], pipeline)
    check_alerts(areas["alerts"], settings)
    return Diagnosis(tuple(check for area in areas.values() for check in area.checks))


def _check_source(
    areas: dict[str, Area], settings: Settings, project: Project | None, newest: IngestionManifest | None
) -> tuple[str, str] | None:
    """Checks the source, and what is compared with it; returns its cluster and database, if these are known."""
    area = areas["source"]
    url = known_url(settings.source_url)
    if url is None:
        area.skip("connection", "source.url is not known")
        return None
    needed = project.source_tables if project else frozenset()
    with ExitStack() as opened:
        server = opened.enter_context(connect(area, url, settings.source))
        mismatch = project.mismatch(_table_names(server, settings)) if project and server else None
        if mismatch:
            areas["project"].fail("models", mismatch.what, mismatch.hint or "")
            project, needed = None, frozenset()
        tables = _check_tables(area, server, settings, needed)
        if project is None:
            reason = "it is another source's project" if mismatch else "the project cannot be loaded"
            areas["project"].skip("binding", reason)
        elif tables is None:
            areas["project"].skip("binding", "the source's tables are not known")
        else:
            check_binding(areas["project"], project, tables)
        if server:
            check_log(area, url, settings, needed)
        snapshot = _rehearse(area, opened, url, settings, needed) if server else None
        check_history(areas["lake"], newest, snapshot)
    return (snapshot.position.system_identifier, snapshot.position.database) if snapshot else None


def _table_names(server: Server, settings: Settings) -> list[str]:
    rows = server.connection.execute(
        "SELECT relname FROM pg_catalog.pg_class WHERE relnamespace = to_regnamespace(quote_ident(%s))",
        [settings.source.schema_],
    )
    return [str(name) for (name,) in rows]


def _check_tables(
    area: Area, server: Server | None, settings: Settings, needed: frozenset[str]
) -> Tables | None:
    if server is None:
        area.skip("tables", "there is no connection to the source")
        return None
    tables = None
    with area.checking("tables", "reading the source's catalog"):
        tables = check_tables(area, server, settings.source, needed)
    if tables is not None:
        with area.checking("rights", "asking for the role's rights"):
            check_rights(area, server, settings.source, tables)
        with area.checking("time zones", "asking for time zones"):
            check_time_zones(area, server, tables)
    check_activity(area, server, settings.schedule.every)
    return tables


def _rehearse(
    area: Area, opened: ExitStack, url: str, settings: Settings, needed: frozenset[str]
) -> Snapshot | None:
    """Opens a snapshot as a batch does, and runs each of its reads with a condition that no row meets."""
    try:
        snapshot = opened.enter_context(open_snapshot(url, settings.source, needed))
        with engine.connect(None, memory=settings.lake.memory) as empty:
            for table in snapshot.tables:
                with snapshot.stream(select_rows(table, "false"), table.name) as stream:
                    empty.register("incoming", stream)
                    empty.execute("SELECT count(*) FROM incoming").fetchall()
                    empty.unregister("incoming")
    except (TotesError, duckdb.Error) as error:
        if any(check.severity == "error" for check in area.checks):
            area.skip("rehearsal", "an error above prevents a batch from being opened")
        elif isinstance(error, TotesError):
            area.fail("rehearsal", error.what, error.hint or "Correct that, and run totes doctor again")
        else:
            area.fail(
                "rehearsal", f"the source's rows cannot be read: {message(error)}", "Run totes doctor again"
            )
        return None
    area.ok(
        "rehearsal",
        f"a batch can be opened, and {count(len(snapshot.tables), 'table')} be read at one instant",
    )
    return snapshot
