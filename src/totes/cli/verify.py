"""`totes verify`: proof that the warehouse equals the models applied to the source."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from totes.cli.session import ConfigOption, DebugOption, JsonOption, session, waiting

if TYPE_CHECKING:
    from rich.console import Console

    from totes.monitoring.verification import Verdict


def verify(
    context: typer.Context,
    table: Annotated[
        list[str] | None,
        typer.Option("--table", help="A warehouse table to compare; may be given again. All by default."),
    ] = None,
    sample: Annotated[
        float,
        typer.Option("--sample", min=0.0001, max=1.0, help="Which part of the rows to compare, such as 0.1."),
    ] = 1.0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Compare the warehouse with the models applied to the source at one snapshot, and with the lake."""
    from totes.errors import CommandFailed
    from totes.monitoring.verification import verify as compare

    with session(context, config, as_json, debug) as current:
        with waiting(current) as progress:
            verdict = compare(current.pipeline(), tuple(table or ()), sample, progress)
        document = {
            "batch": verdict.batch,
            "equal": verdict.equal,
            "tables": {name: {"equal": one.equal, **asdict(one)} for name, one in verdict.tables.items()},
        }
        current.show(document, lambda out: _show(out, verdict))
        if not verdict.equal:
            names = ", ".join(name for name, one in verdict.tables.items() if not one.equal)
            raise CommandFailed(
                f"the warehouse differs from the source or the lake in {names}",
                hint="totes history TABLE KEY",
            )


def _show(out: Console, verdict: Verdict) -> None:
    from rich.table import Table

    table = Table(title=f"Warehouse and source compared at batch {verdict.batch}", title_justify="left")
    for column in (
        "table",
        "equal",
        "missing",
        "extra",
        "different",
        "kept for history",
        "in quarantine",
        "broken chains",
        "altered",
    ):
        table.add_column(column, justify="left" if column == "table" else "right")
    for name, one in verdict.tables.items():
        counts = (
            one.rows,
            one.missing,
            one.extra,
            one.different,
            one.kept,
            one.set_aside,
            one.broken,
            one.altered,
        )
        table.add_row(
            name, *(f"{count:,}" if count else "-" for count in counts), style=None if one.equal else "red"
        )
    out.print(table)
    for name, one in verdict.tables.items():
        for lacking in one.lacking:
            out.print(f"  {name}: the warehouse does not have {lacking}", markup=False)
        if one.note:
            out.print(f"  {name}: {one.note}", markup=False)
        for example in one.examples:
            key = " ".join(f"{column}={value}" for column, value in example.key.items())
            what = (
                f"only in the {example.only_in}"
                if example.only_in
                else ", ".join(
                    f"{column}: {example.against} {before!r}, warehouse {after!r}"
                    for column, (before, after) in example.columns.items()
                )
            )
            out.print(f"  {name} {key}: {what}", markup=False)
    if verdict.equal:
        out.print("Equal: every row, every column, every version.")
