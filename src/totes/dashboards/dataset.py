"""A dataset: what people see of a table in a BI tool, with its columns and the metrics that may be made of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from totes import engine


@dataclass(frozen=True)
class Field:
    """A column of a dataset. `type` is the warehouse's; with an `expression` it is made of other columns."""

    name: str
    type: str
    label: str
    description: str = ""
    expression: str = ""
    is_measure: bool = False

    @property
    def is_time(self) -> bool:
        """Whether it is a day or a moment, which time can be cut by."""
        return self.type.startswith(("DATE", "TIMESTAMP"))


@dataclass(frozen=True)
class Metric:
    """An aggregate over a dataset's rows; `format` is d3's, and `currency` is true if it is an amount of money."""

    name: str
    expression: str
    label: str
    description: str = ""
    format: str = ",d"
    currency: bool = False


@dataclass(frozen=True)
class Dataset:
    """A relation of the warehouse with its columns and metrics.

    `sql` is a query that DuckDB and PostgreSQL both run; without one, `name` is a relation of the warehouse. `time` is the
    column that time ranges are about, and `currency` the one that has the currency's code.
    """

    name: str
    description: str
    fields: tuple[Field, ...]
    metrics: tuple[Metric, ...]
    sql: str = ""
    time: str = ""
    currency: str = ""

    def field(self, name: str) -> Field | None:
        """A column, if there is one of that name."""
        return next((field for field in self.fields if field.name == name), None)


def within(expression: str, columns: Iterable[str]) -> str:
    """An aggregate that is NULL unless each of these columns has the same value, and not NULL, in all rows.

    So pounds are never added to euros, nor Monday's stock to Tuesday's, whatever people group or filter by.
    """
    same = [f"COUNT({name}) = COUNT(*) AND MIN({name}) = MAX({name})" for name in map(engine.name, columns)]
    return f"CASE WHEN {' AND '.join(same)} THEN {expression} END" if same else expression


def title(name: str) -> str:
    """A name as people write it: `units_sold` is `Units sold`."""
    text = " ".join(name.replace("_", " ").split()) or name
    return text[:1].upper() + text[1:]


def unique(wanted: str, existing: Iterable[str]) -> str:
    """A name that none of the existing ones is equal to, in upper or lower case."""
    known = {name.lower() for name in existing}
    name, number = wanted, 1
    while name.lower() in known:
        number += 1
        name = f"{wanted}_{number}"
    return name
