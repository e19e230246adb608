"""The demo's output: colour and motion on a terminal, plain text elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer
from rich import box
from rich.console import RenderableType
from rich.padding import Padding
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from totes.console import Console

_WIDTH = 100


class Screen:
    """Standard output; with --json only progress is written, on standard error if that is a terminal."""

    def __init__(self, *, as_json: bool) -> None:
        self._quiet = as_json
        stream = sys.stderr if as_json else sys.stdout
        self._moving = stream.isatty()
        width = min(_WIDTH, shutil.get_terminal_size().columns) if self._moving else _WIDTH
        self._console = Console(file=stream, width=width)
        self._done = "✓" if self._moving and self._console.encoding.startswith("utf") else ""

    def write(self, *parts: RenderableType) -> None:
        """Writes parts, one below the other."""
        if self._quiet:
            return
        if self._moving:
            self._console.print(*parts, sep="\n")
            return
        with self._console.capture() as captured:
            self._console.print(*parts, sep="\n")
        typer.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))

    @contextmanager
    def show_step(self, doing: str, done: Callable[[], str]) -> Iterator[None]:
        """Shows a step while it runs, with the time so far, and then its result, with the time that it took."""
        began = time.perf_counter()
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        with Progress(*columns, console=self._console, transient=True, disable=not self._moving) as progress:
            progress.add_task(doing)
            yield
        line = Table.grid(expand=True, padding=(0, 1))
        line.add_column(width=1, style="green")
        line.add_column(ratio=1)
        line.add_column(justify="right", style="dim", no_wrap=True)
        line.add_row(self._done, done(), f"{time.perf_counter() - began:.1f} s")
        self.write(line)


def heading(title: str) -> RenderableType:
    """The head of a section."""
    return Padding(Rule(Text(title, style="bold"), align="left", style="dim"), (1, 0, 0, 0))


def indented(part: RenderableType) -> RenderableType:
    """A part of a section."""
    return Padding(part, (0, 0, 0, 2), expand=False)


def remark(text: str) -> RenderableType:
    """A remark below a part."""
    return Padding(Text(text, style="dim"), (1, 0, 0, 2))


def table_of(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """An empty table; the columns named in `right` hold numbers."""
    table = Table(box=box.SIMPLE, header_style="dim", pad_edge=False, show_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table
