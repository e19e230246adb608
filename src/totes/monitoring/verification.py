"""Proves that the warehouse's current rows equal the models applied to the source, and that its history equals the lake's.

Three copies are made on disk, one after the other, each of one instant: of the source, in the same snapshot up to which
everything is captured; of the processed lake's rows; and of the warehouse. Nothing is open or locked while they are
compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import duckdb

from totes import engine
from totes.errors import BatchConflict, ConfigurationError, EngineFault
from totes.lake.manifest import ProcessedManifest, TableChanges
from totes.messages import message
from totes.monitoring.comparison import (
    CURRENT,
    Comparison,
    TableVerdict,
    actual,
    copied_columns,
)
from totes.monitoring.expectation import compute, copy_source, needed_models
from totes.monitoring.lake_rows import LakeReader
from totes.pipeline import Pipeline
from totes.processing.bound.query import BoundQuery
from totes.scratch import temporary_folder
from totes.star.model import Model
from totes.warehouse.adapter import Warehouse
from totes.warehouse.copies import BENT
from totes.warehouse.table import WarehouseTable, warehouse_tables

_SAMPLE_PARTS = 10_000
_ATTEMPTS_MAX = 5
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Verdict:
    """The result of comparing tables at a batch, or a `sample` of their rows; `whole` means that these are all tables."""

    batch: int
    tables: dict[str, TableVerdict]
    sample: float = 1.0
    whole: bool = True

    @property
    def equal(self) -> bool:
        """Whether no table differs."""
        return all(table.equal for table in self.tables.values())

    def as_json(self) -> dict[str, Any]:
        """The document of `totes verify --json`."""
        return {
            "batch": self.batch,
            "equal": self.equal,
            "sample": self.sample,
            "tables": {
                name: {"equal": one.equal, "compared": one.compared, **asdict(one)}
                for name, one in self.tables.items()
            },
        }


def verify(pipeline: Pipeline, tables: tuple[str, ...], sample: float, progress: Progress) -> Verdict:
    """Captures, processes and loads what is new, and then compares the warehouse with the source and the lake.

    Args:
        pipeline: the pipeline.
        tables: the warehouse tables to compare; all if empty.
        sample: the share of rows to compare, more than 0 and at most 1, chosen by their keys.
        progress: called with a line about what is being done.

    Raises:
        ConfigurationError: there is no such table.
        BatchConflict: other runners loaded newer batches every time.
        TotesError: a stage failed.
    """
    names = [model.name for model in pipeline.project.models]
    for unknown in (name for name in tables if name not in names):
        raise ConfigurationError(f"there is no table {unknown}", hint=f"The tables are {', '.join(names)}")
    for _ in range(_ATTEMPTS_MAX):
        with temporary_folder() as scratch:
            verification = _Verification(pipeline, tables or tuple(names), sample, progress, scratch)
            try:
                verdict = verification.run()
            except (duckdb.Error, OSError) as error:
                raise EngineFault(
                    f"comparing failed: {message(error)}",
                    hint=engine.remedy(error),
                ) from error
        if verdict:
            return verdict
    raise BatchConflict(
        f"other runners loaded newer batches {_ATTEMPTS_MAX} times in a row while the source was being read",
        hint="Run it again, or while no other runner is at work",
    )


class _Verification:
    """One try."""

    def __init__(
        self, pipeline: Pipeline, compared: tuple[str, ...], sample: float, progress: Progress, folder: Path
    ) -> None:
        self._pipeline = pipeline
        self._compared = compared
        self._models = needed_models(pipeline.project, compared)
        self._sample = sample
        self._progress = progress
        self._folder = folder
        self._lacking: dict[str, tuple[str, ...]] = {}

    def run(self) -> Verdict | None:
        """Compares; returns None if the warehouse has advanced beyond the snapshot."""
        pipeline, described = self._pipeline, dict[str, TableChanges]()
        with self._bench() as bench:
            captured = pipeline.ingest(
                lambda snapshot: described.update(
                    copy_source(bench, snapshot, pipeline.project, self._models, self._progress)
                )
            )
        if captured.failure:
            raise captured.failure
        self._progress("processing and loading what is new")
        pipeline.process()
        pipeline.load()
        batch, journal = captured.captured, pipeline.processed_journal
        if journal.last() != batch:
            return None
        newest = journal.newest()
        with self._bench() as bench:
            years = newest.calendar_years if newest else ()
            queries, notes = compute(bench, pipeline.project, self._models, described, years, self._progress)
            everything = self._tables(newest, queries)
            tables = tuple(table for table in everything if table.name in self._compared)
            lineage = {name: query.base.key for name, query in queries.items() if not query.key_is_base_key}
            LakeReader(bench, journal, tables, self._chosen, lineage).read(batch, self._progress)
            with pipeline.warehouse(read_only=True) as warehouse, warehouse.one_moment():
                loaded = warehouse.newest()
                if (loaded.batch if loaded else 0) != batch:
                    return None
                for number, table in enumerate(tables, start=1):
                    self._progress(f"reading the warehouse: {table.name} ({number} of {len(tables)})")
                    self._copy(bench, warehouse, table, loaded=bool(newest and table.name in newest.models))
            verdicts = {}
            for number, table in enumerate(tables, start=1):
                rows = engine.scalar(bench, f"SELECT count(*) FROM {actual(table.name)}")
                self._progress(f"comparing {table.name} ({number} of {len(tables)}), {rows:,} rows")
                comparison = Comparison(bench, table, queries[table.name], self._chosen(table))
                verdicts[table.name] = comparison.run(
                    self._lacking.get(table.name, ()),
                    self._note(table.model, newest) or notes.get(table.name),
                )
        whole = len(verdicts) == len(pipeline.project.models)
        return Verdict(batch, verdicts, self._sample, whole)

    def _bench(self) -> engine.Engine:
        return engine.connect(
            self._folder / "bench.duckdb",
            memory=self._pipeline.settings.lake.memory,
            scratch=self._folder,
            reads=self._pipeline.lake_folders,
        )

    def _tables(
        self, newest: ProcessedManifest | None, queries: dict[str, BoundQuery]
    ) -> tuple[WarehouseTable, ...]:
        """All tables of the project, in load order."""
        keys = {name: query.key for name, query in queries.items()}
        loaded = {name: changes.key for name, changes in newest.models.items()} if newest else {}
        return warehouse_tables(self._pipeline.project.models, keys | loaded)

    def _note(self, model: Model, newest: ProcessedManifest | None) -> str | None:
        """A note on a table whose model has changed since its rows were computed."""
        then = newest.models.get(model.name) if newest else None
        if newest is None or (
            then and then.query_sha256 == model.query_sha256(self._pipeline.project.reference_content())
        ):
            return None
        return f"its model has changed since batch {newest.batch}; totes plan shows how, totes apply makes the change"

    def _chosen(self, table: WarehouseTable) -> str:
        """The SQL condition of the rows to compare: the same keys on every side."""
        if self._sample == 1:
            return "true"
        key = ", ".join(f"coalesce({engine.name(key)}::VARCHAR, '')" for key in table.key)
        part = f"md5_number_lower(concat_ws(chr(0), {key})) % {_SAMPLE_PARTS}"
        return f"{part} < {round(self._sample * _SAMPLE_PARTS)}"

    def _copy(
        self, bench: engine.Engine, warehouse: Warehouse, table: WarehouseTable, *, loaded: bool
    ) -> None:
        """Copies a table: the current rows from its view, and all others from the table."""
        columns = copied_columns(table)
        there, relation = set(warehouse.columns(table.name)), warehouse.relation(table.name)
        missing = [column for column in table.columns if column not in there]
        if missing:
            if loaded:
                self._lacking[table.name] = (
                    tuple(f"the column {one}" for one in missing) if there else ("the table",)
                )
            declared = ", ".join(f"{engine.name(column.name)} {column.type}" for column in columns)
            bench.execute(
                f"CREATE OR REPLACE TABLE {actual(table.name)} ({declared}, {engine.name(BENT)} BOOLEAN)"
            )
            return
        listed, current = engine.names(table.columns), engine.name(CURRENT)
        shown = warehouse.relation(table.current)
        if not set(table.columns) <= set(warehouse.columns(table.current)):
            self._lacking[table.name] = (f"the view {table.current}",)
            shown = f"{relation} WHERE {table.is_current}"
        rows = (
            f"SELECT {listed}, true AS {current} FROM {shown} UNION ALL"
            f" SELECT {listed}, false AS {current} FROM {relation} WHERE ({table.is_current}) IS NOT TRUE"
        )
        warehouse.copy(rows, columns, bench, actual(table.name), self._chosen(table))
