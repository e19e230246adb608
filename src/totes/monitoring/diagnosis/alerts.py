"""Checks the alerts: who would receive one, and whether any are waiting. Nothing is sent."""

from __future__ import annotations

import logging

from totes.config import Settings
from totes.display import count
from totes.monitoring.diagnosis.check import Area
from totes.monitoring.health import health_file, read_health


def check_alerts(area: Area, settings: Settings) -> None:
    """Checks that Apprise understands every URL, and that the configured times are consistent."""
    if not settings.alerts.urls:
        area.warn(
            "urls",
            "nobody gets an alert when a stage fails or the warehouse is not fresh",
            'Set alerts.urls = ["mailtos://user:password@host?to=…"], or any other of Apprise\'s URLs',
        )
    else:
        _check_urls(area, settings)
        _check_unsent(area, settings)
    every, freshness = settings.schedule.every, settings.alerts.freshness
    if freshness < every:
        area.warn(
            "freshness",
            f"alerts.freshness ({freshness}) is shorter than schedule.every ({every}): every pause would be an incident",
            "Set alerts.freshness to twice schedule.every",
        )
    else:
        area.ok("freshness", f"a cycle is due every {every}, and an alert after {freshness} without one")


def _check_urls(area: Area, settings: Settings) -> None:
    import apprise

    logging.getLogger("apprise").setLevel(logging.CRITICAL)
    services = []
    for number, url in enumerate(settings.alerts.urls):
        kind = url.get_secret_value().partition(":")[0]
        service = apprise.Apprise.instantiate(url.get_secret_value(), suppress_exceptions=True)
        if service is None:
            area.fail(
                "urls",
                f"alerts.urls[{number}] ({kind}:…) is not a URL that Apprise understands",
                "Write it as described at https://appriseit.com/services/, special characters percent-encoded",
            )
        elif not service.enabled:
            area.fail(
                "urls",
                f"alerts.urls[{number}] ({kind}:…) needs a package that is not installed",
                "Install it",
            )
        else:
            services.append(str(service.service_name))
    if services and not area.failed("urls"):
        area.ok("urls", f"alerts go to {', '.join(services)}; none was sent now")


def _check_unsent(area: Area, settings: Settings) -> None:
    with area.checking("unsent", "reading the pipeline's health"):
        unsent = read_health(health_file(settings)).unsent
        if unsent:
            area.warn(
                "unsent",
                f"{count(len(unsent), 'alert')} could not be sent, the first at {unsent[0].at:%Y-%m-%d %H:%M} UTC",
                "Check that the receiver answers and accepts the password; the next cycle sends them",
            )
        else:
            area.ok("unsent", "no alert is waiting to be sent")
