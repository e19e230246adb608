"""Where each column of a model comes from: the columns of its relations, through every join and subquery on the way."""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp

from totes.processing.bound.leaf import Leaf
from totes.processing.bound.relation import Relations
from totes.processing.bound.scope import Binder, Scope
from totes.star.model import Model
from totes.star.written import Written


@dataclass(frozen=True)
class ColumnOrigin:
    """A column's `sources` as `relation.column`; `expression` is the query's text for it where it is more than one of these."""

    sources: tuple[str, ...]
    expression: str | None


def column_lineage(model: Model, relations: Relations) -> dict[str, ColumnOrigin]:
    """The origin of each column that a model's query gives.

    Raises:
        ModelError: the query names what is not there.
    """
    scope = Binder(model, relations).bind()
    return {
        name: ColumnOrigin(
            tuple(dict.fromkeys(_sources(scope, expression))),
            str(expression.args["text"]) if isinstance(expression, Written) else None,
        )
        for name, expression in scope.outputs().items()
    }


def _sources(scope: Scope, expression: exp.Expr) -> list[str]:
    found: list[str] = []
    for column in expression.find_all(exp.Column):
        source = scope.sources[column.table]
        if isinstance(source, Leaf):
            found.append(f"{source.relation.name}.{column.name}")
        else:
            found += _sources(source, source.outputs()[column.name])
    return found
