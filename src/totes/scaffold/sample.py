"""What the first rows of a table show that its catalog does not say: infinite times, and how many digits numbers have."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import psycopg

from totes import engine
from totes.scaffold.catalog import Column, Table
from totes.scaffold.meaning import is_moment

_ROWS = 10_000
_OTHERS = "('NaN', 'Infinity', '-Infinity')"


def sampled(connection: psycopg.Connection, schema: str, table: Table) -> Table:
    """A table with what its first rows show."""
    looked_at = [column for column in table.columns if is_moment(column) or column.type == "numeric"]
    if not looked_at:
        return table
    asked = ", ".join(
        _of_moment(engine.name(column.name)) if is_moment(column) else _of_number(engine.name(column.name))
        for column in looked_at
    )
    names = engine.names(column.name for column in looked_at)
    rows = f"SELECT {names} FROM {engine.name(schema, table.name)} LIMIT {_ROWS}"
    answer = connection.execute(f"SELECT {asked} FROM ({rows}) AS first".encode()).fetchone()
    assert answer is not None
    seen = {column.name: _with(column, value) for column, value in zip(looked_at, answer, strict=True)}
    return replace(table, columns=tuple(seen.get(column.name, column) for column in table.columns))


def _of_moment(value: str) -> str:
    return f"coalesce(bool_or(NOT isfinite({value})), false)"


def _of_number(value: str) -> str:
    is_other = f"{value}::text IN {_OTHERS}"
    whole = f"CASE WHEN abs({value}) < 1 THEN 0 ELSE length(trunc(abs({value}))::text) END"
    return (
        f"ARRAY[coalesce(max({whole}) FILTER (WHERE NOT {is_other}), 0), coalesce(max(scale({value})), 0),"
        f" coalesce(max(({is_other})::int), 0)]"
    )


def _with(column: Column, value: Any) -> Column:
    if isinstance(value, bool):
        return replace(column, infinite=value)
    whole, fraction, is_other = value
    return replace(column, digits=None if is_other else (int(whole), int(fraction)))
