"""Reads the source's catalog: its tables with columns, types and keys, and whether the role may read them."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib import resources
from typing import Any

import psycopg

from totes import engine
from totes.config import SourceSettings
from totes.errors import SourceRefused
from totes.lake.manifest import SourceColumn, TableChanges

CATALOG_SQL = resources.files("totes.ingestion").joinpath("catalog.sql").read_text(encoding="utf-8")

_NATIVE_INTEGERS = {"smallint", "integer", "bigint"}
# Types whose text form never needs escaping in JSON.
PLAIN_IN_JSON = {
    "numeric",
    "real",
    "double precision",
    "date",
    "time without time zone",
    "time with time zone",
    "timestamp without time zone",
    "timestamp with time zone",
    "interval",
    "uuid",
}
# Types whose cast to text equals their output function; for others it may not (inet, bpchar, "char", …).
_PLAIN_TEXT_CASTS = PLAIN_IN_JSON | {"text", "character varying", "bytea"}
RESERVED = ("_op", "_at")
_MONEY_DIGITS = 2
# How 1 is stored as money under the session's default lc_monetary, which is set to C again afterwards.
_MONEY_SQL = """
    WITH changed AS MATERIALIZED (
        SELECT pg_catalog.set_config(name, reset_val, true) AS found FROM pg_catalog.pg_settings WHERE name = 'lc_monetary'
    ), stored AS MATERIALIZED (
        SELECT encode(pg_catalog.cash_send((1 + 0 * length(found))::numeric::money), 'hex') AS one FROM changed
    )
    SELECT one, pg_catalog.set_config('lc_monetary', 'C', true) FROM stored
"""


# As native values these take less time and memory than as text, and are exact between the years 1 and 9999. ADBC adds a constant
# to PostgreSQL's number, modulo 2^64: values outside of these years, and infinities, always stay outside of them.
_NATIVE_TIMES = {"date", "timestamp without time zone", "timestamp with time zone"}
# A batch reads the catalog twice, and the next one finds mostly the same columns.
_COLUMNS_REMEMBERED = 1 << 14


@dataclass(frozen=True)
class TableColumn:
    """A column with the SQL expression that reads its exact value.

    `native` is an expression that reads it as one of the engine's types, if there is one: an integer of the same width, or a
    time, which is exact for all values that `misses` does not find.
    """

    entry: SourceColumn
    expression: str
    native: str | None = None

    @property
    def name(self) -> str:
        """The column's name at the source."""
        return self.entry.name

    def misses(self, value: str) -> str | None:
        """SQL for whether any native value of the column is not exact; None if all always are."""
        if self.entry.kind == "integer":
            return None
        return f"coalesce(min({value}) < '0001-01-01' OR max({value}) >= '10000-01-01', false)"


@dataclass(frozen=True)
class SourceTable:
    """A table that can be captured, as it is in the snapshot.

    `partitions` are the OIDs of the tables that hold its rows: its partitions, or tables that inherit from it.
    """

    schema: str
    name: str
    has_transaction_ids: bool
    lockable: bool
    key: tuple[str, ...]
    key_enforced: bool
    columns: tuple[TableColumn, ...]
    changed_at: TableColumn | None
    relation: int
    partitions: tuple[int, ...]

    @property
    def reference(self) -> str:
        """The table's quoted name, with its schema."""
        return engine.name(self.schema, self.name)

    @property
    def key_positions(self) -> tuple[int, ...]:
        """The positions of the key's columns."""
        order = [column.name for column in self.columns]
        return tuple(order.index(part) for part in self.key)

    def description(self) -> TableChanges:
        """The table's entry in a manifest, without changes."""
        return TableChanges(
            columns=tuple(column.entry for column in self.columns),
            key=self.key,
            marked_by="transaction" if self.has_transaction_ids else "content",
            relation=self.relation,
            partitions=self.partitions,
        )


@dataclass(frozen=True)
class Selection:
    """The tables of a batch, and those that are left out, each with an error that has the reason and what to do.

    `demanded` are the tables that models read or the settings name: it is a failure to leave one of them out.
    """

    schema: str
    tables: tuple[SourceTable, ...]
    left_out: dict[str, SourceRefused] = field(default_factory=dict)
    demanded: frozenset[str] = frozenset()

    def failures(self) -> list[SourceRefused]:
        """The reasons why demanded tables are left out."""
        return [error for table, error in self.left_out.items() if table in self.demanded]


def select_tables(
    connection: psycopg.Connection, source: SourceSettings, needed: frozenset[str]
) -> Selection:
    """Reads the catalog and decides what is captured.

    Args:
        connection: an open connection to the source.
        source: which schema, tables and keys.
        needed: the tables that models read, which are captured in any case. Views and foreign tables are captured
            only if they are needed or named in `source.tables`.

    Raises:
        SourceRefused: no table can be captured.
    """
    rows = connection.execute(CATALOG_SQL, {"schema": source.schema_}).fetchall()
    money_digits = _digits_of_money(connection, rows)
    by_table: dict[str, list[tuple[Any, ...]]] = {}
    for row in rows:
        by_table.setdefault(str(row[0]), []).append(row)
    folded = {table.lower(): table for table in by_table}
    found = {table if table in by_table else folded.get(table.lower(), table) for table in needed}
    named = {pattern for pattern in source.tables if "*" not in pattern} | found
    left_out = {
        table: SourceRefused(
            f"the source has no table {source.schema_}.{table} that the role may see",
            hint=_nearest(table, by_table, source.schema_),
        )
        for table in sorted(named - set(by_table))
    }
    left_out |= {
        table: SourceRefused(
            f"source.keys names {table}, which is not a table that the role may see",
            hint=_nearest(table, by_table, source.schema_),
        )
        for table in source.keys
        if table not in by_table
    }
    demanded = frozenset(named | left_out.keys())
    tables = []
    for table, columns in by_table.items():
        if not _wanted(table, str(columns[0][1]), source, named):
            continue
        obstacle = _obstacle(table, columns, source, money_digits)
        if obstacle is None:
            tables.append(_table(table, columns, source, money_digits))
        else:
            left_out[table] = SourceRefused(f"{source.schema_}.{table} {obstacle[0]}", hint=obstacle[1])
    for error in left_out.values() if not tables else ():
        raise error
    if not tables:
        raise SourceRefused(
            f"schema {source.schema_} of the source has no table that can be captured",
            hint="Check source.schema, source.tables and the role's grants: GRANT USAGE ON SCHEMA, GRANT SELECT",
        )
    return Selection(source.schema_, tuple(tables), left_out, demanded)


def _wanted(table: str, kind: str, source: SourceSettings, named: set[str]) -> bool:
    if table in named:
        return True
    if kind not in ("r", "p") or any(fnmatchcase(table, pattern) for pattern in source.exclude):
        return False
    return any(fnmatchcase(table, pattern) for pattern in source.tables)


def _obstacle(
    table: str, columns: list[tuple[object, ...]], source: SourceSettings, money_digits: int
) -> tuple[str, str] | None:
    _, kind, readable, filtered, key, *_ = columns[0]
    quoted = engine.name(source.schema_, table)
    if not readable:
        return "may not be read by this role", f"GRANT SELECT ON {quoted} TO the role of source.url"
    if filtered:
        return (
            "hides rows from this role by row-level security",
            "ALTER ROLE … BYPASSRLS for the role of source.url",
        )
    names = {str(column[5]) for column in columns}
    unknown = [part for part in source.keys.get(table, ()) if part not in names]
    if unknown:
        return f"has no column {unknown[0]}", f"Correct source.keys.{table}"
    if not source.keys.get(table) and not key:
        what = "has no primary key" if kind in ("r", "p") else "is not a table, so it has no primary key"
        add = f"ALTER TABLE {quoted} ADD PRIMARY KEY (…), or " if kind in ("r", "p") else ""
        return what, f'{add}name the columns that identify a row: [source.keys] "{table}" = ["…"]'
    return _column_obstacle(table, columns, money_digits)


def _column_obstacle(
    table: str, columns: list[tuple[object, ...]], money_digits: int
) -> tuple[str, str] | None:
    arrays = [str(column[5]) for column in columns if str(column[7]) == "money[]"]
    if arrays and money_digits != _MONEY_DIGITS:
        what = f"has in {arrays[0]} arrays of money, which only the server's own lc_monetary shows exactly"
        return what, f"Capture a view that reads it as numeric[], or leave {table} out with source.exclude"
    reserved = [name for name in sorted(str(column[5]) for column in columns) if name.lower() in RESERVED]
    if reserved:
        return (
            f"has a column {reserved[0]}, a name that the lake uses itself",
            "Rename the column, or capture a view that does",
        )
    return None


def _table(table: str, rows: list[tuple[Any, ...]], source: SourceSettings, money_digits: int) -> SourceTable:
    _, kind, _, _, key, *_, partitions, partly_foreign = rows[0]
    columns = tuple(
        _column(*row[5:10], labels=tuple(row[10] or ()), money_digits=money_digits) for row in rows
    )
    assert isinstance(key, list | None)
    assert isinstance(partitions, list)
    changed_at = next(
        (
            column
            for column in columns
            if column.name == source.changed_at and column.entry.type.startswith("timestamp")
        ),
        None,
    )
    return SourceTable(
        schema=source.schema_,
        name=table,
        has_transaction_ids=kind in ("r", "p") and not partly_foreign,
        lockable=kind in ("r", "p", "v"),
        key=source.keys.get(table) or tuple(key or ()),
        # A table that inherits has a key of its own.
        key_enforced=table not in source.keys and not (kind == "r" and partitions),
        columns=columns,
        changed_at=changed_at,
        relation=int(str(rows[0][11])),
        partitions=tuple(partitions),
    )


@lru_cache(_COLUMNS_REMEMBERED)
def _column(
    column: str,
    type_with_modifiers: str,
    base_type: str,
    nullable: bool,
    number: int,
    labels: tuple[str, ...],
    money_digits: int,
) -> TableColumn:
    quoted = engine.name(column)
    if base_type in _NATIVE_INTEGERS:
        kind, expression = "integer", f"{quoted}::{base_type}"
    elif base_type == "boolean":
        kind, expression = "boolean", f"{quoted}::bool"
    elif base_type in ("json", "jsonb"):
        kind, expression = "json", f"{quoted}::text"
    elif base_type in _PLAIN_TEXT_CASTS:
        kind, expression = "text", f"{quoted}::text"
    elif base_type == "money" and money_digits != _MONEY_DIGITS:
        kind, expression = "text", _money(quoted, money_digits)
    else:
        # format() calls the type's output function, whatever casts to text the type may have. A composite of NULLs is not
        # NULL itself, which only IS DISTINCT FROM distinguishes.
        kind, expression = "text", f"CASE WHEN {quoted} IS DISTINCT FROM NULL THEN format('%s', {quoted}) END"
    entry = SourceColumn.model_validate(
        {
            "name": column,
            "number": number,
            "type": type_with_modifiers,
            "kind": kind,
            "nullable": nullable,
            "labels": labels,
        }
    )
    is_native = base_type in _NATIVE_INTEGERS | _NATIVE_TIMES
    return TableColumn(entry, expression, f"{quoted}::{base_type}" if is_native else None)


def _money(quoted: str, digits: int) -> str:
    """SQL for the form that money has under lc_monetary C, for a server with another number of decimal places.

    PostgreSQL stores money as a whole number; lc_monetary decides where its decimal point is. C has two decimal places.
    """
    value = f"({quoted}::numeric * 100 / {10**digits})"
    form = f"FM9,999,999,999,999,999,990.{'0' * max(_MONEY_DIGITS, digits)}"
    sign = f"CASE WHEN {value} < 0 THEN '-' ELSE '' END"
    return f"CASE WHEN {quoted} IS NOT NULL THEN {sign} || '$' || to_char(abs({value}), '{form}') END"


def _digits_of_money(connection: psycopg.Connection, rows: list[tuple[object, ...]]) -> int:
    """The number of decimal places that money has at the source, by the lc_monetary that a session has by default."""
    if not any(str(row[7]).startswith("money") for row in rows):
        return _MONEY_DIGITS
    row = connection.execute(_MONEY_SQL).fetchone()
    assert row is not None
    return len(str(int(row[0], 16))) - 1


def _nearest(wanted: str, tables: dict[str, list[tuple[object, ...]]], schema: str) -> str:
    import difflib

    near = difflib.get_close_matches(wanted, list(tables), n=1)
    return (
        f"Did you mean {near[0]}?" if near else f"Check source.schema ({schema}) and the role's USAGE on it"
    )
