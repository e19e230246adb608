"""A pipeline's health as its runners last saw it: which stages fail and since when, and how fresh the warehouse is.

It is stored in the cache folder, so that an incident that lasts longer than a process is still the same incident.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from totes import permissions
from totes.config import Settings
from totes.cycle import PUBLISH, STAGES, Cycle
from totes.errors import StoreError
from totes.failpoint import reach
from totes.redaction import redact, without_secrets

FRESHNESS, LAKE, LOG = "freshness", "lake", "log"
# What is wrong, and the next step.
Problem = tuple[str, str]
_WHOLE = frozenset({""})
_NOTHING: Mapping[str, Problem | None] = {}


class Incident(BaseModel):
    """A problem that lasts: since when, its last message, and how often it was seen.

    `tables` are those that were reported since it began; `""` stands for the stage as a whole.
    """

    model_config = ConfigDict(frozen=True)

    since: datetime
    what: str
    next_step: str | None = None
    times: int = 1
    tables: frozenset[str] = _WHOLE


class Change(BaseModel):
    """An incident that began or ended, to be reported once."""

    model_config = ConfigDict(frozen=True)

    subject: str
    incident: Incident
    over: bool


class Message(BaseModel):
    """An alert: its incident or `quarantine`, whether it is about the end, when it was written, and who has received it."""

    model_config = ConfigDict(frozen=True)

    subject: str
    title: str
    body: str
    at: datetime
    over: bool = False
    delivered_to: tuple[str, ...] = ()


class Health(BaseModel):
    """The state of a pipeline.

    `fresh_at` is the last time at which the warehouse now has everything that was in the source then; before there is one,
    it is when the pipeline was first run. `captured_at` and `processed_at` are the same for the two stores, for stages that
    run on their own. `incidents` are the open ones: by stage, `freshness`, `lake`, if it was changed by somebody, or
    `log`, if the source retains too much of its log. Alerts have been written about everything in
    quarantine up to the batch `quarantine_reported`. `unsent` are alerts that some receiver has not accepted yet, oldest first.
    """

    model_config = ConfigDict(frozen=True)

    fresh_at: datetime | None = None
    captured_at: datetime | None = None
    processed_at: datetime | None = None
    checked_at: datetime | None = None
    incidents: dict[str, Incident] = {}
    quarantine_reported: int | None = None
    unsent: tuple[Message, ...] = ()

    def after(
        self,
        cycle: Cycle,
        now: datetime,
        freshness: timedelta,
        others: Mapping[str, Problem | None] = _NOTHING,
    ) -> tuple[Health, list[Change]]:
        """The health after a cycle that ended now, and the changes to report. No I/O.

        Args:
            cycle: the cycle.
            now: when it ended.
            freshness: how far the warehouse may be behind the source.
            others: what else was looked at, by subject, with what is wrong there, if anything.
        """
        began = now - timedelta(seconds=sum(cycle.seconds.values()))
        captured_at = began if cycle.ingested else self.captured_at
        processed_at = captured_at if cycle.processed else self.processed_at
        fresh_at = (processed_at if cycle.loaded else None) or self.fresh_at or began
        seen: dict[str, tuple[str, str | None, frozenset[str]]] = {
            stage: (redact(error.what), error.hint, error.tables or _WHOLE)
            for stage, error in cycle.failures.items()
        }
        if now - fresh_at > freshness:
            behind = timedelta(seconds=int((now - fresh_at).total_seconds()))
            seen[FRESHNESS] = (
                f"the warehouse is {behind} behind the source, more than the {freshness} allowed",
                "See which stage fails: totes status",
                _WHOLE,
            )
        seen |= {subject: (*problem, _WHOLE) for subject, problem in others.items() if problem}
        looked_at = {FRESHNESS, *cycle.seconds, *others}
        incidents, changes = {}, []
        for subject in (*STAGES, PUBLISH, LOG, FRESHNESS, LAKE):
            open_before = self.incidents.get(subject)
            if subject in seen:
                what, next_step, tables = seen[subject]
                since, times = (open_before.since, open_before.times + 1) if open_before else (now, 1)
                reported = open_before.tables if open_before else frozenset()
                incidents[subject] = Incident(
                    since=since, what=what, next_step=next_step, times=times, tables=reported | tables
                )
                if tables - reported:
                    changes.append(Change(subject=subject, incident=incidents[subject], over=False))
            elif open_before and subject in looked_at:
                changes.append(Change(subject=subject, incident=open_before, over=True))
            elif open_before:
                incidents[subject] = open_before
        health = Health(
            fresh_at=fresh_at,
            captured_at=captured_at,
            processed_at=processed_at,
            checked_at=now,
            incidents=incidents,
            quarantine_reported=self.quarantine_reported,
            unsent=self.unsent,
        )
        return health, changes


def health_file(settings: Settings) -> Path:
    """The file of a pipeline's health: one for each warehouse, since one lake may be loaded into several."""
    warehouse = without_secrets(settings.warehouse.url.get_secret_value())
    identity = f"{settings.lake.processed} {warehouse} {settings.warehouse.schema_}"
    return settings.cache_folder / f"health-{sha256(identity.encode()).hexdigest()[:12]}.json"


def read_health(file: Path) -> Health:
    """The health that was last written, or a new one.

    Raises:
        StoreError: the file exists, and cannot be read.
    """
    try:
        return Health.model_validate_json(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValidationError):
        return Health()
    except OSError as error:
        raise StoreError(
            f"the pipeline's health in {file} cannot be read: {error.strerror}",
            hint="Let this account read and write lake.cache",
        ) from error


def write_health(file: Path, health: Health) -> None:
    """Writes the health, replacing the file atomically."""
    permissions.make_folders(file.parent)
    reach("health.write.before")
    permissions.replace(file, health.model_dump_json(indent=1).encode())
    reach("health.write.after")


def utc_now() -> datetime:
    """The present moment."""
    return datetime.now(UTC)
