"""An oracle for what a declared type can hold: PostgreSQL reads a value's text as that type, and Python counts its digits.

Nothing of the pipeline is used here. For text that PostgreSQL reads but would write otherwise (`1e2`, `2024/1/5`), the
pipeline may hold what PostgreSQL reads, or set the row aside; for all else there is one right answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext

import psycopg

DECLARED = [
    "BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "FLOAT", "DOUBLE", "DECIMAL(10,2)", "NUMERIC", "DATE", "TIME",
    "TIMESTAMP", "TIMESTAMPTZ", "INTERVAL", "UUID", "BLOB", "JSON", "VARCHAR", "VARCHAR(5)",
]  # fmt: skip
POSTGRESQL = {
    "TINYINT": "smallint", "FLOAT": "real", "DOUBLE": "double precision", "BLOB": "bytea", "VARCHAR": "text", "VARCHAR(5)": "text",
    "DECIMAL(10,2)": "numeric", "NUMERIC": "numeric",
}  # fmt: skip
_WHOLE_BITS = {"TINYINT": 7, "SMALLINT": 15, "INTEGER": 31, "BIGINT": 63}
_DIGITS = {"DECIMAL(10,2)": (8, 2), "NUMERIC": (28, 10)}
NUMBERS = {"smallint", "integer", "bigint", "numeric", "numeric(12,4)", "real", "double precision"}
DOCUMENTS = {"json", "jsonb"}
_OWN = {
    "date": {"DATE", "TIMESTAMP"}, "timestamp without time zone": {"TIMESTAMP"}, "timestamp with time zone": {"TIMESTAMPTZ"},
    "time without time zone": {"TIME"}, "interval": {"INTERVAL"}, "uuid": {"UUID"}, "bytea": {"BLOB"}, "boolean": {"BOOLEAN"},
}  # fmt: skip
_NEWEST = "294247-01-10 04:00:54.775806"  # of the engine's timestamps, which end 29 years before PostgreSQL's
_READ_AS = (
    "numeric", "real", "double precision", "date", "time", "timestamp", "timestamptz", "interval", "uuid", "bytea", "json", "boolean",
)  # fmt: skip
_EXACTLY = Context(prec=300_000, Emax=999_999_999, Emin=-999_999_999)


def can_be_declared(source: str, declared: str) -> bool:
    """Whether a model may declare a column of this source type so; it is refused otherwise."""
    if source == "text" or source in DOCUMENTS or declared in ("VARCHAR", "VARCHAR(5)", "JSON"):
        return True
    if source in NUMBERS:
        return declared in (*_WHOLE_BITS, *_DIGITS, "FLOAT", "DOUBLE")
    return declared in _OWN[source]


@dataclass(frozen=True)
class Reading:
    """What PostgreSQL makes of a text: for each type its text form, None where it is none of the type."""

    text: str | None
    forms: dict[str, str | None]
    real_as_double: str | None


@dataclass(frozen=True)
class Verdict:
    """Whether the value `must`, `may` or can `never` be held, and as which of PostgreSQL's text forms."""

    word: str
    form: str | None = None


def readings(session: psycopg.Connection, texts: Iterable[str | None]) -> dict[str | None, Reading]:
    """What PostgreSQL makes of texts."""
    forms = ", ".join(
        f"CASE WHEN pg_input_is_valid(t, '{kind}') THEN t::{kind}::text END" for kind in _READ_AS
    )
    rows = session.execute(
        f"SELECT t, {forms}, CASE WHEN pg_input_is_valid(t, 'real') THEN t::real::float8::text END FROM unnest(%s::text[]) AS t".encode(),
        [list(texts)],
    ).fetchall()
    return {row[0]: Reading(row[0], dict(zip(_READ_AS, row[1:-1], strict=True)), row[-1]) for row in rows}


def content(text: str) -> str | None:
    """What a JSON document says, as a column of another type takes it."""
    if text.strip() == "null":
        return None
    said = json.loads(text) if text.startswith('"') else text
    return text if re.search("[\0\ud800-\udfff]", str(said)) else str(said)


def verdict(source: str, declared: str, reading: Reading) -> Verdict:
    """Whether a value of a source type, by its text, can be held by a declared type."""
    text, forms = reading.text, reading.forms
    if text is None:
        return Verdict("must", None)
    if declared == "VARCHAR":
        return Verdict("must", text)
    if declared == "VARCHAR(5)":
        return Verdict("must", text) if len(text) <= 5 else Verdict("never")
    if declared == "JSON":
        word = (
            "may" if re.search(r"(?i)\\ud[89a-f]", text) else "must"
        )  # the engine has no halves of surrogate pairs
        return Verdict(word, text) if source in DOCUMENTS or forms["json"] is not None else Verdict("never")
    if declared in _WHOLE_BITS or declared in _DIGITS or declared in ("FLOAT", "DOUBLE"):
        with localcontext(_EXACTLY):
            return _number(source, declared, reading)
    return _other(source, declared, reading)


def _number(source: str, declared: str, reading: Reading) -> Verdict:
    text, forms = reading.text or "", reading.forms
    if forms["numeric"] is None:
        return Verdict("never")
    given = Decimal(forms["numeric"])
    word = "must" if source in NUMBERS or re.fullmatch(r"-?\d+(\.\d+)?|NaN|-?Infinity", text) else "may"
    if declared in ("FLOAT", "DOUBLE"):
        return _floating(source, declared, reading, given, word)
    if not given.is_finite():
        return Verdict("never")
    if declared in _WHOLE_BITS:
        limit = 2 ** _WHOLE_BITS[declared]
        held = -limit <= given < limit and given == given.to_integral_value()
        return Verdict(word, str(int(given))) if held else Verdict("never")
    before, after = _DIGITS[declared]
    exponent = given.normalize().as_tuple().exponent
    assert isinstance(exponent, int)
    held = abs(given) < 10**before and -exponent <= after
    return Verdict(word, forms["numeric"]) if held else Verdict("never")


def _floating(source: str, declared: str, reading: Reading, given: Decimal, word: str) -> Verdict:
    form = reading.forms["real" if declared == "FLOAT" else "double precision"]
    if form is None:  # out of range
        return Verdict("never")
    if declared == "DOUBLE" and source == "real":
        return Verdict("must", reading.real_as_double)
    if not given.is_finite() or (source, declared) in (("real", "FLOAT"), ("double precision", "DOUBLE")):
        return Verdict(word, form)
    exactly = Decimal(float(reading.real_as_double or "nan") if declared == "FLOAT" else float(form))
    if source == "double precision":
        return Verdict("must", form) if exactly == Decimal(float(reading.text or "nan")) else Verdict("never")
    shortest = (
        [form, repr(float(form))] if declared == "DOUBLE" else [form]
    )  # where two are, PostgreSQL writes the other
    return Verdict(word, form) if given in (*map(Decimal, shortest), exactly) else Verdict("never")


def _other(source: str, declared: str, reading: Reading) -> Verdict:
    text = reading.text or ""
    form = reading.forms[POSTGRESQL.get(declared, declared.lower())]
    if form is None or (declared == "INTERVAL" and "infinity" in form):
        return Verdict("never")
    if declared.startswith("TIMESTAMP"):
        moment = form.removesuffix("+00")
        if not form.endswith(("BC", "infinity")) and (len(moment.partition("-")[0]), moment) > (6, _NEWEST):
            return Verdict("never")
    if source in ("text", *DOCUMENTS):
        if re.search(r"\.\d{6}\d*[1-9]", text) and declared in (
            "TIME",
            "TIMESTAMP",
            "TIMESTAMPTZ",
            "INTERVAL",
        ):
            return Verdict("never")
        if declared == "DATE" and ":" in text:
            return Verdict("never")
        if declared in ("TIME", "TIMESTAMP") and re.search(r":.*([+-]|[A-Z]{2,}(?<!BC)|Z)", text):
            return Verdict("never")
    return Verdict("must" if form == text or (source, declared) == ("date", "TIMESTAMP") else "may", form)
