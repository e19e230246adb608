"""A pipeline's health as its runners last saw it: which stages fail and since when, and how fresh the warehouse is.

It is kept in the cache folder, so that an incident that outlives a process is still the same incident.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from totes.config import Settings
from totes.failpoint import reach
from totes.pipeline import STAGES, Cycle
from totes.redaction import redact, without_secrets

FRESHNESS = "freshness"


class Incident(BaseModel):
    """Something that is wrong: since when, what was last said of it, and how often it was seen."""

    model_config = ConfigDict(frozen=True)

    since: datetime
    what: str
    next_step: str | None = None
    times: int = 1


class Change(BaseModel):
    """An incident that began or ended, to be told once."""

    model_config = ConfigDict(frozen=True)

    subject: str
    incident: Incident
    over: bool


class Health(BaseModel):
    """The state of a pipeline.

    `fresh_at` is the last moment at which the source held nothing that the warehouse does not hold now; before the
    first such moment, when the pipeline was first run. `captured_at` and `processed_at` are that moment for the two
    stores, so that stages that run on their own are known to be fresh too. `incidents` are those that are open, by
    stage, or `freshness`. People have been told of all that was in quarantine after the batch `quarantine_told`.
    """

    model_config = ConfigDict(frozen=True)

    fresh_at: datetime | None = None
    captured_at: datetime | None = None
    processed_at: datetime | None = None
    checked_at: datetime | None = None
    incidents: dict[str, Incident] = {}
    quarantine_told: int | None = None

    def after(self, cycle: Cycle, now: datetime, freshness: timedelta) -> tuple[Health, list[Change]]:
        """The health after a cycle that ended now, and what there is to tell. Pure."""
        began = now - timedelta(seconds=sum(cycle.seconds.values()))
        captured_at = began if cycle.ingested else self.captured_at
        processed_at = captured_at if cycle.processed else self.processed_at
        fresh_at = (processed_at if cycle.loaded else None) or self.fresh_at or began
        seen: dict[str, tuple[str, str | None]] = {
            stage: (redact(error.what), error.hint) for stage, error in cycle.failures.items()
        }
        if now - fresh_at > freshness:
            behind = timedelta(seconds=int((now - fresh_at).total_seconds()))
            seen[FRESHNESS] = (
                f"the warehouse is {behind} behind the source, more than the {freshness} allowed",
                "See which stage fails: totes status",
            )
        incidents, changes = {}, []
        for subject in (*STAGES, FRESHNESS):
            open_before = self.incidents.get(subject)
            if subject in seen:
                what, next_step = seen[subject]
                since, times = (open_before.since, open_before.times + 1) if open_before else (now, 1)
                incidents[subject] = Incident(since=since, what=what, next_step=next_step, times=times)
                if not open_before:
                    changes.append(Change(subject=subject, incident=incidents[subject], over=False))
            elif open_before and (subject == FRESHNESS or subject in cycle.seconds):
                changes.append(Change(subject=subject, incident=open_before, over=True))
            elif open_before:
                incidents[subject] = open_before
        health = Health(
            fresh_at=fresh_at,
            captured_at=captured_at,
            processed_at=processed_at,
            checked_at=now,
            incidents=incidents,
            quarantine_told=self.quarantine_told,
        )
        return health, changes


def health_file(settings: Settings) -> Path:
    """Where the health of a pipeline is kept: one lake may be loaded into several warehouses, each by its own."""
    warehouse = without_secrets(settings.warehouse.url.get_secret_value())
    identity = f"{settings.lake.processed} {warehouse} {settings.warehouse.schema_}"
    return settings.cache_folder / f"health-{sha256(identity.encode()).hexdigest()[:12]}.json"


def read_health(file: Path) -> Health:
    """The health that was last written, or a new one."""
    try:
        return Health.model_validate_json(file.read_bytes())
    except (FileNotFoundError, ValidationError):
        return Health()


def write_health(file: Path, health: Health) -> None:
    """Replaces what was written, at once."""
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f"{file.name}.{os.getpid()}")
    aside.write_text(health.model_dump_json(indent=1), encoding="utf-8")
    reach("health.write.before")
    aside.replace(file)
    reach("health.write.after")


def utc_now() -> datetime:
    """The present moment."""
    return datetime.now(UTC)
