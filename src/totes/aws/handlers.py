"""The Lambda handlers: one function per stage, each a few lines over the same stages that the command runs.

The event is `{"execution": name, "captured_at": time}`, both optional; the result is in `report.py`. An error is raised,
never returned: Step Functions decides by its class.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from totes.aws.invocation import Context, invoked
from totes.aws.report import Report, added_up
from totes.log import logger

_log = logger(stage="ingest")


def ingest(event: dict[str, Any] | None, context: Context) -> dict[str, Any]:
    """Captures what is new at the source as one batch. An error about a table is raised after the others are captured."""
    with invoked("ingest", event, context) as call:
        done = call.pipeline.ingest(deadline=call.deadline)
        tables = {name: {"upserts": c.upserts, "deletes": c.deletes} for name, c in done.changes.items()}
        rows = sum(sum(counts.values()) for counts in tables.values())
        batches = 0 if done.batch is None else 1
        result = call.end(
            Report(done.batch, batches, added_up([tables]), rows, done.more, captured_at=done.read_at)
        )
        if done.slot:
            from totes.monitoring.retained_log import problem_of

            problem = problem_of(done.slot)
            if problem:  # the alarm on the stage's errors reports it
                _log.error(problem[0], next_step=problem[1])
        # While there is more, the other tables' remaining rows come first: an error would end the calls.
        if done.failure and not done.more:
            raise done.failure
        return result


def process(event: dict[str, Any] | None, context: Context) -> dict[str, Any]:
    """Turns ingested batches into rows of the star schema. An error about a model is raised after the others are computed."""
    with invoked("process", event, context) as call:
        done = call.pipeline.process(deadline=call.deadline)
        tables = added_up(
            {
                name: {"written": c.written, "deleted": c.deleted, "quarantined": c.quarantined}
                for name, c in models.items()
            }
            for models in done.batches.values()
        )
        rows, quarantined = (
            sum(counts.get(kind, 0) for counts in tables.values()) for kind in ("written", "quarantined")
        )
        newest = max(done.batches, default=None)
        report = Report(newest, len(done.batches), tables, rows, done.more, quarantined=quarantined)
        result = call.end(report)
        if done.failure and not done.more:
            raise done.failure
        return result


def load(event: dict[str, Any] | None, context: Context) -> dict[str, Any]:
    """Loads processed batches into the warehouse."""
    with invoked("load", event, context) as call:
        done = call.pipeline.load(deadline=call.deadline)
        tables = sum(map(Counter, done.batches.values()), Counter[str]())
        newest = max(done.batches, default=None)
        fresh_as_of = None if done.more else call.captured_at
        report = Report(newest, len(done.batches), tables, tables.total(), done.more, fresh_as_of=fresh_as_of)
        return call.end(report)
