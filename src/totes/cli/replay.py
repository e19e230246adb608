"""`totes replay`: the same warehouse again, out of the lake."""

from __future__ import annotations

from typing import Annotated

import typer

from totes.cli.session import ConfigOption, DebugOption, JsonOption, session, waiting


def replay(
    context: typer.Context,
    warehouse: Annotated[str, typer.Option("--warehouse", metavar="URL", help="An empty warehouse.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Load the whole processed lake into an empty warehouse."""
    from totes.redaction import register_secret

    with session(context, config, as_json, debug) as current:
        register_secret(warehouse)
        with waiting(current) as progress:
            progress("replaying the lake")
            loaded = current.pipeline().replay(warehouse)
        rows: dict[str, int] = {}
        for batch in loaded.batches.values():
            for table, count in batch.items():
                rows[table] = rows.get(table, 0) + count
        document = {"batches": len(loaded.batches), "loaded": rows}
        current.show(
            document,
            lambda out: out.print(
                f"{len(loaded.batches)} batches with {sum(rows.values()):,} rows were replayed."
            ),
        )
