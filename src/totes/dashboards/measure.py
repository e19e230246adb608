"""Which columns hold amounts, as far as their types and names say: what may be added up, and what only has an average."""

from __future__ import annotations

import re
from collections.abc import Iterable

from totes.processing.bound.lossless_casts import FLOATING, WHOLE
from totes.star.column import Column

_FRACTIONAL = ("DECIMAL", *FLOATING)
# The last word of a name that stands for one thing among others, or for a part of a date or place.
_NO_AMOUNTS = {
    "code", "cvv", "day", "fax", "hour", "id", "identifier", "key", "lat", "latitude", "lng", "lon", "longitude", "minute",
    "month", "nr", "no", "num", "number", "ordinal", "phone", "pin", "position", "postcode", "quarter", "rank", "second",
    "seq", "sequence", "sk", "uuid", "version", "week", "weekday", "year", "zip",
}  # fmt: skip
_AVERAGED = {
    "age", "average", "avg", "grade", "height", "mean", "percent", "percentage", "pct", "price", "rate", "rating", "ratio",
    "score", "share", "speed", "temperature", "width",
}  # fmt: skip
_MONEY = {
    "amount", "balance", "budget", "cents", "charge", "cost", "costs", "discount", "expense", "fee", "freight", "income",
    "margin", "payment", "price", "profit", "revenue", "salary", "spend", "subtotal", "tax", "total", "turnover", "value", "vat",
}  # fmt: skip
_NO_MONEY = {
    "count", "days", "distance", "duration", "hours", "kg", "km", "minutes", "percent", "percentage", "pct", "qty", "quantity",
    "rate", "ratio", "seconds", "share", "units", "volume", "weight",
}  # fmt: skip


def words(name: str) -> list[str]:
    """The words of a name, in lower case: of `UnitPrice`, `unit_price` and `Unit price` the same two."""
    spaced = re.sub(r"([a-z0-9])([A-Z])|([A-Z]+)(?=[A-Z][a-z])", r"\1\3 \2", name)
    return re.findall(r"[^\W_]+", spaced.lower())


def is_number(column: Column) -> bool:
    """Whether it holds numbers."""
    return column.type.startswith((*WHOLE, *_FRACTIONAL))


def is_fractional(column: Column) -> bool:
    """Whether its numbers may have decimals."""
    return column.type.startswith(_FRACTIONAL)


def aggregate(column: Column, keys: Iterable[str]) -> str | None:
    """The aggregate that means something for a column: SUM or AVG; None if it holds no amount.

    Args:
        column: the column.
        keys: the columns of the table's primary key.
    """
    if not is_number(column) or column.references or column.name in keys:
        return None
    found = words(column.name)
    counted = found[:2] in (["number", "of"], ["no", "of"])
    if found and found[-1] in _NO_AMOUNTS and not counted:
        return None
    return "AVG" if _AVERAGED & set(found) and not counted else "SUM"


def is_money(column: Column) -> bool:
    """Whether a number is an amount of money, in a table whose rows have a currency."""
    found = set(words(column.name))
    if found & _NO_MONEY and not found & _MONEY:
        return False
    return is_fractional(column) or bool(found & _MONEY)


def is_currency(column: Column) -> bool:
    """Whether a column has the currency of a row's money."""
    if column.references:
        return "currency" in words(column.references) or "currency" in words(column.name)
    said = words(column.name)
    return column.type == "VARCHAR" and "currency" in said[-2:] and said[-1] in ("currency", "code", "iso")
