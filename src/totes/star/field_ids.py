"""The field ids by which Iceberg knows columns, whatever they are called: each is given once in a table's life. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from types import MappingProxyType

from totes.lake.manifest import ModelChanges, OutputColumn
from totes.star.model import HISTORY_COLUMNS, IS_DELETED

# The columns that totes adds have the same ids in every table.
ADDED_IDS: Mapping[str, int] = MappingProxyType(
    {"batch_id": 1, IS_DELETED: 2, "valid_from": 3, "valid_to": 4}
)
_NOTHING_RENAMED: Mapping[str, str] = MappingProxyType({})
_ICEBERG_TYPES = {
    "TINYINT": "int",
    "SMALLINT": "int",
    "INTEGER": "int",
    "BIGINT": "long",
    "VARCHAR": "string",
    "JSON": "string",
    "INTERVAL": "string",  # as it is written
    "BLOB": "binary",
}
_PROMOTIONS = {("int", "long"), ("float", "double")}
_DECIMAL = re.compile(r"decimal\((\d+), (\d+)\)")


def with_field_ids(entry: ModelChanges) -> ModelChanges:
    """A table's entry with the field ids of its columns, which manifests of earlier releases do not have."""
    return entry if entry.field_ids else numbered(entry)


def numbered(
    entry: ModelChanges, before: ModelChanges | None = None, renamed: Mapping[str, str] = _NOTHING_RENAMED
) -> ModelChanges:
    """The entry of a table that begins or is rebuilt, with the field ids of its columns.

    A column keeps its id as long as Iceberg could read its previous values as the present type; otherwise it gets a new one.
    No id is given twice.

    Args:
        entry: the entry.
        before: the table's previous entry, with field ids.
        renamed: the previous names of columns by their present ones.
    """
    added = added_columns(entry)
    previous = {column.name: column for column in before.columns} if before else {}
    already_added = added_columns(before) if before else ()
    given = before.field_ids if before else len(ADDED_IDS)
    columns = []
    for column in entry.columns:
        then = previous.get(renamed.get(column.name, column.name))
        if column.name in added:
            number = ADDED_IDS[column.name]
        elif then and then.name not in already_added and _is_promoted(then, column):
            number = then.field_id
        else:
            number = given = given + 1
        columns.append(column.model_copy(update={"field_id": number}))
    return entry.model_copy(update={"columns": tuple(columns), "field_ids": given})


def added_columns(entry: ModelChanges) -> Collection[str]:
    """The columns of a table that no model declares."""
    return HISTORY_COLUMNS if entry.kind == "versioned" else [IS_DELETED] * entry.soft_deletes


def iceberg_type(column: OutputColumn) -> str:
    """Iceberg's type for a column as it is written to Parquet."""
    return _ICEBERG_TYPES.get(column.type, column.type.lower())


def _is_promoted(then: OutputColumn, now: OutputColumn) -> bool:
    """Whether Iceberg reads values of the previous type as the present one."""
    old, new = iceberg_type(then), iceberg_type(now)
    wider, narrower = _DECIMAL.fullmatch(new), _DECIMAL.fullmatch(old)
    if wider and narrower:
        return wider[2] == narrower[2] and int(wider[1]) >= int(narrower[1])
    return old == new or (old, new) in _PROMOTIONS
