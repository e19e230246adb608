"""`totes adopt`: continues a lake's history on another cluster or database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from totes.cli.session import ConfigOption, DebugOption, JsonOption, report, session, waiting

if TYPE_CHECKING:
    from totes.console import Console
    from totes.ingestion.adoption import Adoption


def adopt(
    context: typer.Context,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show how much differs; nothing is written to the lake.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Continue this lake's history on another database: after a major upgrade, a restore or a migration.

    All tables are read and compared with what was captured; only differences become changes.
    """
    from totes import engine
    from totes.errors import NothingToAdopt

    with session(context, config, as_json, debug) as current:
        try:
            with waiting(current) as progress, engine.faults():
                progress("comparing the source with the lake")
                done = current.pipeline().adopt(dry_run=dry_run)
        except NothingToAdopt as nothing:
            note = str(nothing)
            document: dict[str, object] = {"batch": None, "dry_run": dry_run, "tables": {}, "note": note}
            current.show(document, lambda out: out.print(f"Nothing to adopt: {note}."))
            return
        document = {
            "batch": done.manifest.batch if done.committed else None,
            "dry_run": dry_run,
            "tables": done.tables,
            "left_out": {name: table.reason for name, table in done.manifest.left_out.items()},
        }
        current.show(document, lambda out: _show(out, done))
        if done.failure:
            report(f"adopt: {done.failure}", done.failure, debug=current.debug)
            raise typer.Exit(done.failure.exit_code)


def _show(out: Console, done: Adoption) -> None:
    from totes.console import table_of

    position = done.manifest.position
    numbers = ("new or changed", "deleted", "unchanged")
    table = table_of("table", *numbers, right=numbers)
    for name, counts in done.tables.items():
        table.add_row(name, *(f"{counts[kind]:,}" for kind in ("upserts", "deletes", "unchanged")))
    out.print(f"{position.database} compared with what was captured", style="italic")
    out.print(table)
    for name, left_out in done.manifest.left_out.items():
        out.print(f"  {name} is left out: {left_out.reason}")
    if done.committed:
        out.print(f"Batch {done.manifest.batch} continues the history. totes run processes and loads it.")
    else:
        out.print("Nothing was written. totes adopt without --dry-run continues the history from here.")
