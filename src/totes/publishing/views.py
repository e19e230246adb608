"""Views over a published table, where the catalog has views: its current rows, and its versions with `valid_to`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from totes.publishing.catalog import Catalog
from totes.publishing.table import BATCH_ID, VALID_TO, PublishedTable
from totes.star.declaration import LEDGER
from totes.star.field_ids import ADDED_IDS
from totes.star.model import IS_DELETED

if TYPE_CHECKING:
    from pyiceberg.schema import Schema

# A view has its text for each engine; they differ in how names are quoted.
_QUOTES = {"spark": "`", "trino": '"'}


def bring_up_views(catalog: Catalog, name: str, form: PublishedTable) -> None:
    """Makes a table's views what its form says, those that differ anew: `_current`, and `_history` where it has versions.

    Idempotent.

    Raises:
        CatalogRefused: one of these names is a view of somebody else.
    """
    from pyiceberg.schema import Schema
    from pyiceberg.types import NestedField, TimestampType

    if not catalog.has_views:
        return
    schema = form.schema(0)
    if form.entry.kind == "versioned":
        valid_to = NestedField(ADDED_IDS[VALID_TO], VALID_TO, TimestampType())
        with_end = Schema(*schema.fields, valid_to)
        catalog.bring_up_view(f"{name}_history", with_end, _texts(_history, name, form, with_end))
        catalog.bring_up_view(f"{name}_current", with_end, _texts(_current_version, name, form, with_end))
    else:
        catalog.bring_up_view(f"{name}_current", schema, _texts(_current_row, name, form, schema))


def _texts(text: Callable[[_Names], str], name: str, form: PublishedTable, schema: Schema) -> dict[str, str]:
    return {
        dialect: text(_Names(quote, name, form, schema.column_names)) for dialect, quote in _QUOTES.items()
    }


class _Names:
    """The names of a table and its columns, as one engine quotes them."""

    def __init__(self, quote: str, table: str, form: PublishedTable, columns: Iterable[str]) -> None:
        self._quote = quote
        self.columns = self.listed(columns)
        self.keys = self.listed(form.entry.key)
        self.batch, self.deleted = self.one(form.called(BATCH_ID)), self.one(form.called(IS_DELETED))
        self.published = f"{self.one(table)} WHERE {self.batch} <= (SELECT batch_id FROM {LEDGER})"

    def one(self, name: str) -> str:
        return f"{self._quote}{name.replace(self._quote, self._quote * 2)}{self._quote}"

    def listed(self, names: Iterable[str]) -> str:
        return ", ".join(map(self.one, names))


def _history(names: _Names) -> str:
    ends = f"lead(valid_from) OVER (PARTITION BY {names.keys} ORDER BY valid_from) AS {VALID_TO}"
    return f"SELECT {names.columns} FROM (SELECT *, {ends} FROM {names.published}) AS versions"


def _current_version(names: _Names) -> str:
    return f"{_history(names)} WHERE {VALID_TO} IS NULL AND NOT {IS_DELETED}"


def _current_row(names: _Names) -> str:
    newest = f"row_number() OVER (PARTITION BY {names.keys} ORDER BY {names.batch} DESC) AS newest_of_key"
    rows = f"SELECT *, {newest} FROM {names.published}"
    return f"SELECT {names.columns} FROM ({rows}) AS written WHERE newest_of_key = 1 AND NOT {names.deleted}"
