"""The star as a diagram: where each table's box stands and how the lines between them run. Pure; a template draws it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from totes.monitoring.dictionary import ColumnEntry, TableEntry

BOX_WIDTH, HEAD_HEIGHT, ROW_HEIGHT = 226, 28, 19
_GAP_ACROSS, _GAP_DOWN, _MARGIN, _FOOT = 150, 22, 12, 6
_BEND = 62


@dataclass
class Box:
    """A table: its place, its size, and the columns that it shows."""

    table: TableEntry
    columns: tuple[ColumnEntry, ...]
    side: int = 0
    x: int = 0
    y: int = 0

    @property
    def height(self) -> int:
        """How high it is."""
        return HEAD_HEIGHT + ROW_HEIGHT * len(self.columns) + _FOOT

    def y_of(self, column: str) -> float:
        """The middle of a column's line."""
        names = [one.name for one in self.columns]
        return self.y + HEAD_HEIGHT + ROW_HEIGHT * (names.index(column) + 0.5)

    @property
    def y_of_key(self) -> float:
        """Where lines to it end: at its key."""
        shown = [column.name for column in self.columns if column.role == "key"]
        return self.y_of(shown[0]) if shown else self.y + HEAD_HEIGHT / 2


@dataclass(frozen=True)
class Line:
    """A reference from a column to a table, as an SVG path; `number` is that of the table that it begins at."""

    start: str
    column: str
    target: str
    path: str
    number: int


@dataclass
class Diagram:
    """All boxes and lines, and the size of the whole."""

    boxes: list[Box]
    lines: list[Line] = field(default_factory=list)
    width: int = 0
    height: int = 0


def draw(tables: Iterable[TableEntry], focus: str | None = None) -> Diagram:
    """Draws a star: tables that nothing refers to in the middle, the others on both sides.

    Args:
        tables: the tables.
        focus: a table that is shown with all of its columns, with those alone that it refers to or that refer to it.
    """
    chosen = [table for table in tables if focus is None or _is_near(table, focus, tables)]
    names = {table.name for table in chosen}
    boxes = [Box(table, _columns(table, focus, names)) for table in chosen]
    middle = [box for box in boxes if _is_middle(box.table, focus, names)] or boxes[:1]
    _share_out([box for box in boxes if box not in middle], middle)
    diagram = Diagram(boxes)
    for side in (-1, 0, 1):
        y = _MARGIN
        for box in sorted((one for one in boxes if one.side == side), key=lambda one: one.y):
            box.y, y = y, y + box.height + _GAP_DOWN
        diagram.height = max(diagram.height, y - _GAP_DOWN + _MARGIN)
    sides = sorted({box.side for box in boxes})
    for side in (-1, 0, 1):
        column = [box for box in boxes if box.side == side]
        used = sum(box.height + _GAP_DOWN for box in column) - _GAP_DOWN
        for box in column:
            box.x = _MARGIN + sides.index(side) * (BOX_WIDTH + _GAP_ACROSS)
            box.y += max(0, (diagram.height - 2 * _MARGIN - used) // 2)
    diagram.width = 2 * _MARGIN + len(sides) * BOX_WIDTH + (len(sides) - 1) * _GAP_ACROSS
    diagram.lines = _lines(boxes)
    return diagram


def _is_near(table: TableEntry, focus: str, tables: Iterable[TableEntry]) -> bool:
    if table.name == focus or focus in table.references.values():
        return True
    return any(one.name == focus and table.name in one.references.values() for one in tables)


def _is_middle(table: TableEntry, focus: str | None, names: set[str]) -> bool:
    if focus is not None:
        return table.name == focus
    return bool(table.references) and not names & (set(table.referred_by) - {table.name})


def _columns(table: TableEntry, focus: str | None, names: set[str]) -> tuple[ColumnEntry, ...]:
    if table.name == focus:
        return table.columns
    return tuple(
        column
        for column in table.columns
        if column.role in ("key", "surrogate")
        or (column.references in names and focus in (None, column.references))
    )


def _share_out(others: list[Box], middle: list[Box]) -> None:
    """Puts boxes on the two sides: evenly, and each near the lines that lead to it."""
    order = {box.table.name: number for number, box in enumerate(middle)}

    def height_of_lines(box: Box) -> float:
        linked = {*box.table.referred_by, *box.table.references.values()} & order.keys()
        return sum(order[name] for name in linked) / len(linked) if linked else len(order)

    for number, box in enumerate(middle):
        box.y = number
    heights = {-1: 0, 1: 0}
    for number, box in enumerate(sorted(others, key=lambda one: (height_of_lines(one), one.table.name))):
        box.side = min(heights, key=lambda side: (heights[side], side))
        box.y = number
        heights[box.side] += box.height + _GAP_DOWN


def _lines(boxes: list[Box]) -> list[Line]:
    named = {box.table.name: box for box in boxes}
    found = []
    for number, box in enumerate(sorted(boxes, key=lambda one: (one.side, one.y))):
        shown = {column.name for column in box.columns}
        for column, target in box.table.references.items():
            if column in shown and target in named:
                found.append(Line(box.table.name, column, target, _path(box, column, named[target]), number))
    return found


def _path(box: Box, column: str, target: Box) -> str:
    y, to_y = box.y_of(column), target.y_of_key
    if target.x == box.x:  # on the same side, or itself: around outside
        x = box.x + BOX_WIDTH
        return f"M{x} {y:g}C{x + _BEND} {y:g} {x + _BEND} {to_y:g} {x} {to_y:g}"
    right = target.x > box.x
    x, to_x = (box.x + BOX_WIDTH, target.x) if right else (box.x, target.x + BOX_WIDTH)
    bend = _BEND if right else -_BEND
    return f"M{x} {y:g}C{x + bend} {y:g} {to_x - bend} {to_y:g} {to_x} {to_y:g}"
