"""`totes quarantine list` and `retry`: shows quarantined rows, and retries them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from totes.cli.completion import tables
from totes.cli.session import ConfigOption, DebugOption, JsonOption, report, session
from totes.display import count

if TYPE_CHECKING:
    from totes.console import Console
    from totes.lake.manifest import ProblemKind
    from totes.monitoring.quarantine import Quarantine, QuarantinedRow, Retry

_ROWS_SHOWN = 100
_VALUE_SHOWN_MAX = 40
TableOption = Annotated[
    list[str] | None,
    typer.Option(
        "--table", help="A warehouse table; may be given again. All by default.", autocompletion=tables
    ),
]

app = typer.Typer(
    help="Rows that cannot meet their table's declaration.", no_args_is_help=True, rich_markup_mode=None
)


@app.callback()
def quarantine() -> None:
    """Rows that cannot meet their table's declaration."""


@app.command("list")
def list_rows(
    context: typer.Context,
    table: TableOption = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            min=0,
            help=f"How many rows to show, the newest first; {_ROWS_SHOWN} by default, with --json all.",
        ),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show what is in quarantine: table, key, column, value, what is wrong, and since which batch."""
    from totes.monitoring.quarantine import read_quarantine

    with session(context, config, as_json, debug) as current:
        rows_max = limit if limit is not None or current.json else _ROWS_SHOWN
        found = read_quarantine(current.pipeline(), tuple(table or ()), rows_max)
        document = {
            "batch": found.batch,
            "total": found.total,
            "tables": found.tables,
            "kinds": _kinds(found.kinds),
            "rows": [asdict(row) | {"at": row.at.isoformat()} for row in found.rows],
        }
        current.show(document, lambda out: _show(out, found))


@app.command("retry")
def retry_rows(
    context: typer.Context,
    table: TableOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Retry quarantined rows, after a model, a reference file or the source was corrected."""
    from totes.monitoring.alerts import watch
    from totes.monitoring.quarantine import retry

    with session(context, config, as_json, debug) as current:
        pipeline = current.pipeline()
        done = retry(pipeline, tuple(table or ()))
        if done.cycle:
            watch(pipeline.settings, done.cycle)
        current.show(_retry_document(done), lambda out: _show_retry(out, done))
        failures = done.cycle.failures if done.cycle else {}
        for stage, error in failures.items():
            report(f"{stage}: {error}", error, debug=current.debug)
        if failures:
            raise typer.Exit(max(error.exit_code for error in failures.values()))


def _kinds(kinds: dict[str, tuple[ProblemKind, ...]]) -> list[dict[str, object]]:
    return [{"table": table, **kind.model_dump()} for table, all_of_it in kinds.items() for kind in all_of_it]


def _retry_document(done: Retry) -> dict[str, object]:
    tables = {
        name: {
            "tried": one.tried,
            "loaded": one.fit if done.loaded else 0,
            "fit": one.fit,
            "remain": one.remain,
        }
        for name, one in done.tables.items()
    }
    document: dict[str, object] = {
        "batch": done.cycle.ingested.batch if done.cycle and done.cycle.ingested else None,
        **{key: sum(one[key] for one in tables.values()) for key in ("tried", "loaded", "fit", "remain")},
        "tables": tables,
        "kinds": _kinds({name: one.kinds for name, one in done.tables.items()}),
    }
    if done.cycle and done.cycle.failures:
        document["failures"] = {stage: str(error) for stage, error in done.cycle.failures.items()}
    return document


def _show(out: Console, found: Quarantine) -> None:
    if not found.total:
        out.print("Nothing is in quarantine.")
        return
    _show_kinds(out, f"In quarantine after batch {found.batch}: {count(found.total, 'row')}", found.kinds)
    if not found.rows:
        return
    out.print("Rows, the newest first, each as totes history takes it", style="italic")
    for row in found.rows:
        show_row(out, row)
    if len(found.rows) < found.total:
        out.print(
            f"{count(found.total - len(found.rows), 'more row')}: --limit shows more, --json all, with full values."
        )
    out.print("Correct the source, the model or the reference file; then run totes quarantine retry.")


def show_row(out: Console, row: QuarantinedRow) -> None:
    """Shows a row in quarantine: what names it, since when it is there, and what is wrong with which value."""
    from rich.table import Table

    from totes.monitoring.row_key import written

    out.print(f"{row.table} {written(row.key)}", style="bold")
    out.print(f"  since batch {row.batch}, {row.at:%Y-%m-%d %H:%M:%S} UTC", style="dim")
    problems = Table.grid(padding=(0, 2))
    for _ in range(3):
        problems.add_column(overflow="fold")
    for problem in row.problems:
        problems.add_row(f"  {problem.column or 'row'}", _shortened(problem.value), problem.kind)
    out.print(problems)


def _show_kinds(out: Console, title: str, kinds: dict[str, tuple[ProblemKind, ...]]) -> None:
    from totes.console import table_of

    summary = table_of("table", "column", "what is wrong", "rows", right=("rows",))
    for table, all_of_it in kinds.items():
        for kind in all_of_it:
            summary.add_row(table, kind.column or "", kind.kind, f"{kind.rows:,}")
    out.print(title, style="italic")
    out.print(summary)


def _show_retry(out: Console, done: Retry) -> None:
    if done.cycle is None:
        out.print("Nothing is in quarantine.")
        return
    for name, one in done.tables.items():
        what = "loaded" if done.loaded else "valid, to be loaded by the next load"
        out.print(f"{name}: {one.tried:,} retried, {one.fit:,} {what}, {one.remain:,} remaining.")
    kinds = {name: one.kinds for name, one in done.tables.items() if one.remain}
    if kinds:
        _show_kinds(out, "What is wrong with the remaining rows", kinds)


def _shortened(value: str | None) -> str:
    if value is None:
        return ""
    line = " ".join(value.split())
    return line if len(line) <= _VALUE_SHOWN_MAX else f"{line[:_VALUE_SHOWN_MAX]}…"
