"""Views of PostgreSQL that are taken away while a table is altered, and made again as they were."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import adbc_driver_manager

from totes import engine
from totes.errors import WarehouseRefused
from totes.messages import message
from totes.warehouse.dependents import Definition, View, definition
from totes.warehouse.postgresql_session import Session

_IN_THE_WAY = ("2BP01", "0A000")
_GONE = (
    "42703",
    "42883",
    "42804",
    "42P16",
)  # what makes a view's own text wrong: a column, a function, a type
_COLUMNS = """
SELECT attname::text FROM pg_catalog.pg_attribute
WHERE attrelid = {view}::pg_catalog.regclass AND attnum > 0 AND NOT attisdropped
"""


class TakenViews:
    """Views that are away; lowest first."""

    def __init__(self, session: Session, found: list[View]) -> None:
        """Drops views, all of them at once, having noted what makes each again."""
        self._session = session
        self._definitions: tuple[Definition, ...] = tuple(definition(self._rows, view) for view in found)
        if found:
            with explained("the views over it cannot be made again"):
                session.execute(f"DROP VIEW {', '.join(view.name for view in found)}")

    def holds(self, schema: str, relation: str) -> bool:
        """Whether a view is among them."""
        return any((one.view.schema, one.view.relation) == (schema, relation) for one in self._definitions)

    def restore(self, create: Callable[[View], str | None]) -> None:
        """Makes them again, with their owners, comments and privileges.

        Args:
            create: gives the statement that makes a view another one than it was.

        Raises:
            WarehouseRefused: one cannot be made over what the table is now.
        """
        for one in self._definitions:
            with explained(f"the view {one.view.name} cannot be made again", _GONE):
                self._session.execute(create(one.view) or one.create)
            shown = {column for (column,) in self._rows(_COLUMNS.format(view=engine.text(one.view.name)))}
            for column, statement in one.following:
                if column is None or column in shown:
                    self._session.execute(statement)

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self._session.query(sql)[1]


@contextmanager
def explained(what: str, states: tuple[str, ...] = ()) -> Iterator[None]:
    """Reports that something of others is in the way, in the server's own words."""
    try:
        yield
    except adbc_driver_manager.Error as error:
        if error.sqlstate in (*_IN_THE_WAY, *states):
            raise WarehouseRefused(
                f"{what}: {message(error)}", hint="Drop what it names, and make it again afterwards"
            ) from error
        raise
