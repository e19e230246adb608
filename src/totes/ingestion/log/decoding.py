"""Decodes the messages of PostgreSQL's plugin pgoutput, protocol version 1. Only SQL for the engine is made here: no I/O.

The messages are rows of a table, `number` and `data`, in the order in which they were sent. A row's values are found one after
the other, for all of a table's changes at once: each value's place follows from the previous value's length.
https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from totes.lake.manifest import SourceColumn

_EPOCH_MICROSECONDS = 946_684_800_000_000  # PostgreSQL counts from the year 2000
_TRANSACTION_IDS = 1 << 32
_GROUP = 64  # of columns


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


def changes(messages: str, columns: Sequence[SourceColumn], order: Sequence[int], key: Sequence[int]) -> str:
    """A query for the decoded changes of one table.

    Beside the columns of the messages it has the row's values by the position of each column in the table, `c0`, `c1`, …: of a
    deleted row those that identify it. `unsent` lists the positions of those values that are not known, since they have not
    changed. `has_old` is whether the row before the change was sent, and `p0`, … is its key: the same unless the change moved it.

    Args:
        messages: a query for the messages that are changes of the table.
        columns: the table's columns.
        order: the position of each column in the order in which the log has them.
        key: the positions of the key's columns.
    """
    count = len(order)
    old = (
        f"SELECT *, CASE WHEN has_old THEN {_places('9', count)} END AS old"
        f" FROM (SELECT *, data[6:6]::VARCHAR <> 'N' AS has_old FROM ({messages}))"
    )
    # Between the two rows are the letter N and the number of columns.
    begins = f"CASE WHEN has_old THEN {_following('old[-1]')} + 3 ELSE 9 END"
    new = f"SELECT *, CASE WHEN kind <> 'D' THEN {_places(begins, count)} END AS new FROM ({old})"
    read = (
        f"SELECT *, list_transform(coalesce(new, old), {_VALUE}) AS sent, list_transform(old, {_VALUE}) AS before,"
        f" list_count(sent) < {count} AS lacks FROM ({new})"
    )
    # With all of the old row, a value that was not sent is the old one.
    unsent = "data[new[i]:new[i]]::VARCHAR = 'u'"
    filled = f"list_transform(new, lambda place, i: CASE WHEN {unsent} THEN before[i] ELSE sent[i] END)"
    values = f"SELECT *, CASE WHEN lacks AND kind <> 'D' AND has_old THEN {filled} ELSE sent END AS values FROM ({read})"
    missing = f"list_filter(range(1, {count + 1}), lambda i: {unsent} AND values[i] IS NULL)"
    positions = f"[{', '.join(map(str, order))}]"
    parts = [
        f"CASE WHEN lacks AND kind <> 'D' THEN list_transform({missing}, lambda i: {positions}[i]) ELSE [] END AS unsent"
    ]
    place = {position: number for number, position in enumerate(order, start=1)}
    parts += [f"{_read('values', place[n], column)} AS c{n}" for n, column in enumerate(columns)]
    parts += [
        f"{_read('coalesce(before, values)', place[position], columns[position])} AS p{number}"
        for number, position in enumerate(key)
    ]
    hidden = "EXCLUDE (data, old, new, sent, before, lacks, values)"
    return f"SELECT * {hidden}, {', '.join(parts)} FROM ({values})"


def _read(values: str, number: int, column: SourceColumn) -> str:
    """SQL for a value in its raw form, by its number in a list of texts."""
    text = f"({values})[{number}]"
    return {"boolean": f"{text} = 't'", "integer": f"{text}::BIGINT"}.get(column.kind, text)


def _places(first: str, count: int) -> str:
    """SQL for the list of places where the values of a row are, the first of which is given.

    A value is an `n` for NULL, a `u` for one that is not sent, or a `t` with a length and a text. A list that grows by one is
    copied each time, so a long one grows by shorter ones.
    """
    groups = -(-count // _GROUP)
    size = -(-count // groups)

    def group(begin: str) -> str:
        more = f"lambda part, i: list_append(part, {_following('part[-1]')})"
        return f"list_reduce(range(1, {size}), {more}, [({begin})::BIGINT])"

    if groups == 1:
        return group(first)
    more = f"lambda whole, j: list_concat(whole, {group(_following('whole[-1]'))})"
    return f"list_reduce(range(1, {groups}), {more}, {group(first)})[:{count}]"


def _following(place: str) -> str:
    """SQL for where the value after one at a place is."""
    size = f"CASE WHEN data[{place}:{place}]::VARCHAR = 't' THEN 4 + {_number('data', f'{place} + 1', 4)} ELSE 0 END"
    return f"{place} + 1 + {size}"


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


_VALUE = (
    "lambda place: CASE WHEN data[place:place]::VARCHAR = 't'"
    f" THEN decode(data[place + 5:place + 4 + {_number('data', 'place + 1', 4)}]) END"
)
