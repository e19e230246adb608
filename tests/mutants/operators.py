"""What a tired developer gets wrong: given a part of a syntax tree, the parts that might stand there instead.

Most are mutmut's operators, which are functions from a node of LibCST to its mutations. Ours are what they leave out and what
goes wrong in this code: checks and statements that are missing, arguments in the wrong order, and SQL.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import libcst as cst
import libcst.matchers as m
from mutmut.mutation import mutators

Operator = tuple[str, type, Callable[[Any], Any]]
_CALLS = {"min": "max", "max": "min", "any": "all", "all": "any", "sorted": "list"}
# Texts with one of these words are SQL; messages are lower case but for it.
_IS_SQL = re.compile(
    r"\b(SELECT|FROM|WHERE|JOIN|UNION|ORDER BY|GROUP BY|CASE WHEN|WHEN|THEN|ELSE|IS NULL|IS NOT|EXISTS|COALESCE|AND|OR"
    r"|DISTINCT|SET|BETWEEN|FILTER|HAVING|NULLS|DESC|LIMIT|VALUES|IN \()\b|coalesce\(|count\(| = | < | > | >= | <= | <> "
)
_SQL: Sequence[tuple[str, str]] = (
    (r"\bLEFT JOIN\b", "JOIN"),
    (r"\bAND\b", "OR"),
    (r"\bOR\b(?! REPLACE)", "AND"),
    (r"(?<= )<=(?= )", "<"),
    (r"(?<= )<(?= )", "<="),
    (r"(?<= )>=(?= )", ">"),
    (r"(?<= )>(?= )", ">="),
    (r"(?<= )<>(?= )", "="),
    (r"(?<= )=(?= )", "<>"),
    (r"\bIS NOT NULL\b", "IS NULL"),
    (r"\bIS NULL\b", "IS NOT NULL"),
    (r"\bIS DISTINCT FROM\b", "<>"),
    (r"\bIS NOT DISTINCT FROM\b", "="),
    (r"\bIS NOT (TRUE|true|false|FALSE)\b", r"IS \1"),
    (r"(?<!IF )\bNOT EXISTS\b", "EXISTS"),
    (r"\b(?<!IS )(?<!IS NOT )DISTINCT (?!FROM)", ""),
    (r" DESC\b", ""),
    (r"\bUNION ALL\b", "UNION"),
    (r"\bSEMI JOIN\b", "ANTI JOIN"),
    (r"\bmin\(", "max("),
    (r"\bmax\(", "min("),
    (r"\blead\(", "lag("),
    (r"\blag\(", "lead("),
    (r"\bltrim\(", "rtrim("),
    (r"\btrue\b", "false"),
    (r"\bfalse\b", "true"),
    (r"\bAND NOT\b", "AND"),
    (r" AT TIME ZONE 'UTC'", ""),
    (r" ORDER BY [^()]*?(?=\)|$| LIMIT)", ""),
    (r" WHERE [^()]*$", ""),
    (r" AND [^()]*$", ""),
    (r" HAVING [^()]*$", ""),
    (r"(?<=[=<>] )\d+\b", "{next}"),
)


def sql(text: str) -> Iterator[str]:
    """The texts that differ from some SQL in one thing."""
    if not _IS_SQL.search(text):
        return
    for pattern, instead in _SQL:
        for found in re.finditer(pattern, text):
            new = str(int(found.group()) + 1) if instead == "{next}" else found.expand(instead)
            yield text[: found.start()] + new + text[found.end() :]


def _sql_in_string(node: cst.SimpleString) -> Iterator[cst.CSTNode]:
    for text in sql(node.raw_value):
        yield node.with_changes(value=f"{node.prefix}{node.quote}{text}{node.quote}")


def _sql_in_text(node: cst.FormattedStringText) -> Iterator[cst.CSTNode]:
    for text in sql(node.value):
        yield node.with_changes(value=text)


def _missing_statement(node: cst.SimpleStatementLine) -> Iterator[cst.CSTNode]:
    """A call whose result nobody wants is not made, and what is raised is not."""
    if m.matches(node, m.SimpleStatementLine(body=[m.Expr(value=m.Call()) | m.Raise() | m.Del()])):
        yield node.with_changes(body=[cst.Pass()])


def _missing_check(node: cst.If) -> Iterator[cst.CSTNode]:
    """What ends or skips under a condition goes on instead; a condition is taken for its contrary."""
    last = node.body.body[-1] if node.body.body else None
    ends = m.SimpleStatementLine(body=[m.Raise() | m.Return() | m.Continue() | m.Break()])
    if node.orelse is None and last is not None and m.matches(last, ends):
        yield node.with_changes(test=cst.Name("False"), whitespace_before_test=cst.SimpleWhitespace(" "))
    yield node.with_changes(test=_not(node.test), whitespace_before_test=cst.SimpleWhitespace(" "))


def _missing_operand(node: cst.BooleanOperation) -> Iterator[cst.CSTNode]:
    yield node.left
    yield node.right


def _missing_filter(node: cst.CompFor) -> Iterator[cst.CSTNode]:
    for number in range(len(node.ifs)):
        yield node.with_changes(ifs=[*node.ifs[:number], *node.ifs[number + 1 :]])


def _swapped_arguments(node: cst.Call) -> Iterator[cst.CSTNode]:
    for number, (one, other) in enumerate(zip(node.args, node.args[1:], strict=False)):
        plain = all(arg.keyword is None and not arg.star for arg in (one, other))
        if plain and not one.value.deep_equals(other.value):
            swapped = [one.with_changes(value=other.value), other.with_changes(value=one.value)]
            yield node.with_changes(args=[*node.args[:number], *swapped, *node.args[number + 2 :]])


def _missing_argument(node: cst.Call) -> Iterator[cst.CSTNode]:
    """The default serves instead, where there is one: of keywords, and of what comes last."""
    for number, arg in enumerate(node.args):
        if arg.keyword is not None or (arg is node.args[-1] and len(node.args) > 1):
            yield node.with_changes(args=[*node.args[:number], *node.args[number + 1 :]])


def _another_function(node: cst.Call) -> Iterator[cst.CSTNode]:
    if isinstance(node.func, cst.Name) and node.func.value in _CALLS:
        yield node.with_changes(func=cst.Name(_CALLS[node.func.value]))


def _one_less(node: cst.Integer) -> Iterator[cst.CSTNode]:
    if node.evaluated_value > 0:
        yield node.with_changes(value=str(node.evaluated_value - 1))


def _not(test: cst.BaseExpression) -> cst.BaseExpression:
    inner = test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
    return cst.UnaryOperation(operator=cst.Not(), expression=inner)


# What these make fails wherever it runs (None for a value or an argument), or only for people (other texts): it says nothing.
_TOO_EASY = (
    mutators.operator_string,
    mutators.operator_assignment,
    mutators.operator_arg_removal,
    mutators.operator_lambda,
)
OPERATORS: list[Operator] = [
    *(
        (operator.__name__.removeprefix("operator_"), kind, operator)
        for kind, operator in mutators.mutation_operators
        if operator not in _TOO_EASY
    ),
    ("missing_argument", cst.Call, _missing_argument),
    ("one_less", cst.Integer, _one_less),
    ("missing_statement", cst.SimpleStatementLine, _missing_statement),
    ("missing_check", cst.If, _missing_check),
    ("missing_operand", cst.BooleanOperation, _missing_operand),
    ("missing_filter", cst.CompFor, _missing_filter),
    ("swapped_arguments", cst.Call, _swapped_arguments),
    ("another_function", cst.Call, _another_function),
    ("sql", cst.SimpleString, _sql_in_string),
    ("sql", cst.FormattedStringText, _sql_in_text),
]
