"""What the demo shows: an introduction, and its results."""

from __future__ import annotations

import datetime
import os
from decimal import Decimal
from itertools import pairwise

from rich.console import RenderableType
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from totes.cycle import Cycle
from totes.demo.document import next_commands, what_was_checked
from totes.demo.questions import Answer
from totes.demo.screen import Screen, heading, indented, remark, table_of
from totes.demo.story import RowHistory, Story
from totes.monitoring.history import Version

_ORDER_COLUMNS = ("units_sold", "unit_price", "agreed_delivery_date", "valid_from", "valid_to", "is_deleted")
_PLACES = {"dim_staff": "location", "dim_counterparty": "counterparty_legal_city"}
_NEW = "bold yellow"


def introduce(screen: Screen) -> None:
    """Shows what is going to happen."""
    introduction = (
        "TerrificTotes makes tote bags. Its database, totesys, has only the latest state. It is captured into"
        " a lake and turned into a star schema; then the company trades for a day, and the changes follow."
    )
    screen.write(Text(introduction), "")


def show_story(screen: Screen, story: Story) -> None:
    """Shows the results of the demo."""
    found = story.findings
    screen.write(heading("What each stage did"), _stages(story))
    screen.write(heading(f"An order that changed, with its past: {found.changed.table} {found.changed.key}"))
    screen.write(_versions(found.changed), _objects(story, found.changed))
    screen.write(
        heading(f"An order that was deleted, and is still known: {found.deleted.table} {found.deleted.key}")
    )
    screen.write(_versions(found.deleted))
    screen.write(
        remark("The source does not record deletions: batch 2 found it missing, and its read time is used.")
    )
    screen.write(
        heading("What moved: one row in totesys, every row of the star that shows it"), _moves(found.moved)
    )
    screen.write(heading("Three questions to the star"))
    for number, answer in enumerate(found.answers):
        screen.write(*([""] if number else []), indented(Text(answer.question, style="italic")), "")
        screen.write(indented(Text(answer.sql, style="cyan")), "", _rows(answer))
    checked = Text.assemble(("Checked: ", "bold green"), what_was_checked(story))
    screen.write(heading("Does the warehouse equal totesys?"), indented(checked))
    screen.write(heading("Where it is"), _files(story))
    screen.write(heading("What to type next, now that the server has stopped"), _next(story))


def _stages(story: Story) -> RenderableType:
    table = table_of(
        "batch",
        "stage",
        "did",
        "rows",
        "seconds",
        "rows a second",
        right=("batch", "rows", "seconds", "rows a second"),
    )
    for number, cycle in enumerate(story.batches, start=1):
        for stage, did, rows in _done_by(cycle):
            seconds = cycle.seconds[stage]
            first = str(number) if stage == "ingest" else ""
            table.add_row(first, stage, did, f"{rows:,}", f"{seconds:.2f}", f"{rows / seconds:,.0f}")
    return indented(table)


def _done_by(cycle: Cycle) -> list[tuple[str, str, int]]:
    """Each stage, what it did, and the rows that it wrote."""
    captured = list(cycle.ingested.changes.values()) if cycle.ingested else []
    processed = [batch.values() for batch in cycle.processed.batches.values()] if cycle.processed else []
    loads = [batch.values() for batch in cycle.loaded.batches.values()] if cycle.loaded else []
    upserts, deletes = sum(one.upserts for one in captured), sum(one.deletes for one in captured)
    written = [model.written for models in processed for model in models if model.written]
    loaded = [rows for tables in loads for rows in tables]
    return [
        ("ingest", f"{upserts:,} new or changed, {deletes:,} deleted", upserts + deletes),
        ("process", f"{len(written)} tables of the star computed", sum(written)),
        ("load", f"{len(loaded)} tables of the star, in one transaction", sum(loaded)),
    ]


def _versions(row: RowHistory) -> RenderableType:
    """One column per version, newest last; new values are highlighted."""
    table = table_of("", *(f"batch {version.batch}" for version in row.versions))
    for name in _ORDER_COLUMNS:
        values = [version.values[name] for version in row.versions]
        new = [False, *(value not in (None, before) for before, value in pairwise(values))]
        styles = [_NEW if is_new else "" for is_new in new]
        table.add_row(name, *(Text(_text(value), style) for value, style in zip(values, styles, strict=True)))
    return indented(table)


def _objects(story: Story, row: RowHistory) -> RenderableType:
    """The lake objects that the newest version came from, as paths from the demo's folder."""
    newest, base = row.versions[-1], f"{story.folder.resolve()}{os.sep}"
    places = "".join(f"\n  {place.removeprefix(base)}" for place in newest.objects)
    return remark(f"Batch {newest.batch}'s version came from{places}")


def _moves(moved: list[RowHistory]) -> RenderableType:
    table = table_of("row", "who", "city in batch 1", "city in batch 2")
    for row in moved:
        column, first, last = _PLACES[row.table], row.versions[0], row.versions[-1]
        place = Text(last.values[column], style=_NEW)
        table.add_row(f"{row.table} {row.key}", _who(last), first.values[column], place)
    return indented(table)


def _who(version: Version) -> str:
    values = version.values
    if "counterparty_legal_name" in values:
        return str(values["counterparty_legal_name"])
    return f"{values['first_name']} {values['last_name']}, {values['department_name']}"


def _rows(answer: Answer) -> RenderableType:
    columns = zip(answer.columns, zip(*answer.rows, strict=True), strict=False)
    numbers = tuple(
        name for name, values in columns if any(isinstance(value, int | Decimal) for value in values)
    )
    table = table_of(*answer.columns, right=numbers)
    for row in answer.rows:
        table.add_row(*(_text(value) for value in row))
    return indented(table)


def _files(story: Story) -> RenderableType:
    table = table_of("path", "size", "files", "", right=("size", "files"))
    table.show_header = False
    for made in story.files:
        path = f"{story.folder / made.path}{'/' if made.path.endswith('/') else ''}"
        files = "1 file" if made.files == 1 else f"{made.files:,} files"
        table.add_row(path, decimal(made.size), files, Text(made.description, style="dim"))
    return indented(table)


def _next(story: Story) -> RenderableType:
    commands = next_commands(story)
    width = max(len(command) for command, about in commands if about)
    lines = [
        Text.assemble((command.ljust(width + 2) if about else command, "bold"), (about, "dim"))
        for command, about in commands
    ]
    grid = Table.grid()
    for line in lines:
        grid.add_row(line)
    return indented(grid)


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime.datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    return f"{value:,}" if isinstance(value, int | Decimal) else str(value)
