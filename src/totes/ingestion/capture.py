"""Which rows a batch reads: builds the SQL that selects what may be new. Nothing is executed here.

A row version is identified by its key and its *mark*, a value that differs between versions of the row: the id of the
transaction that wrote it (`xmin`), or, if there is none (views, foreign tables), a digest of its content. Every version
whose transaction is at or past the horizon of the last batch may be new; those with a known key and mark are dropped
afterwards. A late commit, whatever its timestamps are, has a transaction id past that horizon, because the horizon
never passes a running transaction. (`pg_visible_in_snapshot` would be wrong: it ignores subtransactions, whose ids are in
the rows.)
"""

from __future__ import annotations

import re
from collections.abc import Container
from datetime import timedelta

from totes import engine
from totes.errors import SourceRefused
from totes.ingestion.catalog import SourceTable
from totes.lake.manifest import Position, SourceColumn, TableChanges

MARK = "mark"
_EPOCH = 1 << 32
_FIRST_NORMAL_TRANSACTION = 3
_LISTED_MAX = 10_000


def position_column(position: int) -> str:
    """The engine's name of the column at a position; the source's own names could differ in case only."""
    return f"c{position}"


def key_column(position: int) -> str:
    """The engine's name of the key column at a position of the key."""
    return f"k{position}"


def advance_clock(previous: Position | None, current: Position) -> Position:
    """The current position, its read time moved past the previous one's if the source's clock was set back."""
    if previous and current.read_at <= previous.read_at:
        return current.model_copy(update={"read_at": previous.read_at + timedelta(microseconds=1)})
    return current


def changed_since(previous: Position, current: Position, *, listed: bool) -> str | None:
    """The condition on `xmin` that all rows written since the previous horizon meet; None if there can be no such row.

    A row has only the lower 32 bits of its transaction's id. Old rows with the same bits, from 2^32 transactions earlier, meet
    the condition too; their marks are known.

    Args:
        previous: the position of the previous batch.
        current: the present position.
        listed: whether the server looks values up in a long list fast. Otherwise transaction ids, which have no order in
            PostgreSQL, are cast by way of text, which takes longer than all else that it does with a row.
    """
    if previous.horizon == current.next_transaction:
        return None
    if listed and current.next_transaction - previous.horizon <= _LISTED_MAX:
        ids = (number % _EPOCH for number in range(previous.horizon, current.next_transaction))
        return f"xmin = ANY ('{{{','.join(map(str, ids))}}}'::xid[])"
    low, high = previous.horizon % _EPOCH, current.next_transaction % _EPOCH
    transaction = "xmin::text::int8"
    if low < high:
        return f"{transaction} >= {low} AND {transaction} < {high}"
    return f"({transaction} >= {low} OR {transaction} BETWEEN {_FIRST_NORMAL_TRANSACTION} AND {high - 1})"


def check_shape(before: TableChanges, table: SourceTable) -> tuple[tuple[int, ...], str | None]:
    """Compares a table's shape with that of its last capture.

    Returns:
        The positions of added columns, and the reason why all rows have to be compared by content, if there is one: it is
        another table, or values or columns have changed without a write to the rows.

    Raises:
        SourceRefused: the table's key has changed, so that its rows cannot be matched with the captured ones.
    """
    now = table.description()
    if (now.columns, now.key, now.marked_by, now.relation) == (
        before.columns,
        before.key,
        before.marked_by,
        before.relation,
    ):
        return (), None
    if before.key != table.key:
        raise SourceRefused(
            f"the key of {table.schema}.{table.name} was ({', '.join(before.key)}) and is ({', '.join(table.key)})",
            hint=f"Set the previous key with [source.keys] {table.name} = [...], "
            "or point lake.ingestion at a new place to start a new history",
        )
    previous = {column.name: column for column in before.columns}
    for position in table.key_positions:
        entry = table.columns[position].entry
        then = previous[entry.name]
        if _form(then) != _form(entry):
            raise SourceRefused(
                f"the key column {entry.name} of {table.schema}.{table.name} was a {then.type} and is a {entry.type}",
                hint="Restore its previous type, or point lake.ingestion at a new place to start a new history",
            )
    names = {column.name for column in before.columns}
    added = tuple(position for position, column in enumerate(table.columns) if column.name not in names)
    return added, _why_renewed(before, now)


def _why_renewed(before: TableChanges, now: TableChanges) -> str | None:
    """Why the marks of a table do not show which rows are new, if they do not."""
    if before.marked_by != now.marked_by:
        return "its rows have another kind of mark"
    if now.marked_by == "content":
        return _why_altered(before, now)
    if before.relation not in (0, now.relation):
        return "another table has its name now"
    if now.renames(before):
        return "columns were renamed or replaced"
    return _why_altered(before, now)


def _why_altered(before: TableChanges, now: TableChanges) -> str | None:
    """Why the values of a column have another text form now, though no row was written, if they have."""
    previous = {column.name: column for column in before.columns}
    for entry in (column for column in now.columns if column.name in previous):
        then = previous[entry.name]
        if written_as(then.type) != written_as(entry.type) and (then.kind, entry.kind) != ("integer",) * 2:
            # PostgreSQL may change such a type without rewriting the rows, except between integer types.
            return f"the type of {entry.name} was {then.type} and is {entry.type}"
        if not contains_in_order(entry.labels, then.labels):
            return "labels of an enum were renamed"
    return None


def contains_in_order(labels: tuple[str, ...], previous: tuple[str, ...]) -> bool:
    """Whether labels were only added: PostgreSQL adds them at any place, and never removes one."""
    remaining = iter(labels)
    return all(label in remaining for label in previous)


def written_as(kind: str) -> str:
    """The text form that a type's values have, by the type's name. Length and precision do not change existing values."""
    plain = re.sub(r"\([^)]*\)", "", kind)
    return plain.replace("character varying", "text").replace("bit varying", "bit")


def _form(column: SourceColumn) -> str:
    """The form of a column's values in the lake."""
    texts = ("text", "character varying")
    return (
        "text"
        if column.type.partition("(")[0] in texts
        else column.kind
        if column.kind != "text"
        else column.type
    )


def may_be_new(
    recent: str | None, before: TableChanges, table: SourceTable, added: tuple[int, ...]
) -> str | None:
    """The condition that all rows meet which may not be captured in their present form; None if there can be no such row.

    Besides recently written rows, it includes those of attached partitions, which may have been written long before, and those
    with a value in an added column: a column with a default has values in rows that were not written since.

    Args:
        recent: the condition of recently written rows.
        before: the table as last captured.
        table: the table now.
        added: the positions of added columns.
    """
    attached = sorted(set(table.partitions) - set(before.partitions)) if before.relation else []
    parts = [f"({recent})"] if recent else []
    if attached:
        parts.append(f"tableoid IN ({', '.join(map(str, attached))})")
    parts += [f"{engine.name(table.columns[position].name)} IS DISTINCT FROM NULL" for position in added]
    return " OR ".join(parts) or None


def select_rows(table: SourceTable, condition: str | None, native: Container[int] = ()) -> str:
    """The query for all columns of the rows that meet a condition, as `c0`, `c1`, …, and the mark, if the source has one.

    Columns at the positions `native` are read as the engine's own types.
    """
    columns = [
        f"{column.native if number in native else column.expression} AS {position_column(number)}"
        for number, column in enumerate(table.columns)
    ]
    if table.has_transaction_ids:
        columns.append(f"xmin::text::int8 AS {MARK}")
    where = f" WHERE {condition}" if condition else ""
    return f"SELECT {', '.join(columns)} FROM {table.reference}{where}"


def select_keys(table: SourceTable, condition: str | None) -> str:
    """The query for the keys of the rows that meet a condition, as `k0`, `k1`, …."""
    columns = (
        f"{table.columns[position].expression} AS {key_column(number)}"
        for number, position in enumerate(table.key_positions)
    )
    where = f" WHERE {condition}" if condition else ""
    return f"SELECT {', '.join(columns)} FROM {table.reference}{where}"


def mark_expression(table: SourceTable) -> str:
    """The engine's SQL for the mark of a row that was read: the source's, or a digest of all columns."""
    if table.has_transaction_ids:
        return MARK
    parts = (
        f"coalesce(to_json({position_column(number)})::VARCHAR, '')" for number in range(len(table.columns))
    )
    return f"md5(concat_ws(chr(0), {', '.join(parts)}))"


def changed_at_expression(table: SourceTable, read_at: str) -> str:
    """The engine's SQL for when a row was changed at the source: ISO 8601 in the source's wall-clock time.

    It reads columns in their text form.

    Args:
        table: the table. Without a `changed_at` column, or if its value is NULL, infinite or outside of the years 1 to
            9999, the read time is used.
        read_at: the read time in the same form.
    """
    if table.changed_at is None:
        return engine.text(read_at)
    column = position_column(table.columns.index(table.changed_at))
    # A year of four digits, neither before Christ nor infinite.
    plain = f"substr({column}, 5, 1) = '-' AND NOT contains({column}, 'B')"
    time = f"replace({column}, ' ', 'T')"
    if table.changed_at.entry.type.endswith("with time zone"):
        time = f"replace({time}, '+00', '')"
    return f"CASE WHEN {plain} THEN {time} ELSE {engine.text(read_at)} END"
