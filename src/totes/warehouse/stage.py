"""Loads processed batches that the warehouse does not have, one transaction each."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from totes.deadline import NEVER, Deadline
from totes.errors import WarehouseRefused
from totes.lake.journal import Journal, processed_journal
from totes.lake.manifest import ProcessedManifest
from totes.lake.store import Store
from totes.log import logger
from totes.star.former import former_model
from totes.star.project import Project
from totes.star.relaxation import relaxes, retyped
from totes.warehouse.adapter import LoadedBatch, Warehouse
from totes.warehouse.table import BatchLoad, TableLoad, WarehouseTable, warehouse_tables

_log = logger(stage="load")


@dataclass(frozen=True)
class Loaded:
    """What one call of the stage did: the newest batch in the warehouse, and the rows of each batch by table.

    `more` says that there are batches left, for which there was no time.
    """

    batch: int
    batches: dict[int, dict[str, int]] = field(default_factory=dict)
    more: bool = False


def load(
    project: Project,
    processed: Store,
    warehouse: Warehouse,
    *,
    last_wanted: int | None = None,
    deadline: Deadline = NEVER,
) -> Loaded:
    """Loads every processed batch that is not in the warehouse, one after the other.

    Safe to be called by any number of runners at once, and to be killed at any moment: the ledger's row commits with
    the rows. A warehouse that was away for long catches up by itself.

    Args:
        project: the models.
        processed: the processed lake.
        warehouse: the warehouse.
        last_wanted: the batch to stop after; by default the newest.
        deadline: after half of its time no batch is begun, but for the first.

    Raises:
        WarehouseError: the warehouse failed; batches before are loaded, and this one is tried again next time.
        WarehouseRefused: the warehouse holds batches of another lake, or may not be written.
        StoreError, LakeDamaged: as they say.
    """
    journal = processed_journal(processed)
    last, newest = journal.last(), warehouse.newest()
    check_same_lake(journal, last, newest)
    done: dict[int, dict[str, int]] = {}
    before = journal.read(newest.batch) if newest else None
    last = last if last_wanted is None else min(last, last_wanted)
    for batch in range((newest.batch if newest else 0) + 1, last + 1):
        if done and deadline.half_over():
            return Loaded(batch - 1, done, more=True)
        began = time.perf_counter()
        manifest = journal.read(batch)
        rows = _load_batch(project, processed, warehouse, manifest, before)
        before = manifest
        if rows is None:
            continue
        done[batch] = rows
        _log.info(
            "loaded", batch=batch, rows=sum(rows.values()), seconds=round(time.perf_counter() - began, 3)
        )
    return Loaded(max(last, newest.batch if newest else 0), done)


def _load_batch(
    project: Project,
    store: Store,
    warehouse: Warehouse,
    manifest: ProcessedManifest,
    before: ProcessedManifest | None,
) -> dict[str, int] | None:
    tables = _tables(project, manifest)
    objects = [
        entry
        for table in tables
        for entry in (*manifest.models[table.name].objects, *manifest.models[table.name].removed)
    ]
    with store.local(objects) as files:
        place = {entry.path: file for entry, file in zip(objects, files, strict=True)}
        loads = tuple(
            TableLoad(
                table,
                [place[entry.path] for entry in manifest.models[table.name].objects],
                [place[entry.path] for entry in manifest.models[table.name].removed],
                sum(entry.rows for entry in manifest.models[table.name].objects),
                retyped(table.model, manifest.models[table.name]),
            )
            for table in tables
        )
        relaxed = _relaxed(tables, before)
        batch = BatchLoad(
            manifest.batch, manifest.sha256(), manifest.read_at.isoformat(sep=" "), loads, relaxed
        )
        if not warehouse.load(tables, batch):
            return None
    return {entry.table.name: entry.count for entry in loads if entry.count}


def _relaxed(
    tables: tuple[WarehouseTable, ...], before: ProcessedManifest | None
) -> tuple[WarehouseTable, ...]:
    """The tables that may be as a batch before had them declared: whoever loaded it may have known no more."""
    former = {name: changes.table_sha256 for name, changes in before.models.items()} if before else {}
    return tuple(
        table for table in tables if former.get(table.name) not in (None, table.model.table_sha256())
    )


def _tables(project: Project, manifest: ProcessedManifest) -> tuple[WarehouseTable, ...]:
    models = tuple(model for model in project.models if model.name in manifest.models)
    for model in models:
        changes = manifest.models[model.name]
        if changes.table_sha256 != model.table_sha256() and not relaxes(model, changes):
            raise WarehouseRefused(
                f"batch {manifest.batch} was processed with other columns for {model.name} than its model has now",
                hint="Set lake.processed and warehouse.url to new places: all history is computed again from the "
                "ingestion lake. Or declare the columns as they were",
            )
    return star_tables(project, manifest)


def star_tables(project: Project, manifest: ProcessedManifest) -> tuple[WarehouseTable, ...]:
    """The tables that a batch may bring rows to, in load order.

    Those whose models were there when the batch was processed are among them, so that what a warehouse holds does not
    depend on when it was loaded.
    """
    models = [model for model in project.models if model.name in manifest.models]
    gone = manifest.models.keys() - {model.name for model in models}
    former = {name: former_model(name, manifest.models[name]) for name in sorted(gone)}
    models += [model for name, model in former.items() if manifest.models[name].query_sha256]
    return warehouse_tables(
        tuple(models),
        {model.name: manifest.models[model.name].key for model in models},
        tuple(model for name, model in former.items() if not manifest.models[name].query_sha256),
    )


def check_same_lake(journal: Journal[ProcessedManifest], last: int, newest: LoadedBatch | None) -> None:
    """Makes sure that what a warehouse holds comes from this lake.

    Raises:
        WarehouseRefused: it comes from another.
    """
    if newest is None:
        return
    if newest.batch > last or journal.read(newest.batch).sha256() != newest.manifest_sha256:
        raise WarehouseRefused(
            f"the warehouse holds batch {newest.batch} of another lake than {journal.store.url}",
            hint="Point warehouse.url at an empty database, or lake.processed at the lake that was loaded",
        )
