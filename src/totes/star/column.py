"""A column of a warehouse table, as its model declares it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A column of a warehouse table.

    `type` is DuckDB's; `unbounded` marks a NUMERIC without precision, and `length_max` is the n of a VARCHAR(n).
    `references` is the table whose primary key the column refers to, and `references_column` the column there, if the
    model names it. `was` is the column's previous name, from a comment `-- was: name`.
    """

    name: str
    type: str
    not_null: bool
    unbounded: bool = False
    length_max: int | None = None
    references: str | None = None
    description: str | None = None
    references_column: str | None = None
    was: str | None = None
