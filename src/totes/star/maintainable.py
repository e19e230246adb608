"""Refuses models that cannot be maintained incrementally: each output row must be computable from a few known source rows."""

from __future__ import annotations

from sqlglot import exp

from totes.errors import ModelError
from totes.star.model import Model
from totes.star.written import line_of, output_name

_CLAUSES: dict[str, tuple[str, str]] = {
    "group": ("GROUP BY", "an output row would depend on many source rows"),
    "having": ("HAVING", "an output row would depend on many source rows"),
    "distinct": ("DISTINCT", "it would need a count of the source rows behind each output row"),
    "order": ("ORDER BY", "a table has no order"),
    "limit": ("LIMIT", "which rows are in it would depend on all others"),
    "offset": ("OFFSET", "which rows are in it would depend on all others"),
    "qualify": ("QUALIFY", "an output row would depend on many source rows"),
    "windows": ("WINDOW", "an output row would depend on many source rows"),
    "sample": ("USING SAMPLE", "the result would differ each time"),
    "pivots": ("PIVOT", "an output row would depend on many source rows"),
    "laterals": ("LATERAL", "which rows it depends on is not known"),
}
_HINT = "Compute it in a view of the warehouse over the star's tables"


def check_maintainable(model: Model) -> None:
    """Makes sure that the model can be kept up to date incrementally.

    Raises:
        ModelError: it cannot; the message has the line, the clause and the reason.
    """
    for node in model.query.walk():
        _check_node(model, node)
    for select in model.query.find_all(exp.Select):
        _check_select(model, select)


def _check_select(model: Model, select: exp.Select) -> None:
    for argument, (clause, reason) in _CLAUSES.items():
        node = select.args.get(argument)
        if node:
            _refuse(model, node if isinstance(node, exp.Expr) else node[0], clause, reason)
    if not select.args.get("from_"):
        _refuse(model, select, "SELECT without FROM", "it depends on no table")
    for join in select.args.get("joins") or []:
        side, kind, method = join.side.upper(), join.kind.upper(), join.method.upper()
        if side in ("RIGHT", "FULL"):
            _refuse(
                model,
                join,
                f"{side} JOIN",
                "a row of the first table would not be in every output row",
                hint="Put the tables in the other order, with LEFT JOIN",
            )
        if kind in ("SEMI", "ANTI") or method in ("ASOF", "POSITIONAL", "NATURAL"):
            _refuse(model, join, f"{method or kind} JOIN", "which rows an output row depends on is not known")
    for projection in select.expressions:
        if projection.find(exp.Star) and not projection.find(exp.Count):
            _refuse(model, projection, "SELECT *", "a model lists its columns", hint="Name the columns")
        if not output_name(projection):
            raise ModelError(
                model.path,
                line_of(projection),
                f"the expression {projection.sql('duckdb')} has no name",
                hint="Write … AS column",
            )


def _check_node(model: Model, node: exp.Expr) -> None:
    if isinstance(node, exp.SetOperation):
        _refuse(
            model, node, node.key.upper(), "it would need a count of the source rows behind each output row"
        )
    elif isinstance(node, exp.With) and node.recursive:
        _refuse(model, node, "WITH RECURSIVE", "which rows an output row depends on is not known")
    elif isinstance(node, exp.Window):
        _refuse(model, node, "a window function", "an output row would depend on many source rows")
    elif isinstance(node, exp.Subquery | exp.Exists | exp.In) and _is_nested_query(node):
        _refuse(
            model,
            node,
            "a subquery in an expression",
            "which rows it depends on is not known",
            hint="Join the table instead",
        )
    elif isinstance(node, exp.Unnest | exp.Explode | exp.Lateral | exp.TableFromRows | exp.Values):
        name = "UNNEST" if isinstance(node, exp.Unnest | exp.Explode) else node.key.upper()
        _refuse(model, node, name, "it gives rows that do not come from one source row each")
    elif isinstance(node, exp.Placeholder | exp.Parameter):
        _refuse(model, node, node.sql("duckdb"), "a model has no parameters", hint="Write the value")
    elif isinstance(node, exp.Table):
        _check_table(model, node)


def _check_table(model: Model, table: exp.Table) -> None:
    if not isinstance(table.this, exp.Identifier):
        _refuse(
            model,
            table,
            table.sql("duckdb"),
            "the pipeline does not capture what table functions read",
            hint="Name a source table, a reference file or calendar",
        )
    if table.find(exp.TableSample):
        _refuse(model, table, "TABLESAMPLE", "the result would differ each time")
    if table.db or table.catalog:
        raise ModelError(
            model.path,
            line_of(table),
            f"{table.sql('duckdb')} names a schema",
            hint="Write the table's name alone; source.schema names the schema that is captured",
        )
    alias = table.args.get("alias")
    if alias and alias.args.get("columns"):
        raise ModelError(
            model.path, line_of(table), "columns are renamed in FROM", hint="Rename them in SELECT"
        )


def _is_nested_query(node: exp.Expr) -> bool:
    if isinstance(node, exp.Exists):
        return True
    if isinstance(node, exp.In):
        return node.args.get("query") is not None
    return not isinstance(node.parent, exp.From | exp.Join) and isinstance(node.this, exp.Query)


def _refuse(model: Model, node: exp.Expr, clause: str, reason: str, *, hint: str = _HINT) -> None:
    line = line_of(node) or line_of(node.parent or node)
    raise ModelError(model.path, line, f"{clause} cannot be maintained incrementally: {reason}", hint=hint)
