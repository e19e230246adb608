"""Expressions that may fail with an error for one row, made such that they fail for that row alone."""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from totes import engine
from totes.processing.bound.problem import problem
from totes.star.written import Written, engine_sql

_SHOWN_MAX = 200


def attempt(expression: exp.Expr) -> exp.Expr:
    """The expression's value as field `v` of a struct, which is NULL where the expression fails with an error."""
    field = exp.PropertyEQ(this=exp.to_identifier("v"), expression=expression.copy())
    return exp.Anonymous(this="TRY", expressions=[exp.Struct(expressions=[field])])


def guard(select: exp.Select) -> Iterator[exp.Expr]:
    """Lets a row through for which a condition of WHERE fails with an error, and gives the problem of such a row.

    Equality of two columns is left as it is: that is how tables are joined.
    """
    where = select.args.get("where")
    terms = list(where.walk(prune=lambda node: isinstance(node, Written))) if where else []
    for condition in terms:
        if not isinstance(condition, Written) or condition.args.get("is_equality"):
            continue
        tried, fails = attempt(condition), "fails with an error"
        shown = engine.text(f"WHERE {' '.join(condition.args['text'].split())} {fails}"[:_SHOWN_MAX])
        error = engine_sql(f"[{problem(None, fails, message=shown)}]")
        failed = exp.Is(this=tried.copy(), expression=exp.null())
        held = exp.Dot(this=exp.paren(tried), expression=exp.to_identifier("v"))
        condition.replace(exp.paren(exp.or_(failed.copy(), held)))
        yield exp.Case(ifs=[exp.If(this=failed, true=error)])
