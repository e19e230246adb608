"""Whether a declared type holds a value exactly: SQL that reads a value as a type, and SQL that finds what that would bend.

A number fits where its digits do, and a FLOAT or DOUBLE where it prints the digits that were given. Text fits where
its form leaves no doubt. Nothing is rounded or cut to make it fit; what a type cannot hold is for quarantine.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from totes import engine
from totes.star.model import WIDEST_DECIMAL

WHOLE = {
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "HUGEINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
}
FLOATING = {"FLOAT": 6, "DOUBLE": 15}  # with the number of decimal digits that each holds for certain
_DATE = r"\d{4,}[-/]\d{1,2}[-/]\d{1,2}"
_TIME = r"\d{1,2}:\d{2}(:\d{1,2}(\.\d{0,6}0*)?)?"
_BEFORE_CHRIST = r"( BC| \(BC\))?"
_UNIT = r"(years?|mons?|months?|weeks?|days?|hours?|minutes?|mins?|seconds?|secs?)"
# How text may be written that is to be read as a type. The engine reads more: it takes 24-01-05 for the year 24, leaves
# an offset or a seventh digit out, and has ideas of its own about the names of time zones.
_WRITTEN = {
    "DATE": rf"^(\s*{_DATE}{_BEFORE_CHRIST}\s*|-?infinity)$",
    "TIMESTAMP": rf"^(\s*{_DATE}([ T]{_TIME})?{_BEFORE_CHRIST}\s*|-?infinity)$",
    "TIMESTAMPTZ": rf"^(\s*{_DATE}([ T]{_TIME} ?(Z|UTC|[+-]\d\d(:?\d\d(:?\d\d)?)?)?)?{_BEFORE_CHRIST}\s*|-?infinity)$",
    "TIME": rf"^\s*{_TIME}\s*$",
    "INTERVAL": rf"^(@ )?(\s*[+-]?\d+ ?{_UNIT}\b)*\s*([+-]?\d+:\d\d(:\d\d(\.\d{{0,6}}0*)?)?)?$",
}
_MORE_THAN = {
    "DATE": (":", "a time, which is more"),
    "TIMESTAMP": (r":\d+(\.\d+)? *([+-]\d|Z$)|\.\d{7}", "an offset or more digits"),
    "TIMESTAMPTZ": (r"\.\d{7}", "more digits"),
    "TIME": (r"\.\d{7}|[+-]\d", "an offset or more digits"),
    "INTERVAL": (r"\.\d{7}", "more digits"),
}
# What DuckDB has and PostgreSQL has not: rows are the same in every warehouse, so neither gets it.
_OUTSIDE = {
    "DATE": "< DATE '4714-11-24 (BC)' OR {value} > DATE '5874897-12-31'",
    "TIMESTAMP": "< TIMESTAMP '4714-11-24 (BC) 00:00:00'",
    "TIMESTAMPTZ": "< TIMESTAMPTZ '4714-11-24 (BC) 00:00:00+00'",
}
_STRINGS = r'"(\\.|[^"\\])*"'


# What lambdas call an element of a list: columns of models have no such names.
_ONE = '"~one"'


class Misfit(NamedTuple):
    """SQL that is true of values that a type cannot hold, their description, and cheaper SQL that is true of more values."""

    condition: str
    kind: str
    suspicion: str | None = None


def read_as(value: str, target: str, natural: str, origin: str) -> str:
    """SQL that reads a value as a declared type, NULL where it cannot; `misfits` finds what this bends.

    Args:
        value: SQL of the value.
        target: the declared type.
        natural: the value's own type.
        origin: the type of which a text value is the text form; VARCHAR when it is text that means no other type.
    """
    if natural == target:
        return value
    if natural == "VARCHAR":
        if (origin, target) == ("FLOAT", "DOUBLE"):
            return f"CAST(TRY_CAST({value} AS FLOAT) AS DOUBLE)"
        if target.startswith("DECIMAL") and not origin.startswith("DECIMAL"):
            return _read_decimal(value, target)
        return value if target == "VARCHAR" else engine.parse_text(value, target)
    if natural in FLOATING and _scale(target) is not None:  # casting the number itself would make digits up
        text = f"{value}::VARCHAR"
        return (
            _read_decimal(text, target) if target.startswith("DECIMAL") else engine.parse_text(text, target)
        )
    return f"TRY_CAST({value} AS {target})"


def misfits(value: str, cast: str, target: str, natural: str, origin: str, shown: str) -> list[Misfit]:
    """What a declared type cannot hold.

    Args:
        value: SQL of the value.
        cast: SQL of what `read_as` gave.
        target: the declared type.
        natural: the value's own type.
        origin: as for `read_as`.
        shown: the declared type as people wrote it.
    """
    found: list[Misfit] = []
    if target not in (natural, "VARCHAR"):
        found += _unreadable(value, cast, shown, target, natural, origin)
        lost = _lost_digits(value, cast, target, natural, origin)
        if lost:
            there = f"isfinite({cast})" if target in FLOATING else f"{cast} IS NOT NULL"
            found.append(Misfit(f"({there} AND {lost})", f"has more digits than {shown} keeps"))
    if target in _OUTSIDE and origin not in _OUTSIDE:
        outside = _OUTSIDE[target].replace("{value}", cast)
        found.append(
            Misfit(f"(isfinite({cast}) AND ({cast} {outside}))", f"is outside PostgreSQL's range of {target}")
        )
    return found


def strict_json(value: str) -> str:
    """SQL that is true where the engine takes text for JSON that is none: a comma before a bracket, NaN, Infinity."""
    bare = f"regexp_replace({value}::VARCHAR, '{_STRINGS}', '\"\"', 'g')"
    return f"regexp_matches({bare}, '(?i),\\s*[\\]}}]|nan|inf')"


def json_bends(document: str) -> str:
    """SQL that is true where JSON has a number of more digits than the engine keeps of it when it computes."""
    bare = f"regexp_replace({document}, '{_STRINGS}', '\"\"', 'g')"
    numbers = f"regexp_extract_all({bare}, '\\d+(?:\\.\\d+(?:[eE][+-]?\\d+)?|[eE][+-]?\\d+)')"
    double = f"TRY_CAST({_ONE} AS DOUBLE)"  # numbers beyond all doubles stay as they are
    altered = f"isfinite({double}) AND {_digits(_ONE)} <> {_digits(f'{double}::VARCHAR')}"
    perhaps = f"regexp_matches({document}, '[\\d.]{{17}}|[eE]-\\d{{3}}')"
    return f"({perhaps} AND len(list_filter({numbers}, lambda {_ONE}: {altered})) > 0)"


def json_content(document: str) -> str:
    """SQL of a JSON document's content as text: a string's content, NULL for null, and all else as it is written."""
    text = f"trim({document}::VARCHAR)"
    return (
        f"CASE WHEN {text} = 'null' THEN NULL WHEN {text} LIKE '\"%'"
        f" THEN coalesce(TRY(TRY_CAST({text} AS JSON) ->> '$'), {text}) ELSE {text} END"
    )


def loses_digits(number: str, target: str) -> str | None:
    """SQL that is true where a number's text has more fractional digits than the type keeps; None if none can."""
    scale = _scale(target)
    if scale is None:
        return None
    groups = (
        f"regexp_extract({number}, '^\\s*[+-]?([\\d_]*)\\.?([\\d_]*)(?:[eE]([+-]?\\d+))?',"
        " ['whole', 'fraction', 'exponent'])"
    )
    digits = f"replace({_ONE}.whole || {_ONE}.fraction, '_', '')"
    needed = (
        f"length(rtrim({digits}, '0')) - length(replace({_ONE}.whole, '_', ''))"
        f" - CASE WHEN {_ONE}.exponent = '' THEN 0 ELSE coalesce(TRY_CAST({_ONE}.exponent AS BIGINT), -1000000) END"
    )
    # Without an exponent, and with no more digits than fit, there is no need to look closer.
    point = f"strpos({number}, '.')"
    plain = f"(length({number}) - {point} <= {scale} OR {point} = 0) AND strpos(lower({number}), 'e') = 0"
    closer = (
        f"list_transform([{groups}], lambda {_ONE}: rtrim({digits}, '0') <> '' AND {needed} > {scale})[1]"
    )
    return f"(CASE WHEN {plain} THEN false ELSE {closer} END)"


def _read_decimal(text: str, target: str) -> str:
    # With an exponent, DuckDB (as of 2.0.1) lets numbers that are too large into a narrow type, and keeps some out that fit.
    return f"TRY_CAST(TRY_CAST({text} AS DECIMAL(38, {_scale(target)})) AS {target})"


def _unreadable(value: str, cast: str, shown: str, target: str, natural: str, origin: str) -> list[Misfit]:
    unread = f"{cast} IS NULL"
    if target in FLOATING:
        unread += f" OR isinf({cast}) AND NOT regexp_matches({value}::VARCHAR, '(?i)inf')"
    if natural == "VARCHAR" and origin != "JSON" and target == "JSON":
        unread += f" OR {strict_json(value)}"
    if not (origin == natural == "VARCHAR" and target in _WRITTEN):
        return [Misfit(f"({value} IS NOT NULL AND ({unread}))", f"is not a valid {shown}")]
    pattern, more = _MORE_THAN[target]
    # What the engine writes again as it was given has been read rightly, and needs no closer look.
    doubtful = f"{cast}::VARCHAR IS DISTINCT FROM {value}"
    longer = f"regexp_matches({value}, '{pattern}')"
    written = f"regexp_matches({value}, '{_WRITTEN[target]}')"
    return [
        Misfit(
            f"({value} IS NOT NULL AND {doubtful} AND ({unread} OR NOT {written} AND NOT {longer}))",
            f"is not a valid {shown}",
            doubtful,
        ),
        Misfit(
            f"({doubtful} AND {cast} IS NOT NULL AND {longer} AND NOT {written})",
            f"has {more} than a {target} keeps",
            doubtful,
        ),
    ]


def _lost_digits(value: str, cast: str, target: str, natural: str, origin: str) -> str | None:
    """SQL that is true where a number has digits which the declared type does not keep."""
    if target in FLOATING:
        return _lost_by_float(value, cast, target, natural, origin)
    target_scale = _scale(target)
    if target_scale is None:
        return None
    if natural == "VARCHAR" or natural in FLOATING:
        origin_scale = _scale(origin)
        if origin_scale is not None and origin != WIDEST_DECIMAL and origin_scale <= target_scale:
            return None
        return loses_digits(value if natural == "VARCHAR" else f"{value}::VARCHAR", target)
    natural_scale = _scale(natural)
    if natural_scale is None or natural_scale <= target_scale:
        return None
    return f"TRY_CAST({cast} AS {natural}) IS DISTINCT FROM {value}"


def _lost_by_float(value: str, cast: str, target: str, natural: str, origin: str) -> str | None:
    given = origin if natural == "VARCHAR" else natural
    if given in FLOATING:
        narrower = (given, target) == ("DOUBLE", "FLOAT")
        return f"CAST({cast} AS DOUBLE) IS DISTINCT FROM TRY_CAST({value} AS DOUBLE)" if narrower else None
    if _digits_max(given) <= FLOATING[target]:
        return None
    if given in WHOLE:
        return f"TRY_CAST({cast} AS {given}) IS DISTINCT FROM {value}"
    text = f"{value}::VARCHAR"
    short = f"length({text}) <= {FLOATING[target]} AND strpos(lower({text}), 'e') = 0"
    held = [f"{_digits(text)} = {_digits(f'{cast}::VARCHAR')}"]
    if target == "FLOAT":
        held.append(f"{_digits(text)} = {_digits(f'{cast}::DOUBLE::VARCHAR')}")
    held.append(
        f"NOT {loses_digits(text, 'HUGEINT')} AND TRY_CAST({text} AS HUGEINT) = TRY_CAST({cast} AS HUGEINT)"
    )
    return f"CASE WHEN {short} THEN false ELSE NOT coalesce({' OR '.join(held)}, false) END"


def _digits(number: str) -> str:
    """SQL of a number's digits without point, exponent, and the zeros at either end."""
    mantissa = f"regexp_extract({number}, '^\\s*[+-]?([\\d_.]*)', 1)"
    return f"trim(replace(replace({mantissa}, '.', ''), '_', ''), '0')"


def _digits_max(kind: str) -> int:
    if match := re.match(r"DECIMAL\((\d+), ?\d+\)", kind):
        return int(match.group(1)) if kind != WIDEST_DECIMAL else 1000
    return {"TINYINT": 3, "UTINYINT": 3, "SMALLINT": 5, "USMALLINT": 5, "INTEGER": 10, "UINTEGER": 10}.get(
        kind, 1000
    )


def _scale(kind: str) -> int | None:
    if kind in WHOLE:
        return 0
    match = re.match(r"DECIMAL\(\d+, ?(\d+)\)", kind)
    return int(match.group(1)) if match else None
