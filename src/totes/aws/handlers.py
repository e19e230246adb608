"""The Lambda handlers: one function per stage, each a few lines over the same stages that the command runs, and the watch.

The event of a stage is `{"execution": name}`, optional; that of the watch has what the stages returned. The result is in
`report.py`. An error is raised, never returned: Step Functions decides by its class whether to retry. Only what concerns some
tables, while the others were done, is part of the result.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

from totes.aws.invocation import Context, invoked
from totes.aws.report import Report, added_up


def ingest(event: dict[str, Any] | None, context: Context) -> dict[str, Any]:
    """Captures what is new at the source as one batch."""
    with invoked("ingest", event, context) as call:
        done = call.pipeline.ingest(deadline=call.deadline)
        tables = {name: {"upserts": c.upserts, "deletes": c.deletes} for name, c in done.changes.items()}
        rows = sum(sum(counts.values()) for counts in tables.values())
        batches = 0 if done.batch is None else 1
        report = Report(done.batch, batches, added_up([tables]), rows, done.more, captured_at=done.read_at)
        result = call.end(report, done.failure)
        if done.slot:
            from totes.monitoring.retained_log import problem_of

            result["log"] = problem_of(done.slot)
        return result


def process(event: dict[str, Any] | None, context: Context) -> dict[str, Any]:
    """Turns ingested batches into rows of the star schema."""
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
        report = Report(
            newest, len(done.batches), tables, rows, done.more, newest=done.batch, quarantined=quarantined
        )
        return call.end(report, done.failure)


def load(event: dict[str, Any] | None, context: Context) -> dict[str, Any]:
    """Loads processed batches into the warehouse."""
    with invoked("load", event, context) as call:
        done = call.pipeline.load(deadline=call.deadline)
        tables = sum(map(Counter, done.batches.values()), Counter[str]())
        newest = max(done.batches, default=None)
        return call.end(Report(newest, len(done.batches), tables, tables.total(), done.more))


def watch(event: dict[str, Any] | None, context: Context) -> dict[str, Any]:
    """Sends alerts about what began or ended with an execution, and checks the lake."""
    from totes.aws.watch import Execution, watched

    with invoked("watch", event, context) as call:
        execution = Execution.of(event or {})
        return watched(call.pipeline, execution, os.environ["ALERT_TOPIC_ARN"], call.deadline)
