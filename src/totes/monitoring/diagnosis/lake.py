"""Checks the two stores: that objects can be written but not overwritten, and that they belong together and to the source."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from totes.config import Settings
from totes.errors import TotesError
from totes.ingestion.capture import check_shape
from totes.ingestion.identity import why_compared
from totes.ingestion.source import Snapshot
from totes.lake.journal import Journal, M, ingestion_journal, processed_journal
from totes.lake.layout import PROBE
from totes.lake.manifest import IngestionManifest, ProcessedManifest
from totes.lake.store import ObjectExists, Store
from totes.monitoring.diagnosis.check import Area
from totes.processing.definitions import pending_changes
from totes.star.project import Project

_FIRST = (
    b"Written by totes doctor, to check that an object of this store cannot be overwritten. It is not data.\n"
)
_SECOND = b"This server overwrites objects: it ignores If-None-Match, and cannot hold a lake.\n"


def check_lake(area: Area, settings: Settings, project: Project | None) -> IngestionManifest | None:
    """Checks both stores; returns the newest manifest of the ingestion lake, if there is one."""
    ingestion = _check_store(area, "ingestion", settings.lake.ingestion, settings.base)
    processed = _check_store(area, "processed", settings.lake.processed, settings.base)
    if ingestion is None or processed is None:
        area.skip("batches", "a store cannot be used")
        return None
    if ingestion.url == processed.url:
        area.fail(
            "places",
            f"both stores are {ingestion.url}, so their batches would collide",
            "Set lake.processed to another place",
        )
        return None
    ingested = _newest(area, "ingestion batches", ingestion_journal(ingestion))
    made = _newest(area, "processed batches", processed_journal(processed))
    if made:
        with area.checking("batches", "comparing the stores"):
            _check_together(area, ingestion, ingested, made)
        if project:
            _check_models(area, project, processed_journal(processed))
    return ingested


def check_history(area: Area, newest: IngestionManifest | None, snapshot: Snapshot | None) -> None:
    """Checks that the source is the one that the lake was captured from, and that its tables still have their keys."""
    if newest is None:
        area.ok(
            "source", "nothing is captured yet: the first batch decides which source this lake belongs to"
        )
        return
    if snapshot is None:
        area.skip("source", "no batch can be opened at the source")
        return
    with area.checking("source", "comparing the source with the lake"):
        why = why_compared(newest.position, snapshot.position, snapshot.server)
        then = f"; {why}, so the next batch compares all rows with what was captured" if why else ""
        area.ok(
            "source", f"the lake belongs to the database {snapshot.position.database} of this cluster{then}"
        )
    for table in snapshot.tables:
        before = newest.tables.get(table.name)
        if before:
            with area.checking("keys", f"comparing {table.name} with the lake"):
                check_shape(before, table)


def _check_store(area: Area, name: str, url: str, base: Path) -> Store | None:
    try:
        store = Store.open(url, base, f"lake.{name}")
        with suppress(ObjectExists):  # from an earlier check
            store.put_new(PROBE, _FIRST)
        if _overwrites(store):
            area.fail(
                name,
                f"{store.url} overwrites objects: its server ignores If-None-Match",
                "Use another server: a lake's objects must not be changed, and two runners must not commit one batch",
            )
            return None
    except TotesError as error:
        s3 = url.startswith("s3://")
        area.fail(
            name,
            error.what,
            error.hint
            or ("Check the bucket, AWS_REGION and the credentials: docs/how-to/s3-lake.md lists the rights that are needed"
                if s3 else f"Let this account write there, or set lake.{name} to a folder that it may write"),
        )  # fmt: skip
        return None
    area.ok(name, f"{store.url} accepts a new object, and refuses to overwrite it")
    return store


def _overwrites(store: Store) -> bool:
    """Whether the store overwrites an existing object."""
    try:
        store.put_new(PROBE, _SECOND)
    except ObjectExists:
        return store.read(PROBE) == _SECOND
    return True


def _newest(area: Area, name: str, journal: Journal[M]) -> M | None:
    with area.checking(name, "reading the manifests"):
        newest = journal.newest()
        area.ok(name, f"1 to {newest.batch}, without a gap" if newest else "none yet")
        return newest
    return None


def _check_together(
    area: Area, ingestion: Store, ingested: IngestionManifest | None, made: ProcessedManifest
) -> None:
    last = ingested.batch if ingested else 0
    fix = "Point lake.processed at the place that belongs to lake.ingestion, or at a new one"
    if made.batch > last:
        area.fail(
            "batches", f"the processed lake is at batch {made.batch}, the ingestion lake only at {last}", fix
        )
    elif ingestion_journal(ingestion).read(made.batch).sha256() != made.ingestion_sha256:
        area.fail(
            "batches", f"processed batch {made.batch} was made from another ingestion lake than this one", fix
        )
    else:
        area.ok(
            "batches",
            f"the processed lake was made from this ingestion lake, with {last - made.batch} of its batches to go",
        )


def _check_models(area: Area, project: Project, processed: Journal[ProcessedManifest]) -> None:
    """Reports models that differ from the star: they wait for a run or for `totes apply`."""
    changes = pending_changes(project, processed, processed.newest())
    for name, change in changes.items():
        lost = f", and loses {', '.join(change.loses)}" if change.loses else ""
        area.warn(
            "models",
            f"{name} differs from the star ({change.kind}){lost}",
            "totes plan shows what that means, totes apply makes the change",
        )
    if not changes:
        area.ok("models", "the star is as its models declare it")
