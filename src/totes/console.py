"""The one way to a terminal: Rich, with every text made harmless before it is written.

A string is one line, and is shown as it is: no markup, no emoji codes. Rich's own `Text` may have lines.
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
    """A console that escapes what a terminal would obey, whoever wrote it, and interprets nothing of a text."""

    def __init__(self, *, file: IO[str] | None = None, stderr: bool = False, **layout: Any) -> None:
        super().__init__(file=file, stderr=stderr, markup=False, emoji=False, highlight=False, **layout)

    def render_str(self, text: str, **style: Any) -> Text:
        """A string as text, on one line: escaped before it is measured, so that columns stay as wide as what they show."""
        return super().render_str(one_line(text), **style)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Renders anything; what controls the terminal is Rich's own alone."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(escaped(segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        """Leaves it to the command what it means that nobody reads its output any more."""
        raise BrokenPipeError


def table_of(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """An empty table that loses nothing on a narrow terminal: what is too wide goes on below. `right` names its numbers."""
    table = Table()
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table
