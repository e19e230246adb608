"""Alerts: one when an incident begins, one when it ends, and one for each new kind of problem in quarantine."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from totes.config import Settings
from totes.cycle import Cycle
from totes.display import count, one_line
from totes.errors import StoreError, TotesError
from totes.lake.journal import processed_journal
from totes.lake.lock import lock_if_free
from totes.lake.manifest import ProblemKind
from totes.lake.store import Store
from totes.log import logger
from totes.monitoring.delivery import deliver
from totes.monitoring.health import (
    FRESHNESS,
    LAKE,
    LOG,
    Change,
    Health,
    Message,
    Problem,
    health_file,
    read_health,
    utc_now,
    write_health,
)

_KINDS_LISTED_MAX = 20
# Of subjects that are no stages: when an incident begins, and when it is over.
_TITLES = {
    FRESHNESS: ("is not fresh", "is fresh again"),
    LAKE: ("the lake was changed", "the lake is as it was"),
    LOG: ("the source retains too much log", "the source retains less log again"),
}
_TURN_SECONDS_MAX = 60.0
# Health that could not be written to its file; this process uses it from here.
_unwritten: dict[Path, Health] = {}
_log = logger(stage="alert")


def watch(settings: Settings, cycle: Cycle) -> None:
    """Updates the pipeline's health after a cycle, and sends alerts about changes.

    A failure here is logged, and does not stop the pipeline.
    """
    try:
        with _one_at_a_time(health_file(settings)):
            _watch(settings, cycle)
    except Exception as error:
        _log.exception("the pipeline's health could not be brought up to date", error=str(error))


def _watch(settings: Settings, cycle: Cycle) -> None:
    file, now = health_file(settings), utc_now()
    before = _recall(file)
    health = with_alerts(settings, before, cycle, now, settings.alerts.freshness, _others(settings, cycle))
    _remember(file, health)
    if health.unsent:
        deliver(settings, health, partial(_remember, file))


def with_alerts(
    settings: Settings,
    before: Health,
    cycle: Cycle,
    now: datetime,
    freshness: timedelta,
    others: Mapping[str, Problem | None],
) -> Health:
    """The health after a cycle that ended now; the alerts to send about it are among `unsent`."""
    health, changes = before.after(cycle, now, freshness, others)
    kinds = new_kinds(settings, health.quarantine_reported, cycle)
    messages = [write_message(settings.project.name, change, now) for change in changes]
    if kinds.kinds:
        title, body = describe_kinds(settings.project.name, kinds)
        messages.append(Message(subject="quarantine", title=title, body=body, at=now))
    return health.model_copy(
        update={"quarantine_reported": kinds.batch, "unsent": (*health.unsent, *messages)}
    )


def _others(settings: Settings, cycle: Cycle) -> dict[str, Problem | None]:
    if settings.source.capture != "log":
        return {LOG: None}
    from totes.monitoring.retained_log import log_problem

    return log_problem(settings, cycle)


def _recall(file: Path) -> Health:
    if file in _unwritten:
        return _unwritten[file]
    try:
        return read_health(file)
    except StoreError as error:
        _log.error("what was reported before is not known", error=str(error))
        return Health()


def _remember(file: Path, health: Health) -> None:
    _unwritten.pop(file, None)
    try:
        write_health(file, health)
    except OSError as error:  # the alert about a full disk has to be sent too, and only once
        _unwritten[file] = health
        _log.error(
            "the health file cannot be written", file=str(error.filename or file), error=error.strerror
        )


@contextmanager
def _one_at_a_time(file: Path) -> Iterator[None]:
    """Lets one runner at a time read, write and send; after a minute of waiting, a runner goes ahead anyway."""
    deadline = time.monotonic() + _TURN_SECONDS_MAX
    with ExitStack() as turn:
        with suppress(OSError):  # no lock in a folder that cannot be written
            file.parent.mkdir(parents=True, exist_ok=True)
            while not turn.enter_context(lock_if_free(file.with_suffix(".lock"))):
                turn.close()
                if time.monotonic() > deadline:
                    break
                time.sleep(0.05)
        yield


@dataclass(frozen=True)
class NewKinds:
    """New problems in quarantine: the kinds by table, the number of rows, and the newest batch considered."""

    batch: int | None
    kinds: dict[str, list[ProblemKind]] = field(default_factory=dict)
    rows: int = 0


def new_kinds(settings: Settings, reported: int | None, cycle: Cycle) -> NewKinds:
    """The kinds of problems since the batch `reported`, up to which alerts were written.

    A kind is new if that batch's manifest does not have it. If `reported` is not known (another machine, a lost cache), the
    batch before the first one of this cycle is used.
    """
    newest = cycle.processed.batch if cycle.processed else 0
    if not cycle.processed or newest in (0, reported):
        return NewKinds(reported)
    known = min(cycle.processed.batches, default=newest + 1) - 1 if reported is None else reported
    try:
        journal = processed_journal(Store.open(settings.lake.processed, settings.base))
        before = journal.read(known) if 0 < known <= newest else None
        after = journal.read(newest)
    except TotesError as error:
        _log.warning("quarantined rows cannot be reported yet; the next cycle tries again", error=str(error))
        return NewKinds(reported)
    found, rows = {}, 0
    for table, changes in after.models.items():
        previous = before.models.get(table) if before else None
        seen = {(kind.column, kind.kind) for kind in previous.quarantine_kinds} if previous else set()
        kinds = [kind for kind in changes.quarantine_kinds if (kind.column, kind.kind) not in seen]
        if kinds:
            found[table] = kinds
            rows += min(sum(kind.rows for kind in kinds), changes.quarantine_open)
    return NewKinds(newest, found, rows)


def describe_kinds(project: str, new: NewKinds) -> tuple[str, str]:
    """Title and text of an alert about quarantined rows; it contains no values, which may be personal data."""
    lines = [
        one_line(
            f"- {table}{f'.{kind.column}' if kind.column else ''} {kind.kind} ({count(kind.rows, 'row')})"
        )
        for table, kinds in new.kinds.items()
        for kind in kinds
    ]
    more = len(lines) - _KINDS_LISTED_MAX
    text = [
        "They do not meet their tables' declarations; everything else is loaded:",
        *lines[:_KINDS_LISTED_MAX],
        *([f"- and {more} more"] if more > 0 else []),
        "The next alert is sent when there is another kind of problem.",
        "Next step: totes quarantine list",
    ]
    return f"[totes] {project}: {count(new.rows, 'row')} quarantined", "\n".join(text)


def describe(project: str, change: Change) -> tuple[str, str]:
    """Title and text of an alert: what, since when, and the next step."""
    incident, since = change.incident, f"{change.incident.since:%Y-%m-%d %H:%M:%S} UTC"
    begins, ends = _TITLES.get(change.subject, (f"{change.subject} fails", f"{change.subject} works again"))
    if change.over:
        return (
            f"[totes] {project}: {ends}",
            f"It began at {since} and was seen {incident.times} times.\nLast message: {one_line(incident.what)}",
        )
    next_step = f"\nNext step: {one_line(incident.next_step or 'totes status')}"
    return f"[totes] {project}: {begins}", f"Since {since}: {one_line(incident.what)}{next_step}"


def write_message(project: str, change: Change, now: datetime) -> Message:
    """The alert about a change."""
    title, body = describe(project, change)
    return Message(subject=change.subject, title=title, body=body, at=now, over=change.over)
