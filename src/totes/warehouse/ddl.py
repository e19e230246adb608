"""The warehouse's DDL, for each dialect: tables, then constraints and indexes, then views. Pure text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from types import MappingProxyType

from totes import engine
from totes.lake.manifest import OutputColumn
from totes.star.column import Column
from totes.star.declaration import LEDGER, MADE, NAME_BYTES_MAX
from totes.warehouse import comments
from totes.warehouse.table import Dialect, WarehouseTable

OWN_SCHEMAS: dict[Dialect, str] = {"duckdb": "main", "postgresql": "public"}
_POSTGRESQL_TYPES = {
    "TINYINT": "SMALLINT",
    "FLOAT": "REAL",
    "DOUBLE": "DOUBLE PRECISION",
    "BLOB": "BYTEA",
    "TIMESTAMPTZ": "TIMESTAMP WITH TIME ZONE",
}
RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")
OWN_NAMES: Mapping[str, str] = MappingProxyType({})


def create_own(schema: str) -> dict[str, str]:
    """The tables that every warehouse has for itself, by name.

    A batch that is in the ledger is loaded, wholly and once. `totes_tables` lists the tables that totes has made: no other is
    written to. The name of its constraint is what its violation is reported by.
    """
    columns = {
        LEDGER: "batch_id BIGINT PRIMARY KEY,\n    manifest_sha256 VARCHAR NOT NULL,\n    read_at TIMESTAMP NOT NULL,\n"
        "    loaded_at TIMESTAMP NOT NULL,\n    rows BIGINT NOT NULL",
        MADE: "table_name VARCHAR PRIMARY KEY,\n    made_by_totes BOOLEAN NOT NULL\n"
        "        CONSTRAINT there_is_another_relation_of_this_name CHECK (made_by_totes)",
    }
    return {
        name: f"CREATE TABLE IF NOT EXISTS {engine.name(schema, name)} (\n    {declared}\n)"
        for name, declared in columns.items()
    }


def record_made(tables: Iterable[str], schema: str) -> str:
    """Notes that these tables are totes'."""
    listed = ", ".join(f"({engine.text(name)}, true)" for name in sorted(tables))
    return f"INSERT INTO {engine.name(schema, MADE)} VALUES {listed} ON CONFLICT DO NOTHING"


def create_table(
    table: WarehouseTable, schema: str, dialect: Dialect, at: Mapping[str, str] = OWN_NAMES
) -> str:
    """The table alone; in DuckDB with its primary key, which it cannot be given as cheaply later.

    Args:
        table: the table.
        schema: its schema.
        dialect: the dialect.
        at: the names that tables have for now, where these are not their own.
    """
    lines = _columns(table, dialect, named=bool(at))
    if dialect == "duckdb":
        lines.append(_primary_key(table))
    return f"CREATE TABLE {_relation(schema, table.name, at)} {_body(lines)}"


def create_primary_key(table: WarehouseTable, schema: str, at: Mapping[str, str]) -> str:
    """The primary key of a table of PostgreSQL, at a time at which it costs least: after the first rows."""
    return (
        f"ALTER TABLE {_relation(schema, table.name, at)} ADD CONSTRAINT {_name(table.name, 'pkey')}"
        f" {_primary_key(table)}"
    )


def create_indexes(
    table: WarehouseTable, schema: str, dialect: Dialect, at: Mapping[str, str] = OWN_NAMES
) -> dict[str, str]:
    """The indexes beside the primary key's, by their names; DuckDB needs none.

    One index finds a row's history, and one, over newest versions only, also makes sure that there is one of each. The
    first date that refers to another table is what people ask for a month or a day of: of newest versions it has an index.
    """
    if dialect == "duckdb" or not table.model.versioned:
        return {}
    target, keys = _relation(schema, table.name, at), engine.names(table.key)
    newest = "WHERE valid_to IS NULL"
    dates = [column.name for column in table.model.columns if column.type == "DATE" and column.references]
    parts = {
        constraint_name(table.name, "history"): ("UNIQUE INDEX", f"({keys}, valid_from)"),
        constraint_name(table.name, "newest"): ("UNIQUE INDEX", f"({keys}) {newest}"),
    }
    for date in dates[:1]:
        parts[constraint_name(table.name, date, "newest")] = ("INDEX", f"({engine.name(date)}) {newest}")
    return {
        name: f"CREATE {kind} {engine.name(name)} ON {target} {over}" for name, (kind, over) in parts.items()
    }


def key_index(table: WarehouseTable, schema: str) -> tuple[str, str]:
    """The name of the primary key's index in PostgreSQL, and what is as good for a load where somebody has dropped the key."""
    name = constraint_name(table.name, "pkey")
    keys = engine.names(table.model.primary_key)
    return name, f"CREATE UNIQUE INDEX {engine.name(name)} ON {engine.name(schema, table.name)} ({keys})"


def create_foreign_key(
    table: WarehouseTable, column: str, schema: str, at: Mapping[str, str] = OWN_NAMES
) -> str:
    """The foreign key of one column, which checks the rows that are there."""
    return f"ALTER TABLE {_relation(schema, table.name, at)} ADD {_foreign_key(table, column, schema, at)}"


def validate_foreign_key(table: WarehouseTable, column: str, schema: str, at: Mapping[str, str]) -> str:
    """Checks the rows that were there when the foreign key of a column was added as NOT VALID."""
    return f"ALTER TABLE {_relation(schema, table.name, at)} VALIDATE CONSTRAINT {_name(table.name, column, 'fkey')}"


def rename_parts(
    table: WarehouseTable, built: WarehouseTable, schema: str, is_there: Callable[[str], bool]
) -> list[str]:
    """The statements that give a table of PostgreSQL, built under another name, the names of its own constraints and indexes.

    Args:
        table: the table, which has its name by now.
        built: the table as it was built.
        schema: its schema.
        is_there: whether it has a constraint of a name: NOT NULL has none before version 18.
    """
    ends = [("pkey",), *((column, "fkey") for column in table.model.references)]
    ends += [(column, "not_null") for column in sorted(required(table))]
    pairs = [(constraint_name(built.name, *end), constraint_name(table.name, *end)) for end in ends]
    made = [
        f"ALTER TABLE {engine.name(schema, table.name)} RENAME CONSTRAINT {engine.name(old)} TO {engine.name(new)}"
        for old, new in pairs
        if is_there(old)
    ]
    indexes = zip(
        create_indexes(built, schema, "postgresql"), create_indexes(table, schema, "postgresql"), strict=True
    )
    return made + [
        f"ALTER INDEX {engine.name(schema, old)} RENAME TO {engine.name(new)}" for old, new in indexes
    ]


def create_staged(name: str, columns: Iterable[OutputColumn]) -> str:
    """A temporary table of PostgreSQL that rows are sent to on their way into another."""
    typed = ", ".join(f"{engine.name(column.name)} {column_type(column, 'postgresql')}" for column in columns)
    return f"CREATE TEMPORARY TABLE {name} ({typed})"


def create_view(table: WarehouseTable, schema: str) -> str:
    """The view of a table's current, undeleted rows."""
    view, target = engine.name(schema, table.current), engine.name(schema, table.name)
    return f"CREATE VIEW {view} AS SELECT * FROM {target} WHERE {table.is_current}"


def statements(
    tables: tuple[WarehouseTable, ...],
    schema: str,
    dialect: Dialect,
    role: str | None = None,
    loaded: frozenset[str] = frozenset(),
) -> list[str]:
    """The whole DDL, for the owner of a warehouse whose loader may not create tables.

    It can be run again at any time: it adds what is missing, changes types where no value does, and drops NOT NULL. All of it
    is one transaction, which fails where a table that is to be made has the name of something that is there.

    Args:
        tables: the tables of the star.
        schema: their schema.
        dialect: the dialect.
        role: the role that loads, which is granted what it needs.
        loaded: the tables that batches may have been loaded into before there was a list of tables.
    """
    made = ["BEGIN"]
    if schema != OWN_SCHEMAS[dialect]:
        made.append(f"CREATE SCHEMA IF NOT EXISTS {engine.name(schema)}")
    own = create_own(schema)
    made += [*own.values(), _record_missing(tables, schema, loaded)]
    for table in tables:
        made.append(_create_whole(table, schema, dialect))
        made += _bring_up(table, schema, dialect)
    for table in tables:
        indexes = create_indexes(table, schema, dialect)
        if dialect == "postgresql":
            indexes = dict([key_index(table, schema)]) | indexes
        made += [one.replace(" INDEX ", " INDEX IF NOT EXISTS ", 1) for one in indexes.values()]
    for table in tables:
        made.append(create_view(table, schema).replace("CREATE VIEW", "CREATE OR REPLACE VIEW", 1))
    made += comments.statements(tables, schema)
    if role:
        made.append(f"GRANT USAGE ON SCHEMA {engine.name(schema)} TO {engine.name(role)}")
        named = ", ".join(engine.name(schema, name) for name in (*own, *(table.name for table in tables)))
        made.append(f"GRANT {', '.join(RIGHTS)} ON {named} TO {engine.name(role)}")
    return [*made, "COMMIT"]


def _record_missing(tables: tuple[WarehouseTable, ...], schema: str, loaded: frozenset[str]) -> str:
    """Lists the tables that are to be made, and fails where there is something of their name that is not listed.

    A warehouse that an earlier release has loaded has no list yet: the tables that its batches went into are totes'.
    """
    ledger, made = engine.name(schema, LEDGER), engine.name(schema, MADE)
    names = ", ".join(
        f"({engine.text(table.name)}, {engine.text(table.current)}, {str(table.name in loaded).lower()})"
        for table in tables
    )
    return (
        f"INSERT INTO {made}\n    SELECT star.name, NOT EXISTS (\n"
        "        SELECT 1 FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace\n"
        f"        WHERE n.nspname = {engine.text(schema)} AND c.relname IN (star.name, star.view_name)\n"
        f"    ) OR (star.loaded AND EXISTS (SELECT 1 FROM {ledger}) AND NOT EXISTS (SELECT 1 FROM {made}))\n"
        f"    FROM (VALUES {names}) AS star (name, view_name, loaded)\n"
        f"    WHERE star.name NOT IN (SELECT table_name FROM {made})"
    )


def _create_whole(table: WarehouseTable, schema: str, dialect: Dialect) -> str:
    """The table with its keys; of DuckDB without foreign keys, which its updates would get in the way of."""
    lines = _columns(table, dialect, named=False)
    if dialect == "duckdb":
        lines.append(_primary_key(table))
    else:
        lines.append(f"CONSTRAINT {_name(table.name, 'pkey')} {_primary_key(table)}")
        lines += [_foreign_key(table, column, schema, OWN_NAMES) for column in table.model.references]
    return f"CREATE TABLE IF NOT EXISTS {engine.name(schema, table.name)} {_body(lines)}"


def required(table: WarehouseTable) -> frozenset[str]:
    """The columns that are NOT NULL, those of the history included; the primary key is so in any case."""
    declared = {column.name for column in table.model.columns if column.not_null}
    added = {column.name for column in table.model.output} - {column.name for column in table.model.columns}
    return frozenset(declared | added - {"valid_to"})


def _bring_up(table: WarehouseTable, schema: str, dialect: Dialect) -> list[str]:
    """The statements that bring a table which was made before up to its declaration, as far as no row is lost by it."""
    target = engine.name(schema, table.name)
    kinds = {column.name: column_type(column, dialect) for column in table.model.output}
    added = [
        f"ALTER TABLE {target} ADD COLUMN IF NOT EXISTS {engine.name(name)} {kind}"
        for name, kind in kinds.items()
        if name not in table.model.primary_key
    ]
    free = [name for name in kinds if name not in {*required(table), *table.model.primary_key}]
    freed = [f"ALTER TABLE {target} ALTER COLUMN {engine.name(name)} DROP NOT NULL" for name in free]
    if dialect == "duckdb":
        return [*added, *freed]
    wanted = ", ".join(
        f"({engine.text(name)}, {engine.text(catalog_type(kind))})" for name, kind in kinds.items()
    )
    is_other = (
        f"attrelid = {engine.text(target)}::pg_catalog.regclass AND attname = wanted.name AND NOT attisdropped"
        " AND pg_catalog.format_type(atttypid, atttypmod) <> wanted.kind"
    )
    retyped = f"""
DECLARE
    part record;
    loses boolean;
BEGIN
    FOR part IN SELECT wanted.* FROM (VALUES {wanted}) AS wanted (name, kind), pg_catalog.pg_attribute WHERE {is_other} LOOP
        EXECUTE pg_catalog.format('SELECT EXISTS (SELECT 1 FROM %s WHERE %I::%s IS DISTINCT FROM %I)',
            {engine.text(target)}, part.name, part.kind, part.name) INTO loses;
        IF loses THEN
            RAISE EXCEPTION '% would not keep its values as %', part.name, part.kind;
        END IF;
        DROP VIEW IF EXISTS {engine.name(schema, table.current)};
        EXECUTE pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I SET DATA TYPE %s USING %I::%s',
            {engine.text(target)}, part.name, part.kind, part.name, part.kind);
    END LOOP;
END
"""
    return [*added, *freed, f"DO {engine.text(retyped)}"]


def catalog_type(kind: str) -> str:
    """A type of PostgreSQL as its catalog writes it."""
    name, _, parameters = kind.partition("(")
    name = {"VARCHAR": "character varying", "TIMESTAMP": "timestamp without time zone"}.get(name, name)
    name = {"TIME": "time without time zone"}.get(name, name).lower()
    return f"{name}({parameters.replace(' ', '')}" if parameters else name


def _columns(table: WarehouseTable, dialect: Dialect, *, named: bool) -> list[str]:
    def not_null(column: str) -> str:
        # From version 18 on PostgreSQL gives the constraint a name, made from that of the table.
        return f" CONSTRAINT {_name(table.name, column, 'not_null')} NOT NULL" if named else " NOT NULL"

    return [
        f"{engine.name(column.name)} {column_type(column, dialect)}"
        f"{not_null(column.name) if column.name in required(table) else ''}"
        for column in table.model.output
    ]


def _body(lines: list[str]) -> str:
    return "(\n    " + ",\n    ".join(lines) + "\n)"


def _primary_key(table: WarehouseTable) -> str:
    return f"PRIMARY KEY ({engine.names(table.model.primary_key)})"


def _foreign_key(table: WarehouseTable, column: str, schema: str, at: Mapping[str, str]) -> str:
    return (
        f"CONSTRAINT {_name(table.name, column, 'fkey')} FOREIGN KEY ({engine.name(column)})"
        f" REFERENCES {_relation(schema, table.model.references[column], at)}"
    )


def column_type(column: Column | OutputColumn, dialect: Dialect) -> str:
    """The column's type in a dialect."""
    if dialect == "duckdb":
        return column.type
    if column.unbounded:
        return "NUMERIC"
    if column.type == "VARCHAR":
        return f"VARCHAR({column.length_max})" if column.length_max else "VARCHAR"
    return _POSTGRESQL_TYPES.get(column.type, re.sub(r"^DECIMAL", "NUMERIC", column.type))


def _relation(schema: str, table: str, at: Mapping[str, str]) -> str:
    return engine.name(schema, at.get(table, table))


def constraint_name(*parts: str) -> str:
    """The name of a table's constraint or index, short enough for PostgreSQL and unlike any other's."""
    full = "_".join(parts)
    if len(full.encode()) > NAME_BYTES_MAX:
        full = f"{full[:40]}_{sha256(full.encode()).hexdigest()[:8]}_{parts[-1]}"
    return full


def _name(*parts: str) -> str:
    return engine.name(constraint_name(*parts))
