"""How versions come about: when they begin, what closes them, what is no version at all."""

from __future__ import annotations

from datetime import datetime as at
from typing import Any

import pytest

from tests.conftest import Database, rows_of, run_cleanly
from totes.pipeline import Pipeline

FACT = """CREATE TABLE fact_o (record BIGINT PRIMARY KEY, id INTEGER, v VARCHAR) AS
SELECT o.id, o.v FROM o WHERE o.v IS DISTINCT FROM 'hidden'"""
TABLE = "CREATE TABLE o (id int PRIMARY KEY, v text, other int, last_updated timestamp)"
VERSIONS = "SELECT id, v, valid_from, valid_to, is_deleted FROM fact_o ORDER BY id, valid_from"


@pytest.fixture
def pipeline(database: Database, make_pipeline: Any, write_project: Any) -> Pipeline:
    database.execute(TABLE)
    return make_pipeline(database.url, project=write_project({"fact_o": FACT}))


def run(pipeline: Pipeline) -> at:
    cycle = run_cleanly(pipeline)
    assert cycle.ingested.batch is not None
    return cycle.ingested.read_at


def test_a_changed_row_has_two_versions_that_meet(pipeline: Pipeline, database: Database) -> None:
    database.execute("INSERT INTO o VALUES (1, 'a', 0, '2024-01-01 10:00')")
    run(pipeline)
    database.execute("UPDATE o SET v = 'b', last_updated = '2024-02-01 10:00'")
    run(pipeline)
    assert rows_of(pipeline, VERSIONS) == [
        (1, "a", at(2024, 1, 1, 10), at(2024, 2, 1, 10), False),
        (1, "b", at(2024, 2, 1, 10), None, False),
    ]


def test_a_deleted_row_ends_in_a_version_of_its_last_values_at_the_read_time(
    pipeline: Pipeline, database: Database
) -> None:
    database.execute("INSERT INTO o VALUES (1, 'a', 0, '2024-01-01 10:00')")
    run(pipeline)
    database.execute("DELETE FROM o")
    read_at = run(pipeline)
    assert rows_of(pipeline, VERSIONS) == [
        (1, "a", at(2024, 1, 1, 10), read_at, False),
        (1, "a", read_at, None, True),
    ]
    assert rows_of(pipeline, "SELECT * FROM fact_o_current") == []


def test_a_row_that_comes_back_goes_on_in_the_same_chain(pipeline: Pipeline, database: Database) -> None:
    database.execute("INSERT INTO o VALUES (1, 'a', 0, '2024-01-01 10:00')")
    run(pipeline)
    database.execute("DELETE FROM o")
    deleted_at = run(pipeline)
    database.execute("INSERT INTO o VALUES (1, 'a', 0, '2024-01-01 10:00')")
    back_at = run(pipeline)
    assert rows_of(pipeline, VERSIONS) == [
        (1, "a", at(2024, 1, 1, 10), deleted_at, False),
        (1, "a", deleted_at, back_at, True),
        (1, "a", back_at, None, False),
    ]


def test_a_time_that_does_not_advance_gives_way_to_the_read_time(
    pipeline: Pipeline, database: Database
) -> None:
    times = [
        "'2024-01-01 10:00'",
        "'2023-01-01'",
        "NULL",
        "'infinity'",
        "'-infinity'",
        "'0044-03-15 BC'",
    ]
    database.execute(
        *(f"INSERT INTO o VALUES ({row}, 'a', 0, '2024-01-01 10:00')" for row in range(len(times)))
    )
    run(pipeline)
    database.execute(
        *(f"UPDATE o SET v = 'b', last_updated = {time} WHERE id = {row}" for row, time in enumerate(times))
    )
    read_at = run(pipeline)
    newest = [version for version in rows_of(pipeline, VERSIONS) if version[1] == "b"]
    assert newest == [(row, "b", read_at, None, False) for row in range(len(times))]


def test_a_time_in_the_future_is_followed_by_one_just_after_it(
    pipeline: Pipeline, database: Database
) -> None:
    database.execute("INSERT INTO o VALUES (1, 'a', 0, '2999-01-01')")
    run(pipeline)
    database.execute("UPDATE o SET v = 'b', last_updated = '2024-01-01'")
    run(pipeline)
    assert rows_of(pipeline, VERSIONS) == [
        (1, "a", at(2999, 1, 1), at(2999, 1, 1, 0, 0, 0, 1), False),
        (1, "b", at(2999, 1, 1, 0, 0, 0, 1), None, False),
    ]


def test_a_first_version_without_a_time_begins_when_it_was_read(
    pipeline: Pipeline, database: Database
) -> None:
    database.execute("INSERT INTO o VALUES (1, 'a', 0, NULL)")
    read_at = run(pipeline)
    assert rows_of(pipeline, VERSIONS) == [(1, "a", read_at, None, False)]


def test_a_change_that_the_model_does_not_show_is_no_version(pipeline: Pipeline, database: Database) -> None:
    database.execute("INSERT INTO o VALUES (1, 'a', 0, '2024-01-01 10:00')")
    run(pipeline)
    database.execute("UPDATE o SET other = 1, last_updated = '2024-02-01 10:00'")
    run(pipeline)
    assert rows_of(pipeline, VERSIONS) == [(1, "a", at(2024, 1, 1, 10), None, False)]


def test_a_row_that_leaves_the_where_is_deleted_when_it_changed_and_may_return(
    pipeline: Pipeline, database: Database
) -> None:
    database.execute("INSERT INTO o VALUES (1, 'a', 0, '2024-01-01 10:00')")
    run(pipeline)
    database.execute("UPDATE o SET v = 'hidden', last_updated = '2024-02-01 10:00'")
    run(pipeline)
    database.execute("UPDATE o SET v = 'c', last_updated = '2024-03-01 10:00'")
    run(pipeline)
    assert rows_of(pipeline, VERSIONS) == [
        (1, "a", at(2024, 1, 1, 10), at(2024, 2, 1, 10), False),
        (1, "a", at(2024, 2, 1, 10), at(2024, 3, 1, 10), True),
        (1, "c", at(2024, 3, 1, 10), None, False),
    ]


def test_stages_that_were_away_catch_up_batch_by_batch(pipeline: Pipeline, database: Database) -> None:
    database.execute("INSERT INTO o VALUES (1, 'a', 0, '2024-01-01')")
    pipeline.ingest()
    database.execute("UPDATE o SET v = 'b', last_updated = '2024-02-01'")
    pipeline.ingest()
    pipeline.process()
    database.execute("UPDATE o SET v = 'c', last_updated = '2024-03-01'")
    run(pipeline)
    assert [(row[1], row[2]) for row in rows_of(pipeline, VERSIONS)] == [
        ("a", at(2024, 1, 1)), ("b", at(2024, 2, 1)), ("c", at(2024, 3, 1)),
    ]  # fmt: skip
    assert rows_of(pipeline, "SELECT record, batch_id FROM fact_o ORDER BY record") == [
        (1, 1),
        (2, 2),
        (3, 3),
    ]


def test_a_change_of_a_joined_row_makes_versions_of_all_rows_that_show_it(
    database: Database, make_pipeline: Any, write_project: Any
) -> None:
    database.execute(
        "CREATE TABLE d (id int PRIMARY KEY, city text, unseen int, last_updated timestamp)",
        "CREATE TABLE o (id int PRIMARY KEY, d int, last_updated timestamp)",
        "INSERT INTO d VALUES (1, 'Leeds', 0, '2024-01-01'), (2, 'York', 0, '2024-01-01')",
        "INSERT INTO o VALUES (10, 1, '2024-01-02'), (11, 1, '2024-01-03'), (12, 2, '2024-01-04'), (13, NULL, '2024-01-05')",
    )
    model = """CREATE TABLE fact_o (record BIGINT PRIMARY KEY, id INTEGER, city VARCHAR) AS
        SELECT o.id, d.city FROM o LEFT JOIN d ON d.id = o.d"""
    pipeline = make_pipeline(database.url, project=write_project({"fact_o": model}))
    run(pipeline)
    database.execute(
        "UPDATE d SET unseen = 1 WHERE id = 2",
        "UPDATE d SET city = 'Hull', last_updated = '2024-02-01' WHERE id = 1",
    )
    read_at = run(pipeline)
    assert rows_of(pipeline, "SELECT id, city, valid_from, batch_id FROM fact_o ORDER BY id, valid_from") == [
        (10, "Leeds", at(2024, 1, 2), 1),
        (10, "Hull", read_at, 2),
        (11, "Leeds", at(2024, 1, 3), 1),
        (11, "Hull", read_at, 2),
        (12, "York", at(2024, 1, 4), 1),
        (13, None, at(2024, 1, 5), 1),
    ]


def test_a_change_of_a_joined_row_begins_when_it_was_read_whatever_the_first_row_did_before(
    database: Database, make_pipeline: Any, write_project: Any
) -> None:
    database.execute(TABLE, "CREATE TABLE n (id int PRIMARY KEY, name text)",
                     "INSERT INTO n VALUES (0, 'old')", "INSERT INTO o VALUES (1, 'a', 0, '2024-01-01')")  # fmt: skip
    joined = """CREATE TABLE fact_o (record BIGINT PRIMARY KEY, id INTEGER, name VARCHAR) AS
        SELECT o.id, n.name FROM o LEFT JOIN n ON n.id = o.other"""
    pipeline = make_pipeline(database.url, project=write_project({"fact_o": joined}))
    run(pipeline)
    database.execute("UPDATE o SET v = 'b', last_updated = '2024-02-01'")  # which the model does not show
    run(pipeline)
    database.execute("UPDATE n SET name = 'new'")
    read_at = run(pipeline)
    assert rows_of(pipeline, "SELECT name, valid_from FROM fact_o ORDER BY record") == [
        ("old", at(2024, 1, 1)), ("new", read_at),
    ]  # fmt: skip
