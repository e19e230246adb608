"""Values as the columns that a model declares: read as the declared type, with all that is wrong with each row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from totes import engine
from totes.processing.bound.leaf import BAD, Leaf
from totes.processing.bound.lossless_casts import FLOATING, json_content, misfits, read_as, strict_json
from totes.processing.bound.problem import PROBLEM, PROBLEMS, Condition, found, problem, reason, suspected
from totes.processing.bound.relation import RelationColumn
from totes.star.column import Column

_DOUBT = '"~doubt"'


@dataclass(frozen=True)
class Output:
    """A declared column with how its value arrives.

    `natural` is the value's own type; when that is the text form of a source column, `origin` is the type which that
    column has. `wrapped` means that the value is the result of an expression, which may fail for a row; `is_document`
    that it is JSON, whose content the declared type is to hold. `carrier` is the column of a leaf that it passes on, if
    it does.
    """

    column: Column
    natural: str
    origin: str
    wrapped: bool
    is_document: bool
    carrier: tuple[Leaf, RelationColumn] | None = None


def checked(
    rows: str, outputs: Sequence[Output], key: Sequence[str], hidden: Sequence[str], retained: Sequence[str]
) -> str:
    """A query for rows of a model as it declares them, with `~problem` (what is wrong, as text) and `~problems`.

    Args:
        rows: a query for the values, in columns `~v0`, `~v1`, …
        outputs: what each of them is.
        key: the declared columns that are the table's key.
        hidden: further columns of the rows, those with problems that are known already among them.
        retained: which of them the query gives too.
    """
    values, columns, needed = [], [], []
    conditions: list[Condition] = []
    for number, output in enumerate(outputs):
        value, failed = f'"~v{number}"', f'"~e{number}"'
        wrapped = f"{value}.v" if output.wrapped else value
        if output.is_document:
            wrapped = json_content(wrapped)
        values.append(f"{wrapped} AS {value}")
        if output.wrapped:
            values.append(f"{value} IS NULL AS {failed}")
        read = read_as(value, output.column.type, output.natural, output.origin)
        if output.column.name in key and output.column.type in FLOATING:
            read = f"CAST({read} + 0 AS {output.column.type})"  # of a key, -0 is 0
        columns.append(f"{read} AS {engine.name(output.column.name)}")
        if own := _problems(value, failed if output.wrapped else None, output):
            conditions += own
            needed += [value, failed] if output.wrapped else [value]
    carried = engine.names(hidden)
    produced = engine.names(output.column.name for output in outputs)
    bad = [engine.name(one) for one in hidden if one.startswith(BAD)]
    problems = found(conditions, _DOUBT, bad)

    def listed(*columns: str) -> str:
        return ", ".join(one for one in columns if one)

    last = engine.names(retained)
    # Each step is planned with all columns, so there is none that would only pass them on.
    changes = any(output.wrapped or output.is_document for output in outputs)
    read_from = f"(SELECT {listed(*values, carried)} FROM ({rows}))" if changes else f"({rows})"
    return (
        f'WITH "~cast" AS (SELECT {listed(*columns, *needed, carried)} FROM {read_from}), '
        f'"~doubted" AS (SELECT *, {suspected(conditions, bad)} AS {_DOUBT} FROM "~cast"), '
        f'"~checked" AS (SELECT {listed(produced, f"{problems} AS {engine.name(PROBLEMS)}", last)} FROM "~doubted") '
        f"SELECT {listed(produced, f'{reason(engine.name(PROBLEMS))} AS {engine.name(PROBLEM)}', engine.name(PROBLEMS), last)}"
        ' FROM "~checked"'
    )


def _problems(value: str, failed: str | None, output: Output) -> list[Condition]:
    """The conditions under which a value does not meet its column's declaration."""
    column = output.column
    cast = engine.name(column.name)
    absent = f"{cast} IS NULL" if column.not_null else None
    conditions: list[Condition] = []

    def check(condition: str, kind: str, message: str | None = None, suspicion: str | None = None) -> None:
        error = problem(
            column.name,
            kind,
            value=None if message else value,
            message=engine.text(message) if message else None,
        )
        conditions.append(Condition(condition, error, suspicion))

    if failed:
        kind = "its expression cannot be computed"
        check(failed, kind, f"{column.name}: {kind}", absent)
    declared = "NUMERIC" if column.unbounded else column.type
    for misfit in misfits(value, cast, column.type, output.natural, output.origin, declared):
        check(misfit.condition, misfit.kind, suspicion=misfit.suspicion)
    if output.wrapped and column.type == "VARCHAR":
        check(f"contains({value}::VARCHAR, chr(0))", "holds the character U+0000, which PostgreSQL has not")
    if output.wrapped and column.type == "JSON":
        check(strict_json(cast), "is not a valid JSON")
    if column.length_max is not None:
        check(f"length({cast}) > {column.length_max}", f"is longer than {column.length_max} characters")
    if column.not_null:
        missing = f"{value} IS NULL" + (f" AND NOT {failed}" if failed else "")
        kind = "is NULL, and is declared NOT NULL"
        check(f"({missing})", kind, f"{column.name} {kind}", absent)
    return conditions
