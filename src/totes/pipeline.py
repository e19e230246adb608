"""The whole pipeline on one page: ingest, process, load, publish. Each stage resumes on its own where it stopped.

A stage is imported when it runs, so that commands that run only some start faster.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from totes import engine
from totes.config import Settings
from totes.cycle import PUBLISH, Cycle
from totes.deadline import NEVER, Deadline
from totes.errors import StoreError, TotesError, WarehouseRefused
from totes.lake.journal import Journal, ingestion_journal, processed_journal
from totes.lake.manifest import IngestionManifest, ProcessedManifest
from totes.lake.store import Store, folder_of
from totes.lake.workspace import Workspace
from totes.log import logger
from totes.reused import Reused
from totes.warehouse.connection import Warehouses, dialect_of, role_of, schema_of, state_of
from totes.workers.place import workers_at

if TYPE_CHECKING:
    from totes.ingestion.adoption import Adoption
    from totes.ingestion.source import Snapshot
    from totes.ingestion.stage import Ingested, Ingestion
    from totes.processing.choice import Choice
    from totes.processing.stage import Processed
    from totes.star.change import ModelChange
    from totes.star.project import Project
    from totes.warehouse.adapter import Warehouse
    from totes.warehouse.stage import Loaded, Rebuilt
    from totes.workers.protocol import Workers

_log = logger()
T = TypeVar("T")


class Pipeline:
    """The stages, wired to the places in the settings. Nothing is opened before it is used."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._workspace = Reused(self._open_workspace)
        self._published: str | None = None

    @cached_property
    def project(self) -> Project:
        """The star schema."""
        from totes.star.project import load_project

        path = self.settings.project.path
        folder = self.settings.path(path) if path else None
        return load_project(self.settings.project.name, folder, self.settings.cache_folder)

    @cached_property
    def ingestion_store(self) -> Store:
        """The ingestion lake."""
        return Store.open(self.settings.lake.ingestion, self.settings.base, "lake.ingestion")

    @cached_property
    def processed_store(self) -> Store:
        """The processed lake."""
        return Store.open(self.settings.lake.processed, self.settings.base, "lake.processed")

    @cached_property
    def ingestion_journal(self) -> Journal[IngestionManifest]:
        """The manifests of the ingestion lake."""
        return ingestion_journal(self.ingestion_store)

    @cached_property
    def processed_journal(self) -> Journal[ProcessedManifest]:
        """The manifests of the processed lake."""
        return processed_journal(self.processed_store)

    @property
    def lake_folders(self) -> tuple[Path, ...]:
        """The folders in which the engine reads objects of the lake; those of S3 are downloaded."""
        stores = (self.settings.lake.ingestion, self.settings.lake.processed)
        return tuple(folder for url in stores if (folder := folder_of(url, self.settings.base)))

    def warehouse(self, *, read_only: bool = False) -> AbstractContextManager[Warehouse]:
        """Opens the warehouse; opened `read_only`, it blocks nobody."""
        return self._warehouses.open(self.settings.warehouse_url(), read_only=read_only)

    @cached_property
    def _warehouses(self) -> Warehouses:
        settings = self.settings
        return Warehouses(settings.base, settings.warehouse.schema_, settings.lake.memory, self.lake_folders)

    @contextmanager
    def kept_open(self) -> Iterator[None]:
        """While this lasts, cycles share their engines: to open one takes longer than to find that nothing is new."""
        with self._workspace.kept(), self._warehouses.kept():
            yield

    def workspace(self) -> AbstractContextManager[Workspace]:
        """Opens the engine that the stages of a run share."""
        return self._workspace.use()

    def _close_engines(self) -> None:
        self._workspace.close()
        self._warehouses.close()

    def _open_workspace(self) -> AbstractContextManager[Workspace]:
        lake = self.settings.lake
        return Workspace.open(
            self.settings.cache_folder,
            lake.memory,
            checkpoints=lake.checkpoints,
            reads=self.lake_folders,
        )

    def ingest(
        self,
        inspect: Callable[[Snapshot], None] | None = None,
        *,
        always: bool = False,
        workspace: Workspace | None = None,
        deadline: Deadline = NEVER,
    ) -> Ingested:
        """Captures what is new at the source as one batch; with `always`, commits one even if nothing is new.

        `inspect` is called with the snapshot once all of it is captured. Without a workspace, the stage opens its own. A stage
        that nears its deadline stops after a commit, and reports that there is `more`.
        """
        with self._equipped(workspace) as (shared, workers):
            return self._ingestion(shared, workers, inspect=inspect, always=always, deadline=deadline).run()

    @contextmanager
    def _equipped(self, workspace: Workspace | None = None) -> Iterator[tuple[Workspace, Workers]]:
        """Opens what a stage works with: a workspace, unless it is given one, and workers."""
        opened = nullcontext(workspace) if workspace else self.workspace()
        with opened as shared, closing(self.workers()) as workers:
            yield shared, workers

    def workers(self) -> Workers:
        """What large work is done by."""
        return workers_at(self.settings.workers.url.get_secret_value())

    def _ingestion(self, workspace: Workspace, workers: Workers, **options: Any) -> Ingestion:
        from totes.ingestion.stage import Ingestion

        return Ingestion(
            self.settings.source_url(),
            self.settings.source,
            self.ingestion_journal,
            workspace,
            self.project.source_tables,
            self.settings.lake.compression,
            workers,
            **options,
        )

    def adopt(self, *, dry_run: bool = False) -> Adoption:
        """Continues this lake's history on another database, after comparing all its tables with what was captured.

        With `dry_run`, only reports what differs.

        Raises:
            NothingToAdopt: the source is the database that the lake follows already.
        """
        from totes.ingestion.adoption import adopt

        with self._equipped() as (workspace, workers):
            return adopt(self._ingestion(workspace, workers), dry_run=dry_run)

    def process(
        self,
        workspace: Workspace | None = None,
        deadline: Deadline = NEVER,
        choose: Choice | None = None,
    ) -> Processed:
        """Processes every ingested batch that is not processed yet, and applies those changes of models that `choose` selects.

        By default these are the changes that lose nothing and read few rows (`project.apply_rows`).
        """
        from totes.processing.choice import without_loss
        from totes.processing.stage import process

        small = without_loss(self.project, self.ingestion_journal, self.settings.project.apply_rows)
        with self._equipped(workspace) as (shared, workers):
            journals = self.ingestion_journal, self.processed_journal
            return process(
                self.project, *journals, shared, workers, choose=choose or small, deadline=deadline
            )

    def pending_changes(self) -> dict[str, ModelChange]:
        """How the models differ from the star, by model; empty before the first batch."""
        from totes.processing.definitions import pending_changes

        return pending_changes(self.project, self.processed_journal, self.processed_journal.newest())

    def apply(self) -> tuple[Processed, Loaded]:
        """Applies all changes of models to the star and the warehouse, whether the source has anything new or not."""
        from totes.processing.choice import everything

        processed = self.process(choose=everything)
        return processed, self.load()

    def load(self, deadline: Deadline = NEVER, *, looked: bool = False) -> Loaded:
        """Loads every processed batch that is not in the warehouse.

        A warehouse in a file that nobody has written since a load is not looked at again. `looked` is whether the processed
        lake was looked at just now; otherwise it is made sure that it is the one that is known.
        """
        from totes.warehouse.settled import Settled, expected_of, note, settled
        from totes.warehouse.stage import Loaded, load

        journal, settings = self.processed_journal, self.settings
        if not looked:
            journal.newest()
        url, last, at = settings.warehouse_url(), journal.last(), None
        state, known = state_of(url, settings.base), settled(settings.cache_folder)
        expected = expected_of(url, settings.warehouse.schema_, self.project.models)
        if state and known and (known.expected, known.state) == (expected, state) and known.batch <= last:
            at = known.batch if journal.read(known.batch).sha256() == known.manifest_sha256 else None
        if at == last:
            return Loaded(last)
        with self.warehouse() as warehouse:
            loaded = load(journal, warehouse, self.project.models, at=at, deadline=deadline)
        if warehouse.state and loaded.batch:
            digest = journal.read(loaded.batch).sha256()
            note(settings.cache_folder, Settled(expected, warehouse.state, loaded.batch, digest))
        return loaded

    def publish(self, batch: int) -> int:
        """Registers every loaded batch up to one in the Iceberg catalog, and returns the newest that is there.

        Raises:
            ConfigurationError, CatalogError, CatalogRefused, StoreError, LakeDamaged: as they say; the next call continues.
        """
        from totes.publishing.catalog import Catalog
        from totes.publishing.stage import publish

        journal = self.processed_journal
        digest = journal.read(batch).sha256() if batch else None
        if digest != self._published:
            with Catalog.open(self.settings, journal.store) as catalog:
                batch = publish(journal, catalog, batch, self.project.models)
            self._published = digest
        return batch

    def replay(self, url: str, last: int | None = None) -> Loaded:
        """Loads processed batches into the warehouse at a URL, which is empty or has the first batches of this lake.

        Args:
            url: the warehouse's URL.
            last: the batch to stop after; by default the newest.

        Raises:
            WarehouseRefused: another lake is loaded there, or a later batch than `last`.
        """
        from totes.warehouse.stage import load

        with self._warehouses.open(url) as warehouse:
            newest = warehouse.newest()
            if newest and last is not None and newest.batch > last:
                raise WarehouseRefused(
                    f"that warehouse is at batch {newest.batch} already", hint="Name an empty one"
                )
            return load(self.processed_journal, warehouse, self.project.models, last_wanted=last)

    def replay_table(self, table: str) -> Rebuilt:
        """Rebuilds one table of the warehouse from the lake, for a table that is missing or has missing or wrong rows.

        Raises:
            ConfigurationError: the warehouse has no such table.
        """
        from totes.warehouse.stage import rebuild

        with self.warehouse() as warehouse:
            return rebuild(self.processed_journal, warehouse, table, self.project.models)

    def run(self, only: str | None = None, *, always: bool = False) -> Cycle:
        """Runs all stages, or one. A failed stage does not prevent the others from doing their work.

        But if a stage finds that the lake belongs to something else, no later stage runs. With `always`, a batch is committed
        even if nothing is new at the source.
        """
        _ = self.project  # an invalid project is an error for every stage
        cycle = Cycle()
        try:
            self._run(cycle, only, always=always)
        except BaseException:
            self._close_engines()
            raise
        if cycle.failures:  # an engine may be what has failed
            self._close_engines()
        return cycle

    def _run(self, cycle: Cycle, only: str | None, *, always: bool) -> None:
        if only in (None, "ingest", "process"):
            try:
                with self.workspace() as workspace:
                    if only != "process":
                        capture = partial(self.ingest, always=always, workspace=workspace)
                        cycle.ingested = _timed(cycle, "ingest", capture)
                        if cycle.ingested and cycle.ingested.failure:
                            cycle.failures["ingest"] = cycle.ingested.failure
                    mismatch = self._mismatch() if "ingest" in cycle.failures else None
                    if mismatch:
                        cycle.failures["ingest"] = mismatch
                        return
                    if only != "ingest" and not cycle.is_of_another:
                        cycle.processed = _timed(cycle, "process", partial(self.process, workspace))
                        if cycle.processed and cycle.processed.failure:
                            cycle.failures["process"] = cycle.processed.failure
            except StoreError as error:
                cycle.failures[only or "ingest"] = error
        if cycle.is_of_another:
            _log.warning("the later stages are not run: the lake belongs to something else")
        elif only in (None, "load"):
            self._load_and_publish(cycle)

    def _load_and_publish(self, cycle: Cycle) -> None:
        looked = cycle.processed is not None
        cycle.loaded = _timed(cycle, "load", partial(self.load, looked=looked))
        if cycle.loaded and self.settings.publish.iceberg.get_secret_value():
            cycle.published = _timed(cycle, PUBLISH, partial(self.publish, cycle.loaded.batch))

    def _mismatch(self) -> TotesError | None:
        """The error if the built-in models are used with another source."""
        if not self.project.is_built_in:
            return None
        newest = self.ingestion_journal.newest()
        try:
            tables = newest.tables if newest else self._source_tables()
        except TotesError:  # the source cannot be read, which is reported already
            return None
        return self.project.mismatch(tables)

    def _source_tables(self) -> Iterable[str]:
        """The tables that can be captured at the source, whatever the models read."""
        from totes.ingestion.source import describe_source

        return describe_source(self.settings.source_url(), self.settings.source, frozenset())

    def source_sql(self) -> list[str]:
        """The statements with which the source's owner prepares it for its capture."""
        from totes.ingestion.preparation import source_statements

        return source_statements(self.settings.source_url(), self.settings.source, self.project.source_tables)

    def warehouse_sql(self, dialect: str | None = None) -> list[str]:
        """The warehouse's DDL, statement by statement. It can be run again at any time, and adds what is missing.

        A row of a versioned table is identified by the primary key of the model's first source table, which is looked up in
        the newest ingested batch, or before the first batch at the source.

        Args:
            dialect: `duckdb` or `postgresql`; by default that of the warehouse's URL.
        """
        from totes.ingestion.source import describe_source
        from totes.processing.bound.binding import bind
        from totes.warehouse.ddl import statements
        from totes.warehouse.table import warehouse_tables

        url, schema = self.settings.warehouse_url(), self.settings.warehouse.schema_
        chosen = dialect_of(f"{dialect}:///warehouse" if dialect else url)
        newest = self.ingestion_journal.newest()
        tables = (
            newest.tables
            if newest
            else describe_source(self.settings.source_url(), self.settings.source, self.project.source_tables)
        )
        keys = {query.model.name: query.key for query in bind(self.project, tables)}
        before = self.processed_journal.newest()
        return statements(
            warehouse_tables(self.project.models, keys),
            schema_of(f"{chosen}:///w", schema),
            chosen,
            role=role_of(url),
            loaded=frozenset(before.models) if before else frozenset(),
        )


def _timed(cycle: Cycle, stage: str, work: Callable[[], T]) -> T | None:
    began = time.perf_counter()
    try:
        with engine.faults():
            return work()
    except TotesError as error:
        cycle.failures[stage] = error
        return None
    finally:
        cycle.seconds[stage] = round(time.perf_counter() - began, 3)
