"""A column of a warehouse table as its model declares it, for those who know nothing of queries."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A column of a warehouse table.

    `type` is DuckDB's; `unbounded` says that it was declared NUMERIC without a precision, and `length_max` is the
    declared one of a VARCHAR(n). `references` names the table whose primary key the column refers to, `references_column`
    the column there, where the model names it. `was` is what the column was called before, by a comment `-- was: name`.
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
