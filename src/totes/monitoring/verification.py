"""Proof that the warehouse is what the models give over the source, and what the lake says of its past.

Three copies are made on disk, one after the other and each at one instant: of the source, within the very snapshot up to
which all is captured; of what the processed lake has brought the warehouse; and of the warehouse. Nothing is held open or
locked while they are compared.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import duckdb

from totes import engine
from totes.errors import BatchTaken, ConfigurationError, EngineFault
from totes.lake.journal import processed_journal
from totes.lake.manifest import ProcessedManifest, TableChanges
from totes.monitoring.comparison import (
    CURRENT,
    Comparison,
    TableVerdict,
    actual,
    copied_columns,
    references,
)
from totes.monitoring.expectation import compute, copy_source, expected, needed_models
from totes.monitoring.lake_rows import GONE, LakeReader, lake_rows
from totes.pipeline import Pipeline
from totes.processing.query import PROBLEM, BoundQuery
from totes.star.model import Model
from totes.warehouse.adapter import Warehouse
from totes.warehouse.copies import BENT
from totes.warehouse.stage import star_tables
from totes.warehouse.table import WarehouseTable, warehouse_tables

_SAMPLE_PARTS = 10_000
_ATTEMPTS_MAX = 5
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Verdict:
    """The comparison of all tables at a batch."""

    batch: int
    tables: dict[str, TableVerdict]

    @property
    def equal(self) -> bool:
        """Whether no table differs."""
        return all(table.equal for table in self.tables.values())


def verify(pipeline: Pipeline, tables: tuple[str, ...], sample: float, progress: Progress) -> Verdict:
    """Compares the warehouse with the source and the lake; captures, processes and loads what is new first.

    Args:
        pipeline: the pipeline.
        tables: the warehouse tables to compare; all if empty.
        sample: which part of the rows is compared, more than 0 and at most 1; chosen by their keys.
        progress: is told what is being done.

    Raises:
        ConfigurationError: there is no such table.
        BatchTaken: other runners loaded newer batches each time.
        TotesError: a stage failed.
    """
    names = [model.name for model in pipeline.project.models]
    for unknown in (name for name in tables if name not in names):
        raise ConfigurationError(f"there is no table {unknown}", hint=f"There are {', '.join(names)}")
    for _ in range(_ATTEMPTS_MAX):
        with tempfile.TemporaryDirectory(prefix="totes-verify-") as scratch:
            verification = _Verification(pipeline, tables or tuple(names), sample, progress, Path(scratch))
            try:
                verdict = verification.run()
            except (duckdb.Error, OSError) as error:
                raise EngineFault(
                    f"comparing failed: {str(error).partition(chr(10))[0]}",
                    hint="The copies are made in TMPDIR: check its free space, and lake.memory",
                ) from error
        if verdict:
            return verdict
    raise BatchTaken(
        f"other runners loaded newer batches {_ATTEMPTS_MAX} times in a row while the source was being read",
        hint="Run it again, or while no other runner is at work",
    )


class _Verification:
    """One attempt."""

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
        """Compares; gives None where the warehouse has gone on beyond the snapshot."""
        pipeline, described = self._pipeline, dict[str, TableChanges]()
        with self._bench() as bench:
            captured = pipeline.ingest(
                lambda snapshot: described.update(
                    copy_source(bench, snapshot, pipeline.project, self._models, self._progress)
                )
            )
        for failure in captured.failures:
            raise failure
        self._progress("processing and loading what is new")
        pipeline.process()
        pipeline.load()
        batch, journal = captured.captured, processed_journal(pipeline.processed_store)
        if journal.last() != batch:
            return None
        newest = journal.newest()
        with self._bench() as bench:
            years = newest.calendar_years if newest else ()
            queries = compute(bench, pipeline.project, self._models, described, years, self._progress)
            everything = self._tables(newest, queries)
            tables = tuple(table for table in everything if table.name in self._compared)
            lineage = {name: query.base.key for name, query in queries.items() if not query.key_is_base_key}
            LakeReader(bench, journal, tables, self._chosen, lineage).read(batch, self._progress)
            with pipeline.warehouse() as warehouse, warehouse.one_moment():
                loaded = warehouse.newest()
                if (loaded.batch if loaded else 0) != batch:
                    return None
                for number, table in enumerate(tables, start=1):
                    self._progress(f"reading the warehouse: {table.name} ({number} of {len(tables)})")
                    self._copy(bench, warehouse, table, loaded=bool(newest and table.name in newest.models))
                    self._copy_references(bench, warehouse, table)
            verdicts = {}
            for number, table in enumerate(tables, start=1):
                rows = engine.scalar(bench, f"SELECT count(*) FROM {actual(table.name)}")
                self._progress(f"comparing {table.name} ({number} of {len(tables)}), {rows:,} rows")
                comparison = Comparison(bench, table, queries[table.name], self._chosen(table))
                verdicts[table.name] = comparison.run(
                    self._lacking.get(table.name, ()), self._note(table.model, newest)
                )
        return Verdict(batch, verdicts)

    def _bench(self) -> engine.Engine:
        return engine.connect(
            self._folder / "bench.duckdb", memory=self._pipeline.settings.lake.memory, scratch=self._folder
        )

    def _tables(
        self, newest: ProcessedManifest | None, queries: dict[str, BoundQuery]
    ) -> tuple[WarehouseTable, ...]:
        """All tables of the project, with who refers to them, also from tables whose models are gone."""
        former = (
            {table.name: table for table in star_tables(self._pipeline.project, newest)} if newest else {}
        )
        keys = {name: query.key for name, query in queries.items()}
        return tuple(
            former.get(table.name, table) for table in warehouse_tables(self._pipeline.project.models, keys)
        )

    def _note(self, model: Model, newest: ProcessedManifest | None) -> str | None:
        """What is to be known of a table whose rows are not made by the model as it is now."""
        then = newest.models.get(model.name) if newest else None
        if newest is None or (
            then and then.query_sha256 == model.query_sha256(self._pipeline.project.reference_content())
        ):
            return None
        return f"its model is not the one of batch {newest.batch}: its rows are made anew with the next batch"

    def _chosen(self, table: WarehouseTable) -> str:
        """The SQL condition of the rows that are compared; the same keys on every side."""
        if self._sample == 1:
            return "true"
        key = ", ".join(f"coalesce({engine.name(key)}::VARCHAR, '')" for key in table.key)
        part = f"md5_number_lower(concat_ws(chr(0), {key})) % {_SAMPLE_PARTS}"
        return f"{part} < {round(self._sample * _SAMPLE_PARTS)}"

    def _copy(
        self, bench: engine.Engine, warehouse: Warehouse, table: WarehouseTable, *, loaded: bool
    ) -> None:
        """Copies a table: the current rows as its view shows them, and all others."""
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
        rows = f"SELECT {listed}, true AS {current} FROM {relation}"
        if table.model.versioned:
            is_current = "(valid_to IS NULL AND NOT is_deleted)"
            shown = f"{warehouse.relation(table.current)}"
            if not set(table.columns) <= set(warehouse.columns(table.current)):
                self._lacking[table.name] = (f"the view {table.current}",)
                shown = f"{relation} WHERE {is_current}"
            rows = (
                f"SELECT {listed}, true AS {current} FROM {shown} UNION ALL"
                f" SELECT {listed}, false AS {current} FROM {relation} WHERE {is_current} IS NOT TRUE"
            )
        warehouse.copy(rows, columns, bench, actual(table.name), self._chosen(table))

    def _copy_references(self, bench: engine.Engine, warehouse: Warehouse, table: WarehouseTable) -> None:
        """Copies the keys that rows of the warehouse refer to the table by, where any row of it is not the source's."""
        if not table.can_be_referred_to:
            return
        [key] = [column for column in table.model.output if column.name == table.key[0]]
        bench.execute(f"CREATE OR REPLACE TABLE {references(table.name)} (owner {key.type}, k {key.type})")
        gone = f"SELECT 1 FROM {lake_rows(table.name)} WHERE {GONE}"
        surplus = (
            f"SELECT 1 FROM {actual(table.name)} AS there WHERE NOT EXISTS (SELECT 1 FROM {expected(table.name)} AS one"
            f" WHERE {engine.same('one', 'there', table.key)} AND one.{engine.name(PROBLEM)} IS NULL)"
        )
        if not engine.scalar(bench, f"SELECT EXISTS ({gone}) OR EXISTS ({surplus})"):
            return
        parts = []
        for referrer in warehouse.present_referrers(table):
            # As text on every side: a reference may be of another type than the key.
            owner = engine.name(key.name) if referrer.table == table.name else "NULL"
            column = engine.name(referrer.column)
            parts.append(
                f"SELECT DISTINCT CAST({owner} AS VARCHAR) AS owner, CAST({column} AS VARCHAR) AS k"
                f" FROM {referrer.relation or warehouse.relation(referrer.table)} WHERE {column} IS NOT NULL"
            )
        pair = (key.model_copy(update={"name": "owner"}), key.model_copy(update={"name": "k"}))
        if parts and warehouse.columns(table.name):
            warehouse.copy(" UNION ".join(parts), pair, bench, references(table.name), "true")
