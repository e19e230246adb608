"""What a batch brings to the tables of a PostgreSQL warehouse, all within the transaction of its load."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import adbc_driver_manager
import psycopg

from totes import engine
from totes.errors import WarehouseRefused
from totes.failpoint import reach
from totes.star.declaration import MADE, NAME_BYTES_MAX, OUTDATED
from totes.warehouse import comments, ddl
from totes.warehouse.dependents import owns
from totes.warehouse.inspection import Inspection
from totes.warehouse.postgresql_rows import RowWriter
from totes.warehouse.postgresql_session import Session
from totes.warehouse.postgresql_switch import Switch
from totes.warehouse.table import TableLoad, WarehouseTable, report_load

Build = Callable[[list[WarehouseTable], Mapping[str, TableLoad], frozenset[str]], dict[str, str]]


class StarLoad:
    """Brings tables up to their declarations, and rows into them, in an order that keeps to all keys.

    Rows of a table come after those of the tables that it refers to, and leave it before these. What keeps readers out is done
    before or after all rows are written, with all locks that it takes at once.
    """

    def __init__(
        self,
        session: Session,
        schema: str,
        star: frozenset[str],
        found: Inspection,
        *,
        ask: Callable[[str], list[tuple[Any, ...]]],
        hold: Callable[[list[str], str], None],
        build: Build,
    ) -> None:
        """Prepares it.

        Args:
            session: the load's session.
            schema: the schema of the star.
            star: the names of the star's tables, former ones among them.
            found: what is there.
            ask: gives the rows of a query on another connection.
            hold: locks relations for this transaction alone; it is given how they are named to people.
            build: builds new tables out of sight, and gives the names that they have for now.
        """
        self._session = session
        self._schema = schema
        self._star = star
        self._found = found
        self._hold = hold
        self._build = build
        self._writer = RowWriter(session, schema, ask, star)
        self._switches: dict[str, Switch] = {}
        self._created: dict[str, str] = {}
        self._dropped_keys: list[tuple[str, str]] = []

    def bring(
        self,
        tables: tuple[WarehouseTable, ...],
        loads: tuple[TableLoad, ...],
        dropped: tuple[WarehouseTable, ...] = (),
    ) -> None:
        """Does all of it.

        Args:
            tables: the tables of the star, in load order.
            loads: what comes into them, in the same order.
            dropped: tables that are to go.
        """
        self._switches = {
            load.table.name: Switch(self._session, self._schema, load, self._star)
            for load in loads
            if self._found.is_table(load.table.name) and (load.whole or load.is_redeclared)
        }
        for switch in self._switches.values():
            switch.check()
        for switch in self._in_place:
            if switch.load.whole:
                self._writer.prepare(switch.load)
        self._create(tables, loads, dropped)
        gone = [table for table in dropped if self._found.is_table(table.name)]
        held = [name for switch in self._switches.values() for name in switch.relations()]
        held += [self._name(n) for one in gone for n in (one.name, one.current) if self._found.has(n)]
        outdated = bool(self._switches) and self._found.has_outdated and self._owns(OUTDATED)
        held += [self._name(OUTDATED)] * outdated
        named = ", ".join([*self._switches, *(table.name for table in gone)])
        at_once = not all(switch.is_loosened and not switch.is_replaced for switch in self._switches.values())
        if at_once:
            self._hold(held, named)
        self._write(loads)
        if not at_once:
            self._hold(held, named)
        for switch in self._in_place:
            switch.tighten()
        self._refer(tables)
        for table in gone:
            self._drop(table)
        if outdated:
            self._session.execute(f"DROP TABLE {self._name(OUTDATED)}")
        self._describe(tables)
        if self._switches or gone:
            reach("postgresql.switched")

    @property
    def _in_place(self) -> list[Switch]:
        return [switch for switch in self._switches.values() if not switch.is_replaced]

    def _write(self, loads: tuple[TableLoad, ...]) -> None:
        for switch in self._in_place:
            switch.loosen()
        for number, load in enumerate(loads):
            if load.table.name not in self._created:
                report_load(load, sum(one.count for one in loads[:number]), sum(one.count for one in loads))
            switch_ = self._switches.get(load.table.name)
            if switch_ and switch_.is_replaced:
                self._dropped_keys += switch_.replace(self._created[load.table.name])
            elif switch_ and load.whole:
                self._writer.equalise(load, switch_.at)
            elif load.table.name not in self._created:  # the rows of a new table are there
                self._writer.write(load)
            reach("postgresql.rows")
        for load in reversed(loads):
            switch_ = self._switches.get(load.table.name)
            if switch_ and load.whole and not switch_.is_replaced:
                self._writer.clear(load, switch_.at)
            elif not load.whole:
                self._writer.remove(load)
            reach("postgresql.removed")

    def _create(
        self,
        tables: tuple[WarehouseTable, ...],
        loads: tuple[TableLoad, ...],
        dropped: tuple[WarehouseTable, ...],
    ) -> None:
        """Creates what is missing, tables with their rows; those that are to replace others wait for their turn."""
        replaced = frozenset(name for name, switch in self._switches.items() if switch.is_replaced)
        missing = [table for table in tables if not self._found.is_table(table.name)]
        new = [table for table in tables if table in missing or table.name in replaced]
        own = ddl.create_own(self._schema)
        lacking = [name for name in own if not self._found.has(name)]
        if not new and lacking in ([], [MADE]):  # an earlier release made no list, and its role may not
            return
        if len(self._schema.encode()) > NAME_BYTES_MAX:  # PostgreSQL would make one of another name
            raise WarehouseRefused(
                f"warehouse.schema is longer than {NAME_BYTES_MAX} bytes", hint="Choose a shorter one"
            )
        try:
            self._created = self._build(new, {load.table.name: load for load in loads}, replaced)
            for name in lacking:
                self._session.execute(own[name])
            for table in missing:
                self._take_in(table)
            listed = self._star - {table.name for table in dropped} - self._found.listed
            if listed:
                self._session.execute(ddl.record_made(listed, self._schema))
        except (psycopg.Error, adbc_driver_manager.Error) as error:
            if getattr(error, "sqlstate", None) != "42501":
                raise
            names = ", ".join([table.name for table in new] or lacking)
            raise WarehouseRefused(
                f"the warehouse lacks {names}, and the role may not create tables in {self._schema}",
                hint="Have its owner run the output of `totes warehouse sql`",
            ) from error

    def _take_in(self, table: WarehouseTable) -> None:
        """Gives a new table its name: with this transaction it is there."""
        built = self._name(self._created[table.name])
        self._session.execute(f"ALTER TABLE {built} RENAME TO {engine.name(table.name)}")
        self._session.execute(ddl.create_view(table, self._schema))

    def _refer(self, tables: tuple[WarehouseTable, ...]) -> None:
        """Adds foreign keys: those of new tables, those that are newly declared, those that were dropped for a new table."""
        created = self._created
        wanted = [
            (table, column)
            for table in tables
            for column, target in table.model.references.items()
            if (table.name in created and target not in created)
            or (table.name, ddl.constraint_name(table.name, column, "fkey")) in self._dropped_keys
        ]
        wanted += [(switch.table, column) for switch in self._in_place for column in switch.new_references()]
        for table, column in dict.fromkeys(wanted):
            target = table.model.references[column]
            if target in created or self._found.is_table(target):
                self._session.execute(ddl.create_foreign_key(table, column, self._schema))

    def _describe(self, tables: tuple[WarehouseTable, ...]) -> None:
        """Describes what was made or altered here; other tables are locked by somebody else, maybe, and can wait."""
        made = [table for table in tables if table.name in self._created or table.name in self._switches]
        if made:
            for statement in comments.outdated(self._rows, made, self._schema, "postgresql"):
                self._session.execute(statement)

    def _drop(self, table: WarehouseTable) -> None:
        """Drops a table that is no more, unless what others have made depends on it."""
        Switch(self._session, self._schema, TableLoad(table, [], [], 0), self._star).drop()
        self._session.execute(f"DELETE FROM {self._name(MADE)} WHERE table_name = {engine.text(table.name)}")

    def _owns(self, table: str) -> bool:
        return owns(self._rows, self._schema, table)

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self._session.query(sql)[1]

    def _name(self, table: str) -> str:
        return engine.name(self._schema, table)
