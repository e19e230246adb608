"""One processed batch: an ingestion batch's changes into star rows, committed by a manifest of the same number."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

import duckdb

from totes.deadline import NEVER, Deadline
from totes.errors import BatchTaken, LakeDamaged, ModelFailed
from totes.lake.cache import Cache
from totes.lake.journal import Journal, ingestion_journal, processed_journal
from totes.lake.manifest import IngestionManifest, ModelChanges, ProcessedManifest
from totes.lake.store import Store
from totes.lake.workspace import Workspace
from totes.log import logger
from totes.processing.batch import StarBatch
from totes.processing.packets import ReadAnotherWay
from totes.processing.state import StarState
from totes.star.project import Project

_log = logger(stage="process")


@dataclass(frozen=True)
class Processed:
    """What one call of the stage did: the newest batch there is now, and what each batch changed, by batch.

    `more` says that there are batches left, for which there was no time.
    """

    batch: int
    batches: dict[int, dict[str, ModelChanges]] = field(default_factory=dict)
    more: bool = False


def process(
    project: Project,
    ingestion: Store,
    processed: Store,
    workspace: Workspace,
    *,
    deadline: Deadline = NEVER,
) -> Processed:
    """Processes every ingestion batch that has not been processed, one after the other.

    Safe to be called by any number of runners at once, and to be killed at any moment. A stage that was away for
    long catches up by itself.

    Args:
        project: the models.
        ingestion: the ingestion lake.
        processed: the processed lake.
        workspace: where the stage works; rows that are at hand in it are not read from the lake again.
        deadline: after half of its time no batch is begun, but for the first.

    Raises:
        ModelFailed: a model cannot be computed; batches before are processed, and this one is tried again next time.
        StoreError, LakeDamaged: as they say.
    """
    source, target = ingestion_journal(ingestion), processed_journal(processed)
    done: dict[int, dict[str, ModelChanges]] = {}
    last = source.last()
    if target.last() >= last:
        _check_same_lake(source, target)
        return Processed(target.last())
    with Cache.open(workspace, "processing", target) as opened:
        state = StarState(opened, workspace, project, source, target)
        while True:
            try:
                caught_up = state.catch_up(deadline)
            except ReadAnotherWay:
                continue
            batch = opened.batch + 1
            more = batch <= last
            if not more or not caught_up or (done and deadline.half_over()):
                opened.store_checkpoint()
                return Processed(opened.batch, done, more=more)
            started, began = datetime.now(UTC), time.perf_counter()
            manifest = source.read(batch)
            previous = target.read(batch - 1) if batch > 1 else None
            opened.begin()
            try:
                committed = _process_batch(
                    project, state, source.store, processed, manifest, previous, started
                )
                target.commit(committed)
            except (BatchTaken, ReadAnotherWay):
                opened.rollback()
                continue
            except BaseException:
                opened.rollback()
                raise
            opened.commit(batch, committed.sha256())
            done[batch] = committed.models
            _log.info(
                "processed",
                batch=batch,
                rows=sum(model.written for model in committed.models.values()),
                quarantined=sum(model.quarantined for model in committed.models.values()),
                seconds=round(time.perf_counter() - began, 3),
            )


def _process_batch(
    project: Project,
    state: StarState,
    ingestion: Store,
    processed: Store,
    manifest: IngestionManifest,
    previous: ProcessedManifest | None,
    started: datetime,
) -> ProcessedManifest:
    journal = ingestion_journal(ingestion)
    if previous and manifest.previous_sha256 != previous.ingestion_sha256:
        raise LakeDamaged(
            f"the processed lake's batch {previous.batch} was made from another ingestion lake than this one",
            hint="Point lake.processed at the place that belongs to lake.ingestion, or at a new one",
        )
    batch = StarBatch(project, state, journal, processed, manifest, previous)
    try:
        models = batch.run()
    except (duckdb.DataError, duckdb.ProgrammingError) as error:
        message = str(error).partition("\n")[0]
        raise ModelFailed(f"batch {manifest.batch} cannot be processed: {message}") from error
    return ProcessedManifest(
        batch=manifest.batch,
        previous_sha256=previous.sha256() if previous else None,
        started_at=started,
        finished_at=datetime.now(UTC),
        ingestion_sha256=manifest.sha256(),
        read_at=manifest.position.read_at,
        calendar_years=batch.years,
        models=models,
    )


def _check_same_lake(source: Journal[IngestionManifest], target: Journal[ProcessedManifest]) -> None:
    """Makes sure that the newest processed batch was made from the ingestion batch that now has its number."""
    ingested, processed = source.last(), target.last()
    if processed > ingested:
        raise LakeDamaged(
            f"the processed lake is at batch {processed}, the ingestion lake only at {ingested}",
            hint="Point lake.processed at the place that belongs to lake.ingestion, or at a new one",
        )
    if processed and target.read(processed).ingestion_sha256 != source.read(processed).sha256():
        raise LakeDamaged(
            f"the processed lake's batch {processed} was made from another ingestion lake than this one",
            hint="Point lake.processed at the place that belongs to lake.ingestion, or at a new one",
        )
