"""What is an incident, since when, and when it is told: pure, over cycles made by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from totes.cycle import STAGES, Cycle
from totes.errors import SourceError, TotesError, WarehouseError
from totes.ingestion.stage import Ingested
from totes.monitoring.alerts import describe
from totes.monitoring.health import Change, Health, Incident, Problem, read_health, write_health
from totes.processing.stage import Processed
from totes.redaction import register_secret
from totes.warehouse.stage import Loaded

NOON = datetime(2024, 11, 26, 12, tzinfo=UTC)
HALF_AN_HOUR = timedelta(minutes=30)
RESULTS = {"ingest": Ingested(None, NOON), "process": Processed(7), "load": Loaded(7)}
DOWN = SourceError("connecting to the source failed", hint="Check source.url")
AWAY = WarehouseError("connecting to the warehouse failed")


def cycle(*stages: str, seconds: float = 0.0, **failures: TotesError) -> Cycle:
    """A cycle of these stages, or of all; those that are named with an error fail."""
    ran = stages or STAGES
    done = {stage: RESULTS[stage] if stage in ran and stage not in failures else None for stage in STAGES}
    return Cycle(done["ingest"], done["process"], done["load"], dict.fromkeys(ran, seconds), dict(failures))  # type: ignore[arg-type]


def after(
    health: Health, *cycles: Cycle, minutes: int = 15, begin: datetime = NOON
) -> tuple[Health, list[list[str]]]:
    """The health after cycles some minutes apart, and what each of them told: `+stage` or `-stage`."""
    told = []
    for number, one in enumerate(cycles):
        health, changes = health.after(one, begin + timedelta(minutes=minutes * number), HALF_AN_HOUR)
        told.append([f"{'-' if change.over else '+'}{change.subject}" for change in changes])
    return health, told


def test_a_cycle_that_works_tells_nothing() -> None:
    health, told = after(Health(), cycle(), cycle())
    assert told == [[], []]
    assert health == Health(
        fresh_at=NOON + timedelta(minutes=15), captured_at=NOON + timedelta(minutes=15),
        processed_at=NOON + timedelta(minutes=15), checked_at=NOON + timedelta(minutes=15),
    )  # fmt: skip


def test_an_incident_is_told_once_and_its_end_once() -> None:
    failing = cycle(ingest=DOWN)
    assert after(Health(), cycle(), failing, failing, cycle(), cycle())[1] == [
        [],
        ["+ingest"],
        [],
        ["-ingest"],
        [],
    ]


def test_an_incident_remembers_since_when_and_how_often() -> None:
    changed = SourceError("the source refuses the password", hint="Ask its owner")
    health, _ = after(Health(), cycle(), cycle(ingest=DOWN), cycle(ingest=changed))
    assert health.incidents == {
        "ingest": Incident(since=NOON + timedelta(minutes=15), what="the source refuses the password",
                           next_step="Ask its owner", times=2)
    }  # fmt: skip


def test_each_stage_has_an_incident_of_its_own() -> None:
    told = after(Health(), cycle(), cycle(ingest=DOWN, load=AWAY), cycle(load=AWAY), cycle())[1]
    assert told == [[], ["+ingest", "+load"], ["-ingest"], ["-load"]]


def test_an_incident_of_another_stage_stays_open_while_one_stage_runs_alone() -> None:
    health, told = after(
        Health(), cycle(load=AWAY), cycle("ingest"), cycle("process"), cycle("load"), minutes=1
    )
    assert told == [["+load"], [], [], ["-load"]]
    assert health.incidents == {}


def test_what_else_is_looked_at_is_an_incident_that_is_over_only_when_it_is_known_to_be() -> None:
    health, told = Health(), []
    found: list[dict[str, Problem | None]] = [
        {"log": None},
        {"log": ("too much", "Look")},
        {},
        {"log": ("more", "Look")},
        {"log": None},
    ]
    for others in found:
        health, changes = health.after(cycle(), NOON, HALF_AN_HOUR, others)
        told.append([(change.subject, change.over, change.incident.times) for change in changes])
    assert told == [[], [("log", False, 1)], [], [], [("log", True, 2)]]


def test_freshness_is_lost_once_and_regained_once() -> None:
    failing = cycle(load=AWAY)
    told = after(Health(), cycle(), failing, failing, failing, failing, cycle())[1]
    assert told == [[], ["+load"], [], ["+freshness"], [], ["-load", "-freshness"]]


def test_freshness_is_lost_only_when_it_is_over_the_limit() -> None:
    health, _ = after(Health(), cycle())
    assert after(health, cycle(load=AWAY), begin=NOON + HALF_AN_HOUR)[1] == [["+load"]]
    assert after(health, cycle(load=AWAY), begin=NOON + HALF_AN_HOUR + timedelta(seconds=1))[1] == [
        ["+load", "+freshness"]
    ]


def test_a_pipeline_that_never_worked_is_not_fresh_after_a_while() -> None:
    failing = cycle(ingest=DOWN)
    assert after(Health(), failing, failing, failing, failing)[1] == [["+ingest"], [], [], ["+freshness"]]


def test_a_lost_freshness_says_how_far_behind() -> None:
    health, _ = after(Health(), cycle(), *[cycle(load=AWAY)] * 3)
    assert (
        health.incidents["freshness"].what
        == "the warehouse is 0:45:00 behind the source, more than the 0:30:00 allowed"
    )


def test_the_warehouse_is_as_fresh_as_the_moment_at_which_the_source_was_read() -> None:
    health, _ = after(Health(), cycle(seconds=20.0))
    assert health.fresh_at == NOON - timedelta(minutes=1)


def test_stages_that_run_alone_keep_the_warehouse_fresh() -> None:
    health, told = after(Health(), *[cycle("ingest"), cycle("process"), cycle("load")] * 20, minutes=1)
    assert [change for changes in told for change in changes] == []
    assert health.fresh_at == NOON + timedelta(minutes=57)  # when the last batch that is loaded was captured


def test_a_warehouse_that_catches_up_is_as_fresh_as_what_was_captured() -> None:
    health, _ = after(Health(), cycle(), cycle(load=AWAY), cycle(ingest=DOWN))
    assert health.fresh_at == NOON + timedelta(minutes=15)


def test_no_secret_is_kept_in_an_incident() -> None:
    register_secret("postgresql://u:incident-secret@host/db")
    health, _ = after(Health(), cycle(ingest=SourceError("password incident-secret was refused")))
    assert health.incidents["ingest"].what == "password *** was refused"


def test_health_is_kept_between_processes(tmp_path: Path) -> None:
    health, _ = after(Health(), cycle(), cycle(ingest=DOWN))
    write_health(tmp_path / "cache" / "health.json", health)
    assert read_health(tmp_path / "cache" / "health.json") == health
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["health.json"]


@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"fresh_at": "soon"}'])
def test_health_that_cannot_be_read_begins_anew(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "health.json").write_bytes(content)
    assert read_health(tmp_path / "health.json") == Health()


def test_an_alert_says_what_since_when_and_the_next_step() -> None:
    begun = Incident(since=NOON, what="connecting to the source failed", next_step="Check source.url")
    assert describe("shop", Change(subject="ingest", incident=begun, over=False)) == (
        "[totes] shop: ingest fails",
        "Since 2024-11-26 12:00:00 UTC: connecting to the source failed\nNext step: Check source.url",
    )
    over = Incident(since=NOON, what="connecting to the source failed", times=3)
    assert describe("shop", Change(subject="ingest", incident=over, over=True)) == (
        "[totes] shop: ingest works again",
        "It began at 2024-11-26 12:00:00 UTC and was seen 3 times.\nLast message: connecting to the source failed",
    )
    behind = Incident(since=NOON, what="the warehouse is 0:45:00 behind")
    assert describe("shop", Change(subject="freshness", incident=behind, over=False)) == (
        "[totes] shop: is not fresh",
        "Since 2024-11-26 12:00:00 UTC: the warehouse is 0:45:00 behind\nNext step: totes status",
    )
    assert (
        describe("shop", Change(subject="freshness", incident=behind, over=True))[0]
        == "[totes] shop: is fresh again"
    )
