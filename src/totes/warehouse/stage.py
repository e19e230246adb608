"""Loads processed batches that the warehouse does not have, one transaction each."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from totes.deadline import NEVER, Deadline
from totes.display import count
from totes.errors import ConfigurationError, WarehouseRefused
from totes.lake.journal import Journal, table_entries
from totes.lake.manifest import ModelChanges, ProcessedManifest
from totes.lake.store import Store
from totes.log import logger
from totes.progress import report
from totes.star.model import Model
from totes.star.recorded import recorded_model
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

    @property
    def rows(self) -> dict[str, int]:
        """How many rows were loaded into each table, all batches together."""
        totals: dict[str, int] = {}
        for batch in self.batches.values():
            for table, rows in batch.items():
                totals[table] = totals.get(table, 0) + rows
        return totals


class Rebuilt(NamedTuple):
    """A table that was made again, the batch that it is at, and how many rows it has."""

    batch: int
    table: str
    rows: int


def load(
    journal: Journal[ProcessedManifest],
    warehouse: Warehouse,
    described: Iterable[Model] = (),
    *,
    at: int | None = None,
    last_wanted: int | None = None,
    deadline: Deadline = NEVER,
) -> Loaded:
    """Loads every processed batch that is not in the warehouse, one after the other.

    Safe to be called by any number of runners at once, and to be killed at any moment: the ledger's row commits with
    the rows. A warehouse that was away for long catches up by itself. What a table is, each batch's manifest says.

    Args:
        journal: the processed lake's manifests.
        warehouse: the warehouse.
        described: the models whose descriptions tables and columns get, be there a new batch or not.
        at: the batch that the warehouse is at, where it is known that there is nothing else to be done.
        last_wanted: the batch to stop after; by default the newest.
        deadline: after half of its time no batch is begun, but for the first.

    Raises:
        WarehouseError: the warehouse failed; batches before are loaded, and this one is tried again next time.
        WarehouseRefused: the warehouse holds batches of another lake, or may not be written.
        StoreError, LakeDamaged: as they say.
    """
    last = journal.last()
    last_wanted = last if last_wanted is None else min(last, last_wanted)
    if at is None:
        at = _checked(journal, last, last_wanted, warehouse, described)
    first = at + 1
    if first <= last_wanted:
        resumed = warehouse.resume(at)
        check_same_lake(journal, last, resumed)
        first = min(first, resumed.batch + 1 if resumed else 1)
    before = journal.read(first - 1) if first > 1 else None
    done: dict[int, dict[str, int]] = {}
    for (batch,) in journal.upcoming(first, last_wanted):
        if done and deadline.half_over():
            return Loaded(batch - 1, done, more=True)
        report(f"loading batch {batch}", len(done), last_wanted - batch + 1 + len(done), "batches")
        began = time.perf_counter()
        manifest = journal.confirmed(batch)
        rows = _load_batch(journal.store, warehouse, manifest, before, described)
        before = manifest
        if batch <= at:
            continue
        if (
            rows is None
        ):  # it was loaded meanwhile, or by a load that was killed before its file was published
            check_same_lake(journal, journal.last(), warehouse.newest())
            continue
        done[batch] = rows
        _log.info(
            "loaded", batch=batch, rows=sum(rows.values()), seconds=round(time.perf_counter() - began, 3)
        )
    return Loaded(max(last_wanted, at), done)


def _checked(
    journal: Journal[ProcessedManifest],
    last: int,
    wanted: int,
    warehouse: Warehouse,
    described: Iterable[Model],
) -> int:
    """The batch that the warehouse is at, after making sure that what was loaded into it is there."""
    newest = warehouse.newest()
    check_same_lake(journal, last, newest)
    if newest is None:
        return 0
    before = journal.read(newest.batch)
    # What a batch to come makes anew may be as it is, also as its owner has altered it for that already.
    ahead = journal.read(wanted).models if wanted > newest.batch else {}
    anew = {name for name, changes in ahead.items() if changes.since > newest.batch}
    # Of a table that was rebuilt the newest versions may be gone, with the highest of these.
    surrogates = {name: one.surrogates for name, one in before.models.items() if one.since <= 1}
    present = tuple(table for table in star_tables(before.models, described) if table.name not in anew)
    warehouse.restore(present, surrogates)
    return newest.batch


def rebuild(
    journal: Journal[ProcessedManifest], warehouse: Warehouse, table: str, described: Iterable[Model] = ()
) -> Rebuilt:
    """Makes one table of the warehouse again out of the lake, as it was after the newest batch that is loaded.

    Idempotent, and safe beside a load: either comes after the other. No other table is written to.

    Args:
        journal: the processed lake's manifests.
        warehouse: the warehouse.
        table: the table, which may be gone.
        described: the models whose descriptions the table and its columns get.

    Raises:
        ConfigurationError: the newest loaded batch has no such table.
        WarehouseError, WarehouseRefused, StoreError, LakeDamaged: as they say; the table is as it was.
    """
    while True:
        newest = warehouse.newest()
        check_same_lake(journal, journal.last(), newest)
        if newest is None:
            raise WarehouseRefused("nothing is loaded yet", hint="Run totes load: it makes every table")
        tables = {one.name: one for one in star_tables(journal.read(newest.batch).models, described)}
        if table not in tables:
            raise ConfigurationError(
                f"the warehouse has no table {table} at batch {newest.batch}",
                hint=f"The tables are {', '.join(tables)}",
            )
        parts = table_entries(journal, table, newest.batch)
        rows = [(entry, batch) for batch, changes in parts for entry in changes.objects]
        removed = [(entry, batch) for batch, changes in parts for entry in changes.removed]
        with journal.store.local([entry for entry, _ in (*rows, *removed)]) as files:
            batches = dict(zip(files, (batch for _, batch in (*rows, *removed)), strict=True))
            load_ = TableLoad(
                tables[table],
                list(files[: len(rows)]),
                list(files[len(rows) :]),
                sum(entry.rows for entry, _ in rows),
                previous=tables[table],
                whole=True,
                batches=batches,
            )
            report(f"rebuilding {table}: {count(load_.count, 'row')}")
            if warehouse.rebuild(load_, newest.batch, frozenset(tables)):
                _log.info("rebuilt", table=table, batch=newest.batch)
                [(rows_now,)] = warehouse.query(f"SELECT count(*) FROM {warehouse.relation(table)}")[1]
                return Rebuilt(newest.batch, table, int(rows_now))


def _load_batch(
    store: Store,
    warehouse: Warehouse,
    manifest: ProcessedManifest,
    before: ProcessedManifest | None,
    described: Iterable[Model],
) -> dict[str, int] | None:
    loaded = before.models if before else {}
    concerned = {name: manifest.models[name] for name in _concerned(manifest.models, loaded)}
    tables = star_tables(concerned, described)
    previous = {name: _table(name, loaded[name]) for name in concerned if name in loaded}
    objects = [
        entry
        for table in tables
        for entry in (*concerned[table.name].objects, *concerned[table.name].removed)
    ]
    with store.local(objects) as files:
        place = {entry.path: file for entry, file in zip(objects, files, strict=True)}
        loads = tuple(
            TableLoad(
                table,
                [place[entry.path] for entry in concerned[table.name].objects],
                [place[entry.path] for entry in concerned[table.name].removed],
                sum(entry.rows for entry in concerned[table.name].objects),
                previous.get(table.name),
                concerned[table.name].renamed,
                whole=concerned[table.name].since == manifest.batch > 1,
            )
            for table in tables
        )
        batch = BatchLoad(
            manifest.batch,
            manifest.sha256(),
            manifest.read_at.isoformat(sep=" "),
            loads,
            frozenset(loaded),
            tuple(_table(name, changes) for name, changes in loaded.items() if name not in manifest.models),
        )
        if not warehouse.load(tables, batch):
            return None
    return {entry.table.name: entry.count for entry in loads if entry.count}


def _concerned(models: Mapping[str, ModelChanges], loaded: Mapping[str, ModelChanges]) -> Iterable[str]:
    """The tables that a batch concerns: those that it has something for, or all where any is another one than before."""

    def declared(entries: Mapping[str, ModelChanges]) -> dict[str, object]:
        return {
            name: (one.table_sha256, one.key, one.since, bool(one.query_sha256))
            for name, one in entries.items()
        }

    if declared(models) != declared(loaded):
        return models
    return [name for name, changes in models.items() if changes.objects or changes.removed]


def star_tables(
    entries: Mapping[str, ModelChanges], described: Iterable[Model] = ()
) -> tuple[WarehouseTable, ...]:
    """The tables that a batch may bring rows to, in load order, as its manifest's entries declare them.

    A table whose model was gone when the batch was processed is not among them: it stays as it is, and may be dropped.
    """
    models = {model.name: model for model in described}
    tables = [
        _table(name, changes, models.get(name)) for name, changes in entries.items() if changes.query_sha256
    ]
    return warehouse_tables((table.model for table in tables), {table.name: table.key for table in tables})


def _table(name: str, changes: ModelChanges, described: Model | None = None) -> WarehouseTable:
    return WarehouseTable(recorded_model(name, changes, described), changes.key)


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
