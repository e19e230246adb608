"""The warehouse's DDL, for each dialect: tables, then constraints and indexes, then views. Pure text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import sha256
from typing import Literal

from totes import engine
from totes.lake.manifest import OutputColumn
from totes.star.column import Column
from totes.star.declaration import KEPT, LEDGER
from totes.warehouse.table import WarehouseTable

Dialect = Literal["duckdb", "postgresql"]
OWN_SCHEMAS: dict[Dialect, str] = {"duckdb": "main", "postgresql": "public"}
_POSTGRESQL_TYPES = {
    "TINYINT": "SMALLINT",
    "FLOAT": "REAL",
    "DOUBLE": "DOUBLE PRECISION",
    "BLOB": "BYTEA",
    "TIMESTAMPTZ": "TIMESTAMP WITH TIME ZONE",
}
_NAME_BYTES_MAX = 63


def create_ledger(schema: str) -> str:
    """The table that says which batches are loaded: a batch that is in it is loaded, wholly and once."""
    return (
        f"CREATE TABLE {engine.name(schema, LEDGER)} (\n"
        "    batch_id BIGINT PRIMARY KEY,\n    manifest_sha256 VARCHAR NOT NULL,\n"
        "    read_at TIMESTAMP NOT NULL,\n    loaded_at TIMESTAMP NOT NULL,\n    rows BIGINT NOT NULL\n)"
    )


def create_kept(schema: str) -> str:
    """The table that says which rows are gone from the star and stay because another table's row refers to them."""
    return (
        f"CREATE TABLE {engine.name(schema, KEPT)} (\n"
        "    table_name VARCHAR NOT NULL,\n    row_key VARCHAR NOT NULL,\n    referred_by VARCHAR NOT NULL\n)"
    )


def create_table(table: WarehouseTable, schema: str, dialect: Dialect) -> str:
    """The table alone; in DuckDB with its primary key, which it cannot be given as cheaply later."""
    lines = [
        f"    {engine.name(column.name)} {column_type(column, dialect)}{' NOT NULL' if column.not_null else ''}"
        for column in table.model.columns
    ]
    if table.model.versioned:
        lines += [
            "    valid_from TIMESTAMP NOT NULL",
            "    valid_to TIMESTAMP",
            "    is_deleted BOOLEAN NOT NULL",
            "    batch_id BIGINT NOT NULL",
        ]
    if dialect == "duckdb":
        lines.append(f"    PRIMARY KEY ({engine.names(table.model.primary_key)})")
    body = ",\n".join(lines)
    return f"CREATE TABLE {engine.name(schema, table.name)} (\n{body}\n)"


def create_keys(table: WarehouseTable, schema: str, dialect: Dialect) -> list[str]:
    """Primary key and indexes, in an order and at a time at which they cost least: after the first rows.

    One index finds a row's history, and one, over newest versions only, also makes sure that there is one of each. The
    first date that refers to another table is what people ask for a month or a day of: of newest versions it has an index.
    """
    target = engine.name(schema, table.name)
    statements = []
    if dialect == "postgresql":
        statements.append(f"ALTER TABLE {target} ADD PRIMARY KEY ({engine.names(table.model.primary_key)})")
        if table.model.versioned:
            keys = engine.names(table.key)
            statements += [
                f"CREATE UNIQUE INDEX {_name(table.name, 'history')} ON {target} ({keys}, valid_from)",
                f"CREATE UNIQUE INDEX {_name(table.name, 'newest')} ON {target} ({keys}) WHERE valid_to IS NULL",
            ]
            dates = [column for column in table.model.columns if column.type == "DATE" and column.references]
            statements += [
                f"CREATE INDEX {_name(table.name, column.name, 'newest')} ON {target} ({engine.name(column.name)})"
                " WHERE valid_to IS NULL"
                for column in dates[:1]
            ]
    return statements


def create_foreign_keys(table: WarehouseTable, schema: str, dialect: Dialect) -> list[str]:
    """Foreign keys; DuckDB, whose updates they would get in the way of, has none."""
    if dialect == "duckdb":
        return []
    return [
        f"ALTER TABLE {engine.name(schema, table.name)} ADD CONSTRAINT {_name(table.name, column, 'fkey')}"
        f" FOREIGN KEY ({engine.name(column)}) REFERENCES {engine.name(schema, target)}"
        for column, target in table.model.references.items()
    ]


def create_staged(name: str, columns: Iterable[OutputColumn]) -> str:
    """A temporary table of PostgreSQL that rows are sent to on their way into another."""
    typed = ", ".join(f"{engine.name(column.name)} {column_type(column, 'postgresql')}" for column in columns)
    return f"CREATE TEMPORARY TABLE {name} ({typed})"


def create_reference_index(table: str, column: str, schema: str) -> str:
    """The index by which PostgreSQL finds the rows that refer to one which is to be removed."""
    target = engine.name(schema, table)
    return f"CREATE INDEX {_name(table, column, 'references')} ON {target} ({engine.name(column)})"


def create_view(table: WarehouseTable, schema: str) -> list[str]:
    """The view of current, undeleted rows of a table that keeps versions."""
    if not table.model.versioned:
        return []
    return [
        f"CREATE VIEW {engine.name(schema, f'{table.name}_current')} AS SELECT * FROM {engine.name(schema, table.name)}"
        " WHERE valid_to IS NULL AND NOT is_deleted"
    ]


def comments(table: WarehouseTable, schema: str) -> list[str]:
    """What the model file says of its table and columns."""
    target = engine.name(schema, table.name)
    said = (
        [f"COMMENT ON TABLE {target} IS {engine.text(table.model.description)}"]
        if table.model.description
        else []
    )
    return said + [
        f"COMMENT ON COLUMN {target}.{engine.name(column.name)} IS {engine.text(column.description)}"
        for column in table.model.columns
        if column.description
    ]


def statements(tables: tuple[WarehouseTable, ...], schema: str, dialect: Dialect) -> list[str]:
    """The whole DDL, for the owner of a warehouse whose loader may not create tables."""
    made = [] if schema == OWN_SCHEMAS[dialect] else [f"CREATE SCHEMA IF NOT EXISTS {engine.name(schema)}"]
    made += [
        create_ledger(schema),
        create_kept(schema),
        *(create_table(table, schema, dialect) for table in tables),
    ]
    for part in (create_keys, create_foreign_keys):
        made += [statement for table in tables for statement in part(table, schema, dialect)]
    for table in tables:
        made += create_view(table, schema) + comments(table, schema)
    return made


def column_type(column: Column | OutputColumn, dialect: Dialect) -> str:
    """The column's type in a dialect."""
    if dialect == "duckdb":
        return column.type
    if column.unbounded:
        return "NUMERIC"
    if column.type == "VARCHAR":
        return f"VARCHAR({column.length_max})" if column.length_max else "VARCHAR"
    return _POSTGRESQL_TYPES.get(column.type, re.sub(r"^DECIMAL", "NUMERIC", column.type))


def _name(*parts: str) -> str:
    full = "_".join(parts)
    if len(full.encode()) > _NAME_BYTES_MAX:
        full = f"{full[:40]}_{sha256(full.encode()).hexdigest()[:8]}_{parts[-1]}"
    return engine.name(full)
