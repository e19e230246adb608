"""SQL as DuckDB's own parser reads it: trees to compare, the columns that a query names, the functions that it calls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from totes import engine

Tree = Any
_ARGUMENTS = "skip_null := true, skip_empty := true"
_PLACES = ("query_location", "query_location_length")
_NOWHERE = 1 << 62  # nodes that the parser adds itself have a position beyond any text


class NotParsed(Exception):
    """DuckDB's parser refuses a text; `place` is the position of the character at fault, if the parser reports it."""

    def __init__(self, message: str, place: int | None) -> None:
        super().__init__(message)
        self.place = place


class Name(NamedTuple):
    """A reference to a column: its parts, and its position in the text; `start` is None if it is not in the text."""

    parts: tuple[str, ...]
    start: int | None
    end: int


class Call(NamedTuple):
    """A call of a function: its name, the number of arguments, and its position in the text."""

    function: str
    arguments: int
    start: int | None
    is_qualified: bool


@cache
def parser() -> engine.Engine:
    """An engine without data, for its parser and catalog."""
    return engine.connect(None, memory="1GB")


def parse(text: str) -> Tree:
    """The tree of one SELECT.

    Raises:
        NotParsed: DuckDB does not parse it as one SELECT.
    """
    answer = engine.scalar(
        parser().cursor(), f"SELECT json_serialize_sql({engine.text(text)}, {_ARGUMENTS})::VARCHAR"
    )
    document = json.loads(answer)
    if document["error"]:
        place = document.get("position")
        raise NotParsed(
            str(document["error_message"]), _characters(text, int(place)) if place is not None else None
        )
    statements = document["statements"]
    if len(statements) != 1:
        raise NotParsed("it is more than one statement", None)
    return statements[0]["node"]


def same(one: Tree, other: Tree) -> bool:
    """Whether two trees are equal, apart from positions in their texts."""
    return bool(_without_places(one) == _without_places(other))


def fits(pattern: Tree, tree: Tree) -> bool:
    """Whether a tree equals the pattern, in which each column stands for any expression."""
    if isinstance(pattern, dict) and isinstance(tree, dict):
        if pattern.get("class") == "COLUMN_REF":
            return True
        left, right = (one.keys() - set(_PLACES) - {"alias"} for one in (pattern, tree))
        return left == right and all(fits(pattern[key], tree[key]) for key in left)
    if isinstance(pattern, list) and isinstance(tree, list):
        return len(pattern) == len(tree) and all(map(fits, pattern, tree))
    return bool(pattern == tree)


def difference(one: Tree, other: Tree) -> int | None:
    """The position, in bytes, of the first part of `one` that differs from `other`; None if it is not known."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key, value in one.items():
            if key in _PLACES or same(value, other.get(key)):
                continue
            inner = difference(value, other.get(key))
            return inner if inner is not None else _place(one)
        return _place(one)
    if isinstance(one, list) and isinstance(other, list):
        for left, right in zip(one, other, strict=False):
            if not same(left, right):
                return difference(left, right)
    return None


def names(text: str, tree: Tree) -> list[Name]:
    """The columns that a text names, in the order of the text, without the parameters of lambdas."""
    found: dict[tuple[int | None, tuple[str, ...]], Name] = {}
    for node in _columns(tree, frozenset()):
        parts = tuple(node["column_names"])
        start, end = _extent(text, node)
        found[start, parts] = Name(parts, start, end)
    return sorted(found.values(), key=lambda name: -1 if name.start is None else name.start)


def calls(text: str, tree: Tree) -> Iterator[Call]:
    """The function calls in a text, including operators."""
    for node in nodes(tree):
        if node.get("class") in ("FUNCTION", "WINDOW"):
            path = node.get("qualified_name", {}).get("path", [])
            yield Call(
                node["function_name"].lower(),
                len(node.get("arguments", [])),
                _extent(text, node)[0],
                len(path) > 1,
            )


def nodes(tree: Tree) -> Iterator[dict[str, Any]]:
    """All nodes of a tree, parents first."""
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from nodes(value)


def start(text: str, node: dict[str, Any]) -> int | None:
    """The position at which a node begins in its text."""
    return _extent(text, node)[0]


def _columns(tree: Tree, parameters: frozenset[str]) -> Iterator[dict[str, Any]]:
    if isinstance(tree, list):
        for value in tree:
            yield from _columns(value, parameters)
    elif isinstance(tree, dict):
        if tree.get("class") == "COLUMN_REF":
            if tree["column_names"][0].lower() not in parameters:
                yield tree
            return
        # An arrow is a lambda only as an argument of a function that takes one; elsewhere it extracts from JSON.
        takes_lambda = (
            tree.get("class") == "FUNCTION" and tree["function_name"].lower() in _lambda_functions()
        )
        for key, value in tree.items():
            if takes_lambda and key == "arguments":
                for argument in value:
                    yield from _argument_columns(argument["expression"], parameters)
            else:
                yield from _columns(value, parameters)


def _argument_columns(argument: Tree, parameters: frozenset[str]) -> Iterator[dict[str, Any]]:
    if argument.get("class") != "LAMBDA":
        yield from _columns(argument, parameters)
        return
    own = {node["column_names"][0].lower() for node in _columns(argument["lhs"], frozenset())}
    yield from _columns(argument["expr"], parameters | own)


@cache
def _lambda_functions() -> frozenset[str]:
    rows = parser().execute(
        "SELECT DISTINCT function_name FROM duckdb_functions() WHERE list_contains(parameter_types, 'LAMBDA')"
    )
    return frozenset(name for (name,) in rows.fetchall())


def _without_places(tree: Tree) -> Tree:
    if isinstance(tree, dict):
        return {key: _without_places(value) for key, value in tree.items() if key not in _PLACES}
    return [_without_places(value) for value in tree] if isinstance(tree, list) else tree


def _place(node: dict[str, Any]) -> int | None:
    place = node.get("query_location", _NOWHERE)
    return None if place >= _NOWHERE else int(place)


def _extent(text: str, node: dict[str, Any]) -> tuple[int | None, int]:
    place = _place(node)
    if place is None:
        return None, 0
    return _characters(text, place), _characters(text, place + int(node["query_location_length"]))


def _characters(text: str, place: int) -> int:
    """The position in characters of a position in bytes, as the parser reports it."""
    return place if text.isascii() else len(text.encode()[:place].decode(errors="ignore"))
