"""The comments in a warehouse's catalog: what the models say of their tables and columns, for whoever opens it with another tool.

What a model describes has the model's words. Comments on what it does not describe are left as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from totes import engine
from totes.star.declaration import LEDGER, MADE
from totes.warehouse.table import Dialect, WarehouseTable

_OWN = {
    LEDGER: "The batches that are loaded. Written by totes.",
    MADE: "The tables that totes has made. Written by totes.",
}
_CURRENT = "Current, undeleted rows only."
# Relations that this role may comment on and their columns, each with its comment.
_PRESENT: dict[Dialect, str] = {
    "duckdb": "SELECT lower(table_name), NULL, comment FROM duckdb_tables() WHERE schema_name = {schema} AND NOT temporary"
    " UNION ALL SELECT lower(view_name), NULL, comment FROM duckdb_views() WHERE schema_name = {schema} AND NOT temporary"
    " UNION ALL SELECT lower(table_name), column_name, comment FROM duckdb_columns() WHERE schema_name = {schema}",
    "postgresql": "SELECT relname::text, part.name, description FROM pg_catalog.pg_class AS relation"
    " CROSS JOIN LATERAL (SELECT 0 AS number, NULL::text AS name UNION ALL SELECT attnum, attname::text"
    " FROM pg_catalog.pg_attribute WHERE attrelid = relation.oid AND attnum > 0 AND NOT attisdropped) AS part"
    " LEFT JOIN pg_catalog.pg_description ON objoid = relation.oid AND objsubid = part.number"
    " AND classoid = 'pg_catalog.pg_class'::pg_catalog.regclass WHERE relkind IN ('r', 'p', 'v')"
    " AND relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = {schema})"
    " AND pg_catalog.pg_has_role(relowner, 'USAGE')",
}


class _Subject(NamedTuple):
    """What a comment is on: a relation or one of its columns."""

    kind: str
    relation: str
    column: str | None = None

    def statement(self, schema: str, comment: str) -> str:
        name = engine.name(schema, self.relation)
        if self.column is not None:
            return f"COMMENT ON COLUMN {name}.{engine.name(self.column)} IS {engine.text(comment)}"
        return f"COMMENT ON {self.kind} {name} IS {engine.text(comment)}"


def statements(tables: Iterable[WarehouseTable], schema: str) -> list[str]:
    """The statements that describe tables, their views, and totes' own tables."""
    return [subject.statement(schema, comment) for subject, comment in _wanted(tables).items()]


def outdated(
    rows: Callable[[str], list[tuple[Any, ...]]],
    tables: Iterable[WarehouseTable],
    schema: str,
    dialect: Dialect,
) -> list[str]:
    """The statements that describe what is not described as its model describes it.

    Args:
        rows: gives the rows of a query.
        tables: the tables; those that are not there, or are not this role's, are left out.
        schema: their schema.
        dialect: the warehouse's.
    """
    present = {
        (relation, column): comment
        for relation, column, comment in rows(_PRESENT[dialect].format(schema=engine.text(schema)))
    }
    made = []
    for subject, comment in _wanted(tables).items():
        relation = subject.relation.lower() if dialect == "duckdb" else subject.relation
        if present.get((relation, subject.column), comment) != comment:
            made.append(subject.statement(schema, comment))
    return made


def _wanted(tables: Iterable[WarehouseTable]) -> dict[_Subject, str]:
    wanted = {_Subject("TABLE", name): comment for name, comment in _OWN.items()}
    for table in tables:
        if table.model.description:
            wanted[_Subject("TABLE", table.name)] = table.model.description
            wanted[_Subject("VIEW", table.current)] = f"{table.model.description} {_CURRENT}"
        for column, comment in table.model.descriptions.items():
            wanted[_Subject("TABLE", table.name, column)] = comment
            wanted[_Subject("VIEW", table.current, column)] = comment
    return wanted
