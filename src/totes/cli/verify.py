"""`totes verify`: proves that the warehouse equals the models applied to the source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from totes.cli.completion import tables
from totes.cli.session import ConfigOption, DebugOption, JsonOption, session, waiting

if TYPE_CHECKING:
    from totes.console import Console
    from totes.monitoring.verification import Verdict


def verify(
    context: typer.Context,
    table: Annotated[
        list[str] | None,
        typer.Option(
            "--table",
            help="A warehouse table to compare; may be given again. All by default.",
            autocompletion=tables,
        ),
    ] = None,
    sample: Annotated[
        float,
        typer.Option("--sample", min=0.0001, max=1.0, help="The share of rows to compare, such as 0.1."),
    ] = 1.0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Compare the warehouse with the models applied to the source at one snapshot, and with the lake."""
    from totes.errors import CommandFailed
    from totes.monitoring.verdict_file import write_verdict
    from totes.monitoring.verification import verify as compare

    with session(context, config, as_json, debug) as current:
        with waiting(current) as progress:
            pipeline = current.pipeline()
            verdict = compare(pipeline, tuple(table or ()), sample, progress)
        write_verdict(pipeline.settings, verdict)
        current.show(verdict.as_json(), lambda out: _show(out, verdict))
        if not verdict.equal:
            names = ", ".join(name for name, one in verdict.tables.items() if not one.equal)
            raise CommandFailed(
                f"the warehouse differs from the source or the lake in {names}",
                hint="totes history TABLE KEY",
            )


def _show(out: Console, verdict: Verdict) -> None:
    from totes.console import table_of

    # The last three are rare: without them, the table fits a narrow terminal.
    columns = {
        "equal": "rows", "missing": "missing", "extra": "extra", "different": "different",
        "in quarantine": "quarantined", "broken chains": "broken", "altered": "altered",
    }  # fmt: skip
    always = ("equal", "missing", "extra", "different")
    verdicts = verdict.tables.values()
    shown = [
        title
        for title, name in columns.items()
        if title in always or any(getattr(one, name) for one in verdicts)
    ]
    table = table_of("table", *shown, right=tuple(shown))
    for name, one in verdict.tables.items():
        counts = (getattr(one, columns[title]) for title in shown)
        table.add_row(
            name, *(f"{count:,}" if count else "-" for count in counts), style=None if one.equal else "red"
        )
    out.print(f"Warehouse and source compared at batch {verdict.batch}", style="italic")
    out.print(table)
    for name, one in verdict.tables.items():
        for lacking in one.lacking:
            out.print(f"  {name}: the warehouse does not have {lacking}")
        if one.note:
            out.print(f"  {name}: {one.note}")
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
            out.print(f"  {name} {key}: {what}")
    if verdict.equal:
        out.print(_conclusion(verdict), markup=False)


def _conclusion(verdict: Verdict) -> str:
    """What is proven if nothing differs, and no more."""
    if verdict.sample == 1:
        which = "" if verdict.whole else f" in {', '.join(verdict.tables)}"
        return f"Equal{which}: every row, every column, every version."
    compared = sum(one.compared for one in verdict.tables.values())
    empty = [name for name, one in verdict.tables.items() if not one.compared]
    if not compared:
        return "Nothing was compared: no row is in this sample. Use a larger one, or compare all rows."
    rows = "1 row was" if compared == 1 else f"{compared:,} rows were"
    nothing = f" Nothing was compared in {', '.join(empty)}." if empty else ""
    return (
        f"Equal in this sample: {rows} compared, in every column and version; the others were not.{nothing}"
    )
