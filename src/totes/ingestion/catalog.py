"""What the source's catalog says of its tables: columns, types, keys, and whether the role may read them."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib import resources

import psycopg

from totes import engine
from totes.config import SourceSettings
from totes.errors import SourceRefused
from totes.lake.manifest import SourceColumn, TableChanges

CATALOG_SQL = resources.files("totes.ingestion").joinpath("catalog.sql").read_text(encoding="utf-8")

_NATIVE_INTEGERS = {"smallint", "integer", "bigint"}
# Types whose text form has nothing in it that JSON would have to escape.
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
# Their text casts give what their output functions give; other types' casts need not (inet, bpchar, "char", …).
_PLAIN_TEXT_CASTS = PLAIN_IN_JSON | {"text", "character varying", "bytea"}
_RESERVED = ("_op", "_at")


# Read as such they take less time and room than as text, and are exact between the years 1 and 9999. ADBC adds a constant
# to PostgreSQL's number, modulo 2^64: what lies outside of these years, infinities too, does not come to lie between them.
_NATIVE_TIMES = {"date", "timestamp without time zone", "timestamp with time zone"}


@dataclass(frozen=True)
class TableColumn:
    """A column with the SQL expression that reads it so that its exact value arrives.

    `native` is one that reads it as the engine's type of its own, if there is such a type: an integer no wider than it is, or
    a time, whose values are exact where `misses` does not find any.
    """

    entry: SourceColumn
    expression: str
    native: str | None = None

    @property
    def name(self) -> str:
        """The column's name at the source."""
        return self.entry.name

    def misses(self, value: str) -> str | None:
        """SQL of whether some of a column's native values are not exact; None where all are."""
        if self.entry.kind == "integer":
            return None
        return f"coalesce(min({value}) < '0001-01-01' OR max({value}) >= '10000-01-01', false)"


@dataclass(frozen=True)
class SourceTable:
    """A table that can be captured, as it was when the snapshot was taken."""

    schema: str
    name: str
    has_transaction_ids: bool
    lockable: bool
    only: bool
    key: tuple[str, ...]
    key_enforced: bool
    columns: tuple[TableColumn, ...]
    changed_at: TableColumn | None
    relation: int
    partitions: tuple[int, ...]

    @property
    def reference(self) -> str:
        """How a FROM clause names the table."""
        return ("ONLY " if self.only else "") + engine.name(self.schema, self.name)

    @property
    def key_positions(self) -> tuple[int, ...]:
        """Where the key columns stand among the columns."""
        order = [column.name for column in self.columns]
        return tuple(order.index(part) for part in self.key)

    def description(self) -> TableChanges:
        """The table as a manifest describes it, with no changes."""
        return TableChanges(
            columns=tuple(column.entry for column in self.columns),
            key=self.key,
            marked_by="transaction" if self.has_transaction_ids else "content",
            relation=self.relation,
            partitions=self.partitions,
        )


@dataclass(frozen=True)
class Selection:
    """The tables of a batch, and those that are left out, each with the reason and the way out as an error.

    `demanded` are the tables that models read or the settings name: leaving one of these out is a failure.
    """

    tables: tuple[SourceTable, ...]
    left_out: dict[str, SourceRefused] = field(default_factory=dict)
    demanded: frozenset[str] = frozenset()

    def failures(self) -> list[SourceRefused]:
        """Why tables are left out that ought not to be."""
        return [error for table, error in self.left_out.items() if table in self.demanded]


def select_tables(
    connection: psycopg.Connection, source: SourceSettings, needed: frozenset[str]
) -> Selection:
    """Reads the catalog and decides what is captured.

    Args:
        connection: an open connection to the source.
        source: which schema, tables and keys.
        needed: tables that models read; these are captured in any case. Views and foreign tables are captured
            only when they are needed or named in `source.tables`.

    Raises:
        SourceRefused: no table at all can be captured.
    """
    rows = connection.execute(CATALOG_SQL, {"schema": source.schema_}).fetchall()
    by_table: dict[str, list[tuple[object, ...]]] = {}
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
        obstacle = _obstacle(table, columns, source)
        if obstacle is None:
            tables.append(_table(table, columns, source))
        else:
            left_out[table] = SourceRefused(f"{source.schema_}.{table} {obstacle[0]}", hint=obstacle[1])
    for error in left_out.values() if not tables else ():
        raise error
    if not tables:
        raise SourceRefused(
            f"schema {source.schema_} of the source has no table that can be captured",
            hint="Check source.schema, source.tables and the role's grants: GRANT USAGE ON SCHEMA, GRANT SELECT",
        )
    return Selection(tuple(tables), left_out, demanded)


def _wanted(table: str, kind: str, source: SourceSettings, named: set[str]) -> bool:
    if table in named:
        return True
    if kind not in ("r", "p") or any(fnmatchcase(table, pattern) for pattern in source.exclude):
        return False
    return any(fnmatchcase(table, pattern) for pattern in source.tables)


def _obstacle(
    table: str, columns: list[tuple[object, ...]], source: SourceSettings
) -> tuple[str, str] | None:
    _, kind, readable, filtered, _, key, *_ = columns[0]
    quoted = engine.name(source.schema_, table)
    if not readable:
        return "may not be read by this role", f"GRANT SELECT ON {quoted} TO the role of source.url"
    if filtered:
        return (
            "hides rows from this role by row-level security",
            "ALTER ROLE … BYPASSRLS for the role of source.url",
        )
    names = {str(column[6]) for column in columns}
    unknown = [part for part in source.keys.get(table, ()) if part not in names]
    if unknown:
        return f"has no column {unknown[0]}", f"Correct source.keys.{table}"
    if not source.keys.get(table) and not key:
        what = "has no primary key" if kind in ("r", "p") else "is not a table, so it has no primary key"
        add = f"ALTER TABLE {quoted} ADD PRIMARY KEY (…), or " if kind in ("r", "p") else ""
        return what, f'{add}name the columns that identify a row: [source.keys] "{table}" = ["…"]'
    taken = [column for column in names if column.lower() in _RESERVED]
    if taken:
        return (
            f"has a column {taken[0]}, a name that the lake uses itself",
            "Rename the column, or capture a view that does",
        )
    return None


def _table(table: str, rows: list[tuple[object, ...]], source: SourceSettings) -> SourceTable:
    _, kind, _, _, has_children, key, *_, partitions, partly_foreign = rows[0]
    columns = tuple(_column(row) for row in rows)
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
        only=kind == "r" and bool(has_children),
        key=source.keys.get(table) or tuple(key or ()),
        key_enforced=table not in source.keys,
        columns=columns,
        changed_at=changed_at,
        relation=int(str(rows[0][12])),
        partitions=tuple(partitions),
    )


def _column(row: tuple[object, ...]) -> TableColumn:
    column, type_with_modifiers, base_type, nullable = str(row[6]), str(row[7]), str(row[8]), bool(row[9])
    quoted = engine.name(column)
    if base_type in _NATIVE_INTEGERS:
        kind, expression = "integer", f"{quoted}::{base_type}"
    elif base_type == "boolean":
        kind, expression = "boolean", f"{quoted}::bool"
    elif base_type in ("json", "jsonb"):
        kind, expression = "json", f"{quoted}::text"
    elif base_type in _PLAIN_TEXT_CASTS:
        kind, expression = "text", f"{quoted}::text"
    else:
        # format() calls the type's output function, whatever casts to text the type may have; a composite of
        # NULLs is not NULL itself, which only IS DISTINCT FROM tells.
        kind, expression = "text", f"CASE WHEN {quoted} IS DISTINCT FROM NULL THEN format('%s', {quoted}) END"
    entry = SourceColumn.model_validate(
        {
            "name": column,
            "number": row[10],
            "type": type_with_modifiers,
            "kind": kind,
            "nullable": nullable,
            "labels": row[11],
        }
    )
    is_native = base_type in _NATIVE_INTEGERS | _NATIVE_TIMES
    return TableColumn(entry, expression, f"{quoted}::{base_type}" if is_native else None)


def _nearest(wanted: str, tables: dict[str, list[tuple[object, ...]]], schema: str) -> str:
    import difflib

    near = difflib.get_close_matches(wanted, list(tables), n=1)
    return (
        f"Did you mean {near[0]}?" if near else f"Check source.schema ({schema}) and the role's USAGE on it"
    )
