"""`totes history`: shows every version of one row, by what it changed."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from totes.cli.completion import tables
from totes.cli.quarantine import show_row
from totes.cli.session import ConfigOption, DebugOption, JsonOption, session
from totes.display import count, one_line

if TYPE_CHECKING:
    from totes.console import Console
    from totes.monitoring.timeline import Step


def history(
    context: typer.Context,
    table: Annotated[
        str, typer.Argument(help="A warehouse table, or a source table.", autocompletion=tables)
    ],
    key: Annotated[
        list[str], typer.Argument(help="The row's key, one value per key column, or COLUMN=VALUE each.")
    ],
    config: ConfigOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show what changed in one row from version to version, newest last, with the lake objects it came from."""
    from totes.errors import ConfigurationError
    from totes.monitoring.history import NoSuchRow, read_history, read_quarantined_row
    from totes.monitoring.timeline import steps_of

    with session(context, config, as_json, debug) as current:
        if any(argument.encode("utf-8", "ignore").decode() != argument for argument in (table, *key)):
            raise ConfigurationError(
                "an argument is not valid UTF-8", hint="Give table and key as UTF-8 text"
            )
        pipeline = current.pipeline()
        try:
            versions = read_history(pipeline, table, key)
        except NoSuchRow:
            versions = []
            quarantined = read_quarantined_row(pipeline, table, key)
            if not quarantined:
                raise
        else:
            quarantined = read_quarantined_row(pipeline, table, key)
        document = {
            "table": table,
            "key": key,
            "versions": [
                version.values
                | {"time_is": version.time, "batch_id": version.batch, "objects": version.objects}
                for version in versions
            ],
            "quarantine": [asdict(row) | {"at": row.at.isoformat()} for row in quarantined],
        }
        model = pipeline.project.model(table)
        steps = steps_of(versions, model.surrogate if model else None)
        stores = (pipeline.ingestion_store.url, pipeline.processed_store.url)

        def show(out: Console) -> None:
            show_history(out, f"{table} {' '.join(key)}", steps, stores)
            if quarantined:
                out.print("In quarantine", style="bold red")
            for row in quarantined:
                show_row(out, row)

        current.show(document, show)


def show_history(out: Console, title: str, steps: tuple[Step, ...], stores: tuple[str, ...]) -> None:
    """Shows what changed from version to version, and the objects of each store that the versions came from."""
    out.print(f"{title}: {count(len(steps), 'version')}", style="italic")
    for number, step in enumerate(steps):
        _show_step(out, step, is_first=number == 0)
    for store in stores:
        _show_objects(out, store, steps)


def _show_step(out: Console, step: Step, *, is_first: bool) -> None:
    """Shows a version: of the first all values, of the others what they changed."""
    from rich.table import Table
    from rich.text import Text

    known = f" ({step.time})" if step.time else ""
    since = f"{'at' if step.deleted else 'from'} {step.began}{known}" if step.began else ""
    until = f"until {step.ended}" if step.ended and not step.deleted else ""
    when = " ".join(filter(None, ("deleted" if step.deleted else "", since, until)))
    out.print(f"batch {step.batch}{f', {when}' if when else ''}", style="bold")
    values = Table.grid(padding=(0, 2))
    values.add_column(overflow="fold", max_width=max(out.width // 2, 10))
    values.add_column(overflow="fold")
    for change in step.changes:
        after = Text.assemble(
            one_line(_text(change.before)), " → ", (one_line(_text(change.after)), "bold yellow")
        )
        values.add_row(f"  {change.column}", after)
    for name, value in step.values.items() if is_first else ():
        values.add_row(f"  {name}", one_line(_text(value)))
    out.print(values)


def _show_objects(out: Console, store: str, steps: tuple[Step, ...]) -> None:
    """Shows the objects of one store that the versions came from; their names begin with the batch's number."""
    found = (place for step in steps for place in step.objects if place.startswith(f"{store}/"))
    places = list(dict.fromkeys(found))  # several versions of a batch from the log come from one
    if places:
        near = os.path.relpath(store) if store.startswith("/") else store
        out.print(f"in {min(store, near, key=len)}", style="dim")
    for place in places:
        out.print(f"  {place.removeprefix(f'{store}/')}", style="dim")


def _text(value: str | None) -> str:
    return "-" if value is None else value
