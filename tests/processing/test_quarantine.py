"""Promise 9: a row that cannot meet its table's declaration is set aside with the reason, and stops nobody."""

from __future__ import annotations

from typing import Any

from tests.conftest import Database, rows_of, run_cleanly
from totes import engine
from totes.lake.journal import processed_journal
from totes.pipeline import Pipeline


def set_aside(pipeline: Pipeline, model: str) -> list[tuple[Any, ...]]:
    journal = processed_journal(pipeline.processed_store)
    objects = journal.read(journal.last()).models[model].quarantine
    if not objects:
        return []
    with pipeline.processed_store.local(list(objects)) as files:
        return engine.connect(None, memory="1GB", reads=pipeline.lake_folders).execute(
            f"SELECT row_key, reason FROM {engine.parquet(files)} ORDER BY row_key"
        ).fetchall()  # fmt: skip


# Type at the source; a value that does not fit; one that does; what is declared; the reason.
UNFIT = [
    ("text", "'2024-13-45'", "'2024-12-04'", "DATE", "v: '2024-13-45' is not a valid DATE"),
    ("text", "'soon'", "'5'", "INTEGER", "v: 'soon' is not a valid INTEGER"),
    ("text", "'1.5'", "'2.00'", "INTEGER", "v: '1.5' has more digits than INTEGER keeps"),
    ("numeric", "12.345", "12.340", "NUMERIC(10, 2)", "v: '12.345' has more digits than DECIMAL(10, 2) keeps"),
    ("numeric", "123456789012", "1", "NUMERIC(10, 2)", "v: '123456789012' is not a valid DECIMAL(10, 2)"),
    ("numeric", "'NaN'", "1.1", "NUMERIC", "v: 'NaN' is not a valid NUMERIC"),
    ("numeric", "0.12345678901", "0.1234567890", "NUMERIC", "v: '0.12345678901' has more digits than NUMERIC keeps"),
    ("bigint", "3000000000", "5", "INTEGER", "v: '3000000000' is not a valid INTEGER"),
    ("text", "NULL", "'x'", "VARCHAR NOT NULL", "v is NULL, and is declared NOT NULL"),
    ("text", "'abcd'", "'abc'", "VARCHAR(3)", "v: 'abcd' is longer than 3 characters"),
    ("text", "'x'", "'00000000-0000-0000-0000-000000000001'", "UUID", "v: 'x' is not a valid UUID"),
]  # fmt: skip


def test_a_value_that_does_not_fit_is_set_aside_with_the_reason(
    database: Database, make_pipeline: Any, write_project: Any
) -> None:
    for number, (source_type, bad, good, *_) in enumerate(UNFIT):
        database.execute(
            f"CREATE TABLE t{number} (id int PRIMARY KEY, v {source_type})",
            f"INSERT INTO t{number} VALUES (1, {bad}), (2, {good})",
        )
    models = {
        f"dim_{number}": f"CREATE TABLE dim_{number} (id INTEGER PRIMARY KEY, v {declared}) AS SELECT id, v FROM t{number}"
        for number, (*_, declared, _) in enumerate(UNFIT)
    }
    pipeline = make_pipeline(database.url, project=write_project(models))
    assert run_cleanly(pipeline).quarantined == len(UNFIT)
    for number, (*_, reason) in enumerate(UNFIT):
        assert rows_of(pipeline, f"SELECT id FROM dim_{number}") == [(2,)], reason
        assert set_aside(pipeline, f"dim_{number}") == [('{"id":1}', reason)]


def test_an_expression_that_fails_for_one_row_fails_for_no_other(
    database: Database, make_pipeline: Any, write_project: Any
) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'x'), (2, '20'), (3, NULL)"
    )
    model = "CREATE TABLE dim_t (id INTEGER PRIMARY KEY, v INTEGER) AS SELECT id, CAST(v AS INTEGER) * 2 AS v FROM t"
    pipeline = make_pipeline(database.url, project=write_project({"dim_t": model}))
    assert run_cleanly(pipeline).quarantined == 1
    assert rows_of(pipeline, "SELECT id, v FROM dim_t ORDER BY id") == [(2, 40), (3, None)]
    assert set_aside(pipeline, "dim_t") == [('{"id":1}', "v: its expression cannot be computed")]


def test_a_number_too_large_to_compute_with_is_set_aside(
    database: Database, make_pipeline: Any, write_project: Any
) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v numeric)", "INSERT INTO t VALUES (1, 1e40), (2, 2.5)"
    )
    model = "CREATE TABLE dim_t (id INTEGER PRIMARY KEY, v NUMERIC) AS SELECT id, v * 2 AS v FROM t"
    pipeline = make_pipeline(database.url, project=write_project({"dim_t": model}))
    assert run_cleanly(pipeline).quarantined == 1
    assert [(r[0], float(r[1])) for r in rows_of(pipeline, "SELECT id, v FROM dim_t")] == [(2, 5.0)]
    [(_, reason)] = set_aside(pipeline, "dim_t")
    assert reason.startswith("t.v: '10000000000000000000000000000000000000000' cannot be computed with")


def test_a_row_that_is_mended_at_the_source_leaves_quarantine(
    database: Database, make_pipeline: Any, write_project: Any
) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'x'), (2, '2'), (3, 'y')"
    )
    model = "CREATE TABLE fact_t (r BIGINT PRIMARY KEY, id INTEGER, v INTEGER) AS SELECT id, v FROM t"
    pipeline = make_pipeline(database.url, project=write_project({"fact_t": model}))
    run_cleanly(pipeline)
    database.execute("UPDATE t SET v = '1' WHERE id = 1", "DELETE FROM t WHERE id = 3")
    run_cleanly(pipeline)
    assert rows_of(pipeline, "SELECT id, v, is_deleted FROM fact_t ORDER BY id") == [
        (1, 1, False),
        (2, 2, False),
    ]
    journal = processed_journal(pipeline.processed_store)
    assert [journal.read(batch).models["fact_t"].quarantine_open for batch in (1, 2)] == [2, 0]


def test_a_good_version_stays_while_the_next_one_is_set_aside(
    database: Database, make_pipeline: Any, write_project: Any
) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, '1')")
    model = "CREATE TABLE fact_t (r BIGINT PRIMARY KEY, id INTEGER, v INTEGER) AS SELECT id, v FROM t"
    pipeline = make_pipeline(database.url, project=write_project({"fact_t": model}))
    run_cleanly(pipeline)
    database.execute("UPDATE t SET v = 'bad'")
    assert run_cleanly(pipeline).quarantined == 1
    assert rows_of(pipeline, "SELECT v, valid_to, is_deleted FROM fact_t") == [(1, None, False)]


def test_a_row_that_refers_to_nothing_is_set_aside(
    database: Database, warehouse_url: str, make_pipeline: Any, write_project: Any
) -> None:
    database.execute("CREATE TABLE c (id int PRIMARY KEY, n text)", "CREATE TABLE o (id int PRIMARY KEY, c int)",
                     "INSERT INTO c VALUES (1, 'one'), (2, NULL)", "INSERT INTO o VALUES (10, 1), (11, 2), (12, 3), (13, NULL)")  # fmt: skip
    project = write_project({
        "dim_c": "CREATE TABLE dim_c (id INTEGER PRIMARY KEY, n VARCHAR NOT NULL) AS SELECT id, n FROM c",
        "fact_o": "CREATE TABLE fact_o (r BIGINT PRIMARY KEY, id INTEGER, c INTEGER REFERENCES dim_c) AS SELECT id, c FROM o",
    })  # fmt: skip
    pipeline = make_pipeline(database.url, warehouse_url, project=project)
    assert run_cleanly(pipeline).quarantined == 3
    assert rows_of(pipeline, "SELECT id FROM fact_o ORDER BY id") == [(10,), (13,)]
    assert set_aside(pipeline, "fact_o") == [
        ('{"id":11}', "c: 2 is not in dim_c"),
        ('{"id":12}', "c: 3 is not in dim_c"),
    ]


def test_a_join_that_gives_several_rows_for_one_key_is_told(
    database: Database, make_pipeline: Any, write_project: Any
) -> None:
    database.execute("CREATE TABLE a (id int PRIMARY KEY)", "CREATE TABLE b (id int PRIMARY KEY, a int)",
                     "INSERT INTO a VALUES (1), (2)", "INSERT INTO b VALUES (10, 1), (11, 1), (12, 2)")  # fmt: skip
    model = "CREATE TABLE dim_a (id INTEGER PRIMARY KEY, b INTEGER) AS SELECT a.id, b.id AS b FROM a JOIN b ON b.a = a.id"
    pipeline = make_pipeline(database.url, project=write_project({"dim_a": model}))
    assert run_cleanly(pipeline).quarantined == 1
    assert rows_of(pipeline, "SELECT id, b FROM dim_a") == [(2, 12)]
    assert "several rows have this id: a join gives more than one row" in set_aside(pipeline, "dim_a")[0][1]


def test_a_row_comes_out_of_quarantine_when_what_it_is_joined_with_changes_or_goes(
    database: Database, make_pipeline: Any, write_project: Any
) -> None:
    database.execute(
        "CREATE TABLE dept (id int PRIMARY KEY, name text)", "CREATE TABLE film (id int PRIMARY KEY, dept int)",
        "CREATE TABLE film_cat (film int, cat text, PRIMARY KEY (film, cat))",
        "INSERT INTO dept VALUES (1, 'one'), (4, NULL), (5, NULL)", "INSERT INTO film VALUES (1, 1), (2, 4), (3, 5)",
        "INSERT INTO film_cat VALUES (1, 'y'), (1, 'z')",
    )  # fmt: skip
    project = write_project({
        "fact_film": """CREATE TABLE fact_film (r BIGINT PRIMARY KEY, id INTEGER, dept VARCHAR NOT NULL, cat VARCHAR) AS
            SELECT film.id, CASE WHEN dept.id IS NULL THEN 'none' ELSE dept.name END AS dept, cat
            FROM film LEFT JOIN dept ON dept.id = film.dept LEFT JOIN film_cat ON film_cat.film = film.id"""
    })  # fmt: skip
    pipeline = make_pipeline(database.url, project=project)
    assert run_cleanly(pipeline).quarantined == 3
    database.execute(
        "DELETE FROM film_cat WHERE cat = 'z'",
        "DELETE FROM dept WHERE id = 4",
        "UPDATE dept SET name = 'five' WHERE id = 5",
    )
    assert run_cleanly(pipeline).quarantined == 0
    assert rows_of(pipeline, "SELECT id, dept, cat FROM fact_film ORDER BY id") == [
        (1, "one", "y"), (2, "none", None), (3, "five", None),
    ]  # fmt: skip
    journal = processed_journal(pipeline.processed_store)
    assert journal.read(2).models["fact_film"].quarantine_open == 0


def test_a_row_that_referred_to_nothing_is_loaded_when_that_has_come(
    database: Database, warehouse_url: str, make_pipeline: Any, write_project: Any
) -> None:
    database.execute("CREATE TABLE c (id int PRIMARY KEY, n text)", "CREATE TABLE o (id int PRIMARY KEY, c int, j jsonb)",
                     "INSERT INTO o VALUES (10, 1, '{\"a\": 1.10}'), (11, 2, NULL)")  # fmt: skip
    project = write_project({
        "dim_c": "CREATE TABLE dim_c (id INTEGER PRIMARY KEY, n VARCHAR NOT NULL) AS SELECT id, n FROM c",
        "fact_o": "CREATE TABLE fact_o (r BIGINT PRIMARY KEY, id INTEGER, c INTEGER REFERENCES dim_c, j JSON) AS SELECT id, c, j FROM o",
    })  # fmt: skip
    pipeline = make_pipeline(database.url, warehouse_url, project=project)
    assert run_cleanly(pipeline).quarantined == 2
    database.execute("INSERT INTO c VALUES (1, 'one'), (2, NULL)")
    # The same reason again is no news; that dim_c's own row is set aside is.
    assert run_cleanly(pipeline).quarantined == 1
    assert rows_of(pipeline, "SELECT id, CAST(j AS VARCHAR) FROM fact_o") == [(10, '{"a": 1.10}')]
    database.execute("UPDATE c SET n = 'two' WHERE id = 2")
    assert run_cleanly(pipeline).quarantined == 0
    assert rows_of(pipeline, "SELECT id, c FROM fact_o ORDER BY id") == [(10, 1), (11, 2)]
