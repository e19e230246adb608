"""`totes replay`: the same warehouse again, out of the lake."""

from __future__ import annotations

from typing import Annotated

import typer

from totes.cli.session import ConfigOption, DebugOption, JsonOption, session, waiting


def replay(
    context: typer.Context,
    warehouse: Annotated[
        str,
        typer.Option(
            "--warehouse",
            metavar="URL",
            help="An empty warehouse, or one that a replay of this lake was broken off in; or secretsmanager:NAME.",
        ),
    ],
    to: Annotated[
        int | None, typer.Option("--to", min=1, help="Stop after this batch: the warehouse as it was then.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Load the whole processed lake into an empty warehouse, or go on where that was broken off."""
    from totes.redaction import register_secret
    from totes.secrets import resolve_secret

    with session(context, config, as_json, debug) as current:
        pipeline = current.pipeline()
        url = resolve_secret(warehouse, "--warehouse")
        register_secret(url)
        with waiting(current) as progress:
            progress("replaying the lake")
            loaded = pipeline.replay(url, to)
        rows: dict[str, int] = {}
        for batch in loaded.batches.values():
            for table, count in batch.items():
                rows[table] = rows.get(table, 0) + count
        document = {"batch": loaded.batch, "batches": len(loaded.batches), "loaded": rows}
        current.show(
            document,
            lambda out: out.print(
                f"{len(loaded.batches)} batches with {sum(rows.values()):,} rows were replayed;"
                f" the warehouse is at batch {loaded.batch}."
            ),
        )
