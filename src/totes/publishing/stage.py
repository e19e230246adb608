"""Registers loaded batches in an Iceberg catalog: table by table, one snapshot each, and then the ledger."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import TypeVar

from totes.errors import CatalogError, CatalogRefused, LakeDamaged
from totes.failpoint import reach
from totes.lake.journal import Journal, table_entries
from totes.lake.manifest import ModelChanges, ProcessedManifest
from totes.lake.store import Store
from totes.log import logger
from totes.progress import report
from totes.publishing.catalog import Catalog, catalog_errors, published_batch, published_manifest, recorded
from totes.publishing.ledger import advance
from totes.publishing.table import PublishedTable, commit
from totes.publishing.views import bring_up_views
from totes.star.declaration import LEDGER
from totes.star.field_ids import with_field_ids
from totes.star.model import Model

_BATCHES_AT_ONCE = 1000
_ATTEMPTS_MAX = 10
_log = logger(stage="publish")
T = TypeVar("T")
Entries = list[tuple[int, ModelChanges]]


def publish(
    journal: Journal[ProcessedManifest], catalog: Catalog, last: int, described: Iterable[Model] = ()
) -> int:
    """Registers every batch up to one that is not published yet, and returns the newest that is.

    Safe to be called by any number of runners at once, and to be killed at any moment: each table's snapshot records the
    batch that it is at, and commits only if the table is as it was when that was looked at.

    Args:
        journal: the processed lake's manifests.
        catalog: the catalog.
        last: the newest loaded batch.
        described: the models whose descriptions tables and columns get.

    Raises:
        CatalogError: the catalog failed; the next call continues there.
        CatalogRefused: it has another lake's batches, or a table of somebody else is in the way.
        LakeDamaged: a table's object is gone. The other tables are published, and no batch is recorded in the ledger.
        StoreError: as it says.
    """
    models = {model.name: model for model in described}
    with catalog_errors("publishing to the catalog"):
        done = newest_published(journal, catalog)
        while done < last:
            began, upto = time.perf_counter(), min(done + _BATCHES_AT_ONCE, last)
            report(f"publishing batch {upto}", done, last, "batches")
            files = _publish(journal, catalog, done, upto, models)
            seconds = round(time.perf_counter() - began, 3)
            _log.info("published", batch=upto, files=files, seconds=seconds)
            done = upto
    return done


def newest_published(journal: Journal[ProcessedManifest], catalog: Catalog) -> int:
    """The batch that all published tables are at, 0 before the first, after making sure that it is this lake's.

    Raises:
        CatalogRefused: it is another lake's.
    """
    ledger = catalog.table(LEDGER)
    done = published_batch(ledger)
    if done and (done > journal.last() or journal.read(done).sha256() != published_manifest(ledger)):
        raise CatalogRefused(
            f"the catalog's namespace {catalog.namespace} has batch {done} of another lake than {journal.store.url}",
            hint="Drop its tables, which copies nothing and loses nothing, or point publish.iceberg at another catalog",
        )
    return done


def missing_objects(journal: Journal[ProcessedManifest], catalog: Catalog) -> dict[str, int]:
    """How many objects that each published table names are not in the lake any more, so that it cannot be read."""
    newest, store = journal.newest(), journal.store
    missing = {}
    for name in newest.models if newest else ():
        table = catalog.table(name)
        tasks = table.scan().plan_files() if table else ()
        named = {task.file.file_path.removeprefix(f"{_url(store)}/") for task in tasks}
        folders = {path.partition("/date=")[0] for path in named}
        missing[name] = len(named.difference(*(store.list(f"{folder}/") for folder in folders)))
    return {name: number for name, number in missing.items() if number}


def _publish(
    journal: Journal[ProcessedManifest], catalog: Catalog, done: int, last: int, models: Mapping[str, Model]
) -> int:
    """Publishes the batches after `done` up to `last`; returns how many files were registered."""
    changes: dict[str, Entries] = {}
    for manifest in journal.manifests(done + 1, last):
        for name, entry in manifest.models.items():
            begins = entry.since == manifest.batch
            if begins:
                changes[name] = []
            if begins or entry.objects or entry.removed:
                changes.setdefault(name, []).append((manifest.batch, entry))
    newest, damaged, files = journal.read(last), list[LakeDamaged](), 0
    for name in (name for name in newest.models if name in changes):
        table = _Table(journal, catalog, newest, name, models.get(name))
        try:
            files += _committed(partial(table.publish, changes[name], done), name)
        except LakeDamaged as error:
            damaged.append(error)
        reach("publish.table")
    before = journal.read(done).models if done else {}
    for name in before.keys() - newest.models.keys():
        catalog.drop(name)
    if damaged:
        raise damaged[0]
    _committed(partial(advance, catalog, newest), LEDGER)
    return files


def _committed(work: Callable[[], T], table: str) -> T:
    """Does what ends with a commit, again where somebody else has committed meanwhile."""
    from pyiceberg.exceptions import CommitFailedException

    for _ in range(_ATTEMPTS_MAX):
        with suppress(CommitFailedException):
            return work()
    raise CatalogError(
        f"{table} was committed to by somebody else {_ATTEMPTS_MAX} times in a row",
        hint="Let nobody else write to it; the next run tries again",
    )


@dataclass(frozen=True)
class _Table:
    """A table that is brought up to a batch."""

    journal: Journal[ProcessedManifest]
    catalog: Catalog
    newest: ProcessedManifest
    name: str
    model: Model | None

    def publish(self, changes: Entries, done: int) -> int:
        """Registers the files that the table does not have, in one snapshot; returns how many.

        Args:
            changes: its changes after the batch `done`, from its last beginning on.
            done: the batch up to which the ledger says that all tables are published.
        """
        table = self.catalog.table(self.name) or self.catalog.create(self.name)
        at, last = published_batch(table), self.newest.batch
        if at >= last:  # by a runner that was killed, or by another one
            return 0
        entry = with_field_ids(self.newest.models[self.name])
        begins = max(entry.since, 1)
        if at < begins <= done:  # somebody has dropped it
            changes = table_entries(self.journal, self.name, last)
        missing = [(batch, changed) for batch, changed in changes if batch > at]
        self._check(missing)
        described = (self.model.description, self.model.descriptions) if self.model else ("", {})
        form = PublishedTable(entry, *described)
        files = form.files(missing, _url(self.journal.store))
        reach("publish.commit")
        commit(table, form, files, recorded(self.newest), replaces=at < begins)
        bring_up_views(self.catalog, self.name, form)
        return len(files)

    def _check(self, changes: Entries) -> None:
        """Makes sure that the objects are there: nobody could read a table that names one that is not."""
        store = self.journal.store
        paths = sorted(entry.path for _, changed in changes for entry in (*changed.objects, *changed.removed))
        for _, together in groupby(paths, key=lambda path: path.rpartition("/")[0]):
            of_folder = list(together)
            for path in sorted(set(of_folder) - store.present(of_folder)):
                raise LakeDamaged(
                    f"{store.location(path)} is missing, so {self.name} cannot be published",
                    hint="Restore it from a backup, or unzip its bundle; the other tables are published",
                )


def _url(store: Store) -> str:
    """Where a store is, as Iceberg writes it."""
    return store.url if store.url.startswith("s3://") else f"file://{store.url}"
