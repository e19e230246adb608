"""Plans how to bring the star in line with its models: what applying them changes, costs and loses. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from totes.errors import ModelFailed, TotesError
from totes.lake.journal import Journal
from totes.lake.manifest import IngestionManifest, ProcessedManifest
from totes.pipeline import Pipeline
from totes.processing.bound.binding import bind_models, relations_at
from totes.processing.choice import Cost, closed, rebuild_costs, without_loss
from totes.processing.definitions import pending_changes, previous_models
from totes.star.change import ModelChange
from totes.star.model import Model
from totes.warehouse.connection import schema_of
from totes.warehouse.dependents import Dependent, dependents


@dataclass(frozen=True)
class PlannedChange:
    """A model's change with its effects.

    `cost` is how much of the ingestion lake is read, and `seconds` an estimate from an earlier batch, None if there is none.
    `versions` is the most that the table can have, for a query without joins. `reads` are source columns that the query did not
    name before. `dependents` are objects that other people have created on the table and that would be dropped. `by_run`
    means that the next run makes the change by itself. `problem` is why it cannot be made.
    """

    change: ModelChange
    cost: Cost
    seconds: float | None = None
    versions: int | None = None
    reads: tuple[str, ...] = ()
    dependents: tuple[Dependent, ...] = ()
    by_run: bool = False
    problem: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The change as in `totes plan --json`."""
        document = asdict(self.change)
        del document["name"]
        types = document["retyped"]
        return document | {
            "retyped": list(types),
            "types": types,
            "rows": self.cost.rows,
            "bytes": self.cost.bytes,
            "seconds": self.seconds,
            "versions": self.versions,
            "reads": self.reads,
            "dependents": [f"{one.kind} {one.name}" for one in self.dependents],
            "by_run": self.by_run,
            "problem": self.problem,
        }


@dataclass(frozen=True)
class Plan:
    """All changes, in the order in which they are made; `unknown` is why dependents are not known, if they are not."""

    changes: dict[str, PlannedChange]
    unknown: str | None = None

    @property
    def loses(self) -> tuple[str, ...]:
        """Everything that these changes lose."""
        return tuple(f"{name}: {lost}" for name, one in self.changes.items() for lost in one.change.loses)

    @property
    def obstacles(self) -> tuple[str, ...]:
        """The dependents that block these changes, each with the statement that drops it."""
        return tuple(
            f"{one.kind} {one.name} ({one.drop})"
            for planned in self.changes.values()
            for one in planned.dependents
        )

    def as_json(self) -> dict[str, Any]:
        """The document of `totes plan --json`."""
        document: dict[str, Any] = {
            "changes": {name: one.as_json() for name, one in self.changes.items()},
            "pending": bool(self.changes),
        }
        return document | ({"unknown": self.unknown} if self.unknown else {})


def plan(pipeline: Pipeline) -> Plan:
    """Compares the project's models with the star.

    It reads the lake, and the warehouse if it answers, but not the source.

    Raises:
        StoreError: the lake cannot be read.
        LakeDamaged: a manifest is missing or wrong.
    """
    project = pipeline.project
    ingested, processed = (
        pipeline.ingestion_journal,
        pipeline.processed_journal,
    )
    changes, newest = pending_changes(project, processed, processed.newest()), ingested.newest()
    if not changes or newest is None:
        return Plan({})
    costs = rebuild_costs(project, ingested, changes)
    rate = _seconds_a_row(ingested, processed)
    small = without_loss(project, ingested, pipeline.settings.project.apply_rows)
    by_run = closed(project, changes, small(changes))
    star = processed.read(processed.last()).models
    previous = previous_models(project, processed, star)
    dependents, unknown = _dependents(pipeline, changes)
    planned = {}
    for name, change in changes.items():
        model, before, cost = project.model(name), previous(name), costs[name]
        reads: tuple[str, ...] = ()
        versions, problem = None, None
        if model:
            try:
                reads = tuple(sorted(_columns_read(pipeline, model, newest)))
            except ModelFailed as error:
                problem = str(error)
            if before and not problem:
                reads = tuple(sorted({*reads} - _columns_known(pipeline, before, newest)))
            versions = None if model.joins else cost.rows
        planned[name] = PlannedChange(
            change,
            cost,
            None if rate is None else round(cost.rows * rate, 1),
            versions,
            reads,
            dependents.get(name, ()),
            name in by_run,
            problem,
        )
    return Plan(planned, unknown)


def _columns_read(pipeline: Pipeline, model: Model, newest: IngestionManifest) -> set[str]:
    [query] = bind_models((model,), relations_at(pipeline.project, newest))
    return {
        f"{leaf.relation.name}.{column}"
        for leaf in query.leaves
        if leaf.relation.is_source
        for column in leaf.named
    }


def _columns_known(pipeline: Pipeline, model: Model, newest: IngestionManifest) -> set[str]:
    """The source columns that a previous query read; none if the source no longer has all of them."""
    try:
        return _columns_read(pipeline, model, newest)
    except ModelFailed:
        return set()


def _seconds_a_row(
    ingested: Journal[IngestionManifest], processed: Journal[ProcessedManifest]
) -> float | None:
    """How long processing took per captured row, in the batch with the most rows."""
    sums = ingested.sums()
    if not 0 < sums.largest <= processed.last():
        return None
    manifest = processed.read(sums.largest)
    return (manifest.finished_at - manifest.started_at).total_seconds() / sums.largest_rows


def _dependents(
    pipeline: Pipeline, changes: Mapping[str, ModelChange]
) -> tuple[dict[str, tuple[Dependent, ...]], str | None]:
    """The dependents that would be dropped, by table; or why they are not known."""
    found: dict[str, tuple[Dependent, ...]] = {}
    try:
        with pipeline.warehouse(read_only=True) as warehouse, warehouse.one_moment():
            if (
                warehouse.dialect == "duckdb"
            ):  # its views refer to tables by name, so a rebuilt table does not break them
                return {}, None
            schema = schema_of(pipeline.settings.warehouse_url(), pipeline.settings.warehouse.schema_)
            star = frozenset(model.name for model in pipeline.project.models) | changes.keys()
            for name, change in changes.items():
                whole = change.kind in ("removed", "key")
                columns = (*change.dropped, *(change.renamed.get(one, one) for one in change.retyped))
                of_others = dependents(
                    lambda sql: warehouse.query(sql)[1], schema, name, columns, star, whole=whole
                )
                found[name] = tuple(one for one in of_others if one.stays)
    except TotesError as error:
        return {}, str(error)
    return found, None
