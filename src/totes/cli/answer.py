"""How an answer of the warehouse is written: as a table for a person, or whole as JSON or CSV, row after row."""

from __future__ import annotations

import itertools
import math
import shutil
from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, TextIO

from totes.display import count, json_line, one_line

if TYPE_CHECKING:
    from totes.console import Console
    from totes.warehouse.answer import Answer, AnswerColumn, Row

_COLUMN_WIDTH_MIN = 12  # below that a cut value says too little: then there is one value a line
_NULL = "NULL"
_UNLIMITED = 1 << 20
_QUOTED = set(',"\r\n')


def write_json(out: TextIO, answer: Answer) -> None:
    """Writes one JSON object, a line a row: integers, floats and truth values are JSON's own, all else is exact text."""
    columns = [{"name": column.name, "type": column.type} for column in answer.columns]
    rows = _begun(answer)
    out.write(f'{{"columns": {json_line(columns)}, "rows": [')
    for number, row in enumerate(rows):
        values = [_json(column, value) for column, value in zip(answer.columns, row, strict=True)]
        out.write(f"{',' if number else ''}\n{json_line(values)}")
    out.write("\n]}\n")


def _begun(answer: Answer) -> Iterator[Row]:
    """The rows, of which the first has been read: a query that fails at once writes nothing."""
    first = list(itertools.islice(answer.rows, 1))
    return itertools.chain(first, answer.rows)


def _json(column: AnswerColumn, value: str | None) -> object:
    if value is None or column.kind in ("numeric", "text"):
        return value
    if column.kind == "integer":
        return int(value)
    if column.kind == "boolean":
        return value.startswith("t")
    number = float(value)
    return number if math.isfinite(number) else str(Decimal(number))


def write_csv(out: TextIO, answer: Answer) -> None:
    """Writes CSV as PostgreSQL's COPY does: NULL is nothing, an empty text is in quotes; escaped on a terminal."""
    safe, rows = one_line if out.isatty() else str, _begun(answer)
    for row in itertools.chain([tuple(column.name for column in answer.columns)], rows):
        out.write(f"{safe(','.join(map(_csv, row)))}\n")


def _csv(value: str | None) -> str:
    if value is None:
        return ""
    if value and not _QUOTED.intersection(value) and value == value.strip() and value != "\\.":
        return value
    doubled = value.replace('"', '""')
    return f'"{doubled}"'


def write_table(out: TextIO, answer: Answer, rows_max: int) -> None:
    """Writes the first rows for a person, on a terminal no wider than it.

    Values that are too long for their column are cut. Where too little of them would be left, each has a line of its own.
    """
    from totes.console import Console

    rows = list(itertools.islice(answer.rows, rows_max + 1))
    shown = [[_NULL if value is None else one_line(value) for value in row] for row in rows[:rows_max]]
    width = _terminal_width(out)
    console = Console(file=out, width=width or _UNLIMITED)
    widths = _widths(answer.columns, shown, width)
    if widths is None:
        _write_values(console, answer.columns, shown)
    elif _write_columns(console, answer.columns, shown, widths):
        console.print("What ends in … is cut; totes query --csv has all of it.")
    if len(rows) > rows_max:
        console.print(
            f"The first {count(rows_max, 'row')}; there are more. --limit N shows more, totes query --csv has all."
        )
    else:
        console.print(f"{count(len(rows), 'row')}.")


def _terminal_width(out: TextIO) -> int | None:
    """The width of a terminal; None where lines may be of any length."""
    return shutil.get_terminal_size().columns if out.isatty() else None


def _widths(columns: tuple[AnswerColumn, ...], rows: list[list[str]], width: int | None) -> list[int] | None:
    """How wide each column is; None if they do not fit side by side, however much is cut."""
    from rich.cells import cell_len

    names = [cell_len(one_line(column.name)) for column in columns]
    needed = [max(cell_len(value) for value in (*values, "")) for values in zip(*rows, strict=True)] or [
        0
    ] * len(columns)
    whole = [max(name, value, 1) for name, value in zip(names, needed, strict=True)]
    if width is None:
        return whole
    least = [
        value if column.is_number else min(value, _COLUMN_WIDTH_MIN)
        for column, value in zip(columns, whole, strict=True)
    ]
    room = width - 3 * len(columns) - 1
    if sum(least) > room:
        return None
    while sum(whole) > room:  # the widest gives way to the next widest
        widest = max(size for size, at_least in zip(whole, least, strict=True) if size > at_least)
        whole[whole.index(widest)] = widest - 1
    return whole


def _write_columns(
    console: Console, columns: tuple[AnswerColumn, ...], rows: list[list[str]], widths: list[int]
) -> bool:
    """Writes columns side by side, and gives whether a value had to be cut."""
    from rich.cells import cell_len

    from totes.console import empty_table

    table = empty_table()
    for column, width in zip(columns, widths, strict=True):
        table.add_column(
            column.name,
            justify="right" if column.is_number else "left",
            no_wrap=True,
            overflow="ellipsis",
            width=width,
        )
    for row in rows:
        table.add_row(*row)
    console.print(table)
    return any(cell_len(value) > width for row in rows for value, width in zip(row, widths, strict=True))


def _write_values(console: Console, columns: tuple[AnswerColumn, ...], rows: list[list[str]]) -> None:
    """Writes a value a line, row below row."""
    from rich.table import Table

    for number, row in enumerate(rows, 1):
        console.print(f"row {number}", style="bold")
        table = Table.grid(padding=(0, 2))
        table.add_column(overflow="fold", max_width=console.width // 2)
        table.add_column(overflow="fold")
        for column, value in zip(columns, row, strict=True):
            table.add_row(f"  {column.name}", value)
        console.print(table)
