"""Values at the edges: what only the engine would take, what an expression computes, lines and years beyond the usual."""

from __future__ import annotations

import shutil
from typing import Any

import psycopg

from tests.conftest import Database, rows_of, run_cleanly
from tests.values.test_declared_types import set_aside
from totes.monitoring.history import read_history

# The declared type, the expression or column, and the reason; None where the row is loaded.
REASONS = {
    "trailing_comma": ("JSON", "a", "'[1,2,]' is not a valid JSON"),
    "no_number": ("JSON", "b", "'{\"x\": NaN}' is not a valid JSON"),
    "in_a_string": ("JSON", "c", None),
    "computed_json": ("JSON", "to_json('nan'::DOUBLE)", "'NaN' is not a valid JSON"),
    "half_a_pair": ("JSON", "h", r"""'"\ud800"' is not a valid JSON"""),
    "nul": ("VARCHAR", "j ->> 'nul'", "'a\0b' holds the character U+0000, which PostgreSQL has not"),
    "too_many_digits": ("NUMERIC", "n * 2", "t.n: '0.12345678901' cannot be computed with, being no DECIMAL(38, 10)"),
    "third": ("DECIMAL(10, 2)", "1 / d", "'0.3333333333333333' has more digits than DECIMAL(10, 2) keeps"),
    "rounded": ("DECIMAL(10, 2)", "round(1 / d, 2)", None),
    "half": ("INTEGER", "d / 2", "'1.5' has more digits than INTEGER keeps"),
    "narrow": ("FLOAT", "d / 10", "'0.3' has more digits than FLOAT keeps"),
    "large": ("DOUBLE", "i", "'9007199254740993' has more digits than DOUBLE keeps"),
    "huge": ("DOUBLE", "g", "'1e400' is not a valid DOUBLE"),
    "seventh_digit": ("TIMESTAMPTZ", "z", "'2024-01-01 00:00:00.1234567+00' has more digits than a TIMESTAMPTZ keeps"),
    "sixth_digit": ("TIMESTAMPTZ", "rtrim(z, '7+0') || '000+00'", None),
    "zone": ("TIMESTAMPTZ", "y", "'2024-01-01 00:00:00 UTC+3' is not a valid TIMESTAMPTZ"),
    "short_year": ("DATE", "x", "'24-01-05' is not a valid DATE"),
    "too_late": ("DATE", "w", "'5880000-01-01' is outside PostgreSQL's range of DATE"),
    "too_early": ("TIMESTAMP", "v", "'4800-01-01 00:00:00 BC' is outside PostgreSQL's range of TIMESTAMP"),
    "odd_bytes": ("BLOB", "u", r"'\xabc' is not a valid BLOB"),
    "number_in_json": ("INTEGER", "j -> 'half'", "'1.5' has more digits than INTEGER keeps"),
    "date_in_json": ("DATE", "j -> 'day'", None),
    "null_in_json": ("DATE", "j -> 'null'", None),
    "long_number_in_json": ("DOUBLE", "k -> 'x'", """t.k: '{"x": 1.5, "y": 1e-400}' cannot be computed with,"""
                            " being no JSON whose numbers a DOUBLE holds"),
    "long_numbers_in_json": ("JSON", "m -> 'y'", None),
    "exponent": ("DECIMAL(10, 2)", "e", "'5295.951649e6' is not a valid DECIMAL(10, 2)"),
    "exponent_that_fits": ("DECIMAL(10, 2)", "f", None),
}  # fmt: skip


def test_what_only_the_engine_would_take_is_set_aside_with_the_reason(
    database: Database, warehouse_url: str, make_pipeline: Any, write_project: Any
) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, a text, b text, c text, j jsonb, h json, n numeric, d float8, i int8, g text, z text, y text, x text,"
        " w text, v text, u text, e text, f text, k json, m json)",
        r"""INSERT INTO t VALUES (1, '[1,2,]', '{"x": NaN}', '["a,]", "NaN\",}"]', '{"half": 1.5, "day": "2024-11-26", "null": null}', '"\ud800"',
        0.12345678901, 3, 9007199254740993, '1e400', '2024-01-01 00:00:00.1234567+00', '2024-01-01 00:00:00 UTC+3', '24-01-05', '5880000-01-01',
        '4800-01-01 00:00:00 BC', '\xabc', '5295.951649e6', '-171497906.9e-1',
        '{"x": 1.5, "y": 1e-400}', '{"y": [0.30000000000000004, 12345678901234567890123, 1e400], "0.10000000000000000000000000000001": 0}')""",
    )
    models = {name: f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, v {declared}) AS SELECT id, {what} AS v FROM t"
              for name, (declared, what, _) in REASONS.items() if name != "nul"}  # fmt: skip
    models["nul"] = (
        """CREATE TABLE nul (id INTEGER PRIMARY KEY, v VARCHAR) AS SELECT id, 'a' || chr(0) || 'b' AS v FROM t"""
    )
    pipeline = make_pipeline(database.url, warehouse_url, project=write_project(models))
    run_cleanly(pipeline)
    reasons = {name: set_aside(pipeline, name).get(1) for name in REASONS}
    assert reasons == {
        name: reason and (reason if reason.startswith("t.") else f"v: {reason}")
        for name, (_, _, reason) in REASONS.items()
    }
    loaded = {
        name: rows_of(pipeline, f"SELECT CAST(v AS VARCHAR) FROM {name}")
        for name, (*_, reason) in REASONS.items()
        if not reason
    }
    assert loaded == {
        "in_a_string": [(r'["a,]", "NaN\",}"]',)], "rounded": [("0.33",)], "sixth_digit": [("2024-01-01 00:00:00.123456+00",)],
        "date_in_json": [("2024-11-26",)], "null_in_json": [(None,)], "exponent_that_fits": [("-17149790.69",)],
        "long_numbers_in_json": [("[0.30000000000000004,12345678901234567890123,1e400]",)],
    }  # fmt: skip


def test_json_reaches_the_warehouse_with_all_digits(
    database: Database, warehouse_url: str, make_pipeline: Any, write_project: Any
) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, a jsonb, note text, b json)",
        r"""INSERT INTO t VALUES (1, '{"x": 2.50, "y": [0.10000000000000000000000000000001], "z": ",\"b\":"}', E'tab\there',
            E'{"k":\t1e400,\n"k": null}'), (2, NULL, NULL, 'null'), (3, '"text"', 'x', '[1, 2]')""",
    )
    model = "CREATE TABLE dim_t (id INTEGER PRIMARY KEY, a JSON, note VARCHAR, b VARCHAR) AS SELECT id, a, note, b FROM t"
    pipeline = make_pipeline(database.url, warehouse_url, project=write_project({"dim_t": model}))
    run_cleanly(pipeline)
    assert rows_of(pipeline, "SELECT id, CAST(a AS VARCHAR), note, b FROM dim_t ORDER BY id") == [
        (1, '{"x": 2.50, "y": [0.10000000000000000000000000000001], "z": ",\\"b\\":"}', "tab\there", '{"k": 1e400, "k": null}'),
        (2, None, None, "null"),
        (3, '"text"', "x", "[1, 2]"),
    ]  # fmt: skip
    database.execute("DELETE FROM t WHERE id = 3", "UPDATE t SET a = '7' WHERE id = 2")
    run_cleanly(pipeline)
    assert rows_of(pipeline, "SELECT id FROM dim_t ORDER BY id") == [(1,), (2,)]


def test_a_json_null_is_none_of_sql(
    database: Database, warehouse_url: str, make_pipeline: Any, write_project: Any
) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, a jsonb, b json)",
                     "INSERT INTO t VALUES (1, 'null', 'null'), (2, NULL, NULL), (3, '\"null\"', ' null ')")  # fmt: skip
    declared = "CREATE TABLE {0} (id INTEGER PRIMARY KEY, a {1}, b VARCHAR) AS SELECT id, a, b FROM t"
    models = {"free": declared.format("free", "JSON"), "bound": declared.format("bound", "JSON NOT NULL")}
    pipeline = make_pipeline(database.url, warehouse_url, project=write_project(models))
    assert run_cleanly(pipeline).quarantined == 1
    rows = [(1, "null", "null"), (2, None, None), (3, '"null"', " null ")]
    assert rows_of(pipeline, "SELECT id, CAST(a AS VARCHAR), b FROM free ORDER BY id") == rows
    assert rows_of(pipeline, "SELECT id, CAST(a AS VARCHAR), b FROM bound ORDER BY id") == [rows[0], rows[2]]
    database.execute("UPDATE t SET a = NULL WHERE id = 1", "UPDATE t SET a = 'null' WHERE id = 2")
    run_cleanly(pipeline)
    assert rows_of(pipeline, "SELECT id, CAST(a AS VARCHAR) FROM free ORDER BY id") == [
        (1, None),
        (2, "null"),
        (3, '"null"'),
    ]


def test_lines_that_the_engine_cannot_read_as_usual_are_read_in_another_way(
    database: Database, make_pipeline: Any, write_project: Any
) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v text, j json)", "CREATE TABLE u (id int PRIMARY KEY, w text)",
                     r"""INSERT INTO t VALUES (1, 'a', '"\ud800"'), (2, 'b', '[]')""", "INSERT INTO u VALUES (1, repeat('x', 40000000))")  # fmt: skip
    model = "CREATE TABLE fact (r BIGINT PRIMARY KEY, id INTEGER, v VARCHAR, j VARCHAR, size INTEGER) AS SELECT t.id, v, j, length(u.w) AS size FROM t LEFT JOIN u USING (id)"
    pipeline = make_pipeline(database.url, project=write_project({"fact": model}))
    run_cleanly(pipeline)
    expected = [(1, "a", r'"\ud800"', 40000000), (2, "b", "[]", None)]
    assert rows_of(pipeline, "SELECT id, v, j, size FROM fact ORDER BY id") == expected
    shutil.rmtree(pipeline.settings.cache_folder)
    database.execute("UPDATE t SET v = 'c'")
    run_cleanly(pipeline)
    assert rows_of(pipeline, "SELECT id, v, j, size FROM fact_current ORDER BY id") == [
        (n, "c", j, size) for n, _, j, size in expected
    ]
    assert [version.values["j"] for version in read_history(pipeline, "t", ["1"])] == [r'"\ud800"'] * 2


def test_the_calendar_has_the_years_at_both_ends_of_time(
    database: Database, warehouse_url: str, make_pipeline: Any, write_project: Any
) -> None:
    dates = ["4714-11-24 BC", "0044-03-15 BC", "0001-01-01", "2024-02-29", "5874897-12-31"]
    database.execute("CREATE TABLE t (id int PRIMARY KEY, d date)")
    with psycopg.connect(database.url) as session:
        session.cursor().executemany("INSERT INTO t VALUES (%s, %s::date)", list(enumerate(dates)))
    project = write_project({
        "dim_date": "CREATE TABLE dim_date (d DATE PRIMARY KEY, year INTEGER) AS SELECT date AS d, year(date) AS year FROM calendar",
        "fact_t": "CREATE TABLE fact_t (r BIGINT PRIMARY KEY, id INTEGER, d DATE REFERENCES dim_date) AS SELECT id, d FROM t",
    })  # fmt: skip
    pipeline = make_pipeline(database.url, warehouse_url, project=project)
    assert run_cleanly(pipeline).quarantined == 0
    assert rows_of(pipeline, "SELECT count(*) FROM fact_t JOIN dim_date USING (d)") == [(len(dates),)]
    assert rows_of(pipeline, "SELECT year, count(*) FROM dim_date GROUP BY year ORDER BY year") == [
        (-4713, 38), (-43, 365), (1, 365), (2024, 366), (5874897, 365),
    ]  # fmt: skip


def test_a_change_that_equality_does_not_see_is_seen(
    database: Database, warehouse_url: str, make_pipeline: Any, write_project: Any
) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, f float8, r real, i interval)",
                     "INSERT INTO t VALUES (1, 0, NULL, NULL), (2, NULL, 0, NULL), (3, NULL, NULL, '30 days')")  # fmt: skip
    model = "CREATE TABLE dim_t (id INTEGER PRIMARY KEY, f DOUBLE, r FLOAT, i INTERVAL) AS SELECT id, f, r, i FROM t"
    pipeline = make_pipeline(database.url, warehouse_url, project=write_project({"dim_t": model}))
    run_cleanly(pipeline)
    database.execute(
        "UPDATE t SET f = '-0' WHERE id = 1",
        "UPDATE t SET r = '-0' WHERE id = 2",
        "UPDATE t SET i = '1 mon' WHERE id = 3",
    )
    run_cleanly(pipeline)
    rows = rows_of(
        pipeline,
        "SELECT coalesce(CAST(f AS VARCHAR), CAST(r AS VARCHAR), CAST(i AS VARCHAR)) FROM dim_t ORDER BY id",
    )
    assert [text.removesuffix(".0").removesuffix("th") for (text,) in rows] == ["-0", "-0", "1 mon"]
