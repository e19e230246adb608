"""How the demo looks: steps as they happen, then what came of them. Colour and motion on a terminal, else plain text."""

from __future__ import annotations

import datetime
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import typer
from rich import box
from rich.console import Console, RenderableType
from rich.filesize import decimal
from rich.padding import Padding
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from totes.cli.demo_story import RowHistory, Story
from totes.monitoring.history import Version

_WIDTH = 100
_ORDER_COLUMNS = ("units_sold", "unit_price", "agreed_delivery_date", "valid_from", "valid_to", "is_deleted")
_PLACES = {"dim_staff": "location", "dim_counterparty": "counterparty_legal_city"}


class Screen:
    """Where the demo writes: standard output, or with --json nothing but the progress, on standard error."""

    def __init__(self, *, as_json: bool) -> None:
        self._quiet = as_json
        stream = sys.stderr if as_json else sys.stdout
        self._moving = stream.isatty()
        width = min(_WIDTH, shutil.get_terminal_size((_WIDTH, 25)).columns) if self._moving else _WIDTH
        self._console = Console(file=stream, width=width, highlight=False)

    def write(self, *parts: RenderableType) -> None:
        """Writes parts, one below the other; without the spaces that fill their lines up when it is no terminal."""
        if self._quiet:
            return
        if self._moving:
            self._console.print(*parts, sep="\n")
            return
        with self._console.capture() as captured:
            self._console.print(*parts, sep="\n")
        typer.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))

    def introduce(self) -> None:
        """Says what is going to happen."""
        self.write(
            Text(
                "TerrificTotes makes tote bags. Its database, totesys, knows only how things are now. It is captured into"
                " a lake and turned into a star schema; then it trades for a day, and what changed follows."
            ),
            "",
        )

    @contextmanager
    def show_step(self, doing: str, done: Callable[[], str]) -> Iterator[None]:
        """Shows a step: what it is doing and for how long, and then what it has done and in how long."""
        began = time.perf_counter()
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=self._console, transient=True, disable=not self._moving) as progress:
            progress.add_task(doing)
            yield
        line = Table.grid(expand=True, padding=(0, 1))
        line.add_column(width=1, style="green")
        line.add_column(ratio=1)
        line.add_column(justify="right", style="dim", no_wrap=True)
        line.add_row("✓" if self._moving else "", done(), f"{time.perf_counter() - began:.1f} s")
        self.write(line)


def show_story(screen: Screen, story: Story) -> None:
    """Writes what came of the demo."""
    day, changed, deleted = story.day, story.changed, story.deleted
    assert day is not None
    assert changed is not None
    assert deleted is not None
    screen.write(_heading("What each stage did"), _stages(story))
    screen.write(_heading(f"An order that changed, with its past: {changed.table} {changed.key}"))
    screen.write(_versions(changed), _objects(story, changed))
    screen.write(_heading(f"An order that was deleted, and is still known: {deleted.table} {deleted.key}"))
    screen.write(_versions(deleted), _aside("Nothing tells when a row is deleted: batch 2 found it gone, and its read time is the time."))
    screen.write(_heading("What moved: one row in totesys, every row of the star that shows it"), _moves(story))
    screen.write(_heading("Three questions to the star"))
    for number, answer in enumerate(story.answers):
        screen.write(*([""] if number else []), _indented(Text(answer.question, style="italic")), "")
        screen.write(_indented(Text(answer.sql, style="cyan")), "", _rows(answer.columns, answer.rows))
    screen.write(_heading("Does the warehouse equal totesys?"), _checked(story))
    screen.write(_heading("Where it is"), _files(story))
    screen.write(_heading("What to type next, now that the server has stopped"), _next_commands(story))


def as_document(story: Story) -> dict[str, object]:
    """The object that `totes demo --json` prints."""
    day, changed, deleted = story.day, story.changed, story.deleted
    assert day is not None
    assert changed is not None
    assert deleted is not None
    return {
        "folder": str(story.folder), "orders": story.orders, "postgresql": story.server, "seconds": story.seconds,
        "batches": [cycle.as_json() for cycle in story.batches],
        "traded": asdict(day),
        "changed_order": _history_document(changed), "deleted_order": _history_document(deleted),
        "moved": [_history_document(row) for row in story.moved],
        "answers": [
            {"question": answer.question, "sql": answer.sql,
             "rows": [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]}
            for answer in story.answers
        ],
        "checked": {"what": _what_was_checked(story), "tables": {n: asdict(one) for n, one in story.checked.items()}},
        "files": [asdict(made) for made in story.files],
        "next": [command for command, _ in _commands(story)],
    }  # fmt: skip


def _history_document(row: RowHistory) -> dict[str, object]:
    versions = [{**version.values, "batch_id": version.batch, "objects": version.objects} for version in row.versions]
    return {"table": row.table, "key": [str(row.key)], "versions": versions}


def _heading(title: str) -> RenderableType:
    return Padding(Rule(Text(title, style="bold"), align="left", style="dim"), (1, 0, 0, 0))


def _indented(part: RenderableType) -> RenderableType:
    return Padding(part, (0, 0, 0, 2), expand=False)


def _table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    table = Table(box=box.SIMPLE, header_style="dim", pad_edge=False, show_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def _stages(story: Story) -> RenderableType:
    table = _table("batch", "stage", "did", "rows", "seconds", "rows a second", right=("batch", "rows", "seconds", "rows a second"))
    for number, cycle in enumerate(story.batches, start=1):
        captured = list(cycle.ingested.changes.values()) if cycle.ingested else []
        upserts, deletes = sum(one.upserts for one in captured), sum(one.deletes for one in captured)
        loaded = [count for rows in cycle.loaded.batches.values() for count in rows.values()] if cycle.loaded else []
        made = [
            model for batch in (cycle.processed.batches.values() if cycle.processed else ()) for model in batch.values()
        ]
        touched = sum(1 for one in captured if one.upserts or one.deletes)
        for stage, did, rows in (
            ("ingest", f"{touched} tables: {upserts:,} new or changed, {deletes} deleted", upserts + deletes),
            ("process", f"{sum(1 for one in made if one.written)} tables of the star computed", sum(one.written for one in made)),
            ("load", f"{len(loaded)} tables of the star, in one transaction", sum(loaded)),
        ):
            seconds = cycle.seconds[stage]
            table.add_row(
                str(number) if stage == "ingest" else "", stage, did, f"{rows:,}", f"{seconds:.2f}", f"{rows / seconds:,.0f}"
            )
    return _indented(table)


def _versions(row: RowHistory) -> RenderableType:
    table = _table("", *(f"batch {version.batch}" for version in row.versions))
    for name in _ORDER_COLUMNS:
        values = [version.values[name] for version in row.versions]
        table.add_row(
            name,
            *(
                Text(_text(value), style="bold yellow" if number and value != values[number - 1] else "")
                for number, value in enumerate(values)
            ),
        )
    return _indented(table)


def _objects(story: Story, row: RowHistory) -> RenderableType:
    """The lake objects that the newest version came from."""
    places = [_place(story, place) for place in row.versions[-1].objects]
    return _aside("\n".join([f"Batch {row.versions[-1].batch}'s version came from", *(f"  {place}" for place in places)]))


def _aside(text: str) -> RenderableType:
    return Padding(Text(text, style="dim"), (1, 0, 0, 2))


def _place(story: Story, place: str) -> str:
    """An object's place, from the demo's folder."""
    base = f"{story.folder.resolve()}{os.sep}"
    return place.removeprefix(base)


def _moves(story: Story) -> RenderableType:
    table = _table("row", "who", "city in batch 1", "city in batch 2")
    for row in story.moved:
        first, last = row.versions[0].values, row.versions[-1].values
        column = _PLACES[row.table]
        table.add_row(f"{row.table} {row.key}", _who(row.versions[-1]), first[column], Text(last[column], style="bold yellow"))
    return _indented(table)


def _who(version: Version) -> str:
    values = version.values
    if "counterparty_legal_name" in values:
        return str(values["counterparty_legal_name"])
    return f"{values['first_name']} {values['last_name']}, {values['department_name']}"


def _rows(columns: list[str], rows: list[tuple[Any, ...]]) -> RenderableType:
    numbers = tuple(
        column for number, column in enumerate(columns) if any(isinstance(row[number], int | Decimal) for row in rows)
    )
    table = _table(*columns, right=numbers)
    for row in rows:
        table.add_row(*(_text(value) for value in row))
    return _indented(table)


def _what_was_checked(story: Story) -> str:
    tables = story.checked.values()
    kept = sum(one.kept for one in tables)
    said = (
        f"all {len(story.checked)} tables. Each model's query, run over a copy of totesys that PostgreSQL wrote with COPY,"
        f" gives exactly the rows that are current in the warehouse: {sum(one.rows for one in tables):,} rows,"
        " every column equal, none missing, none too many."
    )
    if kept:
        names = ", ".join(name for name, one in story.checked.items() if one.kept)
        said += f" {kept} more in {names}: deleted in totesys, and kept because the history of a fact refers to it."
    return said


def _checked(story: Story) -> RenderableType:
    return _indented(Text.assemble(("Checked: ", "bold green"), _what_was_checked(story)))


def _files(story: Story) -> RenderableType:
    table = _table("", "size", "files", "", right=("size", "files"))
    table.show_header = False
    for made in story.files:
        files = f"{made.files:,} files" if made.files > 1 else "1 file"
        table.add_row(str(story.folder / made.path) + ("/" if made.path.endswith("/") else ""), decimal(made.size), files,
                      Text(made.description, style="dim"))  # fmt: skip
    return _indented(table)


def _commands(story: Story) -> list[tuple[str, str]]:
    """Commands with what they show, in the order in which to type them."""
    assert story.changed is not None
    go_there = [("cd " + shlex.quote(str(story.folder)), "")] if story.folder.resolve() != Path.cwd() else []
    ask = "import duckdb; print(duckdb.connect('warehouse.duckdb').sql('FROM dim_staff'))"
    return [
        *_activation(),
        *go_there,
        ("totes status", "where each stage stands"),
        (f"totes history fact_sales_order {story.changed.key}", "the changed order, every column"),
        (f"totes history dim_staff {story.moved[0].key}", "somebody who moved with the department"),
        ("totes warehouse sql", "the star's tables, as SQL"),
        (f'python -c "{ask}"', ""),
    ]


def _activation() -> list[tuple[str, str]]:
    """What makes `totes` known to the shell, where it is not yet."""
    own = Path(sys.executable).with_name("totes")
    found, script = shutil.which("totes"), own.with_name("activate")
    if (found and Path(found).absolute() == own.absolute()) or not script.exists():
        return []
    place = script.relative_to(Path.cwd()) if script.is_relative_to(Path.cwd()) else script
    return [(f". {shlex.quote(str(place))}", "makes totes known to this shell")]


def _next_commands(story: Story) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    commands = _commands(story)
    width = max(len(command) for command, about in commands if about)
    for command, about in commands:
        line = Text(command.ljust(width + 2) if about else command, style="bold")
        table.add_row("", line.append(about, style="dim not bold"))
    return table


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime.datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    return f"{value:,}" if isinstance(value, int | Decimal) else str(value)
