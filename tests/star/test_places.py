"""A refusal names the line of what is refused, and DuckDB's own objections come with theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from totes.errors import ModelError
from totes.star.project import load_project


@pytest.mark.parametrize(
    ("query", "line", "message"),
    [
        ("SELECT DISTINCT a, b\nFROM t", 5, "DISTINCT cannot"), ("SELECT a, b FROM t\nORDER BY a", 6, "ORDER BY cannot"),
        ("SELECT a, b FROM t\n\nLIMIT 3", 7, "LIMIT cannot"), ("SELECT a, b FROM t\nOFFSET 2", 6, "OFFSET cannot"),
        ("SELECT a, b FROM t\nQUALIFY a = 1", 6, "QUALIFY cannot"), ("SELECT a, b FROM t\nHAVING a > 1", 6, "HAVING cannot"),
        ("SELECT a, b FROM t\nRIGHT JOIN u USING (a)", 6, "RIGHT JOIN cannot"),
        ("SELECT a, b FROM t\nNATURAL JOIN u", 6, "NATURAL JOIN cannot"),
        ("SELECT a, b FROM t\nWHERE a IN (SELECT b FROM u)", 6, "a subquery in an expression cannot"),
        ("SELECT a,\nrandom() AS b FROM t", 6, "RANDOM cannot"), ("SELECT a,\nunnest(b) AS b FROM t", 6, "UNNEST cannot"),
        ("SELECT a, b\nFROM read_csv('x.csv')", 6, "table functions read"),
        ("SELECT a, b FROM t\nUNION ALL SELECT a, b FROM u", 5, "UNION cannot"),
        ("SELECT\n* FROM t", 6, r"SELECT \* cannot"), ("SELECT a, b\nFROM t TABLESAMPLE 10%", 6, "TABLESAMPLE cannot"),
        ("SELECT a, b FROM t,\nLATERAL (SELECT 1) AS l", 6, "LATERAL cannot"),
        ("SELECT a, b\nFROM (VALUES (1, 2)) AS v(a, b)", 6, "VALUES cannot"),
        ("SELECT a,\nsum(b) OVER () AS b FROM t", 6, "a window function cannot"),
        ("SELECT a, b FROM t\nWHERE a RLIKE b", 6, 'not valid SQL for DuckDB: .*near "RLIKE"'),
        ("SELECT a, b FROM t\n\nWHERE a DIV 2 = 1", 7, 'not valid SQL for DuckDB: .*near "DIV"'),
        ("SELECT a, b FROM t\nFOR UPDATE", 6, 'near "FOR"'), ("SELECT a,\nno_such_function(b) AS b FROM t", 6, "no function"),
    ],
)  # fmt: skip
def test_the_line_is_that_of_the_clause(query: str, line: int, message: str, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    text = f"-- A table.\nCREATE TABLE x (\n    a INTEGER PRIMARY KEY, b VARCHAR\n) AS\n{query}"
    (tmp_path / "models" / "x.sql").write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=rf"x\.sql, line \d+: .*{message}") as refused:
        load_project("test", tmp_path)
    assert f"x.sql, line {line}: " in str(refused.value)
