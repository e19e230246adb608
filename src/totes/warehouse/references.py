"""References between tables of a PostgreSQL warehouse, as its catalog has them: somebody's own, and the search by them."""

from __future__ import annotations

from totes import engine
from totes.warehouse import ddl
from totes.warehouse.kept import Statements
from totes.warehouse.table import Referrer, WarehouseTable

MANY_ROWS = 100_000
_TABLE_SHARE = 10  # a tenth of the table, or more


def foreign_referrers(
    warehouse: Statements, schema: str, table: WarehouseTable, known: tuple[Referrer, ...]
) -> tuple[Referrer, ...]:
    """The columns with a foreign key to a table that somebody has added in tables of their own."""
    found = warehouse.rows(
        "SELECT relation::text, attname::text, own FROM (SELECT conrelid::pg_catalog.regclass AS relation, attname,"
        f" CASE WHEN n.nspname = {engine.text(schema)} THEN c.relname END::text AS own"
        " FROM pg_catalog.pg_constraint JOIN pg_catalog.pg_class c ON c.oid = conrelid"
        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " JOIN pg_catalog.pg_attribute ON attrelid = conrelid AND attnum = conkey[1]"
        " WHERE contype = 'f' AND pg_catalog.array_length(conkey, 1) = 1"
        f" AND confrelid = {_relation(schema, table.name)}) AS found"
    )
    ours = {(referrer.table, referrer.column) for referrer in known}
    return tuple(
        Referrer(relation, column, versioned=False, relation=relation)
        for relation, column, own in found
        if (own, column) not in ours
    )


def index_references(warehouse: Statements, schema: str, referrers: tuple[Referrer, ...]) -> None:
    """Makes an index on each of these columns of the star that has none, if the role owns the table.

    That is done when rows are first to be removed, not when a table is made: most tables are never searched so, and each
    index would cost time with every load.
    """
    warehouse.execute("ANALYZE totes_candidates")
    for referrer in referrers:
        if referrer.relation:
            continue
        relation = _relation(schema, referrer.table)
        [(wanted,)] = warehouse.rows(
            "SELECT pg_catalog.pg_has_role(relowner, 'USAGE') AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_index"
            " JOIN pg_catalog.pg_attribute ON attrelid = indrelid AND attnum = indkey[0]"
            f" WHERE indrelid = pg_class.oid AND indpred IS NULL AND attname = {engine.text(referrer.column)})"
            f" FROM pg_catalog.pg_class WHERE oid = {relation}"
        )
        if wanted:
            warehouse.execute(ddl.create_reference_index(referrer.table, referrer.column, schema))


def suspend_foreign_keys(warehouse: Statements, schema: str, table: str, rows: int) -> list[str]:
    """Drops a table's foreign keys where so many rows are to come that checking all rows as a set is faster than each alone.

    It is not done where the role could not add them again. Readers of the tables wait until the transaction ends.

    Returns:
        The statements that add them again, as they were.
    """
    if rows < MANY_ROWS:
        return []
    relation, most = _relation(schema, table), rows * _TABLE_SHARE
    [(held,)] = warehouse.rows(
        f"SELECT count(*) FROM (SELECT 1 FROM {engine.name(schema, table)} LIMIT {most + 1}) AS counted"
    )
    if held > most:
        return []
    found = warehouse.rows(
        "SELECT conname::text, pg_catalog.pg_get_constraintdef(oid), (SELECT pg_catalog.pg_has_role(relowner, 'USAGE')"
        " FROM pg_catalog.pg_class WHERE pg_class.oid = conrelid)"
        " AND pg_catalog.has_table_privilege(confrelid, 'REFERENCES')"
        f" FROM pg_catalog.pg_constraint WHERE contype = 'f' AND conparentid = 0 AND conrelid = {relation} ORDER BY 1"
    )
    target, again = engine.name(schema, table), list[str]()
    for name, definition, allowed in found:
        if allowed:
            warehouse.execute(f"ALTER TABLE {target} DROP CONSTRAINT {engine.name(name)}")
            again.append(f"ALTER TABLE {target} ADD CONSTRAINT {engine.name(name)} {definition}")
    return again


def _relation(schema: str, table: str) -> str:
    return f"{engine.text(engine.name(schema, table))}::pg_catalog.regclass"
