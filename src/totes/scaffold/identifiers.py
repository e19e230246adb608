"""Names as SQL: without quotes wherever the project's own parser and DuckDB take them so."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from totes import engine
from totes.errors import ModelError
from totes.star import syntax
from totes.star.model_file import parse_definition
from totes.star.written import Dialect

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")


def identifier(name: str) -> str:
    """A name as it stands in a model."""
    return name if is_plain(name) else engine.name(name)


@cache
def is_plain(name: str) -> bool:
    """Whether a name means itself without quotes, as a table, an alias and a column."""
    if not _PLAIN.fullmatch(name):
        return False
    return name not in _keywords() or _is_understood(name)


@cache
def _keywords() -> frozenset[str]:
    rows = syntax.parser().cursor().execute("SELECT keyword_name FROM duckdb_keywords()").fetchall()
    known = {str(name).lower() for (name,) in rows}
    spoken = {word.lower() for phrase in Dialect.Tokenizer.KEYWORDS for word in phrase.split()}
    # Functions that are called without parentheses, and what sqlglot's grammar reads as the beginning of something else.
    functions = {str(token.value).lower() for token in Dialect.Parser.NO_PAREN_FUNCTIONS}
    grammar = {
        str(phrase).lower()
        for table in (Dialect.Parser.CONSTRAINT_PARSERS, Dialect.Parser.PROPERTY_PARSERS, Dialect.Parser.QUERY_MODIFIER_PARSERS,
                      Dialect.Parser.NO_PAREN_FUNCTION_PARSERS, Dialect.Parser.FUNCTION_PARSERS)
        for phrase in table
    }  # fmt: skip
    return frozenset(known | spoken | functions | grammar)


def _is_understood(name: str) -> bool:
    """Whether the parsers read a name without quotes as they read it with them."""
    tried = (
        f"CREATE TABLE x (\n    {name}  INTEGER NOT NULL,\n    y  INTEGER PRIMARY KEY REFERENCES {name}\n) AS\n"
        f"SELECT\n    {name}.{name},\n    {name}.z AS y,\n    rtrim({name}.{name}) AS {name}\n"
        f"FROM {name}\nLEFT JOIN a AS {name} ON {name}.{name} = {name}.b"
    )
    try:
        model = parse_definition(Path("models/x.sql"), tried)
        quoted = syntax.parse(re.sub(rf"\b{name}\b", f'"{name}"', model.text))
        return [column.name for column in model.columns] == [name, "y"] and syntax.same(model.tree, quoted)
    except (ModelError, syntax.NotParsed):
        return False
