"""What is wrong with a row, as SQL: a list of problems, each with its column, its kind, the value and a text for people.

Rows of one kind in one column have one cause, whatever their values are; that is what people are told of.
"""

from __future__ import annotations

from collections.abc import Iterable

from totes import engine

# As a column of rows: a list, NULL where nothing is wrong.
PROBLEMS = "~problems"
STORED_TYPE = 'STRUCT("column" VARCHAR, kind VARCHAR, "value" VARCHAR)[]'
_NONE = 'NULL::STRUCT("column" VARCHAR, kind VARCHAR, "value" VARCHAR, told VARCHAR)[]'
_SHOWN_MAX = 100


def problem(column: str | None, kind: str, *, value: str | None = None, told: str | None = None) -> str:
    """A problem.

    Args:
        column: the column that has it; None for one of the whole row.
        kind: what is said of all values that have it.
        value: SQL of the value, kept whole.
        told: SQL of the text; by default the column, the beginning of the value, and the kind.
    """
    before, after = engine.text(f"{column}: '"), engine.text(f"' {kind}")
    shown = f"{before} || left(coalesce({value}::VARCHAR, 'NULL'), {_SHOWN_MAX}) || {after}"
    return (
        f"{{'column': {engine.text(column) if column else 'NULL'}::VARCHAR, 'kind': {engine.text(kind)},"
        f" 'value': {value or 'NULL'}::VARCHAR, 'told': {told or shown}}}"
    )


def found(conditions: Iterable[tuple[str, str]], further: Iterable[str] = ()) -> str:
    """All problems of a row, or NULL when there is none.

    Args:
        conditions: pairs of SQL: a condition, and the problem that the row has where it is met.
        further: SQL of other lists of problems.
    """
    pairs, lists = list(conditions), list(further)
    if not pairs and not lists:
        return _NONE
    cases = ", ".join(f"CASE WHEN {condition} THEN {one} END" for condition, one in pairs)
    own = [f"list_filter([{cases}], lambda one: one IS NOT NULL)"] if pairs else []
    some = " OR ".join([condition for condition, _ in pairs] + [f"{one} IS NOT NULL" for one in lists])
    return f"CASE WHEN {some} THEN flatten([{', '.join(own + lists)}]) END"


def reason(problems: str) -> str:
    """The text of a list of problems, NULL when there is none."""
    return f"array_to_string(list_transform({problems}, lambda one: one.told), '; ')"


def stored(problems: str) -> str:
    """A list of problems as it is kept beside its text."""
    member = "{'column': one.\"column\", 'kind': one.kind, 'value': one.\"value\"}"
    return f"list_transform({problems}, lambda one: {member})"
