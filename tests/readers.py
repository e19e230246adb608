"""What stands in a warehouse, as one reads it who is not the pipeline.

A DuckDB file is attached for a moment to an engine that is there anyway, which takes an eighth of the time that an
engine of its own for each query takes.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

_numbers = itertools.count(1)


@functools.cache
def _engine() -> duckdb.DuckDBPyConnection:
    made = duckdb.connect(":memory:")
    made.execute("SET GLOBAL TimeZone = 'UTC'")
    return made


@contextmanager
def attached(file: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that reads a DuckDB file, whose log of what was not yet written into it stays."""
    name = f"read_{next(_numbers)}"
    with _engine().cursor() as connection:
        connection.execute(f"ATTACH '{str(file).replace(chr(39), chr(39) * 2)}' AS {name} (READ_ONLY)")
        try:
            connection.execute(f"USE {name}")
            yield connection
        finally:
            connection.execute("USE memory")
            connection.execute(f"DETACH {name}")


def rows(file: Path, sql: str) -> list[tuple[Any, ...]]:
    """The rows of a query over a DuckDB file."""
    with attached(file) as connection:
        return connection.execute(sql).fetchall()
