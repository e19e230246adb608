"""Comparisons that PostgreSQL makes otherwise than DuckDB does: of text that it does not compare character by character."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sqlglot import exp

from totes.processing.bound.query import BoundQuery
from totes.processing.bound.relation import Relations, Suspects
from totes.processing.bound.scope import Binder, Scope
from totes.star import syntax
from totes.star.written import Written, line_of, sql

HINT = (
    "Write what makes values alike on both sides, such as lower(…) or rtrim(…): docs/how-to/postgresql-sql.md"
)


class Compared(NamedTuple):
    """A column that a model compares directly with something: with another column, if that is known.

    A reference of the table that the model makes is a comparison with a key.
    """

    column: tuple[str, str]
    other: tuple[str, str] | None
    line: int | None
    is_reference: bool = False


def doubts(query: BoundQuery, suspected: Suspects) -> list[str]:
    """What a model compares otherwise than PostgreSQL would, one line each."""
    relations = {leaf.relation.name: leaf.relation for leaf in query.leaves}
    if not any(table in relations for table, _ in suspected):
        return []
    scope = Binder(query.model, Relations(relations, {})).bind()
    found = []
    for one in [*_in_scope(scope), *_references(query, scope)]:
        what = suspected.get(one.column)
        padded = what is not None and what.startswith("a character")
        same = one.is_reference or (one.other is not None and suspected.get(one.other) == what)
        if what is None or (padded and same):
            continue
        how = "passing over blanks at the end" if padded else "taking different characters for equal"
        place = f"line {one.line}: " if one.line else ""
        found.append(
            f"{place}{'.'.join(one.column)} is {what}, which PostgreSQL compares {how}, and DuckDB does not"
        )
    return list(dict.fromkeys(found))


def _in_scope(scope: Scope) -> Iterator[Compared]:
    for source in scope.sources.values():
        if isinstance(source, Scope):
            yield from _in_scope(source)
    for join in scope.select.args.get("joins") or []:
        for identifier in join.args.get("using") or []:
            holders = [alias for alias in scope.sources if scope.has(alias, identifier.name)]
            columns = [exp.column(identifier.name, table=alias) for alias in holders]
            yield from _pair(scope, columns, line_of(identifier))
    conditions = [join.args.get("on") for join in scope.select.args.get("joins") or []]
    conditions += [scope.select.args.get("where")]
    for condition in conditions:
        for written in condition.find_all(Written) if condition else ():
            tree = syntax.parse(f"SELECT {sql(written)}")
            for node in syntax.nodes(tree):
                if node.get("class") == "COMPARISON":
                    sides = [node["left"], node["right"]]
                elif node.get("type") == "COMPARE_IN":
                    sides = node["children"][:1]
                else:
                    continue
                columns = [
                    exp.column(side["column_names"][-1], table=side["column_names"][0])
                    for side in sides
                    if side.get("class") == "COLUMN_REF" and len(side["column_names"]) == 2
                ]
                yield from _pair(scope, columns, line_of(written))


def _pair(scope: Scope, columns: list[exp.Column], line: int | None) -> Iterator[Compared]:
    found = [_origin(scope, column) for column in columns]
    for one, other in zip(found, reversed(found), strict=True):
        if one:
            yield Compared(one, other if len(found) == 2 else None, line)


def _origin(scope: Scope, column: exp.Column) -> tuple[str, str] | None:
    """The table and column that a name passes on, or None where it is computed."""
    source = scope.sources.get(column.table)
    if isinstance(source, Scope):
        expression = next((e for n, e in source.outputs().items() if n.lower() == column.name.lower()), None)
        return _origin(source, expression) if isinstance(expression, exp.Column) else None
    found = source.relation.column(column.name) if source else None
    return (source.relation.name, found.name) if source and found else None


def _references(query: BoundQuery, scope: Scope) -> Iterator[Compared]:
    for name, expression in scope.outputs().items():
        passed_on = _origin(scope, expression) if isinstance(expression, exp.Column) else None
        if passed_on and name in query.model.references:
            yield Compared(passed_on, None, line_of(expression), is_reference=True)
