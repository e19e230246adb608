"""`totes replay`: rebuilds a warehouse, or one of its tables, from the lake."""

from __future__ import annotations

from typing import Annotated

import typer

from totes.cli.completion import tables
from totes.cli.session import ConfigOption, DebugOption, JsonOption, session, waiting
from totes.display import count


def replay(
    context: typer.Context,
    warehouse: Annotated[
        str | None,
        typer.Option(
            "--warehouse",
            metavar="URL",
            help="An empty warehouse, or one with an interrupted replay of this lake; or secretsmanager:NAME.",
        ),
    ] = None,
    to: Annotated[
        int | None, typer.Option("--to", min=1, help="Stop after this batch: the warehouse as it was then.")
    ] = None,
    table: Annotated[
        str | None,
        typer.Option(
            "--table",
            metavar="TABLE",
            help="A table of the warehouse in the settings that is missing, or has missing or wrong rows.",
            autocompletion=tables,
        ),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Load the whole processed lake into an empty warehouse, or continue an interrupted replay; or rebuild one table."""
    from totes.errors import ConfigurationError
    from totes.redaction import register_secret
    from totes.secrets import resolve_secret

    with session(context, config, as_json, debug) as current:
        if bool(warehouse) == bool(table) or (table and to):
            raise ConfigurationError(
                "name either the warehouse to fill or the table to rebuild",
                hint="totes replay --warehouse URL [--to BATCH], or totes replay --table TABLE",
            )
        pipeline = current.pipeline()
        if table:
            with waiting(current) as progress:
                progress(f"rebuilding {table}")
                rebuilt = pipeline.replay_table(table)
            current.show(
                {"batch": rebuilt.batch, "table": rebuilt.table, "rows": rebuilt.rows},
                lambda out: out.print(
                    f"{rebuilt.table} is as the lake has it at batch {rebuilt.batch}: {count(rebuilt.rows, 'row')}."
                ),
            )
            return
        url = resolve_secret(warehouse or "", "--warehouse")
        register_secret(url)
        with waiting(current) as progress:
            progress("replaying the lake")
            loaded = pipeline.replay(url, to)
        rows = loaded.rows
        document = {"batch": loaded.batch, "batches": len(loaded.batches), "loaded": rows}
        if not loaded.batch:
            current.show(document, lambda out: out.print("Nothing to replay: no batch is processed yet."))
            return
        current.show(
            document,
            lambda out: out.print(
                f"Replayed {count(len(loaded.batches), 'batch')} with {count(sum(rows.values()), 'row')};"
                f" the warehouse is at batch {loaded.batch}."
            ),
        )
