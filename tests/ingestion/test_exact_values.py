"""Promise 10 at the lake: every value arrives as PostgreSQL itself writes it."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from tests.conftest import Database, rows_of, run_cleanly
from tests.ingestion.test_capture import lines

# type, values as SQL
TEXT_FORMS = [
    ("numeric", ["0.1000000000000000000000000000000000001", "'NaN'", "'Infinity'", "'-Infinity'", "1e100", "-0.0", "1.50"]),
    ("numeric(12, 4)", ["1.5", "-99999999.9999"]),
    ("real", ["1.1", "'NaN'", "'-Infinity'", "1e-40", "16777217"]),
    ("double precision", ["0.1", "'NaN'", "'Infinity'", "1.7976931348623157e308", "5e-324", "'-0'"]),
    ("date", ["'2024-02-29'", "'infinity'", "'-infinity'", "'0044-03-15 BC'", "'5874897-12-31'", "'4713-01-01 BC'"]),
    ("timestamp", ["'2024-02-29 12:34:56.789012'", "'infinity'", "'0001-01-01 BC'", "'294276-12-31 23:59:59.999999'"]),
    ("timestamptz", ["'2024-03-31 02:30:00+02'", "'-infinity'", "'0044-03-15 12:00:00+05:30 BC'"]),
    ("time", ["'24:00:00'", "'00:00:00.000001'"]),
    ("timetz", ["'12:00:00+14'", "'23:59:59.999999-15:59'"]),
    ("interval", ["'-1 mon 2 days 03:00'", "'1 year 2 mons -3 days 04:05:06.000007'", "'-00:00:00.000001'", "'178000000 years'"]),
    ("bytea", [r"'\\x00ff5c22'", "''"]),
    ("uuid", ["'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"]),
    ("text", ["''", r"E'\\\\ \" \\n \\r \\t \\x01 \\u2028 \\U0001F600 \\u0085'", "repeat('x', 200000)", "'NULL'", "' '"]),
    ("varchar(5)", ["'a b '"]),
    ("char(5)", ["'ab'", "''"]),
    ('"char"', ["'a'"]),
    ("name", ["'a name'"]),
    ("int4[]", ["'{}'", "'{1,NULL,3}'", "'{{1,2},{3,4}}'", "'[0:1]={1,2}'"]),
    ("text[]", [r"ARRAY['a,b', 'c\"d', NULL, '', 'NULL', E'\\\\']"]),
    ("numeric[]", ["'{1.50,NaN}'"]),
    ("int4range", ["'[1,5)'", "'empty'", "'(,3]'"]),
    ("tstzrange", ["'[2024-01-01 00:00+01, infinity)'"]),
    ("int8multirange", ["'{[1,3),[7,9)}'"]),
    ("inet", ["'10.0.0.1'", "'10.0.0.1/8'", "'::1'"]),
    ("cidr", ["'10.0.0.0/8'"]),
    ("macaddr", ["'08:00:2b:01:02:03'"]),
    ("bit(3)", ["B'101'"]),
    ("bit varying", ["B''", "B'10'"]),
    ("money", ["'-12345.67'"]),
    ("point", ["'(1.5,-2)'"]),
    ("box", ["'(1,1),(0,0)'"]),
    ("path", ["'[(0,0),(1,1)]'"]),
    ("circle", ["'<(0,0),1>'"]),
    ("tsvector", ["to_tsvector('simple', 'a b c')"]),
    ("tsquery", ["to_tsquery('simple', 'a & b')"]),
    ("pg_lsn", ["'16/B374D848'"]),
    ("oid", ["4294967295"]),
    ("xid8", ["'18446744073709551615'"]),
    ("jsonpath", ["'$.a[*]'"]),
    ("regclass", ["'pg_class'"]),
    ("mood", ["'so so'"]),
    ("pair", ["ROW(1, 'a\"b')::pair", "ROW(NULL, NULL)::pair"]),
    ("positive", ["12.50"]),
    ("bigserial", ["9223372036854775807"]),
]  # fmt: skip
TYPES = """CREATE TYPE mood AS ENUM ('so so'); CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN positive AS numeric(10, 2) CHECK (value > 0);"""


@pytest.mark.parametrize(("kind", "values"), TEXT_FORMS, ids=[kind for kind, _ in TEXT_FORMS])
def test_a_value_reads_in_the_lake_as_postgresql_writes_it(
    kind: str, values: list[str], database: Database, make_pipeline: Any, write_project: Any
) -> None:
    database.execute(TYPES, f"CREATE TABLE t (id int PRIMARY KEY, v {kind})",
                     *(f"INSERT INTO t VALUES ({number}, {value})" for number, value in enumerate(values)))  # fmt: skip
    with (
        psycopg.connect(database.url, options="-c TimeZone=UTC -c search_path=") as session,
        # COPY writes each value by its type's output function.
        session.cursor().copy("COPY (SELECT id, v FROM public.t) TO STDOUT") as copied,
    ):
        written = dict(row for row in copied.rows())  # type: ignore[misc]
    model = {"dim_t": "CREATE TABLE dim_t (id INTEGER PRIMARY KEY) AS SELECT id FROM t"}
    pipeline = make_pipeline(database.url, project=write_project(model))
    pipeline.ingest()
    found = {str(row["id"]): row["v"] for row in map(json.loads, lines(pipeline, "t", 1))}
    assert {key: str(value) for key, value in found.items()} == written


def test_json_keeps_the_digits_of_its_numbers(
    database: Database, make_pipeline: Any, write_project: Any
) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, a jsonb, b json, c boolean, d bigint)",
                     """INSERT INTO t VALUES (1, '{"x": 0.10000000000000000000000000000001, "y": 1e400}',
                        E'{"k":  1.0,\n\t"k": [null, "\\\\u00e9"]}', true, -9223372036854775808), (2, NULL, 'null', NULL, NULL)""")  # fmt: skip
    model = {"dim_t": "CREATE TABLE dim_t (id INTEGER PRIMARY KEY) AS SELECT id FROM t"}
    pipeline = make_pipeline(database.url, project=write_project(model))
    pipeline.ingest()
    first, second = (json.loads(line, parse_float=Decimal) for line in lines(pipeline, "t", 1))
    assert first["a"] == {"x": Decimal("0.10000000000000000000000000000001"), "y": Decimal("1" + "0" * 400)}
    assert first["b"] == {"k": [None, "é"]}
    assert (first["c"], first["d"]) == (True, -9223372036854775808)
    assert (second["a"], second["b"], second["c"], second["d"]) == (None, None, None, None)
    assert '{"k":  1.0, \t"k": ' in lines(pipeline, "t", 1)[0] or '"k": [null' in lines(pipeline, "t", 1)[0]


def test_json_reaches_the_warehouse_with_all_digits(
    database: Database, warehouse_url: str, make_pipeline: Any, write_project: Any
) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, a jsonb, note text, b json)",
        r"""INSERT INTO t VALUES (1, '{"x": 2.50, "y": [0.10000000000000000000000000000001], "z": ",\"b\":"}', E'tab\there',
            E'{"k":\t1e400,\n"k": null}'), (2, NULL, NULL, 'null'), (3, '"text"', 'x', '[1, 2]')""",
    )
    model = "CREATE TABLE dim_t (id INTEGER PRIMARY KEY, a JSON, note VARCHAR, b VARCHAR, y VARCHAR) AS SELECT id, a, note, b, a -> 'y' AS y FROM t"
    pipeline = make_pipeline(database.url, warehouse_url, project=write_project({"dim_t": model}))
    run_cleanly(pipeline)
    assert rows_of(pipeline, "SELECT id, CAST(a AS VARCHAR), note, b FROM dim_t ORDER BY id") == [
        (1, '{"x": 2.50, "y": [0.10000000000000000000000000000001], "z": ",\\"b\\":"}', "tab\there", '{"k": 1e400, "k": null}'),
        (2, None, None, None),
        (3, '"text"', "x", "[1, 2]"),
    ]  # fmt: skip
    database.execute("DELETE FROM t WHERE id = 3", "UPDATE t SET a = '7' WHERE id = 2")
    run_cleanly(pipeline)
    assert rows_of(pipeline, "SELECT id FROM dim_t ORDER BY id") == [(1,), (2,)]
