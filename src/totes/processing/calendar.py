"""The calendar that models can read: whole years around the dates that the star's rows refer to. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from totes import engine
from totes.processing.bound.problem import PROBLEM
from totes.processing.bound.relation import Relation, RelationColumn
from totes.star.project import CALENDAR, CALENDAR_COLUMN

# Years between these are filled without gaps; one outside them (a slip of the pen, or 9999 for "never") stands alone.
ORDINARY_YEARS = range(1900, 2200)

_FIRST = "DATE '4714-11-24 (BC)'"  # of PostgreSQL's dates


def covered_years(years: Iterable[int]) -> tuple[int, ...]:
    """All years that a calendar has which must have these."""
    wanted = set(years)
    ordinary = [year for year in wanted if year in ORDINARY_YEARS]
    filled = set(range(min(ordinary), max(ordinary) + 1)) if ordinary else set()
    return tuple(sorted(wanted | filled))


def calendar_relation() -> Relation:
    """The calendar as models see it."""
    column = RelationColumn(CALENDAR_COLUMN, "DATE", "DATE")
    return Relation(CALENDAR, (column,), (CALENDAR_COLUMN,), is_source=False)


def calendar_rows(years: Iterable[int]) -> str:
    """A query for all dates of these years, in the shape of a relation's changes."""
    listed = ", ".join(str(year) for year in years)
    dates = (
        f'SELECT make_date(year, 1, 1) + day::INTEGER AS "{CALENDAR_COLUMN}"'
        f" FROM (SELECT unnest([{listed}]::INTEGER[]) AS year), range(366) AS days (day)"
        f" WHERE year(make_date(year, 1, 1) + day::INTEGER) = year AND make_date(year, 1, 1) + day::INTEGER >= {_FIRST}"
    )
    return f"SELECT *, 'upsert' AS _op, NULL::TIMESTAMP AS _at FROM ({dates})"


def years_of(columns: Iterable[str], new: str) -> str:
    """A query for the years of dates in some columns of computed rows that have no problem."""
    return " UNION ".join(
        f"SELECT DISTINCT year({date}) FROM {new}"
        f" WHERE {engine.name(PROBLEM)} IS NULL AND {date} IS NOT NULL AND isfinite({date})"
        for date in map(engine.name, columns)
    )
