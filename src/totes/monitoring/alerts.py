"""Alerts through Apprise: one when an incident begins, one when it is over."""

from __future__ import annotations

import logging

from totes.config import Settings
from totes.log import logger
from totes.monitoring.health import Change, health_file, read_health, utc_now, write_health
from totes.pipeline import Cycle
from totes.redaction import redact

_log = logger(stage="alert")


def watch(settings: Settings, cycle: Cycle) -> None:
    """Takes a cycle into the pipeline's health, and tells people what has changed."""
    before = read_health(health_file(settings))
    health, changes = before.after(cycle, utc_now(), settings.alerts.freshness)
    if health.incidents or before.incidents or cycle.seconds:
        write_health(health_file(settings), health)
    for change in changes:
        title, body = describe(settings.project.name, change)
        send(settings, title, body)
    if cycle.quarantined:
        send(
            settings,
            f"[totes] {settings.project.name}: {cycle.quarantined} rows set aside",
            "They cannot meet their tables' declared types. Next step: totes status",
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
    delivered = bool(sender.notify(body=redact(body), title=redact(title)))
    if not (all(taken) and delivered):
        _log.error("an alert could not be sent; check alerts.urls", title=title)
    return all(taken) and delivered
