"""What is wrong with a row, as SQL: a list of problems, each with its column, its kind, the value and a text for people.

Rows of one kind in one column have one cause, whatever their values are; that is what people are shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from totes import engine

# As columns of rows: a text, and a list; NULL where nothing is wrong.
PROBLEM, PROBLEMS = "~problem", "~problems"
STORED_TYPE = 'STRUCT("column" VARCHAR, kind VARCHAR, "value" VARCHAR)[]'
_NONE = 'NULL::STRUCT("column" VARCHAR, kind VARCHAR, "value" VARCHAR, message VARCHAR)[]'
_SHOWN_MAX = 100


# What lambdas call an element of a list: columns of models have no such names.
_ONE = '"~one"'


class Condition(NamedTuple):
    """SQL that is true where a row has a problem, and the problem.

    `suspicion` is SQL that is true there too, and maybe elsewhere: all that is computed for rows with which nothing is wrong.
    Where several conditions have the same one, it is computed once.
    """

    met: str
    problem: str
    suspicion: str | None = None


def problem(column: str | None, kind: str, *, value: str | None = None, message: str | None = None) -> str:
    """A problem.

    Args:
        column: the column that has it; None for one of the whole row.
        kind: the description, alike for all values that have it.
        value: SQL of the whole value.
        message: SQL of the text; by default the column, the beginning of the value, and the kind.
    """
    return (
        f"{{'column': {engine.text(column) if column else 'NULL'}::VARCHAR, 'kind': {engine.text(kind)},"
        f" 'value': {value or 'NULL'}::VARCHAR, 'message': {message or 'NULL'}::VARCHAR}}"
    )


def suspected(conditions: Sequence[Condition], further: Sequence[str] = ()) -> str:
    """Whether a row may have problems: all that is computed for rows with which nothing is wrong. Arguments as of `found`."""
    suspicions = dict.fromkeys(one.suspicion or one.met for one in conditions)
    return " OR ".join([*suspicions, *(f"{one} IS NOT NULL" for one in further)]) or "false"


def found(conditions: Sequence[Condition], suspicion: str, further: Sequence[str] = ()) -> str:
    """All problems of a row, or NULL when there is none.

    Args:
        conditions: which problems a row may have, and where it has them.
        suspicion: SQL of what `suspected` gives. Of many conditions it should be a column: the engine compares those that
            stand in a CASE with all others that do.
        further: SQL of other lists of problems.
    """
    own, lists = conditions, [*further]
    if not own and not lists:
        return _NONE
    cases = ", ".join(f"CASE WHEN {one.met} THEN {one.problem} END" for one in own)
    own_problems = [f"list_filter([{cases}], lambda {_ONE}: {_ONE} IS NOT NULL)"] if own else []
    return f"CASE WHEN {suspicion} THEN nullif(flatten([{', '.join(own_problems + lists)}]), []) END"


def reason(problems: str) -> str:
    """The text of a list of problems, NULL when there is none."""
    shown = f"left(coalesce({_ONE}.\"value\", 'NULL'), {_SHOWN_MAX})"
    message = f"coalesce({_ONE}.message, {_ONE}.\"column\" || ': ''' || {shown} || ''' ' || {_ONE}.kind)"
    return f"array_to_string(list_transform({problems}, lambda {_ONE}: {message}), '; ')"


def stored(problems: str) -> str:
    """A list of problems as it is stored beside its text."""
    member = f"{{'column': {_ONE}.\"column\", 'kind': {_ONE}.kind, 'value': {_ONE}.\"value\"}}"
    return f"list_transform({problems}, lambda {_ONE}: {member})"
