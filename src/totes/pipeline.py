"""The whole pipeline on one page: ingest, then process, then load. Each stage takes up where it stopped, alone.

A stage is imported when it is run: a command that runs none, or one, begins the sooner.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, TypeVar

from totes import engine
from totes.config import Settings
from totes.deadline import NEVER, Deadline
from totes.errors import StoreError, TotesError, WarehouseRefused
from totes.lake.journal import ingestion_journal
from totes.lake.store import Store
from totes.lake.workspace import Workspace
from totes.warehouse.connection import dialect_of, open_warehouse, schema_of

if TYPE_CHECKING:
    from totes.ingestion.source import Snapshot
    from totes.ingestion.stage import Ingested
    from totes.processing.stage import Processed
    from totes.star.project import Project
    from totes.warehouse.adapter import Warehouse
    from totes.warehouse.stage import Loaded

STAGES = ("ingest", "process", "load")
T = TypeVar("T")


@dataclass
class Cycle:
    """What one pass through the stages did. A stage that failed has its error in `failures` and no result."""

    ingested: Ingested | None = None
    processed: Processed | None = None
    loaded: Loaded | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    failures: dict[str, TotesError] = field(default_factory=dict)

    @property
    def quarantined(self) -> int:
        """How many rows were set aside in this cycle."""
        batches = self.processed.batches.values() if self.processed else ()
        return sum(changes.quarantined for batch in batches for changes in batch.values())

    def as_json(self) -> dict[str, object]:
        """The object that `totes run --json` prints."""
        ingested = self.ingested.changes if self.ingested else {}
        loaded: dict[str, int] = {}
        for rows in self.loaded.batches.values() if self.loaded else ():
            for table, count in rows.items():
                loaded[table] = loaded.get(table, 0) + count
        report: dict[str, object] = {
            "batch": self.ingested.batch if self.ingested else None,
            "ingested": {t: {"upserts": c.upserts, "deletes": c.deletes} for t, c in ingested.items()},
            "loaded": loaded,
            "quarantined": self.quarantined,
            "seconds": self.seconds,
        }
        if self.failures:
            report["failures"] = {stage: str(error) for stage, error in self.failures.items()}
        return report


class Pipeline:
    """The stages wired to the places that the settings name. Nothing is opened before it is used."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def project(self) -> Project:
        """The star schema."""
        from totes.star.project import load_project

        path = self.settings.project.path
        return load_project(self.settings.project.name, self.settings.path(path) if path else None)

    @cached_property
    def ingestion_store(self) -> Store:
        """The ingestion lake."""
        return Store.open(self.settings.lake.ingestion, self.settings.base)

    @cached_property
    def processed_store(self) -> Store:
        """The processed lake."""
        return Store.open(self.settings.lake.processed, self.settings.base)

    def warehouse(self) -> AbstractContextManager[Warehouse]:
        """Opens the warehouse."""
        settings = self.settings.warehouse
        return open_warehouse(
            self.settings.warehouse_url(),
            settings.schema_,
            base=self.settings.base,
            memory=self.settings.lake.memory,
        )

    def workspace(self) -> AbstractContextManager[Workspace]:
        """Opens the engine that stages of one run share."""
        lake = self.settings.lake
        return Workspace.open(self.settings.cache_folder, lake.memory, checkpoints=lake.checkpoints)

    def ingest(
        self,
        inspect: Callable[[Snapshot], None] | None = None,
        *,
        always: bool = False,
        workspace: Workspace | None = None,
        deadline: Deadline = NEVER,
    ) -> Ingested:
        """Captures what is new at the source as one batch, with `always` also when there is nothing.

        `inspect` sees the snapshot when all of it is captured. Without a workspace, the stage works in one of its own.
        Each stage that nears its deadline stops at a committed point, and says that there is `more`.
        """
        from totes.ingestion.stage import ingest

        with nullcontext(workspace) if workspace else self.workspace() as shared:
            return ingest(
                self.settings.source_url(),
                self.settings.source,
                self.ingestion_store,
                shared,
                needed=self.project.source_tables,
                compression=self.settings.lake.compression,
                inspect=inspect,
                always=always,
                deadline=deadline,
            )

    def process(self, workspace: Workspace | None = None, deadline: Deadline = NEVER) -> Processed:
        """Processes every ingested batch that is not processed."""
        from totes.processing.stage import process

        with nullcontext(workspace) if workspace else self.workspace() as shared:
            return process(
                self.project, self.ingestion_store, self.processed_store, shared, deadline=deadline
            )

    def load(self, deadline: Deadline = NEVER) -> Loaded:
        """Loads every processed batch that is not in the warehouse."""
        from totes.warehouse.stage import load

        with self.warehouse() as warehouse:
            return load(self.project, self.processed_store, warehouse, deadline=deadline)

    def replay(self, url: str, last: int | None = None) -> Loaded:
        """Loads processed batches into the warehouse at a URL, which is empty or holds the first batches of this lake.

        Args:
            url: the warehouse's URL.
            last: the batch to stop after; by default the newest.

        Raises:
            WarehouseRefused: another lake's batches are loaded there, or a later one than `last`.
        """
        from totes.warehouse.stage import load

        settings = self.settings
        opened = open_warehouse(
            url, settings.warehouse.schema_, base=settings.base, memory=settings.lake.memory
        )
        with opened as warehouse:
            newest = warehouse.newest()
            if newest and last is not None and newest.batch > last:
                raise WarehouseRefused(
                    f"that warehouse is at batch {newest.batch} already", hint="Name an empty one"
                )
            return load(self.project, self.processed_store, warehouse, last_wanted=last)

    def run(self, only: str | None = None, *, always: bool = False) -> Cycle:
        """Runs all stages, or one. A stage that fails does not keep the others from the work that is there for them.

        With `always`, a batch is made also when nothing is new at the source.
        """
        _ = self.project  # a project that is wrong is wrong for every stage
        cycle = Cycle()
        if only in (None, "ingest", "process"):
            try:
                with self.workspace() as workspace:
                    if only != "process":
                        capture = partial(self.ingest, always=always, workspace=workspace)
                        cycle.ingested = _timed(cycle, "ingest", capture)
                        for failure in cycle.ingested.failures[:1] if cycle.ingested else ():
                            cycle.failures["ingest"] = failure
                    if only != "ingest":
                        cycle.processed = _timed(cycle, "process", partial(self.process, workspace))
            except StoreError as error:
                cycle.failures[only or "ingest"] = error
        if only in (None, "load"):
            cycle.loaded = _timed(cycle, "load", self.load)
        return cycle

    def warehouse_sql(self, dialect: str | None = None) -> list[str]:
        """The warehouse's DDL, statement by statement.

        What identifies a row of a table that keeps versions is the first source table's primary key; it is looked up
        in the newest ingested batch, or before the first batch at the source.

        Args:
            dialect: `duckdb` or `postgresql`; by default that of the warehouse's URL.
        """
        from totes.ingestion.source import describe_source
        from totes.processing.binding import bind
        from totes.warehouse.ddl import statements
        from totes.warehouse.table import warehouse_tables

        url, schema = self.settings.warehouse_url(), self.settings.warehouse.schema_
        chosen = dialect_of(f"{dialect}:///warehouse" if dialect else url)
        newest = ingestion_journal(self.ingestion_store).newest()
        tables = (
            newest.tables
            if newest
            else describe_source(self.settings.source_url(), self.settings.source, self.project.source_tables)
        )
        keys = {query.model.name: query.key for query in bind(self.project, tables)}
        return statements(
            warehouse_tables(self.project.models, keys), schema_of(f"{chosen}:///w", schema), chosen
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
