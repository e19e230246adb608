"""Alerts through Apprise: one when an incident begins, one when it is over, one for each kind of row set aside."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from totes.config import Settings
from totes.errors import TotesError
from totes.lake.journal import processed_journal
from totes.lake.manifest import ProblemKind
from totes.lake.store import Store
from totes.log import logger
from totes.monitoring.health import Change, health_file, read_health, utc_now, write_health
from totes.pipeline import Cycle
from totes.redaction import redact

_KINDS_TOLD = 20
_log = logger(stage="alert")


def watch(settings: Settings, cycle: Cycle) -> None:
    """Takes a cycle into the pipeline's health, and tells people what has changed."""
    before = read_health(health_file(settings))
    health, changes = before.after(cycle, utc_now(), settings.alerts.freshness)
    told = new_kinds(settings, health.quarantine_told, cycle)
    health = health.model_copy(update={"quarantine_told": told.batch})
    if health.incidents or before.incidents or cycle.seconds:
        try:
            write_health(health_file(settings), health)
        except OSError as error:  # a full disk is what people have to be told of
            _log.error("the health file cannot be written", file=str(error.filename), error=error.strerror)
    for change in changes:
        title, body = describe(settings.project.name, change)
        send(settings, title, body)
    if told.kinds:
        title, body = describe_kinds(settings.project.name, told)
        send(settings, title, body)


@dataclass(frozen=True)
class NewKinds:
    """What is newly wrong with rows in quarantine: the kinds by table, in how many rows, and up to which batch."""

    batch: int | None
    kinds: dict[str, list[ProblemKind]] = field(default_factory=dict)
    rows: int = 0


def new_kinds(settings: Settings, told: int | None, cycle: Cycle) -> NewKinds:
    """What people have not been told of, who know all up to the batch `told`.

    The lake remembers what was wrong before: a kind is new that the batch last told of does not have. Where nothing is
    known of that (another machine, a cache that was lost), it is the batch before the first one of this cycle.
    """
    newest = cycle.processed.batch if cycle.processed else 0
    if not cycle.processed or newest in (0, told):
        return NewKinds(told)
    known = min(cycle.processed.batches, default=newest + 1) - 1 if told is None else told
    try:
        journal = processed_journal(Store.open(settings.lake.processed, settings.base))
        before = journal.read(known) if 0 < known <= newest else None
        after = journal.read(newest)
    except TotesError as error:
        _log.warning("what was set aside cannot be told yet; the next cycle does", error=str(error))
        return NewKinds(told)
    found, rows = {}, 0
    for table, changes in after.models.items():
        former = before.models.get(table) if before else None
        seen = {(kind.column, kind.kind) for kind in former.quarantine_kinds} if former else set()
        kinds = [kind for kind in changes.quarantine_kinds if (kind.column, kind.kind) not in seen]
        if kinds:
            found[table] = kinds
            rows += min(sum(kind.rows for kind in kinds), changes.quarantine_open)
    return NewKinds(newest, found, rows)


def describe_kinds(project: str, told: NewKinds) -> tuple[str, str]:
    """Title and text of an alert about rows that were set aside; no value is in it, which might be anybody's."""
    lines = [
        f"- {table}{f'.{kind.column}' if kind.column else ''} {kind.kind} ({_rows(kind.rows)})"
        for table, kinds in told.kinds.items()
        for kind in kinds
    ]
    more = [f"- and {len(lines) - _KINDS_TOLD} more"] if len(lines) > _KINDS_TOLD else []
    text = ["They cannot meet their tables' declarations; all else is loaded:", *lines[:_KINDS_TOLD], *more]
    return (
        f"[totes] {project}: {_rows(told.rows)} set aside",
        "\n".join([*text, "You are told again only of another kind.", "Next step: totes quarantine list"]),
    )


def describe(project: str, change: Change) -> tuple[str, str]:
    """Title and text of an alert: what, since when, and the next step."""
    incident, since = change.incident, f"{change.incident.since:%Y-%m-%d %H:%M:%S} UTC"
    if change.over:
        what = "is fresh again" if change.subject == "freshness" else f"{change.subject} works again"
        return (
            f"[totes] {project}: {what}",
            f"It began at {since} and was seen {incident.times} times.\nThe last that was said: {incident.what}",
        )
    what = "is not fresh" if change.subject == "freshness" else f"{change.subject} fails"
    next_step = f"\nNext step: {incident.next_step}" if incident.next_step else "\nNext step: totes status"
    return f"[totes] {project}: {what}", f"Since {since}: {incident.what}{next_step}"


def send(settings: Settings, title: str, body: str) -> bool:
    """Sends a message to all of `alerts.urls`; gives whether all of them took it. What fails is logged."""
    if not settings.alerts.urls:
        return True
    import apprise

    logging.getLogger("apprise").setLevel(logging.CRITICAL)
    sender = apprise.Apprise()
    taken = [sender.add(url.get_secret_value()) for url in settings.alerts.urls]
    sent = sender.notify(body=redact(body), title=redact(title), body_format=apprise.NotifyFormat.TEXT)
    delivered = bool(sent)
    if not (all(taken) and delivered):
        _log.error("an alert could not be sent; check alerts.urls", title=title)
    return all(taken) and delivered


def _rows(count: int) -> str:
    return f"{count:,} row{'s' if count != 1 else ''}"
