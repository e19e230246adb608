"""The whole history of some models, recomputed from the ingestion lake: batch by batch, as if they had always existed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

from totes import engine
from totes.display import count
from totes.errors import ModelFailed
from totes.lake.journal import Journal
from totes.lake.manifest import IngestionManifest, ModelChanges, ProblemKind, ProcessedManifest
from totes.lake.workspace import Workspace
from totes.processing.batch import StarBatch
from totes.processing.bound.query import BoundQuery
from totes.processing.failures import failures_of
from totes.processing.pieces import PieceComputer
from totes.processing.quarantine import compare
from totes.processing.state import BEGINS, DELETED, StarState, star_table
from totes.progress import report
from totes.scratch import temporary_folder
from totes.star.project import Project

_DATABASE = "rebuild"


class Rebuild:
    """The models in a state of their own, at `batch`; `years` are the calendar's years that their dates need.

    `bad` are the tables of which a row has ever been in quarantine.

    Tables that they refer to are computed with them, since a row may only refer to one that was there by then.
    """

    def __init__(
        self,
        project: Project,
        models: frozenset[str],
        ingestion: Journal[IngestionManifest],
        processed: Journal[ProcessedManifest],
        workspace: Workspace,
        connection: engine.Engine,
        years: tuple[int, ...],
        computer: PieceComputer,
        beginning: Callable[[BoundQuery], ModelChanges],
    ) -> None:
        self.models = models
        self.batch = 0
        self.years = years
        self.bad: set[str] = set()
        self.engine = connection
        self._computer = computer
        self._beginning = beginning
        self._project = _with_parents(project, models)
        self._ingestion = ingestion
        self._queries: dict[str, BoundQuery] = {}
        self._current: set[str] = set()  # but for those that had to be left out of the newest batch
        joined = {name for model in self._project.models if model.joins for name in model.relations}
        self._state = StarState(connection, workspace, joined, ingestion, processed)
        self._state.refresh()
        self._read = {name.lower() for name in self._project.source_tables}
        for model in self._project.models:
            if model.name in models and model.versioned:
                columns = ", ".join(f"{engine.name(column.name)} {column.type}" for column in model.produced)
                history = f"{columns}, {BEGINS} TIMESTAMP, {DELETED} BOOLEAN, batch_id BIGINT"
                connection.execute(f"CREATE TABLE {_history_table(model.name)} ({history})")

    @classmethod
    @contextmanager
    def open(
        cls,
        project: Project,
        models: frozenset[str],
        ingestion: Journal[IngestionManifest],
        processed: Journal[ProcessedManifest],
        workspace: Workspace,
        years: tuple[int, ...],
        computer: PieceComputer,
        beginning: Callable[[BoundQuery], ModelChanges],
    ) -> Iterator[Rebuild]:
        """A rebuild of the named models of a project, at batch 0; what it computed is dropped when the context ends."""
        with temporary_folder() as folder:
            connection = workspace.attach(folder / f"{_DATABASE}.duckdb", _DATABASE)
            try:
                rebuild = cls(
                    project, models, ingestion, processed, workspace, connection, years, computer, beginning
                )
                with closing(rebuild._state):
                    yield rebuild
            finally:
                connection.close()
                workspace.detach(_DATABASE)

    def advance(self, batch: int) -> None:
        """Computes the batches up to one.

        Raises:
            ModelFailed: a model cannot be computed.
        """
        for (number,) in self._ingestion.upcoming(self.batch + 1, batch):
            manifest = self._ingestion.confirmed(number)
            what = count(len(self._project.models), "table")
            report(f"recomputing the history of {what}", number - 1, batch, "batches")
            if not self._is_untouched(manifest):
                self._compute(manifest)
            self.batch = number

    def query(self, model: str) -> BoundQuery:
        """A rebuilt model, bound to the tables of the newest batch that changed it.

        Raises:
            ModelFailed: it reads what no batch has had.
        """
        if model not in self._queries:
            raise ModelFailed(f"{model} reads what no batch has", hint="Run totes ingest", model=model)
        return self._queries[model]

    def rows(self, model: str) -> str:
        """A relation with all rows that a table has ever had: the produced columns, `~begins`, `~gone`, and `batch_id`."""
        return _history_table(model) if self.query(model).model.versioned else star_table(model)

    def newest(self, model: str) -> str:
        """A relation with the newest version of each row, with its lineage where the model joins."""
        return star_table(model)

    def count(self, relation: str, model: str) -> int:
        """How many rows such a relation of a table has."""
        if not self._state.has_star(model):
            return 0
        return int(engine.scalar(self.engine, f"SELECT count(*) FROM {relation}"))

    def quarantine(self, model: str) -> str:
        """A relation with the rows that are in quarantine."""
        return self._state.quarantine(model)

    def quarantined(self, model: str) -> tuple[int, tuple[ProblemKind, ...]]:
        """How many rows are in quarantine, and for what."""
        return self._state.quarantined(model), self._state.kinds_quarantined(model)

    def compare_quarantine(self, model: str, before: StarState) -> tuple[int, int]:
        """How many rows are in quarantine for a new reason, and how many left it because they fit, since that state."""
        return compare(self.query(model), before, self._state)

    def _is_untouched(self, manifest: IngestionManifest) -> bool:
        changed = any(
            changes.objects and name.lower() in self._read for name, changes in manifest.tables.items()
        )
        return not changed and len(self._current) == len(self._project.models)

    def _compute(self, manifest: IngestionManifest) -> None:
        batch = StarBatch(
            self._project, self._state, self._ingestion, manifest, self._current, self.years, self._computer,
            self._beginning,
        )  # fmt: skip
        try:
            with failures_of(manifest):
                batch.read()
                self._apply(batch, manifest)
        finally:
            self._state.source_rows.release()
        self._queries |= {query.model.name: query for query in batch.queries}
        self._current = {query.model.name for query in batch.queries}
        self.years = batch.years

    def _apply(self, batch: StarBatch, manifest: IngestionManifest) -> None:
        self.engine.execute("BEGIN")
        try:
            for part, _ in batch.parts():
                model = part.model
                if part.count.bad:
                    self.bad.add(model.name)
                if model.name in self.models and model.versioned:
                    columns = engine.names(column.name for column in model.produced)
                    self.engine.execute(
                        f"INSERT INTO {_history_table(model.name)}"
                        f" SELECT {columns}, {BEGINS}, {DELETED}, {manifest.batch} FROM {part.merged} WHERE {part.written}"
                    )
        except BaseException:
            self.engine.execute("ROLLBACK")
            raise
        self.engine.execute("COMMIT")


def _history_table(model: str) -> str:
    return engine.name(engine.case_safe("history", model))


def _with_parents(project: Project, models: frozenset[str]) -> Project:
    """The models, and those that they refer to, in load order."""
    wanted, following = set[str](), list(models)
    named = {model.name: model for model in project.models}
    while following:
        name = following.pop()
        if name not in wanted:
            wanted.add(name)
            following += named[name].references.values()
    return replace(project, models=tuple(model for model in project.models if model.name in wanted))
