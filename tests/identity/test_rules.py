"""The rules by which a source is known again, at each of their edges: pure, over positions made by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from totes.errors import LakeOfAnotherSource, NothingToAdopt, SourceBehind, SourceRefused
from totes.ingestion.identity import (
    Standing,
    adopting,
    is_another,
    lsn_number,
    standing,
    why_compared,
)
from totes.ingestion.server import Server
from totes.lake.manifest import Position

NOON = datetime(2024, 11, 26, 12, tzinfo=UTC)
EPOCH = 1 << 32
# What was captured: it was read at 0/200, and the log was on disk up to 0/180.
BEFORE = Position(
    system_identifier="7", timeline=3, database="prod", database_oid=16_384, horizon=1_000, next_transaction=1_010,
    read_at=NOON, lsn="0/200", flushed_lsn="0/180", instance="first",
)  # fmt: skip
DURABLE = BEFORE.model_copy(update={"flushed_lsn": "0/200"})
PRIMARY, STANDBY = Server(standby=False, reached="0/300"), Server(standby=True, reached="0/300")
LOST, RESTARTED = "a standby was promoted", "the server was restarted"


def now(of: Position = BEFORE, **changes: Any) -> Position:
    """A later position; another timeline is that of another server, unless it is said to be the same."""
    other = {"instance": "second"} if "timeline" in changes else {}
    return of.model_copy(
        update={"read_at": NOON + timedelta(minutes=15), "next_transaction": 1_020, **other, **changes}
    )


def promoted(**changes: Any) -> Server:
    """A primary that was a standby and has left the former timeline at 0/250, which is after all that was captured."""
    told: dict[str, Any] = {
        "standby": False,
        "reached": "0/300",
        "forked_at": "0/250",
        "replayed_until": NOON,
    }
    return Server(**(told | changes))


def test_log_positions_are_compared_as_numbers() -> None:
    assert lsn_number("0/0") == 0
    assert lsn_number("0/16B3748") == 0x16B3748
    assert lsn_number("2/A") == (2 << 32) + 10
    assert lsn_number("A/0") > lsn_number("9/FFFFFFFF")


@pytest.mark.parametrize(
    ("previous", "current", "server", "why"),
    [
        (BEFORE, now(), PRIMARY, None),
        (BEFORE, now(database="renamed"), PRIMARY, None),
        (BEFORE, now(next_transaction=1_000), PRIMARY, None),
        (BEFORE, now(next_transaction=1_000 + EPOCH - 1), PRIMARY, None),
        (BEFORE, now(next_transaction=1_000 + EPOCH), PRIMARY, "more than 2^32"),
        # What was on disk outlives a restart, up to the last byte.
        (DURABLE, now(instance="second"), PRIMARY, None),
        (BEFORE, now(instance="second"), PRIMARY, RESTARTED),
        (BEFORE, now(instance="second"), Server(standby=False, reached="0/180"), RESTARTED),
        (BEFORE.model_copy(update={"lsn": None}), now(instance="second"), PRIMARY, None),
        # A standby that has all that was captured, and one that follows a promoted primary.
        (BEFORE, now(), Server(standby=True, reached="0/200"), None),
        (BEFORE, now(timeline=4), STANDBY, "the standby follows timeline 4"),
        (DURABLE, now(instance="second"), STANDBY, None),
        (BEFORE, now(instance="second"), STANDBY, RESTARTED),
        # The very server that was read goes on from what it showed, whichever timeline it follows or begins.
        (BEFORE, now(timeline=4, instance="first"), STANDBY, None),
        (BEFORE, now(timeline=4, instance="first"), promoted(forked_at=None), None),
        (DURABLE, now(timeline=4, instance="first 0/250"), promoted(forked_at=None), None),
        (BEFORE, now(timeline=4, instance="first 0/250"), promoted(forked_at=None), RESTARTED),
        (BEFORE.model_copy(update={"instance": None}), now(timeline=4, instance=None), promoted(forked_at=None), LOST),
        # What was on the disk of neither may have been written anew before the standby received it.
        (BEFORE, now(timeline=4), promoted(), RESTARTED),
        (BEFORE, now(next_transaction=1_000 + EPOCH), STANDBY, "more than 2^32"),
        (BEFORE.model_copy(update={"lsn": None}), now(next_transaction=1_000), STANDBY, None),
        # A promoted one: it had all that was captured, up to the very byte; or it had not; or that is not known.
        (DURABLE, now(timeline=4), promoted(), None),
        (DURABLE, now(timeline=4), promoted(forked_at="0/200"), None),
        (DURABLE, now(timeline=4), promoted(forked_at="0/1FF"), LOST),
        (DURABLE, now(timeline=4), promoted(forked_at=None), LOST),
        (DURABLE, now(timeline=5), promoted(), LOST),
        (DURABLE, now(timeline=4, next_transaction=1_000 + EPOCH), promoted(), "more than 2^32"),
        (BEFORE.model_copy(update={"lsn": None}), now(timeline=4), promoted(), LOST),
        (DURABLE, now(timeline=4), promoted(has_target=True), None),
        (DURABLE, now(timeline=5), promoted(has_target=True), LOST),
        (DURABLE, now(timeline=4, next_transaction=999), promoted(forked_at="0/1FF"), LOST),
        (BEFORE, now(timeline=4, next_transaction=999),
         promoted(forked_at="0/1FF", replayed_until=NOON - timedelta(hours=1)), LOST),
        (BEFORE, now(timeline=4, next_transaction=1_000),
         promoted(forked_at="0/1FF", replayed_until=NOON - timedelta(hours=2)), LOST),
        (DURABLE, now(timeline=4, next_transaction=999), promoted(forked_at="0/1FF", replayed_until=None), LOST),
        # Manifests of earlier versions knew less.
        (BEFORE.model_copy(update={"database_oid": None}), now(), PRIMARY, None),
        (BEFORE, now(database_oid=None), PRIMARY, None),
        (BEFORE.model_copy(update={"lsn": None, "flushed_lsn": None, "instance": None}), now(), PRIMARY, None),
    ],
)  # fmt: skip
def test_marks_serve_or_all_is_compared(
    previous: Position, current: Position, server: Server, why: str | None
) -> None:
    found = why_compared(previous, current, server)
    assert found == why if why is None else why in str(found)


@pytest.mark.parametrize(
    ("previous", "current", "server", "error", "what"),
    [
        (BEFORE, now(system_identifier="8"), PRIMARY, LakeOfAnotherSource, "another database cluster"),
        (BEFORE, now(database_oid=16_385), PRIMARY, LakeOfAnotherSource, "another database of the same cluster"),
        (BEFORE, now(database_oid=None, database="other"), PRIMARY, LakeOfAnotherSource, "the database other"),
        (BEFORE, now(timeline=2), PRIMARY, SourceRefused, "old primary"),
        (BEFORE, now(), Server(standby=False, reached="0/17F"), SourceRefused, "restored"),
        (BEFORE, now(next_transaction=999), PRIMARY, SourceRefused, "restored"),
        (BEFORE, now(timeline=2), STANDBY, SourceBehind, "timeline 2 so far"),
        (BEFORE, now(), Server(standby=True, reached="0/1FF"), SourceBehind, "replayed the log up to 0/1FF"),
        (BEFORE.model_copy(update={"lsn": None}), now(next_transaction=999), STANDBY, SourceBehind, "is behind"),
        (DURABLE, now(timeline=4), promoted(forked_at="0/1FF", has_target=True), SourceRefused, "restored"),
        (DURABLE, now(timeline=4), promoted(forked_at=None, reached="0/1FF", has_target=True), SourceRefused, "restored"),
        (DURABLE, now(timeline=5, next_transaction=999), promoted(has_target=True), SourceRefused, "restored"),
        (BEFORE, now(timeline=4, next_transaction=999),
         promoted(forked_at="0/1FF", replayed_until=NOON - timedelta(hours=1, seconds=1)), SourceRefused, "10:59:59"),
    ],
)  # fmt: skip
def test_what_is_another_or_behind_is_told_apart(
    previous: Position, current: Position, server: Server, error: type[Exception], what: str
) -> None:
    with pytest.raises(error, match=what):
        why_compared(previous, current, server)


def test_a_later_position_at_which_nothing_was_new_serves_as_long_as_marks_do() -> None:
    later = now(horizon=1_005, next_transaction=1_012, lsn="0/280", flushed_lsn="0/280")
    assert standing(BEFORE, None, now(), PRIMARY) == Standing(BEFORE, None)
    assert standing(BEFORE, later, now(), PRIMARY) == Standing(later)
    # The standby has all that was captured, and not yet all that was looked through.
    assert standing(BEFORE, later, now(), Server(standby=True, reached="0/200")) == Standing(BEFORE, None)
    restarted = standing(
        BEFORE, later.model_copy(update={"flushed_lsn": "0/1"}), now(instance="second"), PRIMARY
    )
    assert restarted.since == BEFORE
    assert RESTARTED in str(restarted.why_compared)
    with pytest.raises(LakeOfAnotherSource):
        standing(BEFORE, later, now(system_identifier="8"), PRIMARY)


def test_only_what_is_refused_can_be_adopted() -> None:
    adopted = adopting(BEFORE, None, now(system_identifier="8"), PRIMARY)
    assert adopted.since == BEFORE
    assert "and is adopted" in str(adopted.why_compared)
    with pytest.raises(NothingToAdopt, match=r"this lake follows\. totes run"):
        adopting(BEFORE, None, now(), PRIMARY)
    with pytest.raises(NothingToAdopt, match="the next run compares all rows"):
        adopting(BEFORE, None, now(instance="second"), PRIMARY)
    with pytest.raises(SourceBehind):
        adopting(BEFORE, None, now(timeline=2), STANDBY)


def test_another_cluster_timeline_or_database_is_another_as_far_as_that_is_known() -> None:
    assert not is_another(BEFORE, now(database="renamed", instance="second"))
    assert not is_another(BEFORE, now(database_oid=None))
    assert not is_another(BEFORE.model_copy(update={"database_oid": None}), now())
    for changes in ({"system_identifier": "8"}, {"timeline": 4}, {"database_oid": 1}):
        assert is_another(BEFORE, now(**changes))
