"""Which alerts wait, for how long, and in which order: over a receiver that nobody is at."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from totes.config import Settings
from totes.monitoring.delivery import _UNSENT_MAX, deliver
from totes.monitoring.health import Health, Incident, Message

# What Apprise imports on Python 3.11 and 3.12.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
NOON = datetime(2024, 11, 26, 12, tzinfo=UTC)
NOBODY, NOBODY_ELSE = "json://127.0.0.1:1/one", "json://127.0.0.1:1/other"


def message(
    number: int, *, over: bool = False, subject: str = "ingest", delivered_to: tuple[str, ...] = ()
) -> Message:
    at = NOON + timedelta(minutes=number)
    return Message(
        subject=subject, title=f"alert {number}", body="…", at=at, over=over, delivered_to=delivered_to
    )


def remembered(folder: Path, health: Health, *urls: str) -> list[Health]:
    """What is kept of a health, oldest first, after its alerts were sent to these receivers."""
    kept: list[Health] = []
    settings = Settings(source={"url": "postgresql://h/d"}, alerts={"urls": list(urls)}, base=folder)  # type: ignore[arg-type]
    deliver(settings, health, kept.append)
    return kept


def test_of_alerts_that_nobody_takes_the_newest_are_kept(tmp_path: Path) -> None:
    some = tuple(message(number) for number in range(_UNSENT_MAX))
    assert remembered(tmp_path, Health(unsent=some), NOBODY) == []
    more = (*some, message(_UNSENT_MAX), message(_UNSENT_MAX + 1))
    [kept] = remembered(tmp_path, Health(unsent=more), NOBODY, NOBODY_ELSE)
    assert kept.unsent == more[2:]


def test_where_nobody_is_named_only_what_is_wrong_now_waits(tmp_path: Path) -> None:
    began, over, other = message(1), message(2, over=True), message(3, subject="load")
    earlier = message(0)  # of an incident that is over
    open_now = {"ingest": Incident(since=began.at, what="…"), "load": Incident(since=NOON, what="…")}
    [kept] = remembered(tmp_path, Health(unsent=(earlier, began, over, other), incidents=open_now))
    assert kept.unsent == (began,)


def test_what_a_former_receiver_has_taken_waits_for_the_present_one(tmp_path: Path) -> None:
    assert remembered(tmp_path, Health(unsent=(message(1, delivered_to=("previous",)),)), NOBODY) == []
