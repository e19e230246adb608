"""What a model's FROM can name: a relation with its columns, their forms, and how SQL computes with them.

A source column has an exact *raw* form, that of the lake: an integer, a boolean, a JSON document or PostgreSQL's text.
An expression of a model sees it in its *typed* form, DuckDB's nearest type, which cannot hold every value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeVar

from totes import engine
from totes.lake.manifest import SourceColumn, TableChanges
from totes.processing.bound.lossless_casts import json_bends, loses_digits
from totes.star.model import WIDEST_DECIMAL

T = TypeVar("T")
Suspects = dict[tuple[str, str], str]
# DuckDB's nearest type to a PostgreSQL type, for types that need no look at their parameters.
TYPED = {
    "smallint": "SMALLINT",
    "integer": "INTEGER",
    "bigint": "BIGINT",
    "boolean": "BOOLEAN",
    "real": "FLOAT",
    "double precision": "DOUBLE",
    "date": "DATE",
    "uuid": "UUID",
    "bytea": "BLOB",
    "json": "JSON",
    "jsonb": "JSON",
    "bit": "BIT",
    "bit varying": "BIT",
}


@dataclass(frozen=True)
class RelationColumn:
    """A column: its name, its raw type, the DuckDB type in which expressions see it, and a source column's number.

    The number identifies the column in other batches, where it may have another name.
    """

    name: str
    raw_type: str
    typed: str
    number: int = 0

    @property
    def carried_as_text(self) -> bool:
        """Whether the raw form is text of another type, so that typing it may fail."""
        return self.raw_type == "VARCHAR" and self.typed != "VARCHAR"

    def typed_expression(self, raw: str) -> str:
        """SQL that types a raw value, or gives NULL where the type cannot hold it."""
        if self.raw_type == self.typed:
            return raw
        return self._typed(raw) if self.carried_as_text else f"CAST({raw} AS {self.typed})"

    def _typed(self, raw: str) -> str:
        lost = loses_digits(raw, self.typed) if self.typed == WIDEST_DECIMAL else None
        if self.typed == "JSON":
            lost = json_bends(raw)
        parsed = engine.parse_text(raw, self.typed)
        return f"CASE WHEN NOT {lost} THEN {parsed} END" if lost else parsed


@dataclass(frozen=True)
class Relation:
    """A table, reference file or calendar, as models see it.

    `key` is what identifies a row of it; a source table's `number` distinguishes it from others that had or will have its name.
    """

    name: str
    columns: tuple[RelationColumn, ...]
    key: tuple[str, ...]
    is_source: bool
    number: int = 0

    @property
    def documents(self) -> tuple[str, ...]:
        """The columns that are JSON documents, in order."""
        return tuple(column.name for column in self.columns if column.typed == "JSON")

    @property
    def plain(self) -> dict[str, str]:
        """The raw types of the other columns."""
        return {column.name: column.raw_type for column in self.columns if column.typed != "JSON"}

    def column(self, name: str) -> RelationColumn | None:
        """The column that a model means by `name`: the very name, or else one in another case."""
        for column in self.columns:
            if column.name == name:
                return column
        return next((column for column in self.columns if column.name.lower() == name.lower()), None)

    def raw_type(self, name: str) -> str:
        """The raw type of a column that is there."""
        return next(column.raw_type for column in self.columns if column.name == name)


@dataclass(frozen=True)
class Relations:
    """All that a FROM can name at one batch, by name, and tables that the batch could not read, each with the reason."""

    present: dict[str, Relation]
    absent: dict[str, str]

    def find(self, name: str) -> Relation | None:
        """The relation of that very name, or else one in another case."""
        return _by_name(self.present, name)

    def why_absent(self, name: str) -> str | None:
        """Why a table is not there that was, or that the source has."""
        return _by_name(self.absent, name)


def _by_name(entries: dict[str, T], name: str) -> T | None:
    if name in entries:
        return entries[name]
    return next((entry for key, entry in entries.items() if key.lower() == name.lower()), None)


def source_relation(name: str, changes: TableChanges) -> Relation:
    """The relation of a captured table, as a manifest describes it."""
    columns = tuple(
        RelationColumn(column.name, column.raw_type, typed_name(column), column.number)
        for column in changes.columns
    )
    return Relation(name, columns, changes.key, is_source=True, number=changes.relation)


def typed_name(column: SourceColumn) -> str:
    """DuckDB's type for a PostgreSQL type; VARCHAR for those that it does not have."""
    base, _, parameters = column.type.partition("(")
    digits = [int(number) for number in re.findall(r"-?\d+", parameters)] if parameters else []
    if base.endswith("[]") or column.type.endswith("[]"):
        return "VARCHAR"
    if base == "numeric":
        precision, scale = ([*digits, 0])[:2] if digits else (0, 0)
        return (
            f"DECIMAL({precision}, {scale})"
            if 0 < precision <= 38 and 0 <= scale <= precision
            else WIDEST_DECIMAL
        )
    if base.startswith("timestamp"):
        return "TIMESTAMPTZ" if column.type.endswith("with time zone") else "TIMESTAMP"
    if base.startswith("time"):
        return "TIMETZ" if column.type.endswith("with time zone") else "TIME"
    if base.startswith("interval"):
        return "INTERVAL"
    return TYPED.get(base.strip(), "VARCHAR")


def suspects(tables: dict[str, TableChanges]) -> Suspects:
    """The columns, by table and name, whose type PostgreSQL does not compare character by character, with what they are."""
    found: Suspects = {}
    for name, table in tables.items():
        for column in table.columns:
            if re.search(r'(^|\.)"?citext"?$', column.type):
                found[name, column.name] = "a citext"
            elif re.fullmatch(r"character(\(\d+\))?", column.type):
                found[name, column.name] = f"a {column.type}"
    return found
