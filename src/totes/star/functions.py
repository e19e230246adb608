"""DuckDB's functions, from its own catalog: which ones are aggregates, and which ones are not deterministic."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import duckdb

from totes import engine
from totes.star import syntax

# The catalog calls these deterministic, wrongly: with one argument, `age` counts from today.
# A test calls every function of the catalog at two different times, and finds no others.
_BY_THE_CLOCK = {("age", 1)}


@dataclass(frozen=True)
class Function:
    """A function, for all types of arguments together.

    `groups` marks an aggregate, `changes` one that is not deterministic. `macros` are the expressions of a macro, each with
    the names of its parameters.
    """

    name: str
    groups: bool
    changes: bool
    macros: tuple[tuple[str, frozenset[str]], ...] = ()

    @cached_property
    def calls(self) -> tuple[Function, ...]:
        """The functions that a macro calls."""
        found: dict[str, Function] = {}
        for definition, parameters in self.macros:
            text = f"SELECT {definition}"
            tree = syntax.parse(text)
            called = [catalog().get(call.function) for call in syntax.calls(text, tree)]
            words = {name.parts[0].lower() for name in syntax.names(text, tree)} - parameters
            called += [value_function(word) for word in sorted(words)]
            found.update((one.name, one) for one in called if one and one.name != self.name)
        return tuple(found.values())

    @property
    def aggregates(self) -> bool:
        """Whether it is an aggregate, or calls one."""
        return self.groups or any(one.aggregates for one in self.calls)

    def varies(self, arguments: int | None) -> bool:
        """Whether a call with this number of arguments (None: any number) is not deterministic."""
        return (
            self.changes
            or (self.name, arguments) in _BY_THE_CLOCK
            or any(one.varies(None) for one in self.calls)
        )


@cache
def catalog() -> dict[str, Function]:
    """All functions that an expression can call, by name."""
    rows = (
        syntax.parser()
        .cursor()
        .execute(
            "SELECT function_name, function_type, stability, parameter_types::VARCHAR[], return_type, parameters,"
            " macro_definition"
            " FROM duckdb_functions() WHERE function_type IN ('scalar', 'aggregate', 'window', 'macro')"
        )
        .fetchall()
    )
    single = {name for name, kind, *_ in rows if kind in ("scalar", "macro")}
    grouping = {name for name, kind, *_ in rows if kind in ("aggregate", "window")} - single
    changing = {
        name
        for name, kind, stability, given, result, *_ in rows
        if kind == "scalar" and _changes(stability, given, result)
    }
    macros: dict[str, tuple[tuple[str, frozenset[str]], ...]] = {}
    for name, kind, *_, parameters, definition in rows:
        if kind == "macro":
            macros[name] = (*macros.get(name, ()), (definition, frozenset(parameters)))
    return {
        name: Function(name, name in grouping, name in changing, macros.get(name, ())) for name, *_ in rows
    }


@cache
def value_function(word: str) -> Function | None:
    """The function that a word such as `current_date` calls if no column has that name; None if there is no such function."""
    try:
        syntax.parser().cursor().execute(f"EXPLAIN SELECT {engine.name(word)}")
    except duckdb.Error:
        return None
    return catalog().get(word, Function(word, groups=False, changes=True))


def _changes(stability: str, given: list[str], result: str) -> bool:
    """Whether a function is not deterministic. Those of times with a zone depend on the session's zone, which is always UTC."""
    if stability == "VOLATILE":
        return True
    has_zone = any("TIME ZONE" in kind or "TIMESTAMPTZ" in kind for kind in (*given, result))
    return stability == "CONSISTENT_WITHIN_QUERY" and not (given and has_zone)
