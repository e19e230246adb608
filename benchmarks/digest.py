"""What a table holds, as a number of rows and a checksum that PostgreSQL and DuckDB work out alike.

A time is believed only where what it made has the digest of what it was made from.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import duckdb
import psycopg

# How a value of a kind becomes a text that is the same in both.
_POSTGRESQL = {
    "number": "round({0}, 6)::numeric(38, 6)::text",
    "boolean": "({0})::int::text",
    "moment": "(extract(epoch FROM {0}) * 1000000)::bigint::text",
    "date": "({0})::date::text",
    "text": "({0})::text",
}
_DUCKDB = {
    "number": "({0})::DECIMAL(38, 6)::VARCHAR",
    "boolean": "({0})::INTEGER::VARCHAR",
    "moment": "epoch_us({0})::VARCHAR",
    "date": "({0})::DATE::VARCHAR",
    "text": "({0})::VARCHAR",
}


class Column(NamedTuple):
    """A column and the kind of its values: number, boolean, moment, date or text (integers too)."""

    name: str
    kind: str


class Digest(NamedTuple):
    """The number of rows, and the sum of a checksum of each."""

    rows: int
    checksum: int


def kind_of(declared: str) -> str:
    """The kind of values that a declared type of PostgreSQL or DuckDB has."""
    name = declared.lower()
    patterns = {"numeric|decimal": "number", "boolean": "boolean", "time": "moment", "date": "date"}
    return next((kind for pattern, kind in patterns.items() if re.match(pattern, name)), "text")


def raw_columns(url: str, schema: str = "public") -> dict[str, tuple[Column, ...]]:
    """The columns of all tables of a schema, by table."""
    found: dict[str, tuple[Column, ...]] = {}
    with psycopg.connect(url) as connection:
        for table, name, declared in connection.execute(
            "SELECT table_name::text, column_name::text, data_type FROM information_schema.columns"
            " WHERE table_schema = %s ORDER BY table_name, ordinal_position", [schema],
        ).fetchall():  # fmt: skip
            found[table] = (*found.get(table, ()), Column(name, kind_of(declared)))
    return found


def of_postgresql(url: str, relation: str, columns: tuple[Column, ...]) -> Digest:
    """The digest of a relation in PostgreSQL: a table's name, or a query in parentheses."""
    line = _line(columns, _POSTGRESQL)
    sql = f"SELECT count(*), sum(('x' || substr(md5({line}), 1, 8))::bit(32)::bigint) FROM {relation} AS digested"
    with psycopg.connect(url, options="-c search_path=public,reference") as connection:
        row = connection.execute(sql.encode()).fetchone()
    assert row is not None
    return Digest(int(row[0]), int(row[1] or 0))


def of_duckdb(file: Path, relation: str, columns: tuple[Column, ...]) -> Digest:
    """The digest of a relation in a DuckDB file that nobody has open."""
    line = _line(columns, _DUCKDB)
    sql = f"SELECT count(*), sum(('0x' || substr(md5({line}), 1, 8))::BIGINT) FROM {relation} AS digested"
    with duckdb.connect(str(file), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        [(rows, checksum)] = connection.execute(sql).fetchall()
    return Digest(int(rows), int(checksum or 0))


def _line(columns: tuple[Column, ...], forms: dict[str, str]) -> str:
    values = (forms[column.kind].format(f'"{column.name}"') for column in columns)
    return f"concat_ws('|', {', '.join(f'coalesce({value}, chr(126))' for value in values)})"
