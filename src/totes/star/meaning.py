"""Makes sure that a model means what DuckDB makes of its text, and that its result never changes by itself."""

from __future__ import annotations

import difflib
from typing import Any

from sqlglot import exp

from totes.errors import ModelError
from totes.star import syntax
from totes.star.functions import Function, catalog, value_function
from totes.star.model import Model
from totes.star.written import sql

_EXPRESSIONS = {
    "BETWEEN",
    "CASE",
    "CAST",
    "COLLATE",
    "COLUMN_REF",
    "COMPARISON",
    "CONJUNCTION",
    "CONSTANT",
    "FUNCTION",
    "LAMBDA",
    "OPERATOR",
    "TYPE",
}
_PAGE = "docs/how-to/postgresql-sql.md lists DuckDB's equivalents of PostgreSQL's functions"
_ELSEWHERE = "Compute it in a view of the warehouse over the star's tables"


def check_meaning(model: Model) -> None:
    """Makes sure that DuckDB parses the query, as sqlglot does, and has all functions that it calls.

    Raises:
        ModelError: it does not, or a function is not deterministic.
    """
    try:
        tree = model.tree
    except syntax.NotParsed as error:
        raise ModelError(
            model.path, model.line_at(error.place), f"not valid SQL for DuckDB: {error}"
        ) from error
    for node in syntax.nodes(tree):
        if "class" in node and node["class"] not in _EXPRESSIONS:
            kind = node["class"].lower().replace("_", " ")
            raise _error(
                model, syntax.start(model.text, node), f"a {kind} is not supported in a model", _ELSEWHERE
            )
    _check_calls(model)
    for name in model.names:
        if name.start is None:
            raise _error(model, None, f"{'.'.join(name.parts)} is not supported here")
        if len(name.parts) > 2:
            raise _error(
                model,
                name.start,
                f"{model.text[name.start : name.end]} has more than two parts",
                "Write table.column",
            )
    _check_reading(model, tree)


def _check_reading(model: Model, tree: Any) -> None:
    """Compares the query that goes to the engine, before names are resolved, with the author's text."""
    try:
        read = syntax.parse(sql(model.written))
    except syntax.NotParsed:
        read = None
    if not syntax.same(tree, read):
        place = syntax.difference(tree, read) if read else None
        characters = len(model.text.encode()[:place].decode(errors="ignore")) if place is not None else 0
        raise _error(
            model,
            characters,
            "totes and DuckDB may read the query differently here",
            "Write this part in a simpler way",
        )


def _check_calls(model: Model) -> None:
    for call in syntax.calls(model.text, model.tree):
        if call.is_qualified:
            raise _error(
                model,
                call.start,
                f"{call.function} is called as a method, with a dot",
                f"Write {call.function}(…), with all its arguments in the parentheses",
            )
        function = catalog().get(call.function)
        if function is None:
            near = difflib.get_close_matches(call.function, catalog(), n=1, cutoff=0.75)
            raise _error(
                model,
                call.start,
                f"DuckDB has no function {call.function}",
                f"Did you mean {near[0]}? {_PAGE}" if near else _PAGE,
            )
        _check_function(model, call.start, function, call.arguments)
    # A name that is not a column for sqlglot may be a function without parentheses.
    columns = {column.parts[0].meta.get("start") for column in model.query.find_all(exp.Column)}
    for name in model.names:
        if name.start is not None and name.start + model.start not in columns:
            function = value_function(name.parts[0].lower())
            if function:
                _check_function(model, name.start, function, 0)


def _check_function(model: Model, place: int | None, function: Function, arguments: int) -> None:
    shown = function.name.upper()
    if function.aggregates:
        raise _error(
            model,
            place,
            f"the aggregate {shown}() cannot be maintained incrementally: an output row would depend on many source rows",
            _ELSEWHERE,
        )
    if function.varies(arguments):
        raise _error(
            model,
            place,
            f"{shown} cannot be maintained incrementally: its value would change without any source row changing",
            "Use a column of the source, or compute it in a view of the warehouse",
        )


def _error(model: Model, place: int | None, what: str, hint: str | None = None) -> ModelError:
    return ModelError(model.path, model.line_at(place), what, hint=hint)
