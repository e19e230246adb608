"""A draft as the text of a model file, in the way that models are written by hand."""

from __future__ import annotations

import re
import textwrap

from totes.display import one_line
from totes.scaffold.draft import Draft, DraftColumn, Source, Value
from totes.scaffold.identifiers import identifier
from totes.scaffold.naming import CALENDAR_MODEL

_WIDTH = 100
_WAS = re.compile(r"was\s*:", re.IGNORECASE)

CALENDAR_TEXT = f"""\
-- The calendar: every date that a fact refers to, and whole years around them.
CREATE TABLE {CALENDAR_MODEL} (
    date_id      DATE PRIMARY KEY,
    year         INTEGER NOT NULL,
    quarter      INTEGER NOT NULL,
    month        INTEGER NOT NULL,
    month_name   VARCHAR NOT NULL,
    day          INTEGER NOT NULL,
    day_of_week  INTEGER NOT NULL,  -- Monday is 1
    day_name     VARCHAR NOT NULL
) AS
SELECT
    calendar.date AS date_id,
    year(calendar.date) AS year,
    quarter(calendar.date) AS quarter,
    month(calendar.date) AS month,
    monthname(calendar.date) AS month_name,
    day(calendar.date) AS day,
    isodow(calendar.date) AS day_of_week,
    dayname(calendar.date) AS day_name
FROM calendar
"""


def written(draft: Draft) -> str:
    """The text of a model file."""
    lines = [*_comment(draft.description), f"CREATE TABLE {identifier(draft.name)} ("]
    lines += _declarations(draft)
    lines.append(") AS")
    lines += [line for remark in draft.remarks for line in _comment(remark)]
    lines.append("SELECT")
    given = [column for column in draft.columns if column.value]
    lines += [f"    {_projection(column)}{'' if column is given[-1] else ','}" for column in given]
    lines += [line for source in draft.sources for line in _from(source)]
    return "\n".join(lines) + "\n"


def _declarations(draft: Draft) -> list[str]:
    single = draft.key[0] if len(draft.key) == 1 else draft.surrogate
    width = max(len(identifier(column.name)) for column in draft.columns)
    rows = []
    for column in draft.columns:
        parts = [identifier(column.name).ljust(width), "", column.type]
        if column.name == single:
            parts.append("PRIMARY KEY")
        elif column.not_null:
            parts.append("NOT NULL")
        if column.references:
            parts.append(f"REFERENCES {identifier(column.references)}")
        rows.append((" ".join(parts), _note(column)))
    if len(draft.key) > 1:
        rows.append((f"PRIMARY KEY ({', '.join(map(identifier, draft.key))})", ""))
    declared = [f"{row}," for row, _ in rows[:-1]] + [rows[-1][0]]
    noted = [len(row) for row, (_, note) in zip(declared, rows, strict=True) if note]
    place = max(noted, default=0)
    return [
        f"    {row.ljust(place)}  -- {note}" if note else f"    {row}"
        for row, (_, note) in zip(declared, rows, strict=True)
    ]


def _note(column: DraftColumn) -> str:
    """What stands behind a column, on one line, and is no instruction to totes."""
    note = one_line(" ".join(column.note.split()))
    return f"it {note}" if _WAS.match(note) else note


def _projection(column: DraftColumn) -> str:
    assert column.value is not None
    value = _value(column.value)
    if column.value.template == "{}" and column.value.column == column.name:
        return value
    return f"{column.value.template.replace('{}', value)} AS {identifier(column.name)}"


def _from(source: Source) -> list[str]:
    name = identifier(source.table)
    shown = name if name == identifier(source.alias) else f"{name} AS {identifier(source.alias)}"
    if not source.on:
        return [f"FROM {shown}"]
    conditions = [f"{_value(one)} = {_value(other)}" for one, other in source.on]
    line = f"LEFT JOIN {shown} ON {' AND '.join(conditions)}"
    if len(line) <= _WIDTH or len(conditions) == 1:
        return [line]
    return [
        f"LEFT JOIN {shown}",
        *(f"    {'AND' if place else 'ON'} {one}" for place, one in enumerate(conditions)),
    ]


def _value(value: Value) -> str:
    return f"{identifier(value.alias)}.{identifier(value.column)}"


def _comment(text: str) -> list[str]:
    """Lines of comment, that no ends of lines in the text break out of."""
    shown = one_line(" ".join(text.split()))
    return [
        f"-- {line}" for line in textwrap.wrap(shown, _WIDTH, break_long_words=False, break_on_hyphens=False)
    ]
