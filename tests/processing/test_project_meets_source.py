"""A project against a source: names and types are checked at the first batch, changed models take effect at the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Database, rows_of, run_cleanly
from totes.errors import ModelFailed
from totes.pipeline import Pipeline

TABLE = "CREATE TABLE staff (staff_id int PRIMARY KEY, first_name text NOT NULL, pay numeric(8, 2), started timestamp)"
ROW = "INSERT INTO staff VALUES (1, 'Ada', 10.50, '2024-01-01 10:00')"
MODEL = (
    "CREATE TABLE dim_staff (staff_id INTEGER PRIMARY KEY, n {0}) AS SELECT staff_id, {1} AS n FROM staff {2}"
)


@pytest.fixture
def with_model(database: Database, make_pipeline: Any, write_project: Any) -> Any:
    database.execute(TABLE, ROW)

    def make(kind: str = "VARCHAR", expression: str = "first_name", rest: str = "", **more: Any) -> Pipeline:
        return make_pipeline(
            database.url, project=write_project({"dim_staff": MODEL.format(kind, expression, rest)}, **more)
        )

    return make


@pytest.mark.parametrize(
    ("expression", "rest", "message"),
    [
        ("frist_name", "", r"models/dim_staff\.sql, line 1: there is no column frist_name of staff\. Did you mean staff\.first_name\?"),
        ("staff.firstname", "", r"there is no column firstname of staff\. Did you mean staff\.first_name\?"),
        ("s.first_name", "", r"s in s\.first_name is not a table in FROM\. There are staff"),
        ("first_name", "JOIN staff AS b ON true", "staff_id could be of staff or b. Write table.column"),
        ("md5(pay)", "", "No function matches"),
    ],
)  # fmt: skip
def test_a_name_that_is_not_there_is_told_with_the_nearest_one(
    expression: str, rest: str, message: str, with_model: Any
) -> None:
    pipeline = with_model("VARCHAR", expression, rest)
    pipeline.ingest()
    with pytest.raises(ModelFailed, match=message):
        raise pipeline.process().failure


@pytest.mark.parametrize(
    ("declared", "expression", "message"),
    [
        ("DATE", "started", r"n is declared DATE, but started is a TIMESTAMP\. .*CAST\(… AS DATE\)"),
        ("INTEGER", "started", "n is declared INTEGER, but started is a TIMESTAMP"),
        ("BOOLEAN", "pay", r"n is declared BOOLEAN, but pay is a DECIMAL\(8,2\)"),
        ("DATE", "pay + 1", "n is declared DATE, but its expression gives a DECIMAL"),
    ],
)
def test_a_declared_type_that_the_query_does_not_give_is_refused(
    declared: str, expression: str, message: str, with_model: Any
) -> None:
    pipeline = with_model(declared, expression)
    pipeline.ingest()
    with pytest.raises(ModelFailed, match=message):
        raise pipeline.process().failure


def test_ingestion_goes_on_while_a_model_fails_and_processing_resumes_when_it_is_mended(
    with_model: Any, database: Database
) -> None:
    broken = with_model("VARCHAR", "frist_name")
    assert set(broken.run().failures) == {"process"}
    database.execute("UPDATE staff SET first_name = 'Bea'")
    assert broken.run().ingested.batch == 2
    mended = with_model("VARCHAR", "first_name")
    run_cleanly(mended)
    assert rows_of(mended, "SELECT n FROM dim_staff") == [("Bea",)]
    assert rows_of(mended, "SELECT count(*) FROM totes_batches") == [(3,)]


def test_a_changed_query_recomputes_the_table_at_once(with_model: Any) -> None:
    run_cleanly(with_model("VARCHAR", "first_name"))
    changed = with_model("VARCHAR", "upper(first_name)")
    assert run_cleanly(changed).quarantined == 0
    assert rows_of(changed, "SELECT staff_id, n FROM dim_staff ORDER BY 1") == [(1, "ADA")]
    assert run_cleanly(changed).processed.batches == {}


def test_a_change_that_loses_something_waits_and_the_table_goes_on_as_it_was_defined(
    with_model: Any, database: Database
) -> None:
    run_cleanly(with_model("VARCHAR", "first_name"))
    database.execute("INSERT INTO staff VALUES (2, 'Bo', 1, NULL)")
    changed = with_model("NUMERIC(8, 2)", "pay")
    assert run_cleanly(changed).pending == ("dim_staff",)
    assert rows_of(changed, "SELECT n FROM dim_staff ORDER BY 1") == [("Ada",), ("Bo",)]
    assert run_cleanly(changed).pending == ("dim_staff",)
    changed.apply()
    assert rows_of(changed, "SELECT n FROM dim_staff ORDER BY 1") == [(1,), (10.5,)]
    assert run_cleanly(changed).pending == ()


def test_a_model_that_is_added_later_starts_with_all_rows(
    with_model: Any, database: Database, make_pipeline: Any, write_project: Any
) -> None:
    run_cleanly(with_model())
    database.execute("INSERT INTO staff VALUES (2, 'Bo', 1, NULL)")
    project = write_project(
        {
            "fact_pay": "CREATE TABLE fact_pay (r BIGINT PRIMARY KEY, staff_id INTEGER, pay DOUBLE) AS SELECT staff_id, pay FROM staff"
        }
    )
    pipeline = make_pipeline(database.url, project=project)
    run_cleanly(pipeline)
    assert rows_of(pipeline, "SELECT staff_id, pay, batch_id FROM fact_pay ORDER BY 1") == [
        (1, 10.5, 1),
        (2, 1.0, 2),
    ]


def test_a_changed_reference_file_updates_the_rows_that_show_it(
    database: Database, make_pipeline: Any, write_project: Any
) -> None:
    database.execute(
        "CREATE TABLE c (id int PRIMARY KEY, code text)", "INSERT INTO c VALUES (1, 'GBP'), (2, 'USD')"
    )
    model = "CREATE TABLE dim_c (id INTEGER PRIMARY KEY, name VARCHAR) AS SELECT id, names.name FROM c LEFT JOIN names USING (code)"

    def with_names(text: str) -> Pipeline:
        return make_pipeline(database.url, project=write_project({"dim_c": model}, {"names": text}))

    run_cleanly(with_names("code,name\nGBP,Pound\n"))
    database.execute("INSERT INTO c VALUES (3, 'XXX')")
    pipeline = with_names("code,name\nGBP,Pound Sterling\nUSD,Dollar\n")
    cycle = run_cleanly(pipeline)
    assert rows_of(pipeline, "SELECT id, name FROM dim_c ORDER BY 1") == [
        (1, "Pound Sterling"),
        (2, "Dollar"),
        (3, None),
    ]
    assert cycle.loaded.batches[2] == {"dim_c": 3}


def test_a_lost_cache_is_made_again_from_the_lake(
    database: Database, tmp_path: Path, make_pipeline: Any, write_project: Any
) -> None:
    import shutil

    database.execute("CREATE TABLE d (id int PRIMARY KEY, city text)", "CREATE TABLE s (id int PRIMARY KEY, d int)",
                     "INSERT INTO d VALUES (1, 'Leeds')", "INSERT INTO s VALUES (10, 1), (11, 1), (12, NULL)")  # fmt: skip
    project = write_project(
        {
            "dim_s": "CREATE TABLE dim_s (id INTEGER PRIMARY KEY, city VARCHAR) AS SELECT s.id, city FROM s LEFT JOIN d ON d.id = s.d"
        }
    )
    pipeline = make_pipeline(database.url, project=project)
    run_cleanly(pipeline)
    database.execute("DELETE FROM s WHERE id = 11")
    run_cleanly(pipeline)
    shutil.rmtree(pipeline.settings.cache_folder)
    database.execute("UPDATE d SET city = 'Hull'")
    assert run_cleanly(pipeline).loaded.batches[3] == {"dim_s": 1}
    assert rows_of(pipeline, "SELECT id, city FROM dim_s ORDER BY 1") == [(10, "Hull"), (12, None)]


def test_the_calendar_has_whole_years_around_every_date_that_is_referred_to(
    database: Database, make_pipeline: Any, write_project: Any
) -> None:
    database.execute(
        "CREATE TABLE o (id int PRIMARY KEY, d date)",
        "INSERT INTO o VALUES (1, '2022-05-05'), (2, '2024-02-29'), (3, '9999-12-31'), (4, 'infinity')",
    )
    project = write_project({
        "dim_date": "CREATE TABLE dim_date (date_id DATE PRIMARY KEY, year INTEGER NOT NULL) AS SELECT date AS date_id, year(date) AS year FROM calendar",
        "fact_o": "CREATE TABLE fact_o (r BIGINT PRIMARY KEY, id INTEGER, d DATE REFERENCES dim_date) AS SELECT id, d FROM o",
    })  # fmt: skip
    pipeline = make_pipeline(database.url, project=project)
    assert run_cleanly(pipeline).quarantined == 1
    years = "SELECT year, count(*) FROM dim_date GROUP BY year ORDER BY year"
    assert rows_of(pipeline, years) == [(2022, 365), (2023, 365), (2024, 366), (9999, 365)]
    database.execute("INSERT INTO o VALUES (5, '2025-01-01')")
    assert run_cleanly(pipeline).loaded.batches[2] == {"dim_date": 365, "fact_o": 1}


def test_a_model_that_was_away_for_some_batches_goes_on_where_it_was(
    database: Database, make_pipeline: Any, write_project: Any
) -> None:
    database.execute("CREATE TABLE d (id int PRIMARY KEY, city text)", "CREATE TABLE s (id int PRIMARY KEY, d int)",
                     "INSERT INTO d VALUES (1, 'Leeds')", "INSERT INTO s VALUES (10, 1), (11, 1)")  # fmt: skip
    other = {
        "dim_d": "CREATE TABLE dim_d (id INTEGER PRIMARY KEY, valid_from VARCHAR) AS SELECT id, city AS valid_from FROM d"
    }
    joined = {
        "fact_s": "CREATE TABLE fact_s (r BIGINT PRIMARY KEY, id INTEGER, city VARCHAR) AS SELECT s.id, city FROM s JOIN d ON d.id = s.d"
    }

    def run(models: dict[str, str], name: str) -> Pipeline:
        pipeline = make_pipeline(database.url, project=write_project(models, name=name))
        run_cleanly(pipeline)
        return pipeline

    run(other | joined, "both")
    database.execute("UPDATE d SET city = 'Hull'", "DELETE FROM s WHERE id = 11")
    run(other, "one")
    database.execute("INSERT INTO s VALUES (12, 1)")
    pipeline = run(other | joined, "both")
    assert rows_of(pipeline, "SELECT r, id, city, is_deleted FROM fact_s ORDER BY id, r") == [
        (1, 10, "Leeds", False), (3, 10, "Hull", False), (2, 11, "Leeds", False), (4, 11, "Leeds", True), (5, 12, "Hull", False),
    ]  # fmt: skip
    assert rows_of(pipeline, "SELECT * FROM dim_d") == [(1, "Hull")]


def test_a_column_keeps_the_name_that_the_model_gives_it_whatever_its_case_at_the_source(
    database: Database, make_pipeline: Any, write_project: Any
) -> None:
    database.execute(
        'CREATE TABLE "Artist" ("Id" int PRIMARY KEY, "Name" text)', "INSERT INTO \"Artist\" VALUES (1, 'x')"
    )
    model = 'CREATE TABLE dim_a (id INTEGER PRIMARY KEY, name VARCHAR, n VARCHAR) AS SELECT id, name, label AS n FROM "Artist" LEFT JOIN names ON names.Code = id::VARCHAR'
    project = write_project({"dim_a": model}, {"names": "Code,Label\n1,one\n"})
    pipeline = make_pipeline(database.url, project=project)
    run_cleanly(pipeline)
    assert rows_of(pipeline, "SELECT id, name, n FROM dim_a") == [(1, "x", "one")]
