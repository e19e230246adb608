"""Refuses declarations that one of the warehouses does not support, since every warehouse gets the same tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from totes.errors import ModelError

if TYPE_CHECKING:
    from totes.star.model import Model

NAME_BYTES_MAX = 63
# The tables that totes itself uses in every warehouse.
LEDGER = "totes_batches"
MADE = "totes_tables"
OWN = (LEDGER, MADE)
# A table of earlier versions, which did not mark deleted rows; it is dropped when the first table with marked rows is loaded.
OUTDATED = "totes_kept"
# The prefix of new tables while they are filled.
LOADING = "totes_loading_"
_NO_KEYS = {
    "INTERVAL": "for which a month and 30 days are equal",
    "JSON": "which PostgreSQL cannot compare",
}


def check_declaration(model: Model) -> None:
    """Makes sure that every warehouse can have the table.

    Raises:
        ModelError: a name is too long, or the primary key is of a type that cannot be one.
    """
    for name in (model.name, f"{model.name}_current", *(column.name for column in model.columns)):
        if len(name.encode()) > NAME_BYTES_MAX:
            raise ModelError(
                model.path,
                1,
                f"the name {name} is longer than {NAME_BYTES_MAX} bytes, PostgreSQL's limit",
                hint="Choose a shorter one",
            )
    for column in model.columns:
        if column.name in model.primary_key and column.type in _NO_KEYS:
            raise ModelError(
                model.path,
                1,
                f"the primary key {column.name} is declared {column.type}, {_NO_KEYS[column.type]}",
                hint="Declare it VARCHAR",
            )
