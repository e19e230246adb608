"""Finds values of a source column's type that the type declared in a model cannot hold. No rows are read."""

from __future__ import annotations

import re

from totes.lake.manifest import SourceColumn, TableChanges
from totes.processing.bound.leaf import Leaf
from totes.processing.bound.query import BoundQuery
from totes.processing.bound.relation import Relations, typed_name
from totes.processing.bound.scope import Binder, origin
from totes.star.column import Column
from totes.star.model import WIDEST_DECIMAL

_DIGITS = {
    "TINYINT": 2,
    "SMALLINT": 4,
    "INTEGER": 9,
    "BIGINT": 18,
}  # the type holds every number with as many digits
_INTEGER_DIGITS = {"smallint": 5, "integer": 10, "bigint": 19}  # the type's longest number has as many digits
_WIDTHS = {"TINYINT": 1, "SMALLINT": 2, "INTEGER": 4, "BIGINT": 8, "smallint": 2, "integer": 4, "bigint": 8}
_FLOATING = {"FLOAT": 6, "DOUBLE": 15}


def check_values(query: BoundQuery, tables: dict[str, TableChanges]) -> list[str]:
    """A line for each column of a model that cannot hold all values of the source's type."""
    binder = Binder(query.model, Relations({leaf.relation.name: leaf.relation for leaf in query.leaves}, {}))
    scope = binder.bind()
    declared = {column.name: column for column in query.model.produced}
    doubts = []
    for name, expression in scope.outputs().items():
        passed_on = origin(scope, expression)
        if passed_on and passed_on[0].relation.is_source:
            column = _source_column(tables, passed_on[0], passed_on[1].name)
            in_key = column.name in passed_on[0].relation.key
            doubt = misfit(
                column.model_copy(update={"nullable": False}) if in_key else column, declared[name]
            )
            if doubt:
                doubts.append(f"{name} takes {passed_on[0].relation.name}.{column.name}, {doubt}")
    for leaf in binder.leaves if query.leaves else ():
        for name in sorted(leaf.computed) if leaf.relation.is_source else ():
            column = _source_column(tables, leaf, name)
            if column.type.startswith("numeric") and _numeric(column.type) is None:
                doubts.append(
                    f"it computes with {leaf.relation.name}.{name}, a {column.type}, as {WIDEST_DECIMAL}: not with more "
                    "than 28 digits before the point or 10 behind it"
                )
    return list(dict.fromkeys(doubts))


def misfit(source: SourceColumn, declared: Column) -> str | None:
    """Which values of a source column a declared column cannot hold, if they are passed on unchanged; None if it holds all."""
    parts = [_misfit_of_type(source, declared)]
    if declared.not_null and source.nullable:
        parts.append("which may be NULL, as NOT NULL")
    return ", ".join(part for part in parts if part) or None


def _misfit_of_type(source: SourceColumn, declared: Column) -> str | None:
    base, target = re.sub(r"\(.*?\)", "", source.type).strip(), declared.type
    shown = "NUMERIC" if declared.unbounded else target
    doubt = None
    if target == "VARCHAR":
        length = re.fullmatch(r"(?:character varying|character)\((\d+)\)", source.type)
        if declared.length_max is not None and not (length and int(length.group(1)) <= declared.length_max):
            doubt = f"a {source.type}, as VARCHAR({declared.length_max}): not what is longer"
    elif base in _INTEGER_DIGITS:
        doubt = _misfit_of_integer(base, target, shown)
    elif base == "numeric":
        doubt = _misfit_of_numeric(source.type, target, shown)
    elif base in ("real", "double precision"):
        if target not in _FLOATING:
            doubt = f"a {base}, as {shown}: no NaN, no infinity, no more digits"
        elif target == "FLOAT" and base == "double precision":
            doubt = f"a {base}, as {shown}: rounded to {_FLOATING[target]} digits"
    elif typed_name(source) == "VARCHAR":
        doubt = f"a {source.type}, as {shown}: only text that is one"
    return doubt


def _misfit_of_integer(base: str, target: str, shown: str) -> str | None:
    if target in _WIDTHS:
        return None if _WIDTHS[base] <= _WIDTHS[target] else f"a {base}, as {shown}: not what is larger"
    if target in _FLOATING:
        fits = _INTEGER_DIGITS[base] <= _FLOATING[target]
        return None if fits else f"a {base}, as {shown}: rounded to {_FLOATING[target]} digits"
    precision, scale = _decimal(target)
    fits = precision - scale >= _INTEGER_DIGITS[base]
    return None if fits else f"a {base}, as {shown}: not more than {precision - scale} digits"


def _misfit_of_numeric(source: str, target: str, shown: str) -> str | None:
    if target in _FLOATING:
        return f"a {source}, as {shown}: rounded to {_FLOATING[target]} digits"
    precision, scale = (_DIGITS[target], 0) if target in _DIGITS else _decimal(target)
    known = _numeric(source)
    if known and known[0] - known[1] <= precision - scale and known[1] <= scale:
        return None
    behind = f" or {scale} behind it" if scale else ", nothing behind it"
    return f"a {source}, as {shown}: not more than {precision - scale} digits before the point{behind}"


def _numeric(kind: str) -> tuple[int, int] | None:
    """The precision and scale of a numeric; None if it has none."""
    match = re.fullmatch(r"numeric\((\d+),(-?\d+)\)", kind)
    return (int(match.group(1)), int(match.group(2))) if match else None


def _decimal(target: str) -> tuple[int, int]:
    match = re.fullmatch(r"DECIMAL\((\d+), ?(\d+)\)", target)
    return (int(match.group(1)), int(match.group(2))) if match else (0, 0)


def _source_column(tables: dict[str, TableChanges], leaf: Leaf, name: str) -> SourceColumn:
    return next(column for column in tables[leaf.relation.name].columns if column.name == name)
