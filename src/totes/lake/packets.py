"""Reads packets of the ingestion lake: a query for their rows, each value in its raw form."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol, TypeVar

import duckdb

from totes import engine
from totes.lake.workspace import Handoff, Workspace

T = TypeVar("T")


class Captured(Protocol):
    """The shape of a captured table's lines.

    `documents` are its json columns, in the table's order, and `plain` the others with their raw types. The line of a
    deletion has the columns of `key` only.
    """

    @property
    def documents(self) -> tuple[str, ...]:
        """The names of the json columns."""

    @property
    def plain(self) -> dict[str, str]:
        """The raw types of the other columns, by name."""

    @property
    def key(self) -> tuple[str, ...]:
        """The names of the key's columns."""


class ReadAnotherWay(Exception):
    """These packets could not be read; the reader has switched to another way, which may work. The transaction is lost."""


class PacketReader:
    """Reads packets on a connection, in the cheapest way that has not failed yet.

    Lines are first read as JSON of a usual length, then of any length, then as text: PostgreSQL's json accepts half of a
    surrogate pair, which the engine does not. The limits rise in steps because the engine allocates buffers of that size.
    """

    _CHECKED_BYTES_MAX = (16 << 20, 64 << 20, 256 << 20, 2 << 30)
    _TEXT_BYTES_MAX = 64 << 20

    def __init__(self, connection: engine.Engine, workspace: Workspace | None = None) -> None:
        self.engine = connection
        self._workspace = workspace
        self.has_views = False  # whether a view over a handoff was ever created
        self._limits = iter(self._CHECKED_BYTES_MAX)
        self._limit = next(self._limits)
        self._as_text = False

    def handoff(self, manifest_sha256: str, table: str) -> Handoff | None:
        """The handoff of a batch's changes of a table, which are the same rows; None if they have to be read from the lake."""
        return self._workspace.handoff(manifest_sha256, table) if self._workspace else None

    def read(self, table: Captured, files: Iterable[Path], compression: str, read: Callable[[str], T]) -> T:
        """Calls `read` with a query for the rows of packets (raw columns, `_op` and `_at`), and returns its result.

        Raises:
            ReadAnotherWay: try again, from the beginning of the transaction if there is one.
            duckdb.InvalidInputException: a packet is malformed.
        """
        listed = list(files)
        as_text = self._as_text and bool(table.documents)
        if as_text:
            lines = engine.text_lines(listed, compression, line_bytes_max=self._TEXT_BYTES_MAX)
        else:
            columns = None if table.documents else _struct(_members(table))
            lines = engine.json_lines(listed, columns, compression, line_bytes_max=self._limit)
        try:
            return read(_rows(table, lines))
        except duckdb.InvalidInputException as error:
            larger = next(self._limits, None) if "maximum_object_size" in str(error) else None
            if larger:
                self._limit = larger
            elif "surrogate" in str(error) and table.documents and not as_text:
                self._as_text = True
            else:
                raise
            raise ReadAnotherWay from error


def read_packets(
    connection: engine.Engine,
    table: Captured,
    files: Iterable[Path],
    compression: str,
    read: Callable[[str], T],
) -> T:
    """Reads packets as `PacketReader.read` does, trying each way in turn. Not for use in a transaction."""
    reader, listed = PacketReader(connection), list(files)
    while True:
        try:
            return reader.read(table, listed, compression, read)
        except ReadAnotherWay:
            continue


def _rows(table: Captured, lines: str) -> str:
    """A query for the rows in lines.

    Documents of json columns are cut out of the lines as text, since a JSON reader would round their numbers. They come last
    in a line, in the order of the columns, each between two tabs; there are no other tabs.
    """
    plain, documents = _members(table), table.documents
    if not documents:
        return f"SELECT {engine.names(plain)} FROM {lines}"
    shape = engine.text(json.dumps(plain))
    values = [f"members.{engine.name(name)}" for name in plain]
    for number, name in enumerate(documents):
        place = f"{3 + 2 * number}"
        if any(part in documents for part in table.key):  # a line of a deletion has those of the key only
            keys = [part for part in documents if part in table.key]
            in_key = f"{3 + 2 * keys.index(name)}" if name in keys else "NULL"
            place = f"CASE WHEN members._op = 'delete' THEN {in_key} ELSE {place} END"
        # JSON's null has one more blank before it than SQL's.
        part = f"parts[{place}]"
        null = f"CASE WHEN ltrim({part}) = 'null' THEN nullif(substr({part}, 2), 'ull') ELSE {part} END"
        values.append(f"{null} AS {engine.name(name)}")
    return (
        f"SELECT {', '.join(values)} FROM (SELECT parts, json_transform("
        f"CASE WHEN len(parts) > 1 THEN parts[1] || '}}' ELSE parts[1] END, {shape}) AS members"
        f" FROM (SELECT string_split(json::VARCHAR, chr(9)) AS parts FROM {lines}))"
    )


def _members(table: Captured) -> dict[str, str]:
    return table.plain | {"_op": "VARCHAR", "_at": "TIMESTAMP"}


def _struct(columns: dict[str, str]) -> str:
    return "{" + ", ".join(f"{engine.text(name)}: '{kind}'" for name, kind in columns.items()) + "}"
