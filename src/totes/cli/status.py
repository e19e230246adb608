"""`totes status`: shows the state of each stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from totes.cli.session import ConfigOption, DebugOption, JsonOption, session
from totes.display import count, duration, one_line

if TYPE_CHECKING:
    from totes.console import Console
    from totes.monitoring.status import Status


def status(
    context: typer.Context,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show each stage's last batch, lag, freshness, rows, failures and quarantine, and the log that the source retains."""
    from totes.monitoring.status import read_status

    with session(context, config, as_json, debug) as current:
        found = read_status(current.pipeline())
        current.show(found.as_json(), lambda out: _show(out, found))


def _show(out: Console, found: Status) -> None:
    from rich.text import Text

    from totes.console import table_of

    table = table_of(
        "stage", "last batch", "at (UTC)", "behind", "rows", "state", right=("last batch", "behind", "rows")
    )
    for name, stage in found.stages.items():
        state = Text("ok")
        if stage.failing:
            state = Text.assemble(
                (f"fails since {stage.failing.since:%Y-%m-%d %H:%M}", "red"),
                f": {one_line(stage.failing.what)}",
            )
        elif stage.unreachable:
            state = Text.assemble(("unreachable", "red"), f": {one_line(stage.unreachable)}")
        at = f"{stage.at:%Y-%m-%d %H:%M:%S}" if stage.at else "never"
        behind = count(stage.lag_batches, "batch") if stage.lag_batches else "-"
        table.add_row(name, str(stage.batch), at, behind, f"{stage.rows:,}", state)
    out.print(f"Project {found.project}", style="italic")
    out.print(table)
    if found.fresh_seconds is None:
        out.print("Freshness: not known yet; the pipeline has not run here.")
    else:
        age = duration(found.fresh_seconds)
        lost = f" {one_line(found.not_fresh.what)}" if found.not_fresh else ""
        fresh = f"Freshness: the warehouse has everything that was in the source {age} ago."
        out.print(Text.assemble(fresh, (lost, "red")))
    if found.log:
        out.print(f"Log: {one_line(found.log.sentence())}", style="red" if found.log.nears_limit else None)
    if found.publish_failing:
        out.print(
            f"Iceberg: publish fails since {found.publish_failing.since:%Y-%m-%d %H:%M}: {one_line(found.publish_failing.what)}",
            style="red",
        )
    total = sum(found.quarantine.values())
    tables = ", ".join(f"{name} {rows:,}" for name, rows in found.quarantine.items())
    out.print(f"Quarantine: {count(total, 'row')}{f' ({tables})' if tables else ''}.")
    if found.alerts_unsent:
        out.print(
            f"Alerts: {count(found.alerts_unsent, 'alert')} could not be sent yet; check alerts.urls.",
            style="red",
        )
