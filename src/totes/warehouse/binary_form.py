"""What a value is sent to PostgreSQL as, so that its binary COPY reads the column's own type from what ADBC writes.

ADBC writes numbers, text and bytes as they are. Types that it has no form for, or bends, are sent as the numbers or bytes
that PostgreSQL's binary form of them consists of: a date, say, as its days since 2000.
"""

from __future__ import annotations

from collections.abc import Iterable

from totes import engine
from totes.lake.manifest import OutputColumn

_FORMS = {
    "TINYINT": "{value}::SMALLINT",
    "JSON": "{value}::VARCHAR",
    "UUID": "{value}::UUID::BLOB",
}
# Of these the largest and the smallest number is an infinity, where ADBC would write a date 292,000 years away.
_SINCE_2000 = {
    "DATE": ("INTEGER", 31, "{value} - DATE '2000-01-01'"),
    "TIMESTAMP": ("BIGINT", 63, "epoch_us({value}) - 946684800000000"),
    "TIMESTAMPTZ": ("BIGINT", 63, "epoch_us({value}) - 946684800000000"),
}


def select(columns: Iterable[OutputColumn], rows: str) -> str:
    """The engine's query that sends columns of a relation."""
    values = [
        f"{_form(engine.name(column.name), column.type)} AS {engine.name(column.name)}" for column in columns
    ]
    return f"SELECT {', '.join(values)} FROM {rows}"


def _form(value: str, kind: str) -> str:
    if kind in _SINCE_2000:
        sent, bits, number = _SINCE_2000[kind]
        infinity = f"CASE WHEN {value} > {kind} '2000-01-01' THEN {2**bits - 1} ELSE {-(2**bits)} END"
        return f"(CASE WHEN isinf({value}) THEN {infinity} ELSE {number.format(value=value)} END)::{sent}"
    if kind == "INTERVAL":
        return _interval(
            f"{value}::INTERVAL"
        )  # Parquet has it as text, whose own intervals are of milliseconds
    return _FORMS.get(kind, "{value}").format(value=value)


def _interval(value: str) -> str:
    """Microseconds, days and months, with the highest byte first."""

    def total(**parts: int) -> str:
        return " + ".join(f"{size} * datepart('{part}', {value})::BIGINT" for part, size in parts.items())

    numbers = (
        (total(hour=3_600_000_000, minute=60_000_000, microsecond=1), 8),
        (total(day=1), 4),
        (total(year=12, month=1), 4),
    )
    digits = (f"right(lpad(hex({number}), 16, '0'), {2 * count})" for number, count in numbers)
    return f"unhex({' || '.join(digits)})"
