"""The warehouse's DDL, for each dialect: tables, then constraints and indexes, then views. Pure text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from types import MappingProxyType
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
OWN_NAMES: Mapping[str, str] = MappingProxyType({})


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

    def not_null(column: str) -> str:
        # From version 18 on PostgreSQL gives the constraint a name, made from that of the table.
        return f" CONSTRAINT {_name(table.name, column, 'not_null')} NOT NULL" if at else " NOT NULL"

    lines = [
        f"    {engine.name(column.name)} {column_type(column, dialect)}{not_null(column.name) if column.not_null else ''}"
        for column in table.model.columns
    ]
    if table.model.versioned:
        lines += [
            f"    valid_from TIMESTAMP{not_null('valid_from')}",
            "    valid_to TIMESTAMP",
            f"    is_deleted BOOLEAN{not_null('is_deleted')}",
            f"    batch_id BIGINT{not_null('batch_id')}",
        ]
    if dialect == "duckdb":
        lines.append(f"    PRIMARY KEY ({engine.names(table.model.primary_key)})")
    body = ",\n".join(lines)
    return f"CREATE TABLE {_relation(schema, table.name, at)} (\n{body}\n)"


def create_keys(
    table: WarehouseTable, schema: str, dialect: Dialect, at: Mapping[str, str] = OWN_NAMES
) -> list[str]:
    """Primary key and indexes, in an order and at a time at which they cost least: after the first rows.

    One index finds a row's history, and one, over newest versions only, also makes sure that there is one of each. The
    first date that refers to another table is what people ask for a month or a day of: of newest versions it has an index.
    """
    target = _relation(schema, table.name, at)
    statements = []
    if dialect == "postgresql":
        statements.append(
            f"ALTER TABLE {target} ADD CONSTRAINT {_name(table.name, 'pkey')}"
            f" PRIMARY KEY ({engine.names(table.model.primary_key)})"
        )
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
    return [create_foreign_key(table, column, schema) for column in table.model.references]


def create_foreign_key(
    table: WarehouseTable, column: str, schema: str, at: Mapping[str, str] = OWN_NAMES
) -> str:
    """The foreign key of one column, which checks the rows that are there."""
    target = table.model.references[column]
    return (
        f"ALTER TABLE {_relation(schema, table.name, at)} ADD CONSTRAINT {_name(table.name, column, 'fkey')}"
        f" FOREIGN KEY ({engine.name(column)}) REFERENCES {_relation(schema, target, at)}"
    )


def validate_foreign_key(table: WarehouseTable, column: str, schema: str, at: Mapping[str, str]) -> str:
    """Checks the rows that were there when the foreign key of a column was added as NOT VALID."""
    return f"ALTER TABLE {_relation(schema, table.name, at)} VALIDATE CONSTRAINT {_name(table.name, column, 'fkey')}"


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


def _relation(schema: str, table: str, at: Mapping[str, str]) -> str:
    return engine.name(schema, at.get(table, table))


def _name(*parts: str) -> str:
    full = "_".join(parts)
    if len(full.encode()) > _NAME_BYTES_MAX:
        full = f"{full[:40]}_{sha256(full.encode()).hexdigest()[:8]}_{parts[-1]}"
    return engine.name(full)
