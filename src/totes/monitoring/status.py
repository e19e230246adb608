"""The status of each stage, from the manifests, the warehouse's ledger and the health file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from totes.cycle import PUBLISH
from totes.errors import TotesError
from totes.lake.journal import Journal, M
from totes.monitoring.health import FRESHNESS, LOG, Health, Incident, health_file, read_health, utc_now
from totes.pipeline import Pipeline

if TYPE_CHECKING:
    from totes.monitoring.retained_log import RetainedLog


@dataclass(frozen=True)
class StageStatus:
    """A stage: its newest batch, when that was committed, and how many batches it lags behind the previous stage.

    `rows` is the number of rows in the newest batch, `failing` the open incident, and `unreachable` why nothing is known.
    """

    batch: int
    at: datetime | None
    lag_batches: int
    rows: int
    failing: Incident | None
    unreachable: str | None = None


@dataclass(frozen=True)
class Status:
    """A pipeline's status. `fresh_seconds` is how far the warehouse may be behind the source, at most.

    `log` is what the source retains for capture from the log, None for capture by query, and `log_failing` its open incident.
    `publish_failing` is the open incident of publishing to the Iceberg catalog.
    """

    project: str
    stages: dict[str, StageStatus]
    fresh_seconds: float | None
    not_fresh: Incident | None
    tables: dict[str, int]
    quarantine: dict[str, int]
    alerts_unsent: int = 0
    log: RetainedLog | None = None
    log_failing: Incident | None = None
    publish_failing: Incident | None = None

    @property
    def healthy(self) -> bool:
        """Whether no incident is open, every stage can be reached, and every alert has been delivered.

        Half of the log that the source may retain is as an incident, even before a cycle has seen it.
        """
        stages = self.stages.values()
        near = self.log_failing or (self.log and self.log.nears_limit)
        other = self.publish_failing or self.not_fresh or self.alerts_unsent or near
        return not other and all(not stage.failing and not stage.unreachable for stage in stages)

    def as_json(self) -> dict[str, object]:
        """The object that `totes status --json` prints."""

        def incident(open_incident: Incident | None) -> object:
            return open_incident.model_dump(mode="json") if open_incident else None

        stages = {
            name: asdict(stage)
            | {"at": stage.at.isoformat() if stage.at else None, "failing": incident(stage.failing)}
            for name, stage in self.stages.items()
        }
        return {
            "project": self.project,
            "healthy": self.healthy,
            "stages": stages,
            "freshness_seconds": self.fresh_seconds,
            "not_fresh": incident(self.not_fresh),
            "tables": self.tables,
            "quarantine": self.quarantine,
            "alerts_unsent": self.alerts_unsent,
            "log": self.log.as_json() | {"failing": incident(self.log_failing)} if self.log else None,
        } | ({"publish_failing": incident(self.publish_failing)} if self.publish_failing else {})


def read_status(pipeline: Pipeline) -> Status:
    """Reads the status of all stages; a stage that cannot be reached is reported as such, and does not hide the others."""
    health = read_health(health_file(pipeline.settings))
    ingested, no_ingested = _newest(lambda: pipeline.ingestion_journal)
    processed, no_processed = _newest(lambda: pipeline.processed_journal)
    behind = (ingested.batch if ingested else 0) - (processed.batch if processed else 0)
    stages = {
        "ingest": StageStatus(
            batch=ingested.batch if ingested else 0,
            at=ingested.finished_at if ingested else None,
            lag_batches=0,
            rows=sum(table.upserts + table.deletes for table in ingested.tables.values()) if ingested else 0,
            failing=health.incidents.get("ingest"),
            unreachable=no_ingested,
        ),
        "process": StageStatus(
            batch=processed.batch if processed else 0,
            at=processed.finished_at if processed else None,
            lag_batches=0 if no_ingested or no_processed else behind,
            rows=sum(model.written for model in processed.models.values()) if processed else 0,
            failing=health.incidents.get("process"),
            unreachable=no_processed,
        ),
        "load": _load_status(pipeline, processed.batch if processed else None, health),
    }
    return Status(
        project=pipeline.settings.project.name,
        stages=stages,
        fresh_seconds=(utc_now() - health.fresh_at).total_seconds() if health.fresh_at else None,
        not_fresh=health.incidents.get(FRESHNESS),
        tables={name: table.rows for name, table in ingested.tables.items()} if ingested else {},
        quarantine={
            name: model.quarantine_open for name, model in processed.models.items() if model.quarantine_open
        }
        if processed
        else {},
        alerts_unsent=len(health.unsent) if pipeline.settings.alerts.urls else 0,
        log=_log(pipeline),
        log_failing=health.incidents.get(LOG),
        publish_failing=health.incidents.get(PUBLISH),
    )


def _log(pipeline: Pipeline) -> RetainedLog | None:
    if pipeline.settings.source.capture != "log":
        return None
    from totes.monitoring.retained_log import read_retained_log

    return read_retained_log(pipeline.settings)


def _newest(journal: Callable[[], Journal[M]]) -> tuple[M | None, str | None]:
    """The newest manifest of a store, or why it cannot be read."""
    try:
        return journal().newest(), None
    except TotesError as error:
        return None, str(error)


def _load_status(pipeline: Pipeline, processed: int | None, health: Health) -> StageStatus:
    failing = health.incidents.get("load")
    try:
        with pipeline.warehouse(read_only=True) as warehouse:
            newest = warehouse.newest()
    except TotesError as error:
        return StageStatus(0, None, 0, 0, failing, unreachable=str(error))
    loaded = newest.batch if newest else 0
    at, rows = (newest.loaded_at.replace(tzinfo=UTC), newest.rows) if newest else (None, 0)
    return StageStatus(loaded, at, 0 if processed is None else processed - loaded, rows, failing)
