"""Random values of the types that a model's declared types are for, as PostgreSQL reads them: the same in each run."""

from __future__ import annotations

import json
import string
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

# All of Unicode but surrogates; asked for as what UTF-8 can encode, Hypothesis would try a million code points first.
_CHARACTERS = st.characters(exclude_categories=("Cs",))
_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=40)
_MICROSECONDS = st.integers(-211_813_480_000_000_000, 9_223_371_000_000_000_000)
_DOCUMENTS: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
_DATE_LIKE = st.from_regex(
    r"\A[ ]?[012]\d{3,4}[-/. ][01]?\d[-/. ][0123]?\d( BC)?[ ]?\Z", alphabet=_CHARACTERS
)
_TIME_LIKE = st.from_regex(r"\A[012]?\d:[0-5]\d(:[0-6]\d(\.\d{1,8})?)?\Z", alphabet=_CHARACTERS)
_ZONE_LIKE = st.sampled_from(
    ["", "", "Z", "+00", "-08:30", " +02:00", "+01:02:03", " UTC", " CET", " PST", " Europe/London", " PM"]
)
_MOMENT_LIKE = st.builds(
    "{0}{1}{2}{3}".format, _DATE_LIKE, st.sampled_from([" ", "T"]), _TIME_LIKE, _ZONE_LIKE
)
_SPAN_LIKE = st.from_regex(
    r"\A(-?\d{1,3}(\.5)? (year|mons|month|week|days|hours|min|secs) ){0,3}([+-]?\d{1,3}:[0-5]\d(:[0-5]\d(\.\d{1,8})?)?)?( ago)?\Z",
    alphabet=_CHARACTERS,
)
_NUMBER_LIKE = st.from_regex(
    r"\A[ ]?[+-]?\d{0,24}(\.\d{0,24})?([eE][+-]?\d{1,3})?[ ]?\Z", alphabet=_CHARACTERS
)
_JSON_LIKE = st.text(st.sampled_from('[]{},:"\\0123456789.-+eEnulltrsafNIi ud8\t'), max_size=12)


def _spelled(months: int, days: int, microseconds: int) -> str:
    return f"{months} mons {days} days {microseconds} microseconds"


def _moment(microseconds: int) -> str:
    return f"timestamp '2000-01-01' + {microseconds} * interval '1 microsecond'"


_ALL_DIGITS = st.builds(Decimal, st.from_regex(r"\A-?\d{1,40}(\.\d{1,30})?\Z", alphabet=string.digits + "-."))
STRATEGIES: dict[str, list[st.SearchStrategy[Any]]] = {
    "smallint": [st.integers(-(2**15), 2**15 - 1)],
    "integer": [st.integers(-(2**31), 2**31 - 1)],
    "bigint": [st.integers(-(2**63), 2**63 - 1)],
    "numeric": [_ALL_DIGITS, st.decimals(allow_nan=False, places=2, min_value=-(10**9), max_value=10**9), st.integers(2**53, 2**70)],
    "numeric(12,4)": [st.decimals(-99999999, 99999999, places=4)],
    "real": [st.floats(width=32), st.decimals(-1000, 1000, places=2)],
    "double precision": [st.floats(), st.decimals(-1000, 1000, places=2), st.integers(-(2**60), 2**60)],
    "text": [_TEXT, _NUMBER_LIKE, _DATE_LIKE, _TIME_LIKE, _MOMENT_LIKE, _SPAN_LIKE, _JSON_LIKE, st.uuids(), st.booleans(),
             st.integers(-(2**70), 2**70), st.floats()],
    "date": [st.dates(), st.integers(-2451545, 2145031948).map("date '2000-01-01' + {}".format)],
    "timestamp without time zone": [st.datetimes(), _MICROSECONDS.map(_moment)],
    "timestamp with time zone": [_MICROSECONDS.map(_moment).map("({}) AT TIME ZONE 'UTC'".format)],
    "time without time zone": [st.times()],
    "interval": [st.builds(_spelled, st.integers(-5000, 5000), st.integers(-5000, 5000), st.integers(-(10**13), 10**13))],
    "uuid": [st.uuids()],
    "bytea": [st.binary(max_size=40).map(lambda value: f"\\x{value.hex()}")],
    "boolean": [st.booleans()],
    "json": [st.builds(json.dumps, _DOCUMENTS, ensure_ascii=st.booleans(), indent=st.sampled_from([None, None, 1]))],
    "jsonb": [st.builds(json.dumps, _DOCUMENTS).filter(lambda text: "\\u0000" not in text)],
}  # fmt: skip


def random_values(kind: str, each: int) -> list[str]:
    """Random values of a type as SQL, some of each of its strategies."""
    found: list[str] = []
    for strategy in STRATEGIES[kind]:

        @settings(
            max_examples=each,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy)
        def gather(value: object) -> None:
            text = str(value)
            is_expression = text.startswith(("timestamp '", "(timestamp '", "date '"))
            found.append(text if is_expression else _literal(text))

        gather()
    return list(dict.fromkeys(found))


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
