"""The `totes` command: all commands, registered in the order in which a newcomer meets them."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from totes import __version__
from totes.cli import (
    adopt,
    backup,
    dashboards,
    demo,
    doctor,
    history,
    init,
    plan,
    quarantine,
    query,
    replay,
    run,
    shell,
    status,
    ui,
    verify,
    warehouse,
)
from totes.cli.masking import CommandGroup, close_streams, mask_process, open_streams
from totes.cli.session import ConfigOption, DebugOption, JsonOption, Session

app = typer.Typer(
    name="totes",
    cls=CommandGroup,
    help="From a PostgreSQL database to a star schema with full history, through an immutable lake.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"totes {__version__}")
        raise typer.Exit


@app.callback()
def totes(
    context: typer.Context,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """From a PostgreSQL database to a star schema with full history, through an immutable lake."""
    context.obj = Session(config, as_json, debug)


app.command("demo")(demo.demo)
app.command("init")(init.init)
app.command("doctor")(doctor.doctor)
app.command("run")(run.run)
app.command("ingest")(run.ingest)
app.command("process")(run.process)
app.command("load")(run.load)
app.command("status")(status.status)
app.command("history")(history.history)
app.command("query")(query.query)
app.command("shell")(shell.shell)
app.command("ui")(ui.ui)
app.command("dashboards")(dashboards.dashboards)
app.command("verify")(verify.verify)
app.command("replay")(replay.replay)
app.command("plan")(plan.plan)
app.command("apply")(plan.apply)
app.command("adopt")(adopt.adopt)
app.command("backup")(backup.backup)
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(warehouse.app, name="warehouse")


def main() -> None:
    """The console script."""
    os.umask(0o077)  # files that libraries write are the owner's alone; see Session.pipeline
    open_streams()
    mask_process()
    try:
        app()
    finally:
        close_streams()
