"""What a model's FROM can name: a relation with its columns, how they are kept, and how SQL computes with them.

A source column is kept in its *raw* form, which is exact: the integer, boolean, JSON or PostgreSQL text of the lake.
An expression of a model sees it in its *typed* form, DuckDB's nearest type, which cannot hold every value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from totes import engine
from totes.lake.manifest import SourceColumn, TableChanges
from totes.star.model import WIDEST_DECIMAL

_RAW_TYPES = {"integer": "BIGINT", "boolean": "BOOLEAN", "json": "JSON", "text": "VARCHAR"}
_TYPED = {
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
}


@dataclass(frozen=True)
class RelationColumn:
    """A column: its name at the source, its raw type, and the DuckDB type in which expressions see it."""

    name: str
    raw_type: str
    typed: str

    @property
    def carried_as_text(self) -> bool:
        """Whether the raw form is text of another type, so that typing it may fail."""
        return self.raw_type == "VARCHAR" and self.typed != "VARCHAR"

    def typed_expression(self, raw: str) -> str:
        """SQL that types a raw value, or gives NULL where the type cannot hold it."""
        return engine.parse_text(raw, self.typed) if self.carried_as_text else f"CAST({raw} AS {self.typed})"


@dataclass(frozen=True)
class Relation:
    """A table, reference file or calendar, as models see it; `key` is what identifies a row of it."""

    name: str
    columns: tuple[RelationColumn, ...]
    key: tuple[str, ...]
    is_source: bool

    def column(self, name: str) -> RelationColumn | None:
        """The column that a model means by `name`: the very name, or else one in another case."""
        for column in self.columns:
            if column.name == name:
                return column
        return next((column for column in self.columns if column.name.lower() == name.lower()), None)

    def raw_type(self, name: str) -> str:
        """The raw type of a column that is there."""
        return next(column.raw_type for column in self.columns if column.name == name)


def source_relation(name: str, changes: TableChanges) -> Relation:
    """The relation of a captured table, as a manifest describes it."""
    columns = tuple(
        RelationColumn(column.name, _RAW_TYPES[column.kind], typed_name(column)) for column in changes.columns
    )
    return Relation(name, columns, changes.key, is_source=True)


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
    return _TYPED.get(base.strip(), "VARCHAR")


def loses_digits(raw: str, target: str) -> str | None:
    """SQL that is true where a number's text has more fractional digits than the type keeps; None if none can."""
    if target in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT"):
        scale = 0
    elif match := re.match(r"DECIMAL\(\d+, (\d+)\)", target):
        scale = int(match.group(1))
    else:
        return None
    point = f"strpos({raw}, '.')"
    exponent = (
        f"(regexp_matches({raw}, '[eE]') AND TRY_CAST({raw} AS DOUBLE) IS DISTINCT FROM"
        f" TRY_CAST(TRY_CAST({raw} AS {target}) AS DOUBLE))"
    )
    return (
        f"({exponent} OR {point} > 0 AND length({raw}) - {point} > {scale}"
        f" AND NOT regexp_matches({raw}, '^[^.eE]*\\.\\d{{0,{scale}}}0*$'))"
    )


def lake_rows(
    relation: Relation, files: Iterable[Path], compression: str, *, line_bytes_max: int = 16 << 20
) -> str:
    """A query for the rows of some packets: the raw columns, `_op` and `_at`.

    Values of json columns are taken out of the lines as text: a JSON reader would round their numbers. In a line they
    stand last, in the order of the columns, each between two tabs, and a tab is nowhere else.
    """
    plain = {column.name: column.raw_type for column in relation.columns if column.raw_type != "JSON"}
    plain |= {"_op": "VARCHAR", "_at": "TIMESTAMP"}
    documents = [column.name for column in relation.columns if column.raw_type == "JSON"]
    if not documents:
        spec = "{" + ", ".join(f"{engine.text(name)}: '{kind}'" for name, kind in plain.items()) + "}"
        lines = engine.json_lines(files, spec, compression, line_bytes_max=line_bytes_max)
        return f"SELECT {engine.names(plain)} FROM {lines}"
    shape = engine.text(json.dumps(plain))
    lines = engine.json_lines(files, None, compression, line_bytes_max=line_bytes_max)
    values = [f"members.{engine.name(name)}" for name in plain]
    values += [
        f"nullif(parts[{3 + 2 * number}], 'null')::JSON AS {engine.name(name)}"
        for number, name in enumerate(documents)
    ]
    return (
        f"SELECT {', '.join(values)} FROM (SELECT parts, json_transform("
        f"CASE WHEN len(parts) > 1 THEN parts[1] || '}}' ELSE parts[1] END, {shape}) AS members"
        f" FROM (SELECT string_split(json::VARCHAR, chr(9)) AS parts FROM {lines}))"
    )
