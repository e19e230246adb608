"""Delivers alerts through Apprise: each message to each receiver, in order, until it is accepted.

A message that a receiver has not accepted stays in the pipeline's health, and is sent after a later cycle. Each accepted
message is recorded at once, so that a crash repeats one message at most.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from hashlib import sha256

from totes.config import Settings
from totes.display import escaped, one_line
from totes.failpoint import reach
from totes.log import logger
from totes.monitoring.health import Health, Message, utc_now
from totes.redaction import redact, without_secrets

_LATE = timedelta(minutes=1)
_UNSENT_MAX = 50
_log = logger(stage="alert")


def deliver(settings: Settings, health: Health, remember: Callable[[Health], None]) -> None:
    """Sends the unsent messages; a failure is logged, and the message is sent by a later call.

    Args:
        settings: the settings, with the receivers in `alerts.urls`.
        health: the health, with the unsent messages, which is on disk already.
        remember: stores the health, after each accepted message.
    """
    urls = [url.get_secret_value() for url in settings.alerts.urls]
    deliver_to({_identity(url): partial(_sent, url) for url in urls}, health, remember)


def deliver_to(
    receivers: Mapping[str, Callable[[str, str], bool]], health: Health, remember: Callable[[Health], None]
) -> None:
    """Sends the unsent messages to receivers, each a function of title and text that returns whether it was accepted."""
    messages = list(health.unsent)
    for receiver, sent in receivers.items():
        for number, message in enumerate(messages):
            if receiver in message.delivered_to:
                continue
            if not sent(message.title, message.body + _late(message)):
                break  # later messages wait, to stay in order
            messages[number] = message.model_copy(update={"delivered_to": (*message.delivered_to, receiver)})
            reach("alert.sent")
            remember(health.model_copy(update={"unsent": tuple(messages)}))
    remaining = [message for message in messages if not set(receivers) <= set(message.delivered_to)]
    if not receivers:  # a receiver that is configured later gets the alerts of open incidents
        remaining = [message for message in messages if _is_open(message, health)]
    if len(remaining) > _UNSENT_MAX:
        _log.error(
            "the oldest alerts that could not be sent are dropped", dropped=len(remaining) - _UNSENT_MAX
        )
    remaining = remaining[-_UNSENT_MAX:]
    if len(remaining) < len(messages):
        remember(health.model_copy(update={"unsent": tuple(remaining)}))


def send(url: str, title: str, body: str) -> bool:
    """Sends plain text to one receiver; returns whether it was accepted."""
    import apprise

    logging.getLogger("apprise").setLevel(logging.CRITICAL)
    sender = apprise.Apprise()
    # A title becomes a mail's header, and must stay on its line.
    title, body = one_line(redact(title)), escaped(redact(body))
    return bool(
        sender.add(url) and sender.notify(body=body, title=title, body_format=apprise.NotifyFormat.TEXT)
    )


def _late(message: Message) -> str:
    if utc_now() - message.at <= _LATE:
        return ""
    return f"\nThis message is from {message.at:%Y-%m-%d %H:%M:%S} UTC and could not be sent earlier."


def _sent(url: str, title: str, body: str) -> bool:
    fault = None
    try:
        if send(url, title, body):
            return True
    except Exception as error:  # in a service's plugin: a broken receiver does not stop the others
        fault = f"{type(error).__name__}: {error}"
    _log.error(
        "an alert could not be sent, and is sent after a later cycle; check alerts.urls",
        title=title,
        receiver=f"{url.partition(':')[0]}:…",
        error=fault,
    )
    return False


def _identity(url: str) -> str:
    """Identifies a receiver in the health file; correcting its password does not change it."""
    return sha256(without_secrets(url).encode()).hexdigest()[:12]


def _is_open(message: Message, health: Health) -> bool:
    incident = health.incidents.get(message.subject)
    return incident is not None and incident.since == message.at and not message.over
