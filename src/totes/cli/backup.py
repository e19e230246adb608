"""`totes backup`: copies both stores to another place, and verifies each checksum."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from totes.cli.session import ConfigOption, DebugOption, JsonOption, session, waiting

if TYPE_CHECKING:
    from totes.console import Console
    from totes.lake.backup import Backup


def backup(
    context: typer.Context,
    destination: Annotated[
        str, typer.Argument(metavar="DEST", help="A folder, or s3://bucket/prefix; the same one each time.")
    ],
    check: Annotated[
        bool,
        typer.Option("--check", help="First read every object of the backup, and report what is wrong."),
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Copy what is new in both stores of the lake to a folder or S3, and verify each checksum."""
    from totes.errors import CommandFailed
    from totes.lake.backup import back_up
    from totes.redaction import register_secret

    with session(context, config, as_json, debug) as current:
        if "://" in destination:
            register_secret(destination)
        pipeline = current.pipeline()
        with waiting(current):
            done = back_up(
                pipeline.ingestion_store,
                pipeline.processed_store,
                destination,
                Path.cwd(),
                check=check,
            )
        current.show(
            {"destination": destination, **asdict(done)}, lambda out: _show(out, destination, done, check)
        )
        if done.faults:
            more = f" (and {len(done.faults) - 1} more)" if len(done.faults) > 1 else ""
            raise CommandFailed(
                f"missing or wrong: {done.faults[0]}{more}",
                hint="docs/how-to/backup-and-restore.md describes how to repair it",
            )


def _show(out: Console, destination: str, done: Backup, check: bool) -> None:
    from totes.console import table_of

    numbers = ("last batch", "batches copied", "objects", "MB", "already there", "checked again")
    table = table_of("store", *numbers, right=numbers)
    for name, one in (("ingestion", done.ingestion), ("processed", done.processed)):
        counts = (one.batch, one.batches, one.objects)
        table.add_row(
            name,
            *(f"{count:,}" for count in counts),
            f"{one.bytes / 1e6:,.1f}",
            f"{one.already_there:,}",
            f"{one.checked:,}" if check else "-",
        )
    out.print(f"Backup in {destination}", style="italic")
    out.print(table)
    for fault in done.faults:
        out.print(f"  {fault}")
    if not (done.faults or done.ingestion.batches or done.processed.batches):
        out.print("Nothing new.")
