"""`totes status`: where each stage stands."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import typer

from totes.cli.session import ConfigOption, DebugOption, JsonOption, session

if TYPE_CHECKING:
    from rich.console import Console

    from totes.monitoring.status import Status


def status(
    context: typer.Context,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show each stage's last batch, lag, freshness, rows, failures and quarantine."""
    from totes.monitoring.status import read_status

    with session(context, config, as_json, debug) as current:
        found = read_status(current.pipeline())
        current.show(found.as_json(), lambda out: _show(out, found))


def _show(out: Console, found: Status) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"Project {found.project}", title_justify="left")
    for column, justify in (
        ("stage", "left"),
        ("last batch", "right"),
        ("at (UTC)", "left"),
        ("behind", "right"),
        ("rows", "right"),
        ("state", "left"),
    ):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for name, stage in found.stages.items():
        state = Text("ok")
        if stage.failing:
            state = Text.assemble(
                (f"fails since {stage.failing.since:%Y-%m-%d %H:%M}", "red"), f": {stage.failing.what}"
            )
        elif stage.unreachable:
            state = Text.assemble(("unreachable", "red"), f": {stage.unreachable}")
        at = f"{stage.at:%Y-%m-%d %H:%M:%S}" if stage.at else "never"
        behind = f"{stage.lag_batches} batches" if stage.lag_batches else "-"
        table.add_row(name, str(stage.batch), at, behind, f"{stage.rows:,}", state)
    out.print(table)
    if found.fresh_seconds is None:
        out.print("Freshness: not known yet; the pipeline has not run here.")
    else:
        age = timedelta(seconds=int(found.fresh_seconds))
        lost = f" {found.not_fresh.what}" if found.not_fresh else ""
        held = f"Freshness: the warehouse held all that the source held {age} ago."
        out.print(Text.assemble(held, (lost, "red")))
    total = sum(found.quarantine.values())
    tables = ", ".join(f"{name} {count:,}" for name, count in found.quarantine.items())
    out.print(f"Quarantine: {total:,} rows{f' ({tables})' if tables else ''}.")
