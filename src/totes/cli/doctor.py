"""`totes doctor`: finds what would stop a batch or make it wrong, before there is one, and how to fix it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from totes.cli.session import ConfigOption, DebugOption, JsonOption, session, waiting
from totes.display import count, one_line

if TYPE_CHECKING:
    from totes.console import Console
    from totes.monitoring.diagnosis.check import Diagnosis

_STYLES = {"ok": "green", "warning": "yellow", "error": "red"}


def doctor(
    context: typer.Context,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Check settings, project, source, lake and warehouse before a batch, with a fix for each problem."""
    from totes.config import FILE_NAME
    from totes.errors import CommandFailed
    from totes.monitoring.diagnosis.examination import diagnose

    with session(context, config, as_json, debug) as current:
        pipeline = current.pipeline()
        with waiting(current) as progress:
            diagnosis = diagnose(pipeline, current.config or Path(FILE_NAME), progress)
        current.show(diagnosis.as_json(), lambda out: _show(out, diagnosis))
        if not diagnosis.ok:
            wrong = diagnosis.of("error")
            names = ", ".join(dict.fromkeys(f"{check.area}: {check.name}" for check in wrong))
            raise CommandFailed(
                f"{count(len(wrong), 'check')} failed ({names})",
                hint="Fix them as described, and run totes doctor again",
            )


def _show(out: Console, diagnosis: Diagnosis) -> None:
    from itertools import groupby

    from rich.table import Table
    from rich.text import Text

    for area, checks in groupby(diagnosis.checks, lambda check: check.area):
        out.print(Text(area, style="bold"))
        # On a terminal each column wraps by itself; elsewhere lines are not wrapped.
        table = Table.grid(padding=(0, 2))
        for _ in range(3):
            table.add_column(overflow="fold")
        for check in checks:
            below = [*([check.fix] if check.fix else []), *(f"{statement};" for statement in check.sql)]
            if out.is_terminal:
                severity = Text(f"  {check.severity}", _STYLES[check.severity])
                table.add_row(severity, check.name, Text("\n".join(map(one_line, [check.found, *below]))))
                continue
            out.print(f"  {check.severity:<8} {check.name:<22} {check.found}")
            for line in below:
                out.print(f"{'':<12}{line}")
        if out.is_terminal:
            out.print(table)
    warnings, errors = len(diagnosis.of("warning")), len(diagnosis.of("error"))
    out.print(f"{len(diagnosis.checks)} checks: {count(errors, 'error')}, {count(warnings, 'warning')}.")
