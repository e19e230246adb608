"""JSON lines: how rows become the text that the ingestion lake keeps, and how that text becomes a compressed file.

The engine makes the lines; their text goes to the compressor as it lies in the engine's buffers, without a copy.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

import nanoarrow

from totes import engine
from totes.errors import EngineFault, StoreError
from totes.ingestion.catalog import PLAIN_IN_JSON, TableColumn
from totes.messages import message

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdCompressor
else:
    from backports.zstd import ZstdCompressor

# At this level the lake is as large as at zstd's default, and takes half the time.
_ZSTD_LEVEL, _GZIP_LEVEL = 1, 6
# The engine gives as many lines at once as a query has: the first few tell how many of them make a good buffer.
_FIRST_ROWS, _BUFFER_BYTES = 2_048, 16 << 20


class Compressor(Protocol):
    """What zstd's and zlib's compressors have in common."""

    def compress(self, data: memoryview, /) -> bytes:
        """Takes text in, and gives what of the compressed form is ready."""

    def flush(self) -> bytes:
        """Gives the rest."""


class _Plain:
    """No compression."""

    def compress(self, data: memoryview, /) -> bytes:
        return bytes(data)

    def flush(self) -> bytes:
        return b""


def line(columns: Iterable[tuple[TableColumn, str]], operation: str, at: str) -> str:
    """A line's SQL: a JSON object of the columns, `_op` and `_at`, and behind them the columns that are documents.

    Documents go in as PostgreSQL wrote them, since reading them here would round their numbers. Each stands between
    tabs: a tab or line break of its own can only stand between its tokens. One more blank tells JSON's null from SQL's.

    Args:
        columns: the columns, each with the SQL of its value.
        operation: the value of `_op`.
        at: SQL of the value of `_at`, an ISO 8601 time.
    """
    listed = list(columns)
    parts, before = [], "{"
    for column, value in listed:
        if column.entry.kind != "json":
            parts += [engine.text(f"{before}{_json(column.name)}:"), _member(column, value)]
            before = ","
    parts += [engine.text(f'{before}"_op":"{operation}","_at":"'), at, "'\"'"]
    documents = [(column, value) for column, value in listed if column.entry.kind == "json"]
    for column, value in documents:
        parts += [
            f"chr(9) || {engine.text(f',{_json(column.name)}:')} || chr(9)",
            f"CASE WHEN ltrim({value}) = 'null' THEN ' ' ELSE '' END",
            f"coalesce({on_one_line(value)}, 'null')",
        ]
    parts.append("chr(9) || '}' || chr(10)" if documents else "'}' || chr(10)")
    return f"concat({', '.join(parts)})"


def on_one_line(document: str) -> str:
    """SQL of a document as it stands in a line, where a tab or line break between its tokens is a blank."""
    return f"translate({document}, chr(9) || chr(10) || chr(13), '   ')"


def write(
    connection: engine.Engine, line: str, columns: str, table: str, rows: range, file: Path, compression: str
) -> None:
    """Writes lines of consecutive rows of a table as a file.

    Args:
        connection: a connection to the table's engine that nothing else uses.
        line: the SQL of a row's line.
        columns: the SQL of the columns that it is made of.
        table: a committed table, so that its row ids count from 0.
        rows: which of its rows, by their ids.
        file: the file to be made.
        compression: zstd, gzip or none.

    Raises:
        EngineFault: the engine failed, or the table does not have these rows.
        StoreError: the file cannot be written.
    """
    try:
        with file.open("wb") as target:
            target.writelines(_compressed(connection, line, columns, table, rows, compression))
    except OSError as error:
        raise StoreError(
            f"writing {file} failed: {error.strerror}",
            hint="Check the free space there, or set TMPDIR to another folder",
        ) from error


def _compressed(
    connection: engine.Engine, line: str, columns: str, table: str, rows: range, compression: str
) -> Iterator[bytes]:
    compressor, step = _compressor(compression), _FIRST_ROWS
    while rows:
        part, rows = rows[:step], rows[step:]
        written = size = 0
        source = f"SELECT {columns} FROM {table} WHERE rowid >= {part.start} AND rowid < {part.stop}"
        for count, text in _buffers(connection, f"SELECT {line} FROM ({source})"):
            yield compressor.compress(text)
            written += count
            size += text.nbytes
        if written != len(part):
            raise EngineFault(f"the engine gave {written} rows where there are {len(part)}")
        step = max(_FIRST_ROWS, _BUFFER_BYTES * len(part) // max(size, 1))
    yield compressor.flush()


def _buffers(connection: engine.Engine, query: str) -> Iterator[tuple[int, memoryview]]:
    """The text of a query's one column, with the number of rows that it is of."""
    try:
        for array in nanoarrow.ArrayStream(connection.sql(query)):
            _, _, text = array.child(0).buffers
            yield len(array), memoryview(text).cast("B")
    except RuntimeError as error:  # what the engine says while it gives rows comes as nanoarrow's error
        raise EngineFault(message(error), hint=engine.remedy(error)) from error


def _compressor(compression: str) -> Compressor:
    if compression == "zstd":
        return ZstdCompressor(level=_ZSTD_LEVEL)
    return zlib.compressobj(_GZIP_LEVEL, wbits=31) if compression == "gzip" else _Plain()


def _member(column: TableColumn, value: str) -> str:
    base = column.entry.type.partition("(")[0].rstrip()
    if column.entry.kind in ("integer", "boolean"):
        return f"coalesce({value}::VARCHAR, 'null')"
    if base in PLAIN_IN_JSON or column.entry.type in PLAIN_IN_JSON:
        return f"coalesce('\"' || {value} || '\"', 'null')"
    return f"coalesce(to_json({value})::VARCHAR, 'null')"


def _json(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)
