"""Decodes the messages of PostgreSQL's plugin pgoutput, protocol version 1. Only SQL for the engine is made here: no I/O.

The messages are rows of a table, `number` and `data`, in the order in which they were sent. They are decoded column by column,
for all of a table's rows at once: each value's place follows from the previous value's length.
https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

from totes.lake.manifest import SourceColumn

_EPOCH_MICROSECONDS = 946_684_800_000_000  # PostgreSQL counts from the year 2000
_TRANSACTION_IDS = 1 << 32
_LISTED, _BETWEEN_TABLES = 12, 48


class RelationColumn(NamedTuple):
    """A column as the log describes it: whether it identifies a row, its name, and its type's OID and modifier."""

    identifies: bool
    name: str
    type: int
    modifier: int


class Relation(NamedTuple):
    """A table as the log describes it before its first change, and again after it may have been altered."""

    number: int
    relation: int
    identity: str
    columns: tuple[RelationColumn, ...]


def relation(number: int, data: bytes) -> Relation:
    """Reads the message that describes a table; `number` is the message's."""
    (oid,) = struct.unpack_from(">I", data, 1)
    place = data.index(b"\0", 5) + 1  # after the schema's name
    place = data.index(b"\0", place) + 1  # after the table's name
    identity = chr(data[place])
    (count,) = struct.unpack_from(">H", data, place + 1)
    place += 3
    columns = []
    for _ in range(count):
        end = data.index(b"\0", place + 1)
        kind, modifier = struct.unpack_from(">Ii", data, end + 1)
        columns.append(RelationColumn(bool(data[place] & 1), data[place + 1 : end].decode(), kind, modifier))
        place = end + 9
    return Relation(number, oid, identity, tuple(columns))


def received(source: str) -> str:
    """A query for the messages with their `kind`, and the OID of the `relation` that a change is of."""
    return (
        f"SELECT *, CASE WHEN kind IN ('I', 'U', 'D', 'R') THEN {_number('data', 2, 4)} END AS relation"
        f" FROM (SELECT number, data, data[1:1]::VARCHAR AS kind FROM {source})"
    )


def transactions(messages: str) -> str:
    """A query for the transactions: their `first` and `last` message, `lsn`, time (`committed`) and id (`xid`).

    `lsn` is where the commit's record ends: a number of bytes that rises from one to the next.
    """
    begins = f"SELECT number AS first, {_number('data', 18, 4)} AS xid FROM {messages} WHERE kind = 'B'"
    commits = (
        f"SELECT number AS last, {_number('data', 11, 8)} AS lsn,"
        f" make_timestamp({_EPOCH_MICROSECONDS} + {_number('data', 19, 8)}) AS committed FROM {messages} WHERE kind = 'C'"
    )
    return f"SELECT * FROM ({begins}) AS b ASOF JOIN ({commits}) AS c ON b.first < c.last"


def truncated(data: bytes) -> tuple[int, ...]:
    """The OIDs of the tables that a message says were truncated."""
    (count,) = struct.unpack_from(">I", data, 1)
    return struct.unpack_from(f">{count}I", data, 6)


def whole_id(xid: str, next_transaction: int) -> str:
    """SQL for a transaction's 64-bit id: the one of these 32 bits that is nearest to `next_transaction`."""
    low, half = next_transaction % _TRANSACTION_IDS, _TRANSACTION_IDS // 2
    return f"({next_transaction} + ({xid} - {low} + {_TRANSACTION_IDS + half}) % {_TRANSACTION_IDS} - {half})"


def lsn_text(lsn: str) -> str:
    """SQL for a position of the log as PostgreSQL writes it."""
    return f"format('{{:X}}/{{:X}}', {lsn} >> 32, {lsn} & 4294967295)"


def changes(
    messages: str,
    columns: Sequence[SourceColumn],
    order: Sequence[int],
    new_table: Callable[[], str],
    *,
    with_old: bool,
) -> list[str]:
    """The decoded changes of one table: statements to run in order, the last of which is a query.

    Its columns are `number` and `kind` of the message, `has_old`, and by the position of each column of the table: the value
    `c0`, `c1`, … and whether it was not sent since it is unchanged (`u0`, …), and of the old row the value `f0`, … and `g0`, …
    which is not sent. An old row has only the columns that identify it, unless all do.

    Args:
        messages: a query for the messages that are changes of the table.
        columns: the table's columns.
        order: the position of each column in the order in which the log has them.
        new_table: makes a name for a table that a statement creates.
        with_old: whether there are changes with an old row: deletes, and updates of what identifies a row.
    """
    steps = _Steps(len(order), new_table)
    begun = f"SELECT *, 9 AS place FROM ({messages})"
    plain = steps.row(f"{begun} WHERE data[6:6]::VARCHAR = 'N'", "new")
    nothing = "[]::VARCHAR[] AS {0}_values, []::BOOLEAN[] AS {0}_unsent"
    parts = [f"SELECT *, false AS has_old, {nothing.format('old')} FROM ({plain})"]
    if with_old:
        old = steps.table(steps.row(f"{begun} WHERE data[6:6]::VARCHAR <> 'N'", "old"))
        both = steps.row(f"SELECT * REPLACE (place + 3 AS place) FROM {old} WHERE kind = 'U'", "new")
        parts += [
            f"SELECT *, true AS has_old FROM ({both})",
            f"SELECT *, true AS has_old, {nothing.format('new')} FROM {old} WHERE kind = 'D'",
        ]
    values = f"{_values(columns, order, 'new', 'c', 'u')}, {_values(columns, order, 'old', 'f', 'g')}"
    hidden = "EXCLUDE (data, place, new_values, new_unsent, old_values, old_unsent)"
    return [*steps.statements, f"SELECT * {hidden}, {values} FROM ({' UNION ALL BY NAME '.join(parts)})"]


def _values(columns: Sequence[SourceColumn], order: Sequence[int], row: str, value: str, unsent: str) -> str:
    """SQL for the values of a row in their raw form, and for which were not sent."""
    parts = []
    for place, position in enumerate(order, start=1):
        text, kind = f"{row}_values[{place}]", columns[position].kind
        read = {"boolean": f"{text} = 't'", "integer": f"{text}::BIGINT"}.get(kind, text)
        parts += [
            f"{read} AS {value}{position}",
            f"coalesce({row}_unsent[{place}], {row == 'old'}) AS {unsent}{position}",
        ]
    return ", ".join(parts)


class _Steps:
    """Steps of decoding, each a query around the previous one.

    The engine takes long to plan deep queries over many columns. So after some columns their values are put into a list, and
    after more of them there is a table between.
    """

    def __init__(self, columns: int, new_table: Callable[[], str]) -> None:
        self._columns, self._new_table = columns, new_table
        self.statements: list[str] = []

    def row(self, query: str, row: str) -> str:
        """A query that reads one row of each change, from `place` on, which then is where the row ends.

        It adds lists with the row's values and with which of them were not sent, in the order of the log. Each value is an `n`
        for NULL, a `u` for one that is not sent, or a `t` with a length and a text.
        """
        query = f"SELECT *, []::VARCHAR[] AS {row}_values, []::BOOLEAN[] AS {row}_unsent FROM ({query})"
        for first in range(0, self._columns, _LISTED):
            part = range(first, min(first + _LISTED, self._columns))
            for number in part:
                query = f"SELECT *, data[place:place]::VARCHAR AS sent{number} FROM ({query})"
                size = f"CASE WHEN sent{number} = 't' THEN {_number('data', 'place + 1', 4)} END"
                query = f"SELECT *, {size} AS size FROM ({query})"
                query = (
                    f"SELECT * EXCLUDE (size) REPLACE (place + 1 + coalesce(4 + size, 0) AS place),"
                    f" CASE WHEN sent{number} = 't' THEN decode(data[place + 5:place + 4 + size]) END AS value{number}"
                    f" FROM ({query})"
                )
            values = ", ".join(f"value{number}" for number in part)
            unsent = ", ".join(f"sent{number} = 'u'" for number in part)
            used = ", ".join(f"value{number}, sent{number}" for number in part)
            query = (
                f"SELECT * EXCLUDE ({used}) REPLACE (list_concat({row}_values, [{values}]) AS {row}_values,"
                f" list_concat({row}_unsent, [{unsent}]) AS {row}_unsent) FROM ({query})"
            )
            if part.stop % _BETWEEN_TABLES == 0:
                query = f"SELECT * FROM {self.table(query)}"
        return query

    def table(self, query: str) -> str:
        """Has a table made of a query's rows; returns its name."""
        name = self._new_table()
        self.statements.append(f"CREATE TABLE {name} AS {query}")
        return name


def _number(data: str, first: int | str, size: int) -> str:
    """SQL for the whole number in some bytes, the first of them being 1."""
    last = first + size - 1 if isinstance(first, int) else f"{first} + {size - 1}"
    return f"('0x' || hex({data}[{first}:{last}]))::BIGINT"


def visible(xid: str, snapshot: str) -> str:
    """SQL for whether a snapshot, in PostgreSQL's text form, sees a transaction as finished, by its 32-bit id."""
    lowest, following, running = snapshot.split(":")
    whole = whole_id(xid, int(following))
    among = f" AND {whole} NOT IN ({running})" if running else ""
    return f"({whole} < {int(lowest)} OR ({whole} < {int(following)}{among}))"


def in_scope(transactions: str, messages: str) -> str:
    """A query for messages with the transaction that each is of."""
    return f"({messages}) AS m ASOF JOIN {transactions} AS t ON m.number >= t.first"
