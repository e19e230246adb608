"""Rows that a load brings into tables of PostgreSQL, through temporary tables on the load's own session."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import adbc_driver_manager

from totes import engine
from totes.errors import WarehouseError
from totes.lake.manifest import OutputColumn
from totes.warehouse import ddl
from totes.warehouse.dependents import foreign_keys
from totes.warehouse.postgresql_session import Session
from totes.warehouse.table import TableLoad, WarehouseTable

_FOREIGN_KEY_VIOLATION = "23503"
# Types whose values may be equal and not the same, or that PostgreSQL cannot compare.
_AS_TEXT = {"JSON", "INTERVAL", "FLOAT", "DOUBLE"}


class RowWriter:
    """Writes rows; each call is part of the transaction of its session."""

    def __init__(
        self, session: Session, schema: str, ask: Callable[[str], list[tuple[Any, ...]]], star: frozenset[str]
    ) -> None:
        """Prepares it.

        Args:
            session: the load's session.
            schema: the schema of the star.
            ask: gives the rows of a query on another connection.
            star: the names of the star's tables.
        """
        self._session = session
        self._schema = schema
        self._ask = ask
        self._star = star
        self._staged: dict[str, str] = {}
        self._number = 0

    def write(self, load: TableLoad) -> None:
        """Writes rows beside those that are there: versions close the one before them, latest rows replace theirs."""
        if not load.rows:
            return
        table, target = load.table, self._name(load.table.name)
        staged = self.stage(table.model.output, load.relation)
        columns = engine.names(table.columns)
        insert = f"INSERT INTO {target} ({columns}) SELECT {columns} FROM {staged}"
        if table.model.versioned:
            # Without statistics a few rows are taken for many, and joined by reading all history.
            self._session.execute(f"ANALYZE {staged}")
            self._session.execute(
                f"UPDATE {target} AS old SET valid_to = new.valid_from FROM {table.first_versions(staged)} AS new"
                f" WHERE old.valid_to IS NULL AND {engine.equal('old', 'new', table.key)}"
            )
            self._session.execute(insert)
        else:
            keys = table.model.primary_key
            others = [column for column in table.columns if column not in keys]
            replaced = ", ".join(f"{engine.name(c)} = excluded.{engine.name(c)}" for c in others)
            self._session.execute(
                f"{insert} ON CONFLICT ({engine.names(keys)}) DO {f'UPDATE SET {replaced}' if others else 'NOTHING'}"
            )
        self._session.execute(f"DROP TABLE {staged}")

    def remove(self, load: TableLoad) -> None:
        """Deletes the rows that left a table."""
        if not load.removed:
            return
        keys = [column for column in load.table.model.output if column.name in load.table.key]
        staged = self.stage(keys, engine.parquet(load.removed))
        self._session.execute(f"ANALYZE {staged}")
        with self._deletion(load.table.name):
            self._session.execute(
                f"DELETE FROM {self._name(load.table.name)} AS present USING {staged} AS gone"
                f" WHERE {engine.equal('present', 'gone', load.table.key)}"
            )
        self._session.execute(f"DROP TABLE {staged}")

    def prepare(self, load: TableLoad) -> None:
        """Takes all rows of a table in hand, before anything is locked for them."""
        staged = self.stage(load.table.model.output, load.relation)
        self._session.execute(f"ANALYZE {staged}")
        self._staged[load.table.name] = staged

    def equalise(self, load: TableLoad, at: Mapping[str, str]) -> None:
        """Makes a table's rows those that were prepared, but for rows of a latest table that are to go: see `clear`.

        Only rows that differ are written. Their order is one that keeps to the unique indexes: of versions those go first
        that are to go, then some are closed, then others may be open.

        Args:
            load: the load.
            at: the column of the table in which each declared column is.
        """
        table, target, staged = load.table, self._name(load.table.name), self._staged[load.table.name]
        same, others = (
            self._same(table, at),
            [c for c in table.model.output if c.name not in _identity(table)],
        )
        into = ", ".join(engine.name(at[column]) for column in table.columns)
        insert = (
            f"INSERT INTO {target} ({into}) SELECT {engine.names(table.columns, 'new')} FROM {staged} AS new"
            f" WHERE NOT EXISTS (SELECT 1 FROM {target} AS old WHERE {same})"
        )
        values = ", ".join(f"{engine.name(at[c.name])} = {engine.name('new', c.name)}" for c in others)
        differs = " OR ".join(
            _unlike(engine.name("old", at[c.name]), engine.name("new", c.name), c) for c in others
        )
        update = f"UPDATE {target} AS old SET {values} FROM {staged} AS new WHERE {same} AND ({differs})"
        if table.model.versioned:
            self._delete(table, at)
            self._session.execute(f"{update} AND new.valid_to IS NOT NULL")
            self._session.execute(update)
            self._session.execute(insert)
        else:
            self._session.execute(insert)
            if others:
                self._session.execute(update)

    def clear(self, load: TableLoad, at: Mapping[str, str]) -> None:
        """Deletes the rows of a latest table that were not prepared, and forgets what was."""
        if not load.table.model.versioned:
            with self._deletion(load.table.name):
                self._delete(load.table, at)
        self._session.execute(f"DROP TABLE {self._staged.pop(load.table.name)}")

    def stage(self, columns: Iterable[OutputColumn], rows: str) -> str:
        """Puts rows into a temporary table, and gives its quoted name."""
        self._number += 1
        name, chosen = f"totes_staged_{self._number}", tuple(columns)
        self._session.execute(ddl.create_staged(name, chosen))
        self._session.send(name, chosen, rows, temporary=True)
        return f"pg_temp.{name}"

    def _delete(self, table: WarehouseTable, at: Mapping[str, str]) -> None:
        self._session.execute(
            f"DELETE FROM {self._name(table.name)} AS old"
            f" WHERE NOT EXISTS (SELECT 1 FROM {self._staged[table.name]} AS new WHERE {self._same(table, at)})"
        )

    def _same(self, table: WarehouseTable, at: Mapping[str, str]) -> str:
        return " AND ".join(
            f"{engine.name('old', at[column])} = {engine.name('new', column)}" for column in _identity(table)
        )

    @contextmanager
    def _deletion(self, table: str) -> Iterator[None]:
        """Reports that rows cannot be deleted, since tables of others refer to them."""
        try:
            yield
        except adbc_driver_manager.Error as error:
            if error.sqlstate != _FOREIGN_KEY_VIOLATION:
                raise
            found = foreign_keys(self._ask, self._schema, table, self._star)
            named = ", ".join(f"{one.relation} ({one.name})" for one in found)
            raise WarehouseError(
                f"rows that are gone from the star are to leave {table}, and a foreign key refers to them: {named}",
                hint="Delete the rows that refer to them, or drop that foreign key and make it again with ON DELETE SET NULL: "
                + "; ".join(one.drop for one in found),
            ) from error

    def _name(self, table: str) -> str:
        return engine.name(self._schema, table)


def _identity(table: WarehouseTable) -> tuple[str, ...]:
    """The columns by which a row is the same row; those of unique indexes are among them."""
    if table.model.versioned:
        return tuple(dict.fromkeys((*table.model.primary_key, *table.key, "valid_from")))
    return table.model.primary_key


def _unlike(old: str, new: str, column: OutputColumn) -> str:
    as_text = "::text" if column.type in _AS_TEXT or column.unbounded else ""
    return f"{old}{as_text} IS DISTINCT FROM {new}{as_text}"
