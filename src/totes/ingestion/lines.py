"""JSON lines: turns rows into the text that the ingestion lake stores, and the text into a compressed file.

The engine makes the lines; their text goes to the compressor straight from the engine's buffers, without a copy.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from totes import engine
from totes.errors import EngineFault, StoreError
from totes.ingestion.catalog import PLAIN_IN_JSON, TableColumn
from totes.messages import message

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdCompressor
else:
    from backports.zstd import ZstdCompressor

# At this level of zstd, files are as large as at its default, and take half the time.
_ZSTD_LEVEL, _GZIP_LEVEL = 1, 6
# The engine returns all lines of a query in one buffer: the size of the first few decides how many are queried at a time.
_FIRST_ROWS, _BUFFER_BYTES = 2_048, 16 << 20


class Compressor(Protocol):
    """The common interface of zstd's and zlib's compressors."""

    def compress(self, data: memoryview, /) -> bytes:
        """Compresses text, and returns the output that is ready."""

    def flush(self) -> bytes:
        """Returns the remaining output."""


class _Plain:
    """No compression."""

    def compress(self, data: memoryview, /) -> bytes:
        return bytes(data)

    def flush(self) -> bytes:
        return b""


class Place(NamedTuple):
    """SQL for a change's place in the log: the position of its commit, and its number within the transaction."""

    lsn: str
    number: str


def line(
    columns: Iterable[tuple[TableColumn, str]], operation: str, at: str, place: Place | None = None
) -> str:
    """SQL for a line: a JSON object of the columns, `_op` and `_at`, and last the columns that are JSON documents.

    Documents are copied as PostgreSQL wrote them, since parsing them here would round their numbers. Each is between two
    tabs; its own tabs and line breaks, which can only be between tokens, become blanks. JSON's null has one more blank
    before it than SQL's.

    Args:
        columns: the columns, each with the SQL for its value.
        operation: the value of `_op`.
        at: SQL for the value of `_at`, an ISO 8601 time.
        place: for a change from the log, its place there, which becomes `_lsn` and `_seq`.
    """
    listed = list(columns)
    parts, before = [], "{"
    for column, value in listed:
        if column.entry.kind != "json":
            parts += [engine.text(f"{before}{_json(column.name)}:"), _member(column, value)]
            before = ","
    parts += [engine.text(f'{before}"_op":"{operation}","_at":"'), at, "'\"'"]
    if place:
        parts += [engine.text(',"_lsn":"'), place.lsn, engine.text('","_seq":'), place.number]
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
    """SQL for a document as it is in a line: tabs and line breaks between its tokens become blanks."""
    return f"translate({document}, chr(9) || chr(10) || chr(13), '   ')"


def write(
    connection: engine.Engine, line: str, columns: str, table: str, rows: range, file: Path, compression: str
) -> None:
    """Writes the lines of consecutive rows of a table to a file.

    Args:
        connection: a connection to the table's engine that nothing else uses.
        line: the SQL for a row's line.
        columns: the SQL for the columns that it is made of.
        table: a committed table, so that its row ids count from 0.
        rows: which rows, by their ids.
        file: the file to write.
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
            raise EngineFault(f"the engine returned {written} rows instead of {len(part)}")
        step = max(_FIRST_ROWS, _BUFFER_BYTES * len(part) // max(size, 1))
    yield compressor.flush()


def _buffers(connection: engine.Engine, query: str) -> Iterator[tuple[int, memoryview]]:
    """The text of a query's single column, in buffers, each with its number of rows."""
    import nanoarrow  # most cycles write no line

    try:
        for array in nanoarrow.ArrayStream(connection.sql(query)):
            _, _, text = array.child(0).buffers
            yield len(array), memoryview(text).cast("B")
    except RuntimeError as error:  # an error of the engine while rows are fetched is raised by nanoarrow
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
