"""The only way to a terminal: Rich, with every text escaped before it is written.

A string is one line, shown literally: no markup, no emoji codes. Rich's own `Text` may have several lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from totes.display import escaped, one_line


class Console(rich.console.Console):
    """A console that escapes terminal control characters in all text, and interprets no markup."""

    def __init__(self, *, file: IO[str] | None = None, stderr: bool = False, **layout: Any) -> None:
        super().__init__(file=file, stderr=stderr, markup=False, emoji=False, highlight=False, **layout)

    def render_str(self, text: str, **style: Any) -> Text:
        """A string as text on one line, escaped before it is measured, so that columns have the right width."""
        return super().render_str(one_line(text), **style)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Renders anything; only Rich's own segments may control the terminal."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(escaped(segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        """Raises an error, since the command decides what to do when its output is no longer read."""
        raise BrokenPipeError


def empty_table() -> Table:
    """A table that has no columns yet."""
    return Table()


def table_of(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """An empty table that wraps its cells on a narrow terminal; the columns `right` are right-aligned."""
    table = empty_table()
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table
