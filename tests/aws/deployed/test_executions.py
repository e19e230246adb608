"""Executions of the deployed state machine, with functions that a test makes up: what it does with how they end."""

from __future__ import annotations

import json
import threading
from typing import Any

from tests.aws.deployed.cloud import REGION, Cloud, FunctionFailed
from tests.aws.deployed.conftest import Pipeline, result, watched
from totes.errors import (
    LakeOfAnotherSource,
    LakesApart,
    ModelFailed,
    SourceError,
    StoreRefused,
    WarehouseError,
)


class Calls(list[str]):
    """What was called, in order; the functions in it do as they are told, the last thing again and again."""

    def function(self, name: str, *acts: Any) -> Any:
        """A function that does one thing a call: gives a result, or raises an error."""
        remaining = list(acts)

        def call(event: dict[str, Any]) -> dict[str, Any]:
            self.append(name)
            act = remaining.pop(0) if len(remaining) > 1 else remaining[0]
            if isinstance(act, Exception):
                raise act
            return dict(act(event))

        return call


def page(execution: str) -> str:
    """The console's page of an execution."""
    return f"https://{REGION}.console.aws.amazon.com/states/home?region={REGION}#/v2/executions/details/{execution}"


def cause(*failed: str) -> str:
    """What an execution in which these failed ends with."""
    return f"Failed: {' '.join(failed)}. The alert of the incident has the reason, and so has the history of this execution."


def test_the_stages_run_one_after_the_other_and_say_what_they_did(cloud: Cloud, pipeline: Pipeline) -> None:
    events = {}
    for stage in ("ingest", "process", "load", "watch"):
        had = cloud.functions[stage]
        cloud.functions[stage] = lambda event, stage=stage, had=had: (
            events.setdefault(stage, event) and had(event)
        )
    execution = pipeline.start()
    ended = pipeline.wait(execution)
    name = execution.rpartition(":")[2]
    nothing = {"batch": None, "tables": {}, "more": False, "seconds": 0.1}
    done = {
        "ingest": nothing | {"captured_at": "2026-01-02T03:04:05+00:00"},
        "process": nothing,
        "load": nothing,
    }
    assert ended["status"] == "SUCCEEDED"
    assert list(events.items()) == [
        ("ingest", {"execution": name}),
        ("process", {"execution": name}),
        ("load", {"execution": name}),
        ("watch", {"execution": name, "results": done, "failures": {}, "page": page(execution)}),
    ]
    assert json.loads(ended["output"]) == done


def test_a_stage_with_more_to_do_is_called_again(cloud: Cloud, pipeline: Pipeline) -> None:
    calls = Calls()
    more = result(more=True, captured_at="2026-01-02T03:04:05+00:00")
    done = result(captured_at="2026-01-02T03:04:05+00:00")
    cloud.functions["ingest"] = calls.function("ingest", more, more, done)
    cloud.functions["process"] = calls.function("process", result())
    cloud.functions["load"] = calls.function("load", result(more=True), result())
    assert pipeline.run()["status"] == "SUCCEEDED"
    assert calls == ["ingest", "ingest", "ingest", "process", "load", "load"]


def test_what_is_transient_is_tried_again_with_growing_pauses(cloud: Cloud, pipeline: Pipeline) -> None:
    calls = Calls()
    away = WarehouseError("the warehouse is away")
    cloud.functions["load"] = calls.function("load", away, away, away, result())
    assert pipeline.run()["status"] == "SUCCEEDED"
    assert len(calls) == 4
    # Full jitter: anything up to 5, 10 and 20 seconds.
    assert [pause <= most for pause, most in zip(cloud.pauses, (5, 10, 20), strict=True)] == [True] * 3


def test_of_a_stage_that_stays_away_the_watch_hears_once_while_the_others_go_on(
    cloud: Cloud, pipeline: Pipeline
) -> None:
    calls = Calls()
    cloud.functions["ingest"] = calls.function("ingest", SourceError("the source cannot be reached"))
    cloud.functions["process"] = calls.function("process", result())
    cloud.functions["load"] = calls.function("load", result())
    events: list[dict[str, Any]] = []

    def note(event: dict[str, Any]) -> dict[str, Any]:
        events.append(event)
        return watched(event)

    cloud.functions["watch"] = calls.function("watch", note)
    ended = pipeline.run()
    assert calls == ["ingest"] * 5 + ["process", "load", "watch"]
    assert (ended["status"], ended["error"], ended["cause"]) == ("FAILED", "StageFailed", cause("ingest"))
    [event] = events
    assert event["results"]["ingest"] is None
    assert list(event["failures"]) == ["ingest"]
    failure = event["failures"]["ingest"]
    assert failure["Error"] == "SourceError"
    assert json.loads(failure["Cause"])["errorMessage"] == "the source cannot be reached"


def test_what_is_not_transient_is_not_tried_again(cloud: Cloud, pipeline: Pipeline) -> None:
    calls = Calls()
    for stage, error in (
        ("ingest", StoreRefused("reading the lake failed: 403")),
        ("process", ModelFailed('it\'s {odd}, and "quoted"\n')),
        ("load", ZeroDivisionError()),
    ):
        cloud.functions[stage] = calls.function(stage, error)
    assert pipeline.run()["cause"] == cause("ingest", "process", "load")
    assert calls == ["ingest", "process", "load"]


def test_a_table_that_cannot_be_captured_fails_the_execution_at_its_end(
    cloud: Cloud, pipeline: Pipeline
) -> None:
    failure = {"what": "note has no key", "hint": None, "tables": ["note"]}
    calls = Calls()
    cloud.functions["ingest"] = calls.function(
        "ingest", result(captured_at="2026-01-02T03:04:05+00:00", failure=failure)
    )
    cloud.functions["load"] = calls.function("load", result())
    assert pipeline.run()["cause"] == cause("ingest")
    assert calls == ["ingest", "load"]


def test_a_watch_that_fails_fails_the_execution(cloud: Cloud, pipeline: Pipeline) -> None:
    cloud.functions["watch"] = Calls().function("watch", ZeroDivisionError())
    ended = pipeline.run()
    assert (ended["status"], ended["error"]) == ("FAILED", "WatchFailed")


def test_what_belongs_to_another_source_is_not_processed_or_loaded(cloud: Cloud, pipeline: Pipeline) -> None:
    for stage, error, called in (
        ("ingest", LakeOfAnotherSource("the source is another database cluster"), ["ingest"]),
        ("process", LakesApart("made from another ingestion lake"), ["ingest", "process"]),
    ):
        calls = Calls()
        for name in ("ingest", "process", "load"):
            act = error if name == stage else result(captured_at="2026-01-02T03:04:05+00:00")
            cloud.functions[name] = calls.function(name, act)
        assert pipeline.run()["cause"] == cause(stage)
        assert calls == called


def test_a_function_that_lambda_ended_is_called_once_more(cloud: Cloud, pipeline: Pipeline) -> None:
    calls = Calls()
    cloud.functions["process"] = calls.function("process", FunctionFailed("Sandbox.Timedout"), result())
    cloud.functions["load"] = calls.function("load", FunctionFailed("Runtime.ExitError"))
    assert pipeline.run()["cause"] == cause("load")
    assert calls == ["process", "process", "load", "load"]


def test_an_execution_beside_another_one_ends_at_once(cloud: Cloud, pipeline: Pipeline) -> None:
    calls, go_on = Calls(), threading.Event()

    def wait(event: dict[str, Any]) -> dict[str, Any]:
        go_on.wait(30)
        return result(captured_at=None)(event)

    cloud.functions["ingest"] = calls.function("ingest", wait)
    first = pipeline.start()
    second = pipeline.start()
    assert pipeline.wait(second)["status"] == "SUCCEEDED"
    assert pipeline.states(second)[-1] == "Another one runs"
    go_on.set()
    assert pipeline.wait(first)["status"] == "SUCCEEDED"
    assert calls == ["ingest"]
