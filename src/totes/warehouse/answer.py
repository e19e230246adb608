"""What a warehouse answers to a person's own SQL: columns with their types, and rows that are read as they are needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

ROWS_AT_ONCE = 1000
ONLY_READS = "Only what reads the warehouse is run: SELECT, WITH, VALUES, TABLE, EXPLAIN, SHOW"

Row = tuple[str | None, ...]


@dataclass(frozen=True)
class AnswerColumn:
    """A column of an answer: its name, which others may have too, and its type in the warehouse's own words.

    `kind` is what a program can make of its text: `integer`, `numeric` (exact digits), `float`, `boolean`, or only `text`.
    """

    name: str
    type: str
    kind: Literal["integer", "numeric", "float", "boolean", "text"]

    @property
    def is_number(self) -> bool:
        """Whether the column has numbers."""
        return self.kind in ("integer", "numeric", "float")


@dataclass(frozen=True)
class Answer:
    """An answer. Each value is the exact text that the warehouse has for it; None is NULL."""

    columns: tuple[AnswerColumn, ...]
    rows: Iterator[Row]
