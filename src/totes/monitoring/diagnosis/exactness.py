"""Finds where a model computes with exact numbers in binary floating point, from DuckDB's plan of its text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from totes import engine
from totes.processing.bound.query import BoundQuery
from totes.processing.bound.relation import Relations
from totes.processing.bound.verbatim import written_plan
from totes.star import syntax

_FLOATING = {"FLOAT", "DOUBLE"}
_EXACT = {"DECIMAL", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"}
_ROUNDED = {"round", "round_even", "trunc", "floor", "ceil", "ceiling"}


def inexact(query: BoundQuery, connection: engine.Engine) -> list[str]:
    """The functions, with their lines, that turn exact numbers into floating point for a column that is not declared as such.

    A result that is rounded or cast at once is assumed to be intended.
    """
    model = query.model
    relations = Relations({leaf.relation.name: leaf.relation for leaf in query.leaves}, {})
    plan = written_plan(model, relations, connection)
    if plan.get("error") or not plan.get("plans"):
        return []
    casts = {
        syntax.start(model.text, node) for node in syntax.nodes(model.tree) if node.get("class") == "CAST"
    }
    root = plan["plans"][0]
    floating = [column.type in _FLOATING for column in model.produced]
    doubts = []
    for number, expression in enumerate(root.get("expressions", [])):
        if not (number < len(floating) and floating[number]):
            doubts += [
                (one, model.line_at(syntax.start(model.text, one)))
                for one in _found(model.text, expression, casts)
            ]
    for child in root.get("children", []):
        doubts += [
            (one, model.line_at(syntax.start(model.text, one))) for one in _found(model.text, child, casts)
        ]
    return list(dict.fromkeys(f"{_name(one)} in line {line}" for one, line in doubts))


def _found(text: str, node: Any, casts: set[int | None]) -> Iterator[dict[str, Any]]:
    if isinstance(node, list):
        for one in node:
            yield from _found(text, one, casts)
    elif isinstance(node, dict):
        if "expression_class" in node:
            name = _name(node)
            if name in _ROUNDED or (name == "__cast" and syntax.start(text, node) in casts):
                return
            if _kind(node) in _FLOATING and name != "__cast" and _made_floating(text, node, casts):
                yield node
        for value in node.values():
            if isinstance(value, dict | list):
                yield from _found(text, value, casts)


def _made_floating(text: str, node: dict[str, Any], casts: set[int | None]) -> bool:
    """Whether all arguments of a function are exact numbers, which the engine casts to floating point implicitly."""
    children = [child for child in node.get("children", []) if _kind(child) in _FLOATING]
    implicit = [
        child
        for child in children
        if _name(child) == "__cast"
        and syntax.start(text, child) not in casts
        and all(_is_constant(one) or _kind(one) in _EXACT for one in child["children"])
    ]
    constants = [child for child in children if _is_constant(child)]
    return bool(implicit) and len(implicit) + len(constants) == len(children)


def _is_constant(node: dict[str, Any]) -> bool:
    return node.get("type") == "VALUE_CONSTANT"


def _name(node: dict[str, Any]) -> str:
    return str((node.get("qname", {}).get("path") or [""])[-1])


def _kind(node: dict[str, Any]) -> str:
    kind = node.get("return_type")
    return str(kind.get("id", "")) if isinstance(kind, dict) else ""
