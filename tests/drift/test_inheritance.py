"""Tables that inherit: what the application's SELECT shows is what is captured, or the table is left out with the reason."""

from __future__ import annotations

from typing import Any

from tests.conftest import Database, rows_of, run_cleanly
from totes.monitoring.verification import verify

MODEL = {
    "dim_city": "CREATE TABLE dim_city (id INTEGER PRIMARY KEY, name VARCHAR) AS SELECT id, name FROM city"
}
ROWS = "SELECT id, name FROM dim_city ORDER BY 1"


def test_rows_of_tables_that_inherit_are_rows_of_their_parent(
    database: Database, make_pipeline: Any, write_project: Any
) -> None:
    database.execute(
        "CREATE SCHEMA elsewhere",
        "CREATE TABLE city (id int PRIMARY KEY, name text)",
        "CREATE TABLE elsewhere.capital (country text, PRIMARY KEY (id)) INHERITS (city)",
        "CREATE TABLE elsewhere.residence (PRIMARY KEY (id)) INHERITS (elsewhere.capital)",
        "INSERT INTO city VALUES (1, 'Leeds')",
        "INSERT INTO elsewhere.capital VALUES (2, 'Paris', 'France'), (3, 'Rome', 'Italy')",
        "INSERT INTO elsewhere.residence VALUES (4, 'Berne', 'Switzerland')",
    )
    pipeline = make_pipeline(database.url, project=write_project(MODEL))
    run_cleanly(pipeline)
    assert rows_of(pipeline, ROWS) == [(1, "Leeds"), (2, "Paris"), (3, "Rome"), (4, "Berne")]
    database.execute(
        "UPDATE city SET name = 'Roma' WHERE id = 3",
        "DELETE FROM city WHERE id = 4",
        "CREATE TABLE late (id int PRIMARY KEY, name text)",
        "INSERT INTO late VALUES (5, 'York')",
    )
    run_cleanly(pipeline)
    database.execute("ALTER TABLE late INHERIT city")  # its rows were written before the last batch
    run_cleanly(pipeline)
    assert rows_of(pipeline, ROWS) == [(1, "Leeds"), (2, "Paris"), (3, "Roma"), (5, "York")]
    assert verify(pipeline, (), 1.0, lambda _: None).equal
    database.execute("ALTER TABLE elsewhere.capital NO INHERIT city")
    run_cleanly(pipeline)
    assert rows_of(pipeline, ROWS) == [(1, "Leeds"), (5, "York")]


def test_a_key_that_two_of_them_have_leaves_the_table_out(
    database: Database, make_pipeline: Any, write_project: Any
) -> None:
    database.execute(
        "CREATE TABLE city (id int PRIMARY KEY, name text)",
        "CREATE TABLE capital () INHERITS (city)",
        "INSERT INTO city VALUES (1, 'Leeds')",
        "INSERT INTO capital VALUES (2, 'Paris')",
    )
    pipeline = make_pipeline(database.url, project=write_project(MODEL))
    run_cleanly(pipeline)
    database.execute("INSERT INTO capital VALUES (1, 'Rome')")
    assert "public.city has several rows with the same id" in str(pipeline.run().failures["ingest"])
    assert rows_of(pipeline, ROWS) == [(1, "Leeds"), (2, "Paris")]
    database.execute("UPDATE capital SET id = 3 WHERE id = 1")
    run_cleanly(pipeline)
    assert rows_of(pipeline, ROWS) == [(1, "Leeds"), (2, "Paris"), (3, "Rome")]
