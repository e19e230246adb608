"""A row is hit by its key whatever the key's type is: in the lake, in the caches, and in the warehouse."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from tests.conftest import Database, rows_of, run_cleanly
from tests.spread import KINDS, diagonal
from tests.values.test_lake_values import as_written, captured, packets, written
from totes.errors import ModelError, ModelFailed
from totes.pipeline import Pipeline

TYPES = (
    "CREATE EXTENSION citext; CREATE EXTENSION ltree; CREATE TYPE mood AS ENUM ('so so', 'it''s \"odd\"');"
    "CREATE TYPE pair AS (n numeric, t text); CREATE DOMAIN code AS varchar(5)"
)
# type; two keys; the first one written in another way that PostgreSQL takes for equal; what a latest table declares.
KEYS: list[tuple[str, str, str, str | None, str | None]] = [
    ("boolean", "true", "false", None, "BOOLEAN"),
    ("smallint", "-1", "2", None, "SMALLINT"),
    ("numeric", "'1.0'", "'NaN'", "'1.00'", None),
    ("numeric(10,2)", "'1.0'", "'-7.25'", None, "DECIMAL(10, 2)"),
    ("double precision", "0", "'Infinity'", "'-0'", "DOUBLE"),
    ("real", "0.1", "'NaN'", None, "FLOAT"),
    ("text", r"E'a\n\t\"\\'", "''", None, "VARCHAR"),
    ('text COLLATE "pg_c_utf8"', "'Straße'", "'STRASSE'", None, "VARCHAR"),
    ("citext", "'Ab'", "'b'", "'aB'", "VARCHAR"),
    ("char(4)", "'a'", "'b   '", None, None),
    ('"char"', "'a'", "'b'", None, None),
    ("name", "'a name'", "'b'", None, None),
    ("bytea", r"'\x00ff'", "''", None, "BLOB"),
    ("uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "'00000000-0000-0000-0000-000000000000'", None, "UUID"),
    ("date", "'0044-03-15 BC'", "'infinity'", None, "DATE"),
    ("timestamp", "'-infinity'", "'2024-11-26 12:00:00.000001'", None, "TIMESTAMP"),
    ("timestamptz", "'2024-11-26 12:00:00+02'", "'2024-10-27 01:30:00+00'", "'2024-11-26 11:00:00+01'", "TIMESTAMPTZ"),
    ("time", "'24:00:00'", "'00:00:00'", None, "TIME"),
    ("timetz", "'12:00:00+14'", "'12:00:00-14'", None, None),
    ("interval", "'30 days'", "'1 year'", "'1 mon'", None),
    ("mood", "'so so'", "'it''s \"odd\"'", None, "VARCHAR"),
    ("pair", "ROW(1.0, 'x')::pair", "ROW(NULL, NULL)::pair", "ROW(1.00, 'x')::pair", None),
    ("code", "'a'", "'b '", None, "VARCHAR"),
    ("jsonb", "'{\"a\": 1.0}'", "'null'", "'{\"a\": 1.00}'", "VARCHAR"),
    ("numeric[]", "'{1.0,NULL}'", "'{}'", "'{1.00,NULL}'", None),
    ("numrange", "'[1.0,2)'", "'empty'", "'[1.00,2)'", None),
    ("int4multirange", "'{[1,3)}'", "'{}'", None, None),
    ("inet", "'10.0.0.1'", "'::1/64'", None, None),
    ("macaddr", "'08:00:2b:01:02:03'", "'08:00:2b:01:02:04'", None, None),
    ("bit varying", "B'101'", "B''", None, None),
    ("money", "'1.50'", "'-0.01'", None, None),
    ("oid", "4294967295", "0", None, "BIGINT"),
    ("pg_lsn", "'16/B374D848'", "'0/0'", None, None),
    ("xid8", "'18446744073709551615'", "'0'", None, None),
    ("tsvector", "'a b'", "''", None, None),
    ("ltree", "'Top.Science'", "''", None, None),
]  # fmt: skip
LATEST = [number for number, key in enumerate(KEYS) if key[4]]
VERSIONED = [number for number, key in enumerate(KEYS) if key[3] or not key[4]]


def models() -> dict[str, str]:
    """Tables that keep versions have the key's text, the others have it as it is declared."""
    query = "AS SELECT k, v FROM k"
    return {f"fact_{n}": f"CREATE TABLE fact_{n} (r BIGINT PRIMARY KEY, k VARCHAR, v INTEGER) {query}{n}" for n in VERSIONED} | {
        f"dim_{n}": f"CREATE TABLE dim_{n} (k {KEYS[n][4]} PRIMARY KEY, v INTEGER) {query}{n}" for n in LATEST
    }  # fmt: skip


def check(pipeline: Pipeline, database: Database) -> None:
    """The warehouse's current rows are the source's, by the key's text where that is declared."""
    written = ["k::text" if kind == "boolean" else "format('%s', k)" for kind, *_ in KEYS]
    expected = database.execute(
        " UNION ALL ".join(f"SELECT {n}, {text}, v FROM k{n}" for n, text in enumerate(written))
    )
    facts = of_each(pipeline, VERSIONED, "SELECT {n}, k, v FROM fact_{n}_current")
    assert facts == sorted(row for row in expected if row[0] in VERSIONED)
    # Keys of other types are in a form of the warehouse's own, which other tests compare.
    dims = of_each(pipeline, LATEST, "SELECT {n}, k::VARCHAR, v FROM dim_{n}")
    texts = [number for number in LATEST if KEYS[number][4] == "VARCHAR"]
    assert [row for row in dims if row[0] in texts] == sorted(row for row in expected if row[0] in texts)
    assert sorted((n, v) for n, _, v in dims) == sorted((n, v) for n, _, v in expected if n in LATEST)


def of_each(pipeline: Pipeline, numbers: list[int], query: str) -> list[tuple[Any, ...]]:
    """The rows of a query over each kind of key."""
    rows = rows_of(pipeline, " UNION ALL ".join(query.replace("{n}", str(number)) for number in numbers))
    return sorted(rows, key=str if "valid_from" in query else None)


def test_updates_and_deletes_hit_the_row_of_that_key(
    database: Database, new_database: Any, make_pipeline: Any, write_project: Any
) -> None:
    numbered = list(enumerate(KEYS))
    database.execute(TYPES, *(f"CREATE TABLE k{n} (k {kind} PRIMARY KEY, v int)" for n, (kind, *_) in numbered),
                     *(f"INSERT INTO k{n} VALUES ({one}, 1), ({two}, 2)" for n, (_, one, two, _, _) in numbered))  # fmt: skip
    project = write_project(models())
    pipeline = make_pipeline(database.url, project=project)
    steps = [
        [],
        [
            f"UPDATE k{n} SET k = {again or one}, v = 3 WHERE k = {one}"
            for n, (_, one, _, again, _) in numbered
        ],
        [f"DELETE FROM k{n} WHERE k = {two}" for n, (_, _, two, _, _) in numbered],
    ]
    for batch, statements in enumerate(steps, start=1):
        database.execute("SELECT 1", *statements)
        if batch == 3:
            shutil.rmtree(pipeline.settings.cache_folder)  # what is known of keys comes from the lake then
        assert run_cleanly(pipeline).quarantined == 0
        check(pipeline, database)
    for number, (kind, *_) in numbered:
        [gone] = packets(pipeline, 3, f"k{number}")
        assert (gone["_op"], gone.keys()) == ("delete", {"k", "_op", "_at"}), kind
    url = new_database().url
    again = make_pipeline(database.url, url, project=project)
    again.replay(url)
    check(again, database)
    versions = "SELECT {n}, r, k, v, valid_from, valid_to, is_deleted, batch_id FROM fact_{n}"
    assert of_each(again, VERSIONED, versions) == of_each(pipeline, VERSIONED, versions)


def test_a_deletion_has_the_key_as_the_lake_has_it(
    database: Database, make_pipeline: Any, write_project: Any
) -> None:
    database.execute("CREATE TABLE t (a jsonb, id int, j json, b jsonb, PRIMARY KEY (b, id, a))",
                     "INSERT INTO t VALUES ('null', 1, '{\"j\": 1}', '[1.50, \"\t\"]'), ('{}', 2, NULL, 'null')".replace("\t", "\\t"))  # fmt: skip
    expected = {row: {name: as_written(value, "jsonb" if name in "ab" else "integer") for name, value in values.items()}
                for row, values in written(database).items()}  # fmt: skip
    model = "CREATE TABLE fact_t (r BIGINT PRIMARY KEY, a VARCHAR, id INTEGER, b VARCHAR, j JSON) AS SELECT a, id, b, j FROM t"
    pipeline = make_pipeline(database.url, project=write_project({"fact_t": model}))
    run_cleanly(pipeline)
    database.execute("DELETE FROM t")
    run_cleanly(pipeline)
    deleted = captured(pipeline, 2)
    assert deleted.keys() == {1, 2}
    for row, values in deleted.items():
        assert values["_op"] == "delete"
        assert {name: values[name] for name in ("a", "id", "b")} == {
            name: expected[row][name] for name in ("a", "id", "b")
        }
        assert "j" not in values
    assert rows_of(pipeline, "SELECT id, a, b, j, is_deleted FROM fact_t ORDER BY r") == [
        (1, "null", '[1.50, "\\t"]', '{"j": 1}', False), (2, "{}", "null", None, False),
        (1, "null", '[1.50, "\\t"]', '{"j": 1}', True), (2, "{}", "null", None, True),
    ]  # fmt: skip
    assert rows_of(pipeline, "SELECT id FROM fact_t_current") == []


@pytest.mark.parametrize("kind", ["INTERVAL", "JSON"])
def test_a_primary_key_that_a_warehouse_cannot_have_is_refused(
    kind: str, make_pipeline: Any, write_project: Any
) -> None:
    model = f"CREATE TABLE dim_t (k {kind} PRIMARY KEY) AS SELECT k FROM t"
    with pytest.raises(ModelError, match=f"the primary key k is declared {kind}, .*Declare it VARCHAR"):
        _ = make_pipeline("postgresql://nowhere", project=write_project({"dim_t": model})).project


def test_a_natural_key_of_json_is_refused(database: Database, make_pipeline: Any, write_project: Any) -> None:
    database.execute("CREATE TABLE t (k jsonb PRIMARY KEY)")
    model = "CREATE TABLE fact_t (r BIGINT PRIMARY KEY, k JSON) AS SELECT k FROM t"
    with pytest.raises(
        ModelFailed, match=r"k identifies the row that a version is of, and is JSON.*Declare it VARCHAR"
    ):
        make_pipeline(database.url, project=write_project({"fact_t": model})).warehouse_sql()


@pytest.mark.parametrize(
    ("warehouse_url", "joined"), diagonal(KINDS, [False, True]), indirect=["warehouse_url"]
)
def test_keys_that_are_one_as_declared_are_set_aside_and_not_mixed_up(
    joined: bool, database: Database, warehouse_url: str, make_pipeline: Any, write_project: Any
) -> None:
    database.execute("CREATE TABLE t (k text PRIMARY KEY, v int)", "CREATE TABLE u (v int PRIMARY KEY)",
                     "INSERT INTO t VALUES ('1', 1), ('2', 2), ('02', 3)")  # fmt: skip
    query = "SELECT t.k, t.v FROM t LEFT JOIN u ON u.v = t.v" if joined else "SELECT k, v FROM t"
    model = f"CREATE TABLE dim_t (k INTEGER PRIMARY KEY, v INTEGER) AS {query}"
    pipeline = make_pipeline(database.url, warehouse_url, project=write_project({"dim_t": model}))
    assert run_cleanly(pipeline).quarantined == 2
    assert rows_of(pipeline, "SELECT k, v FROM dim_t") == [(1, 1)]
    database.execute("INSERT INTO t VALUES ('01', 4), ('x', 5), ('y', 6)", "DELETE FROM t WHERE k = '02'")
    assert run_cleanly(pipeline).quarantined == 3
    assert rows_of(pipeline, "SELECT k, v FROM dim_t ORDER BY k") == [(1, 1), (2, 2)]
    database.execute("DELETE FROM t WHERE k = '1'")
    run_cleanly(pipeline)
    assert rows_of(pipeline, "SELECT k, v FROM dim_t ORDER BY k") == [(1, 4), (2, 2)]
