"""`totes warehouse sql`: prints the warehouse's DDL."""

from __future__ import annotations

from typing import Annotated

import typer

from totes.cli.session import ConfigOption, DebugOption, JsonOption, session
from totes.display import escaped

app = typer.Typer(help="The warehouse itself.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def warehouse() -> None:
    """The warehouse itself."""


@app.command("sql")
def sql(
    context: typer.Context,
    dialect: Annotated[
        str | None, typer.Option("--dialect", help="duckdb or postgresql; that of warehouse.url by default.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Print the warehouse's DDL, for people who create its tables themselves."""
    from totes.errors import ConfigurationError

    with session(context, config, as_json, debug) as current:
        if dialect not in (None, "duckdb", "postgresql"):
            raise ConfigurationError(f"--dialect {dialect} is not known", hint="Give duckdb or postgresql")
        statements = current.pipeline().warehouse_sql(dialect)
        text = ";\n\n".join(statements) + ";"
        # A file or psql gets names as they are; on a terminal they are escaped.
        current.show(
            {"statements": statements}, lambda out: typer.echo(escaped(text) if out.is_terminal else text)
        )
