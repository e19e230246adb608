"""What follows the stages of an execution: alerts about it, by the same incidents as the command's, and a look at the lake.

What is known from one execution to the next is a record in the processed lake, outside of its data. Each is a new object with
the next number, put if absent: of two executions at once, one is first, and the other starts from its record.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache, partial
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from totes.aws.lake_check import Heads, check, is_due
from totes.aws.report import in_utc, measure_freshness
from totes.cycle import STAGES, Cycle
from totes.deadline import Deadline
from totes.display import escaped, one_line
from totes.errors import BatchConflict, ConfigurationError, LakeDamaged, TotesError
from totes.ingestion.stage import Ingested
from totes.lake.layout import HEALTH, health_path
from totes.lake.store import ObjectExists, Store
from totes.log import logger
from totes.messages import message
from totes.monitoring.alerts import with_alerts
from totes.monitoring.delivery import deliver_to
from totes.monitoring.health import LAKE, LOG, Health, Problem, utc_now
from totes.pipeline import Pipeline
from totes.processing.stage import Processed
from totes.redaction import redact
from totes.warehouse.stage import Loaded

_SUBJECT_CHARACTERS_MAX = 100  # of SNS
_RACES_MAX = 10
_TIMED_OUT = ("Sandbox.Timedout", "States.Timeout")
_ENDED = ("Runtime.ExitError", "Runtime.OutOfMemory", "Lambda.Unknown")
# An alarm of CloudWatch reports a warehouse that is not fresh: it also does when nothing runs.
_FRESHNESS = timedelta.max
_log = logger(stage="watch")


class Record(BaseModel):
    """What is known from one execution to the next: health, the newest batch of each store, when the lake was searched."""

    model_config = ConfigDict(frozen=True)

    health: Health = Health()
    heads: Heads = {}
    searched_at: datetime | None = None


@dataclass
class Records:
    """The records in a store; the newest one is the present one."""

    store: Store
    number: int = field(default=0)

    def newest(self) -> Record:
        """The newest record, or an empty one."""
        after = health_path(self.number - 1) if self.number > 1 else None
        for path in self.store.list(f"{HEALTH}/", after):
            name = path.removeprefix(f"{HEALTH}/").removesuffix(".json")
            self.number = max(self.number, int(name) if name.isdecimal() else 0)
        content = self.store.read(health_path(self.number)) if self.number else None
        try:
            return Record.model_validate_json(content) if content else Record()
        except ValidationError:
            _log.error("the health of earlier executions cannot be read, and begins anew", number=self.number)
            return Record()

    def add(self, record: Record) -> None:
        """Writes the next record.

        Raises:
            ObjectExists: another execution has written it.
        """
        self.store.put_new(health_path(self.number + 1), record.model_dump_json().encode())
        self.number += 1


@dataclass(frozen=True)
class Execution:
    """How the stages of an execution ended: the result of each that returned one, and the error of each that did not."""

    results: Mapping[str, Mapping[str, Any] | None]
    failures: Mapping[str, Mapping[str, str]]
    page: str = ""

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> Execution:
        """Reads the state machine's event; one without the stages' results is refused."""
        try:
            return cls(dict(event["results"]), dict(event["failures"]), str(event.get("page", "")))
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(
                "the event has not the results and failures of the stages",
                hint="Start the state machine instead of this function",
            ) from error

    def cycle(self) -> Cycle:
        """The execution as a cycle of the pipeline."""
        done = {stage: result for stage in STAGES if (result := self.results.get(stage)) is not None}
        failures = {stage: self._failure(stage, dict(error)) for stage, error in self.failures.items()}
        for stage, result in done.items():
            if failure := result.get("failure"):
                failures[stage] = _error(failure["what"], failure["hint"] or self._open(), failure["tables"])
        cycle = Cycle(failures=failures, seconds=dict.fromkeys((*done, *failures), 0.0))
        if "ingest" in done:
            cycle.ingested = Ingested(None, self.captured_at() or utc_now())
        if "process" in done:
            # If nothing was reported yet, everything in quarantine is, from the first batch on.
            cycle.processed = Processed(done["process"].get("newest") or 0, {1: {}})
        if "load" in done:
            cycle.loaded = Loaded(done["load"].get("batch") or 0)
        return cycle

    def others(self) -> dict[str, Problem | None]:
        """What else the stages looked at: how much of its log the source retains."""
        ingested = self.results.get("ingest") or {}
        if "log" not in ingested:
            return {}
        return {LOG: (ingested["log"][0], ingested["log"][1]) if ingested["log"] else None}

    def captured_at(self) -> datetime | None:
        """When the source was read, in UTC."""
        value = (self.results.get("ingest") or {}).get("captured_at")
        return in_utc(datetime.fromisoformat(value)) if value else None

    def _failure(self, stage: str, error: dict[str, str]) -> TotesError:
        kind, cause = error.get("Error") or "Unknown", error.get("Cause") or "no cause was given"
        try:
            what = str(json.loads(cause)["errorMessage"])
        except (ValueError, KeyError, TypeError):
            what = cause
        memory = f"Give {stage} more memory, and with it processors: memory_megabytes in terraform.tfvars"
        if kind in _TIMED_OUT:
            return _error(
                f"Lambda ended it at its time limit, in the middle of a step ({kind}: {what})",
                f"{memory}, then make deploy. A step that takes longer than 15 minutes needs a machine: docs/how-to/deploy.md",
            )
        if kind in _ENDED:
            return _error(f"Lambda ended it ({kind}: {what})", f"{memory}, then make deploy")
        return _error(what if "errorMessage" in cause else f"{kind}: {what}", self._open())

    def _open(self) -> str:
        return f"Open the execution: {self.page}"


def watched(pipeline: Pipeline, execution: Execution, topic: str, deadline: Deadline) -> dict[str, Any]:
    """Records how an execution ended, checks the lake, and publishes alerts about what began or ended with it.

    Returns:
        `failed`, the stages that failed, and `incidents`, all that are open.
    """
    cycle, now, records = execution.cycle(), utc_now(), _records(pipeline)
    record, fault = _recorded(pipeline, execution, cycle, records, now, deadline)
    if record.health.unsent:
        keep = partial(_keep, records, record)
        deliver_to({"topic": partial(_published, topic)}, record.health, keep)
    captured_at = execution.captured_at()
    if captured_at and not cycle.failures and cycle.ingested and cycle.processed and cycle.loaded:
        measure_freshness(captured_at)
    failed = [*cycle.failures, *([LAKE] if fault else [])]
    return {"failed": " ".join(failed), "incidents": sorted(record.health.incidents)}


@lru_cache(maxsize=1)
def _records(pipeline: Pipeline) -> Records:
    """The pipeline's records: a warm function knows how far it has listed them."""
    return Records(pipeline.processed_store)


def _recorded(
    pipeline: Pipeline,
    execution: Execution,
    cycle: Cycle,
    records: Records,
    now: datetime,
    deadline: Deadline,
) -> tuple[Record, LakeDamaged | None]:
    """Writes the record after a cycle; returns it, and what is wrong with the lake, if anything is."""
    for _ in range(_RACES_MAX):
        before = records.newest()
        search = LAKE in before.health.incidents or is_due(before.searched_at, now)
        heads, fault = check(pipeline, before.heads, search=search, deadline=deadline)
        others = execution.others() | {LAKE: (fault.what, fault.hint or "") if fault else None}
        health = with_alerts(pipeline.settings, before.health, cycle, now, _FRESHNESS, others)
        record = Record(health=health, heads=heads, searched_at=now if search else before.searched_at)
        try:
            records.add(record)
        except ObjectExists:
            continue
        return record, fault
    raise BatchConflict(f"other executions wrote the pipeline's health {_RACES_MAX} times meanwhile")


def _keep(records: Records, record: Record, health: Health) -> None:
    """Records which alerts were published; if another execution was faster, it has them among its own."""
    try:
        records.add(record.model_copy(update={"health": health}))
    except ObjectExists:
        _log.warning("another execution has recorded the pipeline's health; an alert may be sent twice")


def _published(topic: str, title: str, body: str) -> bool:
    import boto3

    # A title becomes a mail's subject: one line of ASCII.
    subject = one_line(redact(title)).encode("ascii", "replace").decode()[:_SUBJECT_CHARACTERS_MAX]
    try:
        boto3.client("sns").publish(TopicArn=topic, Subject=subject, Message=escaped(redact(body)))
    except Exception as error:  # of boto3, which makes its classes at run time
        _log.error("an alert could not be published; the next execution tries again", error=message(error))
        return False
    return True


def _error(what: str, hint: str, tables: list[str] | None = None) -> TotesError:
    error = TotesError(what, hint=hint)
    error.tables = frozenset(tables or ())
    return error
