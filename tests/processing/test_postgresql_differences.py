"""The page on how DuckDB differs from PostgreSQL says what both of them do."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import psycopg

from tests.conftest import Database
from totes import engine

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "postgresql-sql.md"


def rows() -> list[tuple[str, str, str, str]]:
    """The lines of the page's table: expression, PostgreSQL's value, DuckDB's, what to write."""
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| `")]
    cells = [[cell.strip().strip("`") for cell in line.strip("|").split(" | ")] for line in lines]
    return [
        (one, two, three, further[0].strip(" |") if further else "") for one, two, three, *further in cells
    ]


def by_postgresql(connection: psycopg.Connection, expression: str) -> str:
    try:
        [value] = connection.execute(f"SELECT ({expression})::text".encode()).fetchone() or [None]
    except psycopg.Error:
        return "error"
    return str(value)


def by_duckdb(connection: engine.Engine, expression: str) -> str:
    try:
        return str(engine.scalar(connection, f"SELECT ({expression})::VARCHAR"))
    except duckdb.Error:
        return "error"


def test_every_line_of_the_table_is_what_both_databases_do(database: Database) -> None:
    assert len(rows()) > 20
    with (
        psycopg.connect(database.url, autocommit=True, options="-c TimeZone=UTC") as theirs,
        engine.connect(None, memory="500MB") as ours,
    ):
        for expression, one, other, instead in rows():
            given = (expression, by_postgresql(theirs, expression), by_duckdb(ours, expression))
            assert given == (expression, one, other)
            assert one != other
            if instead:
                assert (instead, by_duckdb(ours, instead)) == (instead, one)


def test_what_the_page_says_of_padded_text_and_order_holds(database: Database) -> None:
    database.execute("CREATE TABLE t (b char(3))", "INSERT INTO t VALUES ('x')")
    assert database.execute("""SELECT b = 'x', 'a' < 'B' COLLATE "C" FROM t""") == [(True, False)]
    with engine.connect(None, memory="500MB") as ours:
        assert ours.execute("SELECT 'ABC' = 'abc', 'x  ' = 'x', 'a' < 'B'").fetchall() == [
            (False, False, False)
        ]


def test_the_page_names_no_function_that_duckdb_does_not_have() -> None:
    text = PAGE.read_text("utf-8")
    for function in ("round_even", "printf", "strftime", "strptime", "epoch", "rtrim"):
        assert re.search(rf"\b{function}\b", text)
        with engine.connect(None, memory="500MB") as ours:
            assert engine.scalar(
                ours, f"SELECT count(*) > 0 FROM duckdb_functions() WHERE function_name = '{function}'"
            )
