"""Cases in which keeping up to date is easily done wrong; each is compared with the whole computed at once."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from tests.conftest import Database, rows_of, run_cleanly
from totes.monitoring.verification import verify
from totes.pipeline import Pipeline


def proven(pipeline: Pipeline) -> bool:
    return verify(pipeline, (), 1.0, lambda _doing: None).equal


OUTER = {
    "fact_where": "SELECT o.id, d.name FROM o LEFT JOIN d ON d.o = o.id WHERE d.flag IS DISTINCT FROM 'x'",
    "fact_join": "SELECT o.id, b.name FROM o LEFT JOIN d ON d.o = o.id JOIN b ON b.id = coalesce(d.id, 0)",
    "fact_with": "WITH c AS (SELECT o.id, d.name, d.flag FROM o LEFT JOIN d ON d.o = o.id WHERE d.flag IS NULL) SELECT id, name FROM c",
    "fact_nested": "SELECT o.id, s.name FROM o LEFT JOIN (SELECT d.o, d.name FROM d JOIN b ON b.id = d.id) AS s ON s.o = o.id WHERE s.name IS NULL",
}  # fmt: skip


def test_a_row_that_an_outer_join_kept_out_comes_in_when_its_match_goes(
    database: Database, make_pipeline: Any, write_project: Any
) -> None:
    database.execute(
        "CREATE TABLE o (id int PRIMARY KEY)", "CREATE TABLE d (id int PRIMARY KEY, o int, flag text, name text)",
        "CREATE TABLE b (id int PRIMARY KEY, name text)", "INSERT INTO o VALUES (1), (2), (3)",
        "INSERT INTO d VALUES (10, 1, 'x', 'ten'), (20, 2, NULL, 'twenty')", "INSERT INTO b VALUES (0, 'zero'), (20, 'b')",
    )  # fmt: skip
    columns = "r BIGINT PRIMARY KEY, id INTEGER, name VARCHAR"
    models = {name: f"CREATE TABLE {name} ({columns}) AS {query}" for name, query in OUTER.items()}
    pipeline = make_pipeline(database.url, project=write_project(models))
    run_cleanly(pipeline)
    for change in (
        "DELETE FROM d WHERE id = 10", "UPDATE d SET o = 3, flag = 'x' WHERE id = 20", "INSERT INTO d VALUES (30, 2, 'x', 'z')",
        "DELETE FROM b WHERE id = 20", "INSERT INTO b VALUES (30, 'c')", "UPDATE d SET flag = NULL", "DELETE FROM b", "DELETE FROM d",
    ):  # fmt: skip
        database.execute(change)
        verdict = verify(pipeline, (), 1.0, lambda _doing: None)
        assert {name for name, table in verdict.tables.items() if not table.equal} == set(), change


def test_a_key_that_does_not_fit_is_set_aside_also_in_a_later_batch_of_a_model_with_joins(
    database: Database, make_pipeline: Any, write_project: Any
) -> None:
    database.execute(
        "CREATE TABLE o (id bigint PRIMARY KEY, d int)",
        "CREATE TABLE d (id int PRIMARY KEY)",
        "INSERT INTO o VALUES (1, 1)",
    )
    model = "CREATE TABLE dim_o (id INTEGER PRIMARY KEY, d INTEGER) AS SELECT o.id, d.id AS d FROM o LEFT JOIN d ON d.id = o.d"
    pipeline = make_pipeline(database.url, project=write_project({"dim_o": model}))
    run_cleanly(pipeline)
    database.execute("INSERT INTO o VALUES (3000000000, 1)")
    assert run_cleanly(pipeline).quarantined == 1


def test_two_rows_of_one_output_key_are_told_also_when_they_come_one_after_the_other(
    database: Database, make_pipeline: Any, write_project: Any
) -> None:
    database.execute(
        "CREATE TABLE c (id int PRIMARY KEY, code text)", "INSERT INTO c VALUES (1, 'USD'), (2, 'EUR')"
    )
    model = "CREATE TABLE dim_c (code VARCHAR PRIMARY KEY, id INTEGER) AS SELECT code, id FROM c"
    pipeline = make_pipeline(database.url, project=write_project({"dim_c": model}))
    run_cleanly(pipeline)
    database.execute("INSERT INTO c VALUES (3, 'USD')")
    assert run_cleanly(pipeline).quarantined == 2
    database.execute("DELETE FROM c WHERE id = 3")
    run_cleanly(pipeline)
    assert rows_of(pipeline, "SELECT code, id FROM dim_c ORDER BY 1") == [("EUR", 2), ("USD", 1)]


def test_a_query_may_be_changed_to_join_other_tables(
    database: Database, make_pipeline: Any, write_project: Any
) -> None:
    database.execute("CREATE TABLE s (id int PRIMARY KEY, d int, n text)", "CREATE TABLE d (id int PRIMARY KEY, n text)",
                     "INSERT INTO s VALUES (1, 7, 'own'), (2, 8, 'own')", "INSERT INTO d VALUES (7, 'seven')")  # fmt: skip

    def run(query: str) -> Pipeline:
        model = f"CREATE TABLE fact_s (r BIGINT PRIMARY KEY, id INTEGER, n VARCHAR) AS SELECT s.id, {query}"
        pipeline = make_pipeline(database.url, project=write_project({"fact_s": model}))
        run_cleanly(pipeline)
        assert proven(pipeline)
        return pipeline

    run("n FROM s")
    database.execute("INSERT INTO s VALUES (3, 7, 'own')")
    run("d.n FROM s LEFT JOIN d ON d.id = s.d")
    database.execute("UPDATE d SET n = 'SEVEN'")
    run("d.n FROM s LEFT JOIN d ON d.id = s.d")
    database.execute("INSERT INTO d VALUES (8, 'eight')", "DELETE FROM s WHERE id = 3")
    pipeline = run("n FROM s")
    shutil.rmtree(pipeline.settings.cache_folder)
    database.execute("UPDATE s SET n = 'new' WHERE id = 1")
    pipeline = run("d.n FROM s JOIN d ON d.id = s.d")
    assert rows_of(pipeline, "SELECT id, n FROM fact_s_current ORDER BY 1") == [(1, "SEVEN"), (2, "eight")]


def test_a_model_that_returns_after_the_cache_was_lost_goes_on_in_its_history(
    database: Database, warehouse_url: str, make_pipeline: Any, write_project: Any
) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    other = {"dim_t": "CREATE TABLE dim_t (id INTEGER PRIMARY KEY) AS SELECT id FROM t"}
    fact = {
        "fact_t": "CREATE TABLE fact_t (r BIGINT PRIMARY KEY, id INTEGER, v VARCHAR) AS SELECT id, v FROM t"
    }
    run_cleanly(make_pipeline(database.url, warehouse_url, project=write_project(other | fact, name="both")))
    database.execute("UPDATE t SET v = 'c' WHERE id = 2")
    without = make_pipeline(database.url, warehouse_url, project=write_project(other, name="one"))
    run_cleanly(without)
    shutil.rmtree(without.settings.cache_folder)
    database.execute("INSERT INTO t VALUES (3, 'd')")
    pipeline = make_pipeline(database.url, warehouse_url, project=write_project(other | fact, name="both"))
    run_cleanly(pipeline)
    assert rows_of(pipeline, "SELECT r, id, v FROM fact_t ORDER BY r") == [
        (1, 1, "a"),
        (2, 2, "b"),
        (3, 2, "c"),
        (4, 3, "d"),
    ]


def test_rows_that_refer_to_a_row_which_is_set_aside_are_set_aside_too(
    database: Database, warehouse_url: str, make_pipeline: Any, write_project: Any
) -> None:
    database.execute("CREATE TABLE e (id int PRIMARY KEY, boss int, n text)",
                     "INSERT INTO e VALUES (1, NULL, NULL), (2, 1, 'b'), (3, 2, 'c'), (4, NULL, 'd'), (5, 4, 'e')")  # fmt: skip
    model = "CREATE TABLE dim_e (id INTEGER PRIMARY KEY, boss INTEGER REFERENCES dim_e, n VARCHAR NOT NULL) AS SELECT id, boss, n FROM e"
    pipeline = make_pipeline(database.url, warehouse_url, project=write_project({"dim_e": model}))
    assert run_cleanly(pipeline).quarantined == 3
    database.execute("UPDATE e SET n = 'a' WHERE id = 1")
    assert run_cleanly(pipeline).quarantined == 0
    assert rows_of(pipeline, "SELECT count(*) FROM dim_e") == [(5,)]


def test_an_interval_is_compared_as_it_is_written_and_survives_a_lost_cache(
    database: Database, make_pipeline: Any, write_project: Any
) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, d int, v interval)", "CREATE TABLE d (id int PRIMARY KEY, n text)",
                     "INSERT INTO t VALUES (1, 1, '00:00:00.000001'), (2, 1, '30 days')", "INSERT INTO d VALUES (1, 'x')")  # fmt: skip
    model = "CREATE TABLE fact_t (r BIGINT PRIMARY KEY, id INTEGER, v INTERVAL, n VARCHAR) AS SELECT t.id, v, n FROM t JOIN d ON d.id = t.d"
    pipeline = make_pipeline(database.url, project=write_project({"fact_t": model}))
    run_cleanly(pipeline)
    shutil.rmtree(pipeline.settings.cache_folder)
    database.execute("UPDATE t SET v = '1 mon' WHERE id = 2", "UPDATE t SET d = 1 WHERE id = 1")
    run_cleanly(pipeline)
    assert rows_of(pipeline, "SELECT id, CAST(v AS VARCHAR) FROM fact_t ORDER BY r") == [
        (1, "00:00:00.000001"), (2, "30 days"), (2, "1 month"),
    ]  # fmt: skip


def test_a_model_that_comes_later_reads_each_packet_as_its_table_then_was(
    database: Database, make_pipeline: Any, write_project: Any
) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, a jsonb, b jsonb, c text)", "CREATE TABLE d (id int PRIMARY KEY)",
                     """INSERT INTO t VALUES (1, '"a1"', '"b1"', '5')""", "INSERT INTO d VALUES (1)")  # fmt: skip
    first = {"dim_d": "CREATE TABLE dim_d (id INTEGER PRIMARY KEY) AS SELECT id FROM d"}
    run_cleanly(make_pipeline(database.url, project=write_project(first)))
    database.execute("ALTER TABLE t DROP COLUMN a", "INSERT INTO t VALUES (2, '\"b2\"', '6')")
    later = first | {
        "dim_t": "CREATE TABLE dim_t (id INTEGER PRIMARY KEY, b VARCHAR, c INTEGER) AS SELECT id, b ->> '$' AS b, c FROM t"
    }
    pipeline = make_pipeline(database.url, project=write_project(later))
    run_cleanly(pipeline)
    assert rows_of(pipeline, "SELECT id, b, c FROM dim_t ORDER BY id") == [(1, "b1", 5), (2, "b2", 6)]


@pytest.mark.parametrize(
    ("declared", "bad", "good"),
    [
        ("NUMERIC(10, 2)", "1e-5", "1e2"), ("INTEGER", "15e-1", "1e3"), ("DATE", "2024-01-01 10:00:00", "2024-01-01"),
        ("TIMESTAMP", "2024-01-01 10:00:00+02", "2024-01-01 10:00:00.123456"), ("TIMESTAMP", "2024-01-01 10:00:00.1234567", "2024-01-01"),
    ],
)  # fmt: skip
def test_text_is_not_bent_into_a_type_that_keeps_less(
    declared: str, bad: str, good: str, database: Database, make_pipeline: Any, write_project: Any
) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text)", f"INSERT INTO t VALUES (1, '{bad}'), (2, '{good}')"
    )
    model = f"CREATE TABLE dim_t (id INTEGER PRIMARY KEY, v {declared}) AS SELECT id, v FROM t"
    pipeline = make_pipeline(database.url, project=write_project({"dim_t": model}))
    assert run_cleanly(pipeline).quarantined == 1
    assert rows_of(pipeline, "SELECT id FROM dim_t") == [(2,)]


def test_a_calendar_that_is_joined_grows_and_follows_what_it_is_joined_with(
    database: Database, make_pipeline: Any, write_project: Any
) -> None:
    database.execute("CREATE TABLE o (id int PRIMARY KEY, d date)", "CREATE TABLE holiday (d date PRIMARY KEY, name text)",
                     "INSERT INTO o VALUES (1, '2024-05-05')", "INSERT INTO holiday VALUES ('2024-12-25', 'Christmas')")  # fmt: skip
    project = write_project({
        "dim_date": """CREATE TABLE dim_date (date_id DATE PRIMARY KEY, holiday VARCHAR) AS
            SELECT date AS date_id, holiday.name AS holiday FROM calendar LEFT JOIN holiday ON holiday.d = calendar.date""",
        "fact_o": "CREATE TABLE fact_o (r BIGINT PRIMARY KEY, id INTEGER, d DATE REFERENCES dim_date) AS SELECT id, d FROM o",
    })  # fmt: skip
    pipeline = make_pipeline(database.url, project=project)
    run_cleanly(pipeline)
    database.execute("INSERT INTO o VALUES (2, '2025-01-01')")
    assert run_cleanly(pipeline).loaded.batches[2] == {"dim_date": 365, "fact_o": 1}
    database.execute(
        "INSERT INTO holiday VALUES ('2025-01-01', 'New Year')",
        "UPDATE holiday SET name = 'Xmas' WHERE name = 'Christmas'",
    )
    assert run_cleanly(pipeline).loaded.batches[3] == {"dim_date": 2}
    database.execute("DELETE FROM holiday WHERE name = 'Xmas'", "INSERT INTO o VALUES (3, '2026-01-01')")
    assert run_cleanly(pipeline).loaded.batches[4] == {"dim_date": 366, "fact_o": 1}
    assert proven(pipeline)
    assert rows_of(
        pipeline, "SELECT CAST(date_id AS VARCHAR), holiday FROM dim_date WHERE holiday IS NOT NULL"
    ) == [("2025-01-01", "New Year")]


def test_columns_are_called_what_they_like(
    database: Database, make_pipeline: Any, write_project: Any
) -> None:
    names = ("one", "part", "number", "told", "kind", "problems", "rows", "v", "whole")
    columns = ", ".join(f"{name} numeric" for name in names)
    values = ", ".join(["12345678901234567890.5"] * len(names))
    database.execute(
        f"CREATE TABLE t (id int PRIMARY KEY, {columns}, j json)",
        f"INSERT INTO t VALUES (1, {values}, '[1.5]'), (2, {values}, '[12345678901234567890.5]')",
    )
    declared = ", ".join(f"{name} DECIMAL(25, 1) NOT NULL" for name in names)
    model = (
        f"CREATE TABLE fact_t (r BIGINT PRIMARY KEY, id INTEGER, {declared}, doubled NUMERIC, first VARCHAR) AS "
        f"SELECT id, {', '.join(names)}, number * 2 AS doubled, j->>0 AS first FROM t"
    )
    pipeline = make_pipeline(database.url, project=write_project({"fact_t": model}))
    run_cleanly(pipeline)
    assert rows_of(pipeline, "SELECT id, one::VARCHAR, first FROM fact_t") == [
        (1, "12345678901234567890.5", "1.5")
    ]
    assert proven(pipeline)
