"""The one statement of a model file, as parsed by sqlglot. What it has to be is another module's part."""

from __future__ import annotations

import re
from pathlib import Path

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from totes.errors import ModelError
from totes.star.written import Dialect


def parse_query(path: Path, text: str) -> exp.Select:
    """The query of a model that was parsed before, by the text of its file."""
    query: exp.Select = statement_of(path, text).expression.unnest()
    return query


def statement_of(path: Path, text: str) -> exp.Create:
    """The one statement of a model file.

    Raises:
        ModelError: there is another number of them, or another one.
    """
    try:
        statements = [
            statement
            for statement in sqlglot.parse(text, dialect=Dialect)
            if statement is not None and not isinstance(statement, exp.Semicolon)
        ]
    except SqlglotError as error:
        raise _syntax_error(path, error) from error
    if len(statements) != 1 or not isinstance(statements[0], exp.Create) or statements[0].kind != "TABLE":
        raise ModelError(path, 1, "a model is one statement: CREATE TABLE name (columns) AS SELECT …")
    return statements[0]


def _syntax_error(path: Path, error: SqlglotError) -> ModelError:
    details = getattr(error, "errors", None) or [{}]
    line = details[0].get("line")
    what = re.sub(
        r"<Token [^>]*>",
        lambda match: _token_text(match.group()),
        str(details[0].get("description") or error),
    )
    near = str(details[0].get("highlight") or "").strip()
    return ModelError(
        path,
        line,
        f"not valid SQL: {what.partition(chr(10))[0].rstrip('.')}" + (f" near {near}" if near else ""),
    )


def _token_text(token: str) -> str:
    match = re.search(r"text: (.*?), line", token)
    return f"'{match.group(1)}'" if match else "something else"
