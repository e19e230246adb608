"""Loads processed batches that the warehouse does not have, one transaction each."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from totes.errors import WarehouseRefused
from totes.lake.journal import Journal, processed_journal
from totes.lake.manifest import ProcessedManifest
from totes.lake.store import Store
from totes.log import logger
from totes.star.project import Project
from totes.warehouse.adapter import LoadedBatch, Warehouse
from totes.warehouse.table import BatchLoad, TableLoad, WarehouseTable, warehouse_tables

_log = logger(stage="load")


@dataclass(frozen=True)
class Loaded:
    """What one call of the stage did: the newest batch in the warehouse, and the rows of each batch by table."""

    batch: int
    batches: dict[int, dict[str, int]] = field(default_factory=dict)


def load(project: Project, processed: Store, warehouse: Warehouse) -> Loaded:
    """Loads every processed batch that is not in the warehouse, one after the other.

    Safe to be called by any number of runners at once, and to be killed at any moment: the ledger's row commits with
    the rows. A warehouse that was away for long catches up by itself.

    Raises:
        WarehouseError: the warehouse failed; batches before are loaded, and this one is tried again next time.
        WarehouseRefused: the warehouse holds batches of another lake, or may not be written.
        StoreError, LakeDamaged: as they say.
    """
    journal = processed_journal(processed)
    last, newest = journal.last(), warehouse.newest()
    _check_same_lake(journal, last, newest)
    done: dict[int, dict[str, int]] = {}
    for batch in range((newest.batch if newest else 0) + 1, last + 1):
        began = time.perf_counter()
        manifest = journal.read(batch)
        rows = _load_batch(project, processed, warehouse, manifest)
        if rows is None:
            continue
        done[batch] = rows
        _log.info(
            "loaded", batch=batch, rows=sum(rows.values()), seconds=round(time.perf_counter() - began, 3)
        )
    return Loaded(max(last, newest.batch if newest else 0), done)


def _load_batch(
    project: Project, store: Store, warehouse: Warehouse, manifest: ProcessedManifest
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
            )
            for table in tables
        )
        batch = BatchLoad(manifest.batch, manifest.sha256(), manifest.read_at.isoformat(sep=" "), loads)
        if not warehouse.load(tables, batch):
            return None
    return {entry.table.name: entry.count for entry in loads if entry.count}


def _tables(project: Project, manifest: ProcessedManifest) -> tuple[WarehouseTable, ...]:
    models = tuple(model for model in project.models if model.name in manifest.models)
    for model in models:
        if manifest.models[model.name].table_sha256 != model.table_sha256():
            raise WarehouseRefused(
                f"batch {manifest.batch} was processed with other columns for {model.name} than its model has now",
                hint="Set lake.processed and warehouse.url to new places: all history is computed again from the "
                "ingestion lake. Or declare the columns as they were",
            )
    return warehouse_tables(models, {model.name: manifest.models[model.name].key for model in models})


def _check_same_lake(journal: Journal[ProcessedManifest], last: int, newest: LoadedBatch | None) -> None:
    if newest is None:
        return
    if newest.batch > last or journal.read(newest.batch).sha256() != newest.manifest_sha256:
        raise WarehouseRefused(
            f"the warehouse holds batch {newest.batch} of another lake than {journal.store.url}",
            hint="Point warehouse.url at an empty database, or lake.processed at the lake that was loaded",
        )
