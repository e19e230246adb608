"""Names in models: any keyword may be one, with quotes where it needs them and without where it does not."""

from __future__ import annotations

import pytest

from tests.scaffold.catalogs import catalog, models, table
from totes.scaffold.identifiers import identifier, is_plain
from totes.scaffold.trial import refused
from totes.star import syntax
from totes.star.written import Dialect


def keywords() -> list[str]:
    """All words that mean something to DuckDB or to sqlglot."""
    rows = syntax.parser().cursor().execute("SELECT keyword_name FROM duckdb_keywords()").fetchall()
    found = {str(name).lower() for (name,) in rows}
    found |= {word.lower() for phrase in Dialect.Tokenizer.KEYWORDS for word in phrase.split()}
    return sorted(word for word in found if word.isidentifier() and word.isascii())


# A spread of them, and the whole in the sweep.
WORDS = pytest.mark.parametrize("step", [9, pytest.param(1, marks=pytest.mark.sweep)])


def test_words_that_mean_nothing_to_sql_need_no_quotes() -> None:
    assert [identifier(name) for name in ("order_id", "year", "month", "name", "type", "value", "date", "status", "position")] == [
        "order_id", "year", "month", "name", "type", "value", "date", "status", "position",
    ]  # fmt: skip


def test_other_names_are_quoted() -> None:
    names = [
        "order",
        "group",
        "select",
        "Order",
        "a b",
        'a"b',
        "größe",
        "2fa",
        "",
        "a-b",
        "end",
        "from",
        "primary",
        "check",
    ]
    assert [is_plain(name) for name in names] == [False] * len(names)
    assert identifier('a"b') == '"a""b"'


@WORDS
def test_a_column_may_be_called_by_any_keyword(step: int) -> None:
    words = keywords()[::step]
    assert len(words) > 50
    parts = [words[start : start + 40] for start in range(0, len(words), 40)]
    tables = [
        table(f"t{number}", "id int key", *(f"{word} int" for word in part))
        for number, part in enumerate(parts)
    ]
    found = catalog(*tables)
    assert refused(found, models(found)) == {}


@WORDS
def test_a_table_may_be_called_by_any_keyword(step: int) -> None:
    words = [word for word in keywords()[::step] if word != "calendar"]
    entities = [table(word, "id int key", f"{word} text") for word in words]
    events = [
        table(f"{word}_event", "id int key", "at timestamp not null", f"{word}_id int -> {word}.id")
        for word in words
    ]
    found = catalog(*entities, *events)
    texts = models(found)
    assert refused(found, texts) == {}
    assert len(texts) == 2 * len(words) + 1
