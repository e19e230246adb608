"""Which rows a batch reads: the SQL that asks the source for what may be new. Pure text; nothing is executed here.

A row is identified by its key and its *mark*, a value that differs between versions of the row: the id of the
transaction that wrote it (`xmin`), or, where there is none (views, foreign tables), a digest of its content. Every
version whose transaction is at or past the horizon of the last batch may be new; those whose (key, mark) is known
already are left out afterwards. A late commit, whatever its timestamps say, has a transaction past that horizon,
because the horizon does not pass a transaction that is still running. (`pg_visible_in_snapshot` would be wrong: it
knows nothing of subtransactions, whose ids are what rows carry.)
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
    """The engine's name of the column at a position: names of the source may differ in case only, these do not."""
    return f"c{position}"


def key_column(position: int) -> str:
    """The engine's name of the key column at a position of the key."""
    return f"k{position}"


def advance_clock(previous: Position | None, current: Position) -> Position:
    """The position with a read time later than the previous one's, also when the source's clock was set back."""
    if previous and current.read_at <= previous.read_at:
        return current.model_copy(update={"read_at": previous.read_at + timedelta(microseconds=1)})
    return current


def changed_since(previous: Position, current: Position, *, listed: bool) -> str | None:
    """The condition on `xmin` that all rows written since the previous horizon meet; None where no row can.

    A row carries the lower 32 bits of its transaction's id. Old rows that carry the same bits as new ones, from 2^32
    transactions earlier, meet it too; their marks are known.

    Args:
        previous: the position of the batch before.
        current: where the source is now.
        listed: whether the server finds a value in a long list fast. It does not compare transaction ids otherwise, and
            comparing their text takes longer than all else that it does with a row.
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
    """Compares a table with what it was when it was last captured.

    Returns:
        The positions of columns that it did not have, and why nothing that was captured says what the rows hold now,
        if so: it is another table, or a name now stands for another column or value.

    Raises:
        SourceRefused: the table's key is another one, so that its rows cannot be told to be those of before.
    """
    if before.key != table.key:
        raise SourceRefused(
            f"the key of {table.schema}.{table.name} was ({', '.join(before.key)}) and is ({', '.join(table.key)})",
            hint=f"Keep to the former one with [source.keys] {table.name} = [...], "
            "or point lake.ingestion at a new place to start a new history",
        )
    former_types = {column.name: column for column in before.columns}
    for position in table.key_positions:
        entry = table.columns[position].entry
        then = former_types[entry.name]
        if _form(then) != _form(entry):
            raise SourceRefused(
                f"the key column {entry.name} of {table.schema}.{table.name} was a {then.type} and is a {entry.type}",
                hint="Give it its former type, or point lake.ingestion at a new place to start a new history",
            )
    names = {column.name for column in before.columns}
    added = tuple(position for position, column in enumerate(table.columns) if column.name not in names)
    return added, _why_renewed(before, table)


def _why_renewed(before: TableChanges, table: SourceTable) -> str | None:
    """Why nothing that was captured says what the rows of a table hold now, if so."""
    if before.marked_by != table.description().marked_by:
        return "its rows are told apart in another way"
    if not table.has_transaction_ids:
        return _why_altered(before, table)  # its rows are told apart by their content
    if before.relation not in (0, table.relation):
        return "another table has taken its name"
    if table.description().renames(before):
        return "columns were renamed or replaced"
    return _why_altered(before, table)


def _why_altered(before: TableChanges, table: SourceTable) -> str | None:
    """Why the values of a column read otherwise now, though no row was written, if so."""
    former = {column.name: column for column in before.columns}
    for entry in (column.entry for column in table.columns if column.name in former):
        then = former[entry.name]
        if written_as(then.type) != written_as(entry.type) and (then.kind, entry.kind) != ("integer",) * 2:
            # PostgreSQL need not rewrite the rows for that, and what they hold reads otherwise now. Integers it does rewrite.
            return f"the type of {entry.name} was {then.type} and is {entry.type}"
        if not _contains_in_order(entry.labels, then.labels):
            return "labels of an enum were renamed"
    return None


def _contains_in_order(labels: tuple[str, ...], former: tuple[str, ...]) -> bool:
    """Whether nothing but new labels has come: PostgreSQL adds labels anywhere and removes none."""
    remaining = iter(labels)
    return all(label in remaining for label in former)


def written_as(kind: str) -> str:
    """How values of a type are written. Another length or precision alone changes none that are there."""
    plain = re.sub(r"\([^)]*\)", "", kind)
    return plain.replace("character varying", "text").replace("bit varying", "bit")


def _form(column: SourceColumn) -> str:
    """What the values of a column look like in the lake."""
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
    """The condition that all rows meet which may not be captured as they are; None where no row can.

    It is widened to the rows of partitions that were attached, which were written before they came, and to rows with a value
    in an added column: one that comes with a default has that value in rows which no transaction has written since.

    Args:
        recent: the condition that rows written since meet.
        before: the table as it was captured last.
        table: the table as it is.
        added: the positions of the columns that it did not have.
    """
    attached = sorted(set(table.partitions) - set(before.partitions)) if before.relation else []
    parts = [f"({recent})"] if recent else []
    if attached:
        parts.append(f"tableoid IN ({', '.join(map(str, attached))})")
    parts += [f"{engine.name(table.columns[position].name)} IS DISTINCT FROM NULL" for position in added]
    return " OR ".join(parts) or None


def select_rows(table: SourceTable, condition: str | None, native: Container[int] = ()) -> str:
    """Reads all columns of the rows that meet a condition, as `c0`, `c1`, … with the mark where the source has one.

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
    """Reads the keys of the rows that meet a condition, as `k0`, `k1`, …."""
    columns = (
        f"{table.columns[position].expression} AS {key_column(number)}"
        for number, position in enumerate(table.key_positions)
    )
    where = f" WHERE {condition}" if condition else ""
    return f"SELECT {', '.join(columns)} FROM {table.reference}{where}"


def mark_expression(table: SourceTable) -> str:
    """The mark of a row that has been read, for the engine: what the source gave, or a digest of all columns."""
    if table.has_transaction_ids:
        return MARK
    parts = (
        f"coalesce(to_json({position_column(number)})::VARCHAR, '')" for number in range(len(table.columns))
    )
    return f"md5(concat_ws(chr(0), {', '.join(parts)}))"


def changed_at_expression(table: SourceTable, read_at: str) -> str:
    """When a row was changed at the source, ISO 8601 in the source's wall-clock time, for the engine.

    It is made of columns in their text form.

    Args:
        table: the table; without a `changed_at` column, and where that column holds NULL, an infinity or a year
            outside 1 to 9999, the read time serves.
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
