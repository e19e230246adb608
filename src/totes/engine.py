"""DuckDB as the pipeline's engine: how a connection is opened, and how names and values are written into SQL."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb

from totes.errors import EngineFault

Engine = duckdb.DuckDBPyConnection


def connect(path: Path | None, *, memory: str, scratch: Path | None = None) -> Engine:
    """Opens a DuckDB database that never reaches for the network and spills to `scratch`.

    Args:
        path: the database file, or None for one in memory.
        memory: the most that DuckDB's buffers may take, such as `1GB`; what is larger goes to `scratch`.
        scratch: a folder for what does not fit in memory; DuckDB's default beside the database if None.

    Raises:
        duckdb.IOException: another process holds the file, or it cannot be read.
    """
    options: dict[str, Any] = {
        "memory_limit": memory,
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        # With the order kept, DuckDB 2.0.0 loses sight, until the transaction ends, of rows that a parallel
        # INSERT … SELECT put into a table within it. Nothing here relies on an order that is not asked for.
        "preserve_insertion_order": "false",
    }
    if scratch is not None:
        options["temp_directory"] = str(scratch)
    engine = duckdb.connect(str(path) if path else ":memory:", config=options)
    engine.execute("SET TimeZone = 'UTC'")
    engine.execute("SET enable_progress_bar = false")
    return engine


def name(*parts: str) -> str:
    """An SQL name, each part in quotes: `name("a", 'b"c')` is `"a"."b""c"`. True for DuckDB and PostgreSQL alike."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


def names(columns: Iterable[str], prefix: str | None = None) -> str:
    """A comma-separated list of quoted column names, each after `prefix` when there is one."""
    return ", ".join(name(prefix, column) if prefix else name(column) for column in columns)


def text(value: str) -> str:
    """An SQL string literal for DuckDB, or for PostgreSQL with standard_conforming_strings."""
    return "'" + value.replace("'", "''") + "'"


def same(left: str, right: str, columns: Iterable[str], others: Iterable[str] | None = None) -> str:
    """The condition that two relations agree in key columns, NULL being equal to NULL."""
    pairs = zip(columns, others if others is not None else columns, strict=True)
    return " AND ".join(f"{name(left, one)} IS NOT DISTINCT FROM {name(right, other)}" for one, other in pairs)


def parquet(files: Iterable[Path]) -> str:
    """The relation of some local Parquet files; folder names such as `date=…` do not become columns."""
    listed = ", ".join(text(str(file)) for file in files)
    return f"read_parquet([{listed}], hive_partitioning = false)"


def json_lines(files: Iterable[Path], columns: str | None, compression: str, *, line_bytes_max: int = 16 << 20) -> str:
    """The relation of some local files of JSON lines.

    Args:
        files: the files.
        columns: the columns with their types, as DuckDB writes a struct; None for one column `json` with each line.
        compression: zstd, gzip or none.
        line_bytes_max: the longest line that can be read; buffers of this size are used.
    """
    listed = ", ".join(text(str(file)) for file in files)
    written = "uncompressed" if compression == "none" else compression
    return (
        f"{'read_json' if columns else 'read_json_objects'}([{listed}], format = 'newline_delimited',"
        f" compression = '{written}',{f' columns = {columns},' if columns else ''}"
        f" maximum_object_size = {line_bytes_max}, hive_partitioning = false)"
    )


def scalar(engine: Engine, sql: str) -> Any:
    """The single value that a query gives."""
    # All of the result is fetched: DuckDB keeps a connection busy that has an unfinished one.
    [[value]] = engine.execute(sql).fetchall()
    return value


def copy_out(engine: Engine, statement: str, rows: int) -> None:
    """Runs a COPY to a file, and makes sure that it wrote what it should have.

    Raises:
        EngineFault: it wrote another number of rows.
    """
    written = scalar(engine, statement)
    if written != rows:
        raise EngineFault(f"the engine wrote {written} rows where there were {rows}")
