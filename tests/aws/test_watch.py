"""How the watch reads the end of an execution, and what two executions at once know of one another."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from totes.aws.watch import Execution, Record, Records
from totes.errors import ConfigurationError
from totes.lake.store import ObjectExists, Store
from totes.monitoring.alerts import describe
from totes.monitoring.health import Health

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
PAGE = "https://console.example/run-1"
DONE: dict[str, Any] = {
    "ingest": {"batch": None, "captured_at": "2026-01-02T12:00:00+00:00"},
    "process": {"batch": None, "newest": 7},
    "load": {"batch": None},
}


def execution(failures: dict[str, Any] | None = None, **results: Any) -> Execution:
    """An execution in which these failed, and the other stages gave what is given or had nothing to do."""
    failed = failures or {}
    ended = {stage: None if stage in failed else result for stage, result in (DONE | results).items()}
    return Execution.of({"results": ended, "failures": failed, "page": PAGE})


def raised(kind: str, message: str) -> dict[str, str]:
    """An error as Step Functions has it of a function."""
    return {
        "Error": kind,
        "Cause": json.dumps({"errorType": kind, "errorMessage": message, "stackTrace": []}),
    }


def alerts(*executions: Execution) -> list[list[tuple[str, str]]]:
    """Titles and texts of what each of these executions, one after the other, has to report."""
    health, told = Health(), []
    for number, one in enumerate(executions):
        now = NOON + timedelta(minutes=15 * number)
        health, changes = health.after(one.cycle(), now, timedelta.max, one.others())
        told.append([describe("shop", change) for change in changes])
    return told


@pytest.mark.parametrize(
    ("failure", "what", "next_step"),
    [
        (raised("WarehouseError", "the warehouse is away. Start it"), "the warehouse is away. Start it", f"Open the execution: {PAGE}"),
        (
            raised("Sandbox.Timedout", "Task timed out after 900.00 seconds"),
            "Lambda ended it at its time limit, in the middle of a step (Sandbox.Timedout: Task timed out after 900.00 seconds)",
            "Give load more memory, and with it processors: memory_megabytes in terraform.tfvars, then make deploy. "
            "A step that takes longer than 15 minutes needs a machine: docs/how-to/deploy.md",
        ),
        (
            raised("Runtime.ExitError", "signal: killed"),
            "Lambda ended it (Runtime.ExitError: signal: killed)",
            "Give load more memory, and with it processors: memory_megabytes in terraform.tfvars, then make deploy",
        ),
        ({"Error": "Lambda.AWSLambdaException"}, "Lambda.AWSLambdaException: no cause was given", f"Open the execution: {PAGE}"),
        ({"Error": "States.DataLimitExceeded", "Cause": "too\nlarge"}, "States.DataLimitExceeded: too", f"Open the execution: {PAGE}"),
    ],
)  # fmt: skip
def test_an_alert_says_what_happened_and_the_next_step(
    failure: dict[str, str], what: str, next_step: str
) -> None:
    [[(title, text)]] = alerts(execution({"load": failure}))
    assert title == "[totes] shop: load fails"
    assert text.startswith(f"Since 2026-01-02 12:00:00 UTC: {what}")
    assert text.endswith(f"\nNext step: {next_step}")


def test_of_a_standing_failure_the_beginning_and_the_end_are_reported() -> None:
    failing = execution({"load": raised("WarehouseError", "away")})
    told = alerts(execution(), failing, failing, failing, execution(), execution())
    titles = [[title for title, _ in each] for each in told]
    assert titles == [[], ["[totes] shop: load fails"], [], [], ["[totes] shop: load works again"], []]


def test_a_further_table_that_cannot_be_captured_is_reported_in_an_open_incident() -> None:
    def without(*tables: str) -> Execution:
        failure = {"what": f"{tables} left out", "hint": "Add a key", "tables": list(tables)}
        return execution(ingest=DONE["ingest"] | {"failure": failure})

    told = alerts(without("note"), without("note"), without("note", "audit"), execution())
    assert [len(each) for each in told] == [1, 0, 1, 1]
    assert "Next step: Add a key" in told[0][0][1]
    assert "audit" in told[2][0][1]


def test_a_source_that_retains_too_much_log_is_an_incident_of_its_own() -> None:
    def retaining(problem: list[str] | None) -> Execution:
        return execution(ingest=DONE["ingest"] | {"log": problem})

    much = retaining(["the source retains 5 GB", "Find out what holds it back"])
    told = alerts(much, much, execution(), retaining(None))
    assert [[title for title, _ in each] for each in told] == [
        ["[totes] shop: the source retains too much log"],
        [],
        [],
        ["[totes] shop: the source retains less log again"],
    ]


def test_an_incident_of_a_stage_that_did_not_run_stays_open() -> None:
    away = {"process": raised("StoreError", "away")}
    another = Execution.of(
        {"results": dict.fromkeys(DONE), "failures": {"ingest": raised("LakeOfAnotherSource", "x")}}
    )
    assert [[title for title, _ in each] for each in alerts(execution(away), another)] == [
        ["[totes] shop: process fails"],
        ["[totes] shop: ingest fails"],
    ]


def test_an_event_of_another_kind_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="Start the state machine"):
        Execution.of({})


def test_of_two_executions_at_once_one_starts_from_the_others_record(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path), tmp_path)
    first, second = Records(store), Records(store)
    assert first.newest() == second.newest() == Record()
    known = Record(health=Health(quarantine_reported=7))
    first.add(known)
    with pytest.raises(ObjectExists):
        second.add(Record())
    assert second.newest() == known
    second.add(Record())
    assert (first.newest(), first.number, second.number) == (Record(), 2, 2)


def test_a_record_that_cannot_be_read_begins_anew(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path), tmp_path)
    store.put_new("health/000000000041.json", b"{]")
    records = Records(store)
    assert records.newest() == Record()
    records.add(Record(searched_at=NOON))
    assert Records(store).newest() == Record(searched_at=NOON)
    assert records.number == 42
