"""Which changes of a declared table can be made in place: those after which it holds every row that it could hold before."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from totes.lake.manifest import ModelChanges
from totes.star.column import Column

if TYPE_CHECKING:
    from totes.star.model import Model

_WHOLE_DIGITS = {"TINYINT": 3, "SMALLINT": 5, "INTEGER": 10, "BIGINT": 19}


def relaxes(model: Model, before: ModelChanges) -> bool:
    """Whether a model's table holds, exactly, each row that it could hold as an earlier batch had it declared.

    NOT NULL may be dropped and types may be widened; names, their order, keys and references stay.
    """
    from totes.star.former import former_model

    former = former_model(model.name, before)
    return (
        former.table_sha256() == before.table_sha256  # else the manifest does not say all of the declaration
        and (former.primary_key, former.surrogate) == (model.primary_key, model.surrogate)
        and [column.name for column in former.columns] == [column.name for column in model.columns]
        and former.references == model.references
        and all(
            holds(now, then) and (then.not_null or not now.not_null)
            for now, then in zip(model.columns, former.columns, strict=True)
        )
    )


def retyped(model: Model, before: ModelChanges) -> dict[str, str]:
    """The columns that an earlier batch had in another type, with the type that they have now."""
    then = {column.name: column.type for column in before.columns}
    return {column.name: column.type for column in model.columns if then.get(column.name) != column.type}


def holds(now: Column, then: Column) -> bool:
    """Whether each value of a column's former type is one of its present type, just as it is."""
    if now.type == then.type == "VARCHAR":
        return now.length_max is None or (then.length_max is not None and now.length_max >= then.length_max)
    if now.type == then.type:
        return now.unbounded or not then.unbounded
    if now.type in _WHOLE_DIGITS and then.type in _WHOLE_DIGITS:
        return _WHOLE_DIGITS[now.type] > _WHOLE_DIGITS[then.type]
    wide, narrow = _digits(now.type), _digits(then.type)
    if wide and narrow and now.type not in _WHOLE_DIGITS:
        return all(has >= needs for has, needs in zip(wide, narrow, strict=True))
    return (then.type, now.type) == ("FLOAT", "DOUBLE")


def _digits(kind: str) -> tuple[int, int] | None:
    """How many digits a number has before its point, and how many behind."""
    if kind in _WHOLE_DIGITS:
        return _WHOLE_DIGITS[kind], 0
    match = re.fullmatch(r"DECIMAL\((\d+), (\d+)\)", kind)
    return (int(match.group(1)) - int(match.group(2)), int(match.group(2))) if match else None
