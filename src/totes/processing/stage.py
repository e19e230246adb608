"""The stage: each ingestion batch's changes into star rows, committed by a manifest of the same number."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from totes.deadline import NEVER, Deadline
from totes.errors import BatchConflict, LakesApart, ModelFailed
from totes.lake.cache import Cache
from totes.lake.journal import Journal
from totes.lake.manifest import IngestionManifest, ModelChanges, ProcessedManifest
from totes.lake.workspace import Workspace
from totes.log import logger
from totes.processing.choice import Choice, closed, everything
from totes.processing.definitions import known_failures, pending_changes
from totes.progress import report
from totes.star.change import ModelChange
from totes.star.project import Project
from totes.workers.protocol import Workers

if TYPE_CHECKING:
    from totes.processing.evolution import Evolution

_log = logger(stage="process")


@dataclass(frozen=True)
class Processed:
    """What one call of the stage did: the newest batch there is now, and what each batch changed, by batch.

    `more` means that there was no time for all batches; `pending` are the changes of models that wait.
    `failure` names models that could not be computed: their tables are as they were, the others went on.
    """

    batch: int
    batches: dict[int, dict[str, ModelChanges]] = field(default_factory=dict)
    more: bool = False
    pending: dict[str, ModelChange] = field(default_factory=dict)
    failure: ModelFailed | None = None


def process(
    project: Project,
    source: Journal[IngestionManifest],
    target: Journal[ProcessedManifest],
    workspace: Workspace,
    workers: Workers,
    *,
    choose: Choice = everything,
    deadline: Deadline = NEVER,
) -> Processed:
    """Processes every ingestion batch that has not been processed, one after the other.

    Safe to be called by any number of runners at once, and to be killed at any moment. A stage that was away for
    long catches up by itself.

    Args:
        project: the models.
        source: the ingestion lake's manifests.
        target: the processed lake's manifests.
        workspace: where the stage works; rows that were handed off in it are not read from the lake again.
        workers: what computes large tables of a first batch.
        choose: which changes of models are made, if need be with a batch in which nothing else is; the other tables go on as
            they were defined.
        deadline: after half of its time no batch is begun, but for the first.

    Raises:
        ModelFailed: a batch cannot be computed, and no one model is to blame; it is tried again next time.
        StoreError: a lake cannot be read or written.
        LakeDamaged: an object is not the one in its manifest.
        LakesApart: the lakes do not belong together.
    """
    done: dict[int, dict[str, ModelChanges]] = {}
    newest, last = target.newest(), source.last()
    if (newest.batch if newest else 0) >= last:
        _check_same_lake(newest, source, last)
        pending, failures = pending_changes(project, target, newest), known_failures(project, newest)
        if not closed(project, pending, choose(pending) - failures.keys()):
            return Processed(last, pending=pending, failure=ModelFailed.of(failures))
        _follow_by_nothing(source)
        last = source.last()
    # Nothing is new most of the time, and then none of what follows is needed.
    from totes.processing.evolution import Evolution
    from totes.processing.pieces import PieceComputer
    from totes.processing.state import StarState

    joined = {name for model in project.models if model.joins for name in model.relations}
    with (
        Cache.open(workspace, "processing", target) as opened,
        closing(StarState(opened.engine, workspace, joined, source, target)) as state,
        ExitStack() as rebuilds,
    ):
        computer = PieceComputer(workers, workspace, source.store, target.store)
        evolution = Evolution(project, state, source, target, workspace, choose, computer, rebuilds)
        overtaken = False
        while True:
            state.refresh()
            caught_up = opened.advance(lambda batches: state.apply_batch(batches.start), deadline)
            batch = opened.batch + 1
            if batch > last and overtaken and evolution.is_wanted():
                _follow_by_nothing(source)
                last = source.last()
            overtaken, more = False, batch <= last
            if not more or not caught_up or (done and deadline.half_over()):
                opened.store_summaries(deadline)
                return Processed(
                    opened.batch,
                    done,
                    more=more,
                    pending=pending_changes(project, target, target.newest()),
                    failure=ModelFailed.of(evolution.failed),
                )
            report(f"processing batch {batch}", len(done), last - batch + 1 + len(done), "batches")
            began = time.perf_counter()
            try:
                committed = _process_batch(opened, evolution, source, target, batch)
                workspace.release(committed.ingestion_sha256)
            except BatchConflict:
                overtaken = True
                continue
            except ModelFailed as error:
                evolution.leave_out(error)
                continue
            finally:
                state.source_rows.release()
            done[batch] = committed.models
            _log.info(
                "processed",
                batch=batch,
                rows=sum(model.written for model in committed.models.values()),
                quarantined=sum(model.quarantined for model in committed.models.values()),
                seconds=round(time.perf_counter() - began, 3),
            )


def _follow_by_nothing(source: Journal[IngestionManifest]) -> None:
    """Adds a batch in which nothing was captured, so that there is one to process; unless somebody is first."""
    newest = source.newest()
    if newest:
        with suppress(BatchConflict):
            source.commit(newest.followed_by_nothing())


def _process_batch(
    cache: Cache,
    evolution: Evolution,
    source: Journal[IngestionManifest],
    target: Journal[ProcessedManifest],
    batch: int,
) -> ProcessedManifest:
    started, manifest = datetime.now(UTC), source.confirmed(batch)
    previous = target.read(batch - 1) if batch > 1 else None
    if previous and manifest.previous_sha256 != previous.ingestion_sha256:
        raise _apart(batch - 1)
    star = evolution.prepare(manifest, previous)
    cache.begin()
    try:
        models = evolution.compute(star, manifest, previous)
        committed = ProcessedManifest(
            batch=batch,
            previous_sha256=previous.sha256() if previous else None,
            started_at=started,
            finished_at=datetime.now(UTC),
            ingestion_sha256=manifest.sha256(),
            read_at=manifest.position.read_at,
            calendar_years=star.years,
            models=models,
            failures=evolution.failures(),
        )
        target.commit(committed)
    except BaseException:
        cache.rollback()
        raise
    cache.commit(batch, committed.sha256())
    return committed


def _check_same_lake(
    processed: ProcessedManifest | None, source: Journal[IngestionManifest], last: int
) -> None:
    """Makes sure that the newest processed batch was made from the ingestion batch that now has its number."""
    if processed is None:
        return
    if processed.batch > last:
        raise LakesApart(
            f"the processed lake is at batch {processed.batch}, the ingestion lake only at {last}",
            hint="Point lake.processed at the place that belongs to lake.ingestion, or at a new one",
        )
    if processed.ingestion_sha256 != source.read(processed.batch).sha256():
        raise _apart(processed.batch)


def _apart(batch: int) -> LakesApart:
    return LakesApart(
        f"the processed lake's batch {batch} was made from another ingestion lake than this one",
        hint="Point lake.processed at the place that belongs to lake.ingestion, or at a new one",
    )
