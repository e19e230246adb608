"""Expressions as their author wrote them: sqlglot parses the structure of a model, and its expressions stay text.

DuckDB's own parser gives the positions of columns in that text (`syntax.py`). Only the columns can be replaced.
"""

from __future__ import annotations

import logging
from typing import Any, ClassVar

from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.generators.duckdb import DuckDBGenerator
from sqlglot.parsers.duckdb import DuckDBParser

from totes.star.syntax import Name

_SPAN, _SHOWN = "span", "shown"
logging.getLogger("sqlglot").setLevel(logging.ERROR)


class Written(exp.Expression):
    """An expression: pieces of text, with the columns `expressions` between them.

    `text` is the whole expression; `is_equality` marks an equality of two columns.
    """

    arg_types: ClassVar[dict[str, bool]] = {
        "pieces": True,
        "text": True,
        "expressions": False,
        "is_equality": False,
    }


class Dialect(DuckDB):
    """sqlglot's dialect for DuckDB, with a parser that changes less.

    Types stay as they are written (NUMERIC does not become DECIMAL(18, 3)), arguments of functions are not checked, a
    statement that cannot be parsed is an error, and expressions and queries have their position in the text.
    """

    class Parser(DuckDBParser):
        """The parser with these differences."""

        TYPE_CONVERTERS: ClassVar[dict[exp.DType, Any]] = {}

        def _parse_as_command(self, start: Any) -> exp.Command:
            found = self._curr.text if self._curr else "the end"
            self.raise_error(f"'{found}' was not expected")
            return exp.Command(this=start.text)

        def validate_expression(self, expression: Any, args: list[Any] | None = None) -> Any:
            """As sqlglot does, except for functions: DuckDB decides which arguments a function takes."""
            return (
                expression
                if isinstance(expression, exp.Func)
                else super().validate_expression(expression, args)
            )

        def _parse_disjunction(self) -> exp.Expr | None:
            first = self._curr
            return self._placed(first, super()._parse_disjunction())

        def _parse_equality(self, parse_is: bool = True) -> exp.Expr | None:
            first = self._curr
            return self._placed(first, super()._parse_equality(parse_is=parse_is))

        def _parse_ddl_select(self) -> exp.Expr | None:
            first = self._curr
            return self._placed(first, super()._parse_ddl_select())

        def _placed(self, first: Any, node: exp.Expr | None) -> exp.Expr | None:
            if isinstance(node, exp.Expr) and first and self._prev:
                node.meta[_SPAN] = (first.start, self._prev.end + 1)
            return node

    class Generator(DuckDBGenerator):
        """sqlglot's generator for DuckDB, which also writes `Written` expressions."""

        TRANSFORMS: ClassVar[dict[Any, Any]] = {
            **DuckDBGenerator.TRANSFORMS,
            Written: lambda generator, node: _text(node, [generator.sql(one) for one in node.expressions]),
        }


def span(node: exp.Expr) -> tuple[int, int] | None:
    """The position of an expression or query in the text that it was parsed from: begin and end."""
    found: tuple[int, int] | None = node.meta.get(_SPAN)
    return found


def sql(node: exp.Expr) -> str:
    """The text of a query, or of a part of it."""
    return node.sql(dialect=Dialect)


def line_of(node: exp.Expr) -> int | None:
    """The line of the file at which an expression begins; None if the parser did not record it."""
    lines = [part.meta["line"] for part in node.walk() if "line" in part.meta]
    return min(lines, default=None)


def output_name(projection: exp.Expr) -> str:
    """The name that a projection gives to its column, or '' for a star or an expression without an alias."""
    if isinstance(projection, exp.Alias):
        return folded(projection.args["alias"])
    if isinstance(projection, exp.Column) and isinstance(projection.this, exp.Identifier):
        return folded(projection.this)
    return ""


def folded(identifier: exp.Expr) -> str:
    """A name as PostgreSQL reads it: in lower case unless it is quoted."""
    while not isinstance(identifier, exp.Identifier):
        identifier = identifier.this
    return identifier.name if identifier.args.get("quoted") else identifier.name.lower()


def as_written(query: exp.Select, text: str, start: int, line: int, names: list[Name]) -> exp.Select:
    """The query with each expression replaced by its author's text; plain columns stay columns.

    Args:
        query: the query as parsed by sqlglot.
        text: its text.
        start: where that text begins in the text that sqlglot parsed.
        line: the line of the file in which it begins.
        names: the columns that the text names.
    """
    written = query.copy()

    def expression(node: exp.Expr) -> Written:
        begin, end = (place - start for place in node.meta[_SPAN])
        own = [name for name in names if name.start is not None and begin <= name.start and name.end <= end]
        starts, ends = [name.start for name in own], [name.end for name in own]
        pieces = [text[one:other] for one, other in zip([begin, *ends], [*starts, end], strict=True)]
        columns = [_column(name, text) for name in own]
        for column, place in zip(columns, starts, strict=True):
            column.meta["line"] = line + text.count("\n", 0, place)
        bare = node.unnest()
        both = isinstance(bare, exp.EQ) and {type(side) for side in bare.unnest_operands()} == {exp.Column}
        found = Written(pieces=pieces, text=text[begin:end], expressions=columns, is_equality=both)
        found.meta["line"] = line + text.count("\n", 0, begin)
        return found

    for select in list(written.find_all(exp.Select)):
        for projection in select.expressions:
            body = projection.unalias()
            if not isinstance(body, exp.Column):
                body.replace(expression(body))
        for join in select.args.get("joins") or []:
            if join.args.get("on"):
                join.set("on", expression(join.args["on"]))
        where = select.args.get("where")
        if where:
            terms = list(where.this.flatten()) if isinstance(where.this, exp.And) else [where.this]
            for term in terms:
                term.replace(expression(term))
    return written


def engine_sql(text: str) -> Written:
    """SQL that totes generates, as an expression beside those of a model."""
    return Written(pieces=[text], text=text)


def _text(node: Written, columns: list[str]) -> str:
    pieces = node.args["pieces"]
    return f"({''.join(piece + column for piece, column in zip(pieces, [*columns, ''], strict=True))})"


def _column(name: Name, text: str) -> exp.Column:
    column, *further = (exp.to_identifier(part, quoted=True) for part in reversed(name.parts))
    found = exp.column(column, *further[:3])
    found.meta[_SHOWN] = text[name.start : name.end]
    return found


def shown(column: exp.Column) -> str:
    """A column as its author wrote it, for messages."""
    return str(column.meta.get(_SHOWN) or column.sql("duckdb"))
