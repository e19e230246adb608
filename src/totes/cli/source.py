"""`totes source sql`: prints the statements that prepare the source."""

from __future__ import annotations

import typer

from totes.cli.session import ConfigOption, DebugOption, JsonOption, session
from totes.display import escaped

app = typer.Typer(help="The source.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def source() -> None:
    """The source."""


@app.command("sql")
def sql(
    context: typer.Context,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Print what the source's owner runs before it is captured: a role, grants, and for the log a publication."""
    with session(context, config, as_json, debug) as current:
        statements = current.pipeline().source_sql()
        text = "\n".join(f"{statement};" for statement in statements)
        # A file or psql gets names as they are; on a terminal they are escaped.
        current.show(
            {"statements": statements}, lambda out: typer.echo(escaped(text) if out.is_terminal else text)
        )
