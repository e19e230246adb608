"""A table of a PostgreSQL warehouse becomes what it is declared to be by now, with what others have made around it.

It is altered in place, so that privileges, comments, policies and foreign keys of others stay; views that stand in the way of
a change of type are made again as they were. Only where its key is another one does a new table take its place.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from totes import engine
from totes.errors import WarehouseRefused
from totes.lake.manifest import OutputColumn
from totes.warehouse import ddl
from totes.warehouse.alteration import Present, alteration, is_of_type, is_wider
from totes.warehouse.dependents import (
    Dependent,
    View,
    dependents,
    foreign_keys,
    grants,
    owns,
    regclass,
    views_over,
)
from totes.warehouse.postgresql_session import Session
from totes.warehouse.postgresql_views import TakenViews, explained
from totes.warehouse.table import TableLoad, WarehouseTable

_COLUMNS = """
SELECT attname::text, pg_catalog.format_type(atttypid, atttypmod), attnotnull FROM pg_catalog.pg_attribute
WHERE attrelid = {relation} AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
_KEY = """
SELECT attname::text FROM pg_catalog.pg_index JOIN pg_catalog.pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)
JOIN pg_catalog.pg_class AS c ON c.oid = indexrelid
WHERE indrelid = {relation} AND indisunique AND (indisprimary OR relname = {name}) ORDER BY attnum
"""


class Switch:
    """The switch of one table within a load; a new one looks at the table as it is then."""

    def __init__(self, session: Session, schema: str, load: TableLoad, star: frozenset[str]) -> None:
        """Looks at the table.

        Args:
            session: the session in whose transaction all is done.
            schema: the schema of the star.
            load: what the batch brings to the table, which is there.
            star: the names of the star's tables.
        """
        self._session = session
        self._schema = schema
        self._star = star
        self.load = load
        self.table: WarehouseTable = load.table
        self._target = engine.name(schema, self.table.name)
        self._relation = regclass(schema, self.table.name)
        self._present = {
            name: Present(kind, not_null)
            for name, kind, not_null in self._rows(_COLUMNS.format(relation=self._relation))
        }
        self._alteration = alteration(self._present, self.table, load.renamed)
        self.is_replaced = self._needs_replacement()

    @property
    def at(self) -> dict[str, str]:
        """The column in which each declared one is while rows are written."""
        return dict(self._alteration.at)

    @property
    def is_loosened(self) -> bool:
        """Whether rows can be written as the table is."""
        return not self._alteration.loosened

    def check(self) -> None:
        """Makes sure that this can be done.

        Raises:
            WarehouseRefused: the role does not own the table, or what others have made depends on what would go.
        """
        change = self._alteration
        columns = ", ".join(dict.fromkeys((*change.lost, *change.altered)))
        what = "is to have another key" if self.is_replaced else f"is to lose or change {columns}"
        self._refuse(self.in_the_way(), what)
        if (change.is_needed or self.is_replaced) and not self._is_owner:
            raise WarehouseRefused(
                f"{self.table.name} is declared otherwise than it is, and this role does not own it",
                hint=f"Have its owner run: {'; '.join(self.statements())}",
            )

    def in_the_way(self) -> list[Dependent]:
        """What others have made that has to go first."""
        change = self._alteration
        if self.is_replaced:
            gone = [name for name in self._present if name not in change.at.values() or name in change.lost]
            found = dependents(self._rows, self._schema, self.table.name, gone, self._star, whole=True)
            return [one for one in found if one.stays]
        found = dependents(self._rows, self._schema, self.table.name, change.dropped, self._star)
        retyped = (*change.lost, *change.altered)
        found += [
            one
            for one in dependents(self._rows, self._schema, self.table.name, retyped, self._star)
            if one.kind not in ("view", "foreign key")
        ]
        found += [
            Dependent("materialized view", view.name, f"DROP MATERIALIZED VIEW {view.name}")
            for view in self._over(retyped)
            if view.kind == "m"
        ]
        return [one for one in dict.fromkeys(found) if one.stays]

    def statements(self) -> list[str]:
        """What the table's owner would run."""
        change, view = self._alteration, engine.name(self._schema, self.table.current)
        if self.is_replaced:
            drops = [one.drop for one in self._own_foreign_keys()]
            return [
                *drops,
                f"DROP VIEW {view}",
                f"DROP TABLE {self._target}",
                "then the output of totes warehouse sql",
            ]
        made = [
            f"ALTER TABLE {self._target} RENAME COLUMN {engine.name(old)} TO {engine.name(new)}"
            for old, new in change.renamed
        ]
        made += [f"ALTER TABLE {self._target} {', '.join(change.loosened)}"] if change.loosened else []
        made += [f"ALTER TABLE {self._target} {', '.join(change.retyped)}"] if change.retyped else []
        drops = [part for part in change.tightened if part.startswith("DROP COLUMN")]
        made += [f"ALTER TABLE {self._target} {', '.join(drops)}"] if drops else []
        return [f"DROP VIEW {view}", *made, ddl.create_view(self.table, self._schema)]

    def relations(self) -> list[str]:
        """The quoted names of all that has to be locked for itself."""
        if not self._is_owner or not self._alters:
            return []
        columns = None if self.is_replaced else (*self._alteration.lost, *self._alteration.altered)
        names = [self._target]
        if self._has_view:
            names.append(engine.name(self._schema, self.table.current))
        names += [view.name for view in self._over(columns)]
        keys = self._own_foreign_keys() if self.is_replaced else []
        names += [key.relation for key in keys]
        previous = self.load.previous
        lost = (
            [t for c, t in previous.model.references.items() if self.table.model.references.get(c) != t]
            if previous
            else []
        )
        names += [engine.name(self._schema, target) for target in lost if target in self._star]
        return list(dict.fromkeys(names))

    def loosen(self) -> None:
        """Has the table take new rows beside those that are there."""
        if self._alteration.loosened:
            views = TakenViews(self._session, self._over(self._alteration.altered))
            self._alter(self._alteration.loosened)
            views.restore(lambda _view: None)

    def tighten(self) -> None:
        """Makes the table what it is declared to be, now that its rows are."""
        change = self._alteration
        if not self._is_owner:
            return
        own = ddl.create_view(self.table, self._schema)
        if self._alters:
            found = self._over(change.lost)
            self._rename(change.renamed)
            self._drop_references()
            views = TakenViews(self._session, found)
            for parts in (change.retyped, change.tightened):
                self._alter(parts)
            self._index()
            if self._has_view:
                self._session.execute(own.replace("CREATE VIEW", "CREATE OR REPLACE VIEW", 1))
            views.restore(self._own)
        if not self._has_view:
            self._session.execute(own)

    def replace(self, built: str) -> list[tuple[str, str]]:
        """Puts a table that was built in the place of this one; gives the foreign keys that were dropped for it.

        Args:
            built: the name that the new table has.

        Returns:
            The tables and columns of the star that referred to this table.
        """
        found = self._over(None)
        self._rename([pair for pair in self._alteration.renamed if pair[0] in self._present])
        views = TakenViews(self._session, found)
        granted = grants(self._rows, self._relation, self._target)
        keys = self._own_foreign_keys()
        for key in keys:
            self._session.execute(key.drop)
        with explained(self._undone):
            self._session.execute(f"DROP TABLE {self._target}")
        self._session.execute(
            f"ALTER TABLE {engine.name(self._schema, built)} RENAME TO {engine.name(self.table.name)}"
        )
        for statement in ddl.rename_parts(
            self.table, self.table.called(built), self._schema, self._has_constraint
        ):
            self._session.execute(statement)
        for column, statement in granted:
            if column is None or column in self.table.columns:
                self._session.execute(statement)
        if not views.holds(self._schema, self.table.current):
            self._session.execute(ddl.create_view(self.table, self._schema))
        views.restore(self._own)
        return [(key.table, key.name.strip('"')) for key in keys]

    def drop(self) -> None:
        """Drops the table with its view.

        Raises:
            WarehouseRefused: what others have made depends on it, or the role does not own it.
        """
        found = dependents(self._rows, self._schema, self.table.name, self._present, self._star, whole=True)
        self._refuse([one for one in found if one.stays], "is to be dropped")
        view = engine.name(self._schema, self.table.current)
        drops = [f"DROP VIEW IF EXISTS {view}", f"DROP TABLE {self._target}"]
        if not self._is_owner:
            raise WarehouseRefused(
                f"{self.table.name} is to be dropped, and this role does not own it",
                hint=f"Have its owner run: {'; '.join(drops)}",
            )
        with explained(self._undone):
            for statement in drops:
                self._session.execute(statement)

    def _refuse(self, found: list[Dependent], what: str) -> None:
        if found:
            named = ", ".join(f"{one.kind} {one.name}" for one in found)
            drops = "; ".join(one.drop for one in found if one.drop)
            raise WarehouseRefused(
                f"{self.table.name} {what}, and others depend on that: {named}",
                hint=f"Drop them, and make again afterwards what is still to be: {drops}",
            )

    @property
    def _alters(self) -> bool:
        change = self._alteration
        previous = self.load.previous
        return bool(
            self.is_replaced
            or change.loosened
            or change.renamed
            or change.retyped
            or change.tightened
            or change.added
            or (previous and self.load.is_redeclared)
        )

    @property
    def _is_owner(self) -> bool:
        return owns(self._rows, self._schema, self.table.name)

    @property
    def _has_view(self) -> bool:
        view = engine.text(engine.name(self._schema, self.table.current))
        return bool(self._rows(f"SELECT pg_catalog.to_regclass({view}) IS NOT NULL")[0][0])

    def _needs_replacement(self) -> bool:
        """Whether rows are other rows than before: the key is another one, or is of values that the former ones do not fit."""
        table, previous = self.table, self.load.previous
        name = engine.text(ddl.constraint_name(table.name, "pkey"))
        key = {column for (column,) in self._rows(_KEY.format(relation=self._relation, name=name))}
        at = self._alteration.at
        identity = {*table.model.primary_key, *table.key}
        if not self.load.whole:
            return False
        identified = [column for column in table.model.output if column.name in identity]
        if not all(self._holds(at[column.name], column) for column in identified):
            return True
        if not key or key != {at[column] for column in table.model.primary_key}:
            return True
        if previous is None or not self._is_owner:
            return False
        key_before = {self.load.renamed.get(column, column) for column in table.key}
        return previous.model.versioned != table.model.versioned or key_before != set(previous.key)

    def _holds(self, name: str, column: OutputColumn) -> bool:
        """Whether a present column has the values of a declared one, or can be widened to have them."""
        present = self._present.get(name)
        return present is not None and (is_of_type(present.kind, column) or is_wider(column, present.kind))

    def _own_foreign_keys(self) -> list[Any]:
        found = foreign_keys(self._rows, self._schema, self.table.name, self._star, own=True)
        return [key for key in found if key.table != self.table.name]

    def _rename(self, pairs: Iterable[tuple[str, str]]) -> None:
        current = engine.name(self._schema, self.table.current)
        shown = (
            {
                name
                for name, *_ in self._rows(
                    _COLUMNS.format(relation=regclass(self._schema, self.table.current))
                )
            }
            if self._has_view
            else set()
        )
        for old, new in pairs:
            to = f"RENAME COLUMN {engine.name(old)} TO {engine.name(new)}"
            self._session.execute(f"ALTER TABLE {self._target} {to}")
            if old in shown:
                self._session.execute(f"ALTER VIEW {current} {to}")
                shown = shown - {old} | {new}

    def _drop_references(self) -> None:
        """Drops the foreign keys and indexes that are declared no more, and renames those whose column was renamed."""
        previous, table = self.load.previous, self.table
        if previous is None:
            return
        now = {old: new for new, old in self.load.renamed.items()}
        for column, target in previous.model.references.items():
            name, called = ddl.constraint_name(table.name, column, "fkey"), now.get(column, column)
            if table.model.references.get(called) != target:
                self._session.execute(
                    f"ALTER TABLE {self._target} DROP CONSTRAINT IF EXISTS {engine.name(name)}"
                )
            elif called != column and self._has_constraint(name):
                to = engine.name(ddl.constraint_name(table.name, called, "fkey"))
                self._session.execute(
                    f"ALTER TABLE {self._target} RENAME CONSTRAINT {engine.name(name)} TO {to}"
                )
        for column in table.model.references:  # an earlier release searched by it
            name = ddl.constraint_name(table.name, column, "references")
            self._session.execute(f"DROP INDEX IF EXISTS {engine.name(self._schema, name)}")
        wanted = ddl.create_indexes(table, self._schema, "postgresql")
        for name in ddl.create_indexes(previous, self._schema, "postgresql").keys() - wanted.keys():
            self._session.execute(f"DROP INDEX IF EXISTS {engine.name(self._schema, name)}")

    def new_references(self) -> list[str]:
        """The columns that refer to another table, and did not before."""
        previous = self.load.previous
        was = self.load.renamed
        before = previous.model.references if previous else {}
        return [c for c, target in self.table.model.references.items() if before.get(was.get(c, c)) != target]

    def _has_constraint(self, name: str) -> bool:
        return bool(self._rows(
            f"SELECT 1 FROM pg_catalog.pg_constraint WHERE conrelid = {self._relation} AND conname = {engine.text(name)}"
        ))  # fmt: skip

    def _index(self) -> None:
        for statement in ddl.create_indexes(self.table, self._schema, "postgresql").values():
            self._session.execute(statement.replace(" INDEX ", " INDEX IF NOT EXISTS ", 1))

    def _own(self, view: View) -> str | None:
        """The statement that makes the table's own view, where a view is that."""
        return ddl.create_view(self.table, self._schema) if self._is_own(view) else None

    def _is_own(self, view: View) -> bool:
        return (view.schema, view.relation) == (self._schema, self.table.current)

    def _over(self, columns: Iterable[str] | None) -> list[View]:
        return views_over(self._rows, self._schema, self.table.name, columns)

    def _alter(self, parts: tuple[str, ...]) -> None:
        if parts:
            with explained(self._undone):
                self._session.execute(f"ALTER TABLE {self._target} {', '.join(parts)}")

    @property
    def _undone(self) -> str:
        return f"{self.table.name} cannot become what it is declared to be"

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self._session.query(sql)[1]
