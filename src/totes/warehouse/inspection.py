"""What is in a warehouse under the star's names: what totes has made, what is gone, and what is somebody else's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from totes import engine
from totes.errors import WarehouseRefused
from totes.lake.manifest import OutputColumn
from totes.star.change import holds
from totes.star.column import Column
from totes.star.declaration import LEDGER, MADE, OUTDATED
from totes.warehouse import ddl
from totes.warehouse.adapter import newest_batch
from totes.warehouse.alteration import column_of
from totes.warehouse.table import BatchLoad, Dialect, WarehouseTable

Rows = Callable[[str], list[tuple[Any, ...]]]
_RELATIONS: dict[Dialect, str] = {
    # DuckDB does not tell names apart by case.
    "duckdb": "SELECT lower(table_name), 'table' FROM duckdb_tables() WHERE schema_name = {schema} AND NOT temporary"
    " UNION ALL SELECT lower(view_name), 'view' FROM duckdb_views()"
    " WHERE schema_name = {schema} AND NOT temporary AND NOT internal",
    "postgresql": "SELECT relname::text, CASE relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'table' WHEN 'v' THEN 'view'"
    " WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence' WHEN 'f' THEN 'foreign table' WHEN 'c' THEN 'type'"
    " ELSE 'index' END FROM pg_catalog.pg_class WHERE relnamespace = (SELECT oid FROM pg_catalog.pg_namespace"
    " WHERE nspname = {schema}) UNION ALL SELECT typname::text, 'type' FROM pg_catalog.pg_type WHERE typrelid = 0"
    " AND typelem = 0 AND typnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = {schema})",
}
_COLUMNS: dict[Dialect, str] = {
    "duckdb": "SELECT lower(table_name), column_name, data_type FROM duckdb_columns() WHERE schema_name = {schema}",
    "postgresql": "SELECT relname::text, attname::text, pg_catalog.format_type(atttypid, atttypmod)"
    " FROM pg_catalog.pg_attribute JOIN pg_catalog.pg_class ON pg_class.oid = attrelid"
    " WHERE relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = {schema})"
    " AND relkind IN ('r', 'p') AND attnum > 0 AND NOT attisdropped",
}
_LEDGER_COLUMNS = {"batch_id", "manifest_sha256", "read_at", "loaded_at", "rows"}
_ELSEWHERE = "set warehouse.schema to a new schema, or warehouse.url to a new database: the next load fills it from the lake"


@dataclass(frozen=True)
class Inspection:
    """What a schema holds: the kind of each relation by name, and the columns of its tables with their types.

    `listed` are the tables that its list has as made by totes.
    """

    schema: str
    dialect: Dialect
    kinds: dict[str, str]
    columns: dict[str, dict[str, str]]
    listed: frozenset[str]

    @classmethod
    def of(cls, rows: Rows, schema: str, dialect: Dialect) -> Inspection:
        """Looks at a schema.

        Args:
            rows: gives the rows of a query.
            schema: the schema.
            dialect: the warehouse's.

        Raises:
            WarehouseRefused: what has the name of one of totes' own tables is not that table.
        """
        named = {"schema": engine.text(schema)}
        kinds: dict[str, str] = dict(rows(_RELATIONS[dialect].format(**named)))
        columns: dict[str, dict[str, str]] = {}
        for table, column, kind in rows(_COLUMNS[dialect].format(**named)):
            columns.setdefault(table, {})[column] = kind
        own = {
            LEDGER: _LEDGER_COLUMNS,
            MADE: {"table_name", "made_by_totes"},
        }
        taken = [name for name in own if name in kinds and not own[name] <= columns.get(name, {}).keys()]
        listed = (
            rows(f"SELECT table_name FROM {engine.name(schema, MADE)}") if MADE in kinds and not taken else []
        )
        found = cls(schema, dialect, kinds, columns, frozenset(name for (name,) in listed))
        if taken:
            raise found._taken(taken)
        return found

    def has(self, name: str) -> bool:
        """Whether there is anything of a name."""
        return self._key(name) in self.kinds

    @property
    def has_outdated(self) -> bool:
        """Whether there is the table that an earlier release had for rows that were gone."""
        return {"table_name", "row_key", "referred_by"} == self.columns.get(OUTDATED, {}).keys()

    def is_table(self, name: str) -> bool:
        """Whether there is a table of a name."""
        return self.kinds.get(self._key(name)) == "table"

    def strangers(self, tables: Iterable[WarehouseTable], loaded: frozenset[str]) -> list[str]:
        """The names that the tables and their views are to have, and that something else has which totes did not make.

        Args:
            tables: the tables.
            loaded: the tables into which earlier batches were loaded.
        """
        found: list[str] = []
        for table in tables:
            if self.is_table(table.name) and (table.name in loaded or table.name in self.listed):
                continue
            found += [name for name in (table.name, table.current) if self.has(name)]
            if (
                self.has(table.name) and self.dialect == "postgresql"
            ):  # whoever renames it has to rename them as well
                indexes = (
                    ddl.key_index(table, self.schema)[0],
                    *ddl.create_indexes(table, self.schema, self.dialect),
                )
                found += [name for name in indexes if self.has(name)]
        return found

    def awaits(self, rows: Rows, tables: tuple[WarehouseTable, ...], batch: BatchLoad) -> bool:
        """Whether a batch is the next one to load, and may be; not where it is in the ledger already.

        Raises:
            WarehouseRefused: the batch before it is not loaded, or what is in the place of its tables does not come from loads.
        """
        newest = newest_batch(rows, self.schema) if self.has(LEDGER) else None
        if newest and newest.batch >= batch.batch:
            return False
        if (newest.batch if newest else 0) != batch.batch - 1:
            raise WarehouseRefused(f"batch {batch.batch - 1} must be loaded before batch {batch.batch}")
        self.refuse_strangers(tables, batch.loaded)
        if newest is None:
            self.refuse_leftovers(rows, tables)
        return True

    def refuse_strangers(self, tables: Iterable[WarehouseTable], loaded: frozenset[str]) -> None:
        """Makes sure that no table is written to that totes did not make.

        Raises:
            WarehouseRefused: something has the name of a table or view that is to be made.
        """
        if taken := self.strangers(tables, loaded):
            raise self._taken(taken)

    def refuse_others(self, tables: Iterable[WarehouseTable], star: frozenset[str]) -> None:
        """Makes sure that what is in the place of tables, if anything, is what totes made.

        Raises:
            WarehouseRefused: a relation that is no table or view of totes has the name of one that is to be made again.
        """
        taken = [
            name
            for table in tables
            for name, kind in ((table.name, "table"), (table.current, "view"))
            if self.has(name)
            and (self.kinds[self._key(name)] != kind or table.name not in self.listed | star)
        ]
        if taken:
            raise self._taken(taken)

    def refuse_leftovers(self, rows: Rows, tables: Iterable[WarehouseTable]) -> None:
        """Makes sure that a warehouse whose ledger is empty holds no rows of batches.

        Raises:
            WarehouseRefused: it holds some.
        """
        filled = [
            table.name
            for table in tables
            if self.is_table(table.name)
            and rows(f"SELECT 1 FROM {engine.name(self.schema, table.name)} LIMIT 1")
        ]
        if filled:
            raise WarehouseRefused(
                f"the ledger {LEDGER} is empty, and there are rows in {', '.join(filled)}",
                hint=f"Restore the ledger from a backup of the warehouse; or {_ELSEWHERE}",
            )

    def refuse_losses(self, rows: Rows, loaded: Iterable[WarehouseTable], surrogates: dict[str, int]) -> None:
        """Makes sure that what earlier batches were loaded into is there: tables, columns, and the newest rows of versions.

        Args:
            rows: gives the rows of a query.
            loaded: the tables.
            surrogates: how many versions each of them has had.

        Raises:
            WarehouseRefused: something of it is not.
        """
        known = tuple(loaded)
        lost = [table.name for table in known if not self.is_table(table.name)]
        self._refuse(lost, "was loaded before, and is missing", "were loaded before, and are missing")
        altered = [
            f"{table.name}.{column.name}"
            for table in known
            for column in table.model.output
            if not self._fits(column, self.columns[self._key(table.name)].get(column.name))
        ]
        self._refuse(
            altered,
            "is missing, or has another type than the load gave it",
            "are missing, or have other types than the load gave them",
        )
        emptied = [
            table.name
            for table in known
            if (count := surrogates.get(table.name, 0)) and self._newest(rows, table) < count
        ]
        self._refuse(
            emptied, "lacks the newest rows that were loaded", "lack the newest rows that were loaded"
        )

    def missing_views(self, tables: Iterable[WarehouseTable]) -> list[str]:
        """The statements that make again the views that somebody has dropped."""
        return [ddl.create_view(table, self.schema) for table in tables if not self.has(table.current)]

    def missing_indexes(self, tables: Iterable[WarehouseTable]) -> list[str]:
        """The statements that make again the indexes of PostgreSQL that somebody has dropped."""
        if self.dialect == "duckdb":
            return []
        return [
            statement
            for table in tables
            for name, statement in (
                ddl.key_index(table, self.schema),
                *ddl.create_indexes(table, self.schema, self.dialect).items(),
            )
            if not self.has(name)
        ]

    def _key(self, name: str) -> str:
        return name.lower() if self.dialect == "duckdb" else name

    def _fits(self, declared: OutputColumn, kind: str | None) -> bool:
        if kind is None:
            return False
        present = replace(column_of(kind, self.dialect), name="", not_null=False)
        wanted: Column = column_of(ddl.column_type(declared, self.dialect), self.dialect)
        return present == wanted or holds(wanted, present) or holds(present, wanted)

    def _newest(self, rows: Rows, table: WarehouseTable) -> int:
        [key] = table.model.primary_key
        [(newest,)] = rows(f"SELECT max({engine.name(key)}) FROM {engine.name(self.schema, table.name)}")
        return int(newest or 0)

    def _refuse(self, names: list[str], one: str, several: str) -> None:
        if names:
            tables = sorted({name.partition(".")[0] for name in names})
            raise WarehouseRefused(
                f"{', '.join(names)} {one if len(names) == 1 else several}",
                hint=f"Make it again out of the lake: {'; '.join(f'totes replay --table {table}' for table in tables)}. Or"
                f" restore the warehouse from a backup, or {_ELSEWHERE}",
            )

    def _taken(self, names: list[str]) -> WarehouseRefused:
        shown = ", ".join(f"the {self.kinds[self._key(name)]} {name}" for name in names)
        verb = "is" if len(names) == 1 else "are"
        return WarehouseRefused(
            f"{shown} {verb} in the schema {self.schema} already, and totes did not make {'it' if len(names) == 1 else 'them'}",
            hint="Set warehouse.schema to a schema of its own; or give what is there another name",
        )
