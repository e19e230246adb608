"""Brings a table of the warehouse up to a declaration that was relaxed: NOT NULL dropped, types widened, rows as they are."""

from __future__ import annotations

import re
from dataclasses import replace

from totes import engine
from totes.errors import WarehouseRefused
from totes.star.column import Column
from totes.star.relaxation import holds
from totes.warehouse import ddl
from totes.warehouse.kept import Statements
from totes.warehouse.table import WarehouseTable

_NAMES = {"CHARACTER VARYING": "VARCHAR", "TEXT": "VARCHAR", "REAL": "FLOAT", "DOUBLE PRECISION": "DOUBLE"}
_COLUMNS: dict[ddl.Dialect, str] = {
    "duckdb": "SELECT column_name, data_type, NOT is_nullable FROM duckdb_columns()"
    " WHERE schema_name = {schema} AND table_name = {table}",
    "postgresql": "SELECT attname::text, pg_catalog.format_type(atttypid, atttypmod), attnotnull FROM pg_catalog.pg_attribute"
    " WHERE attrelid = {relation}::pg_catalog.regclass AND attnum > 0 AND NOT attisdropped",
}
_IS_OWNER = (
    "SELECT pg_catalog.pg_has_role(relowner, 'USAGE') FROM pg_catalog.pg_class"
    " WHERE oid = {relation}::pg_catalog.regclass"
)
_GRANTS = (
    "SELECT pg_catalog.format('GRANT %s ON %s TO %s%s', privilege_type, oid::pg_catalog.regclass,"
    " CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(grantee)) END,"
    " CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)"
    " FROM pg_catalog.pg_class, pg_catalog.aclexplode(relacl) WHERE oid = {relation}::pg_catalog.regclass"
)


def relax(statements: Statements, schema: str, table: WarehouseTable) -> None:
    """Alters a table that is narrower than it is declared; one that is as declared, or wider, stays as it is.

    All of it is part of the load's transaction. In PostgreSQL the view over a retyped table is made again, with the
    privileges that were granted on it.

    Raises:
        WarehouseRefused: the role may not alter the table.
    """
    dialect = statements.dialect
    names = {"schema": engine.text(schema), "table": engine.text(table.name)}
    relation = engine.text(engine.name(schema, table.name))
    rows = statements.rows(_COLUMNS[dialect].format(**names, relation=relation))
    present = {
        name: replace(column_of(kind, dialect), name=name, not_null=not_null) for name, kind, not_null in rows
    }
    columns = [column for column in table.model.columns if column.name in present]
    widened = [column for column in columns if _is_narrower(present[column.name], column, dialect)]
    freed = [column for column in columns if present[column.name].not_null and not column.not_null]
    if not widened and not freed:
        return
    keyed = [column for column in widened if column.name in table.model.primary_key]
    if dialect == "duckdb" and keyed:
        altering = _copy(table, schema)
    else:
        parts = [_widen(column, dialect) for column in widened]
        parts += [f"ALTER COLUMN {engine.name(column.name)} DROP NOT NULL" for column in freed]
        altering = [f"ALTER TABLE {statements.relation(table.name)} {part}" for part in parts]
        if dialect == "postgresql":  # all at once, so that the table is written anew but once
            altering = [f"ALTER TABLE {statements.relation(table.name)} {', '.join(parts)}"]
    if dialect == "postgresql":
        if widened and table.model.versioned:
            view = engine.text(engine.name(schema, table.current))
            granted = [grant for (grant,) in statements.rows(_GRANTS.format(relation=view))]
            dropped = f"DROP VIEW {statements.relation(table.current)}"
            altering = [dropped, *altering, *ddl.create_view(table, schema), *granted]
        if not statements.rows(_IS_OWNER.format(relation=relation))[0][0]:
            raise WarehouseRefused(
                f"{table.name} is declared wider than it is, and this role does not own it",
                hint=f"Have its owner run: {'; '.join(altering)}",
            )
    for statement in altering:
        statements.execute(statement)


def column_of(kind: str, dialect: ddl.Dialect) -> Column:
    """A column of a type as a warehouse's catalog writes it."""
    name, _, parameters = kind.upper().partition("(")
    name, numbers = _NAMES.get(name, name), re.findall(r"\d+", parameters)
    if name in ("NUMERIC", "DECIMAL"):
        unbounded = dialect == "postgresql" and not numbers
        precision, scale = numbers or (38, 10)
        return Column("", f"DECIMAL({precision}, {scale})", not_null=False, unbounded=unbounded)
    return Column(
        "", name, not_null=False, length_max=int(numbers[0]) if name == "VARCHAR" and numbers else None
    )


def _is_narrower(present: Column, declared: Column, dialect: ddl.Dialect) -> bool:
    wanted = column_of(ddl.column_type(declared, dialect), dialect)
    same = replace(present, name="", not_null=False) == wanted
    return not same and holds(wanted, present)


def _widen(column: Column, dialect: ddl.Dialect) -> str:
    quoted, kind = engine.name(column.name), ddl.column_type(column, dialect)
    exact = f" USING trim_scale({quoted}::NUMERIC)" if column.unbounded and dialect == "postgresql" else ""
    return f"ALTER COLUMN {quoted} SET DATA TYPE {kind}{exact}"


def _copy(table: WarehouseTable, schema: str) -> list[str]:
    """DuckDB does not alter the type of a primary key: the table is made anew, and takes the place of the other."""
    target, aside = engine.name(schema, table.name), f"~{table.name}"
    return [
        f"ALTER TABLE {target} RENAME TO {engine.name(aside)}",
        ddl.create_table(table, schema, "duckdb"),
        f"INSERT INTO {target} BY NAME SELECT * FROM {engine.name(schema, aside)}",
        f"DROP TABLE {engine.name(schema, aside)}",
        *ddl.comments(table, schema),
    ]
