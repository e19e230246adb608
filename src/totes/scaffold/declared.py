"""How a model declares a source column: a type that holds each of its values, and how the query gives them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from totes.processing.bound.relation import TYPED
from totes.scaffold.catalog import Column
from totes.scaffold.meaning import base_type, shown_type


@dataclass(frozen=True)
class Declared:
    """A declared type; `template` is the expression, with {} for the column; `note` says what is not plain of it."""

    type: str
    template: str = "{}"
    note: str = ""


_SAME = {kind: typed for kind, typed in TYPED.items() if typed != "BIT"} | {
    "time without time zone": "TIME",
    "timestamp without time zone": "TIMESTAMP",
    "timestamp with time zone": "TIMESTAMPTZ",
    "text": "VARCHAR",
    "character varying": "VARCHAR",
    "bpchar": "VARCHAR",
    "citext": "VARCHAR",
    "name": "VARCHAR",
}
_COMPUTED = {
    "interval": Declared("INTERVAL"),
    "money": Declared("DECIMAL(19, 2)", "replace(replace({}, '$', ''), ',', '')"),
}
_DIGITS_MAX = 38
_NUMERIC = (28, 10)  # digits before and behind the point
_QUOTIENT = (18, 20)  # what PostgreSQL's divisions have
_LABELS_SHOWN = 60
_NO_KEYS = ("INTERVAL", "JSON")


def declared(column: Column, *, as_key: bool = False) -> Declared:
    """How a model declares a column.

    Args:
        column: the column.
        as_key: whether it is part of a key or a reference, which is passed on as it is.
    """
    found = _declared(column)
    if not as_key:
        return found
    if found.type in _NO_KEYS or (found.template != "{}" and not found.type.startswith("VARCHAR")):
        return Declared("VARCHAR", note=found.note or f"{shown_type(column)}, as text")
    return Declared(found.type, note=found.note)


def _declared(column: Column) -> Declared:
    kind = column.type
    base = base_type(column)
    if base in _SAME:
        return Declared(_SAME[base] + _length(kind) if base == "character varying" else _SAME[base])
    if base == "character":
        return Declared(f"VARCHAR{_length(kind)}", "rtrim({})")
    if base == "numeric":
        return _numeric(column)
    if not kind.endswith("[]") and (found := _COMPUTED.get(base.partition(" ")[0])):
        return found
    is_enum = bool(column.entry.labels) and not kind.endswith("[]")
    note = _choices(list(column.entry.labels)) if is_enum else f"{shown_type(column)}, as text"
    return Declared("VARCHAR", note=note)


def _length(kind: str) -> str:
    found = re.search(r"\(\d+\)", kind)
    return found.group() if found else ""


def _numeric(column: Column) -> Declared:
    parameters = [int(number) for number in re.findall(r"-?\d+", column.type)]
    if not parameters:
        return _unbounded(column)
    precision, scale = ([*parameters, 0])[:2]
    whole = max(precision - scale, 0)
    scale = max(scale, 0)
    if whole + scale > _DIGITS_MAX:
        return Declared("VARCHAR", note=f"{column.type}, as text: more digits than a DECIMAL has")
    return Declared(f"DECIMAL({max(whole + scale, 1)}, {scale})")


def _unbounded(column: Column) -> Declared:
    """A type for numbers of any size, of which some have been seen."""
    if column.digits is None:
        return Declared("VARCHAR", note="numeric, as text: some are NaN or infinite")
    whole, scale = column.digits
    if whole <= _NUMERIC[0] and scale <= _NUMERIC[1]:
        return Declared("NUMERIC")
    if whole <= _QUOTIENT[0] and scale <= _QUOTIENT[1]:
        return Declared(f"DECIMAL({_DIGITS_MAX}, {_QUOTIENT[1]})")
    if whole + scale <= _DIGITS_MAX:
        return Declared(f"DECIMAL({_DIGITS_MAX}, {scale})")
    return Declared("VARCHAR", note="numeric, as text: more digits than a DECIMAL has")


def _choices(labels: list[str]) -> str:
    shown: list[str] = []
    for label in labels:
        if len(", ".join([*shown, label])) > _LABELS_SHOWN:
            return f"{', '.join(shown)}, …" if shown else ""
        shown.append(label)
    *before, last = shown
    return f"{', '.join(before)} or {last}" if before else last
