"""Reads packets of the ingestion lake: a query for their rows, each value in its raw form."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol, TypeVar

import duckdb

from totes import engine

T = TypeVar("T")
_SMALL_BYTES_MAX = 1 << 20
# What each line has beside the row: what was done, and when; and if it is from the log, in which place there.
CHANGE = {"_op": "VARCHAR", "_at": "TIMESTAMP"}
PLACE = {"_lsn": "VARCHAR", "_seq": "BIGINT"}
# The place in rows that are read. By query, a source column may be called `_lsn` or `_seq`; from the log, none is captured.
LSN, SEQ = engine.name("~lsn"), engine.name("~seq")
# The place in the log as a number, and its SQL for a line; NULL where there is none.
TURN = engine.name("~turn")
TURN_OF_LSN = (
    f"('0x' || split_part({LSN}, '/', 1))::BIGINT * 4294967296 + ('0x' || split_part({LSN}, '/', 2))::BIGINT"
)


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


class PacketReader:
    """Reads packets on a connection that is in no transaction, in the cheapest way that has not failed yet.

    Lines are read as JSON of a usual length; then of any length; then as text, since PostgreSQL accepts half of a
    surrogate pair in JSON and the engine does not. The engine's buffers are as large as the longest line.
    """

    _CHECKED_BYTES_MAX = (16 << 20, 64 << 20, 256 << 20, 2 << 30)
    _TEXT_BYTES_MAX = 64 << 20

    def __init__(self, connection: engine.Engine) -> None:
        self._limits = iter(self._CHECKED_BYTES_MAX)
        self._limit = next(self._limits)
        self._as_text = False
        self.engine = connection

    def read(self, table: Captured, files: Iterable[Path], compression: str, read: Callable[[str], T]) -> T:
        """Calls `read` with a query for the rows of some packets: the raw columns, `CHANGE`'s, and the place.

        The result is that of `read`, which is called again where a way fails. `LSN` and `SEQ` are NULL in packets of a batch
        that was not captured from the log.

        Raises:
            duckdb.InvalidInputException: a packet is not what it should be.
        """
        listed = list(files)
        while True:
            try:
                return read(_rows(table, self._lines(table, listed, compression)))
            except duckdb.InvalidInputException as error:
                larger = next(self._limits, None) if "maximum_object_size" in str(error) else None
                if larger:
                    self._limit = larger
                elif "surrogate" in str(error) and table.documents and not self._as_text:
                    self._as_text = True
                else:
                    raise

    def _lines(self, table: Captured, files: list[Path], compression: str) -> str:
        if self._as_text and table.documents:
            return engine.text_lines(files, compression, line_bytes_max=self._TEXT_BYTES_MAX)
        columns = None if table.documents else _struct(_members(table))
        return engine.json_lines(files, columns, compression, line_bytes_max=self._limit)


def joined(files: Iterable[Path], folder: Path) -> list[Path]:
    """Packets of one compression as fewer files with the same lines: the small ones in one, made in a folder.

    A file costs the engine as much as hundreds of lines. Each compression allows its files to follow one another in one.
    """
    large: list[Path] = []
    small: list[Path] = []
    for file in files:
        (small if file.stat().st_size <= _SMALL_BYTES_MAX else large).append(file)
    if len(small) < 2:
        return [*large, *small]
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as target:
        for file in small:
            target.write(file.read_bytes())
    return [*large, Path(target.name)]


def _rows(table: Captured, lines: str) -> str:
    """A query for the rows in lines.

    Documents of json columns are cut out of the lines as text, since a JSON reader would round their numbers. They come last
    in a line, in the order of the columns, each between two tabs; there are no other tabs.
    """
    members, documents = _members(table), table.documents
    plain = [*table.plain, *CHANGE]
    if not documents:
        return f"SELECT {engine.names(plain)}, {_place(members)} FROM {lines}"
    shape = engine.text(json.dumps(members))
    values = [*(f"members.{engine.name(name)}" for name in plain), _place(members, "members.")]
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
    """What a line has but for its documents, by name; the engine's names do not differ by case alone."""
    has_place = not any(name.lower() in PLACE for name in (*table.plain, *table.documents))
    return table.plain | CHANGE | (PLACE if has_place else {})


def _place(members: dict[str, str], qualifier: str = "") -> str:
    lsn, seq = (f"{qualifier}{name}" for name in PLACE) if PLACE.items() <= members.items() else ("NULL",) * 2
    return f"{lsn}::VARCHAR AS {LSN}, {seq}::BIGINT AS {SEQ}"


def _struct(columns: dict[str, str]) -> str:
    return "{" + ", ".join(f"{engine.text(name)}: '{kind}'" for name, kind in columns.items()) + "}"
