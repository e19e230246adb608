"""Any name that PostgreSQL takes is only a name: of a table or a column at the source, of a warehouse table, of its columns."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Database, rows_of, run_cleanly
from tests.values.test_lake_values import packets
from totes import engine
from totes.errors import ModelError, ModelFailed

NAMES = [
    "plain", "Mixed Case", "ünï ço∂é 表 🎒", 'a "quoted" one', "it's", " blanks ", "new\nline", "a\ttab", "back\\slash", "a/b", "..", ".",
    "100%", "%s", "%(x)s", "{file}", "{0}", "$1", "?", ":name", "a.b", "a,b", "(a)", "[a]", "*", "-- no comment", "/* none */", "; DROP TABLE x",
    "select", "table", "user", "date", "order", "null", "true", "rowid", "mark", "c0", "k0", "json", "parts", "row", "new", "old", "filename",
    "batches", "marks", "state", "n" * 63, "ü" * 31, "\u2028", "\ufeff", "\x01", "e\u0301", "\u00e9", "a~b",
]  # fmt: skip
quoted = engine.name


def test_columns_of_any_name_go_all_the_way(
    database: Database, new_database: Any, make_pipeline: Any, write_project: Any
) -> None:
    columns = ", ".join(f"{quoted(name)} {'jsonb' if n % 7 == 3 else 'text'}" for n, name in enumerate(NAMES))
    given = ['"v"' if n % 7 == 3 else f"v{n}" for n in range(len(NAMES))]
    values = ", ".join(engine.text(value) for value in given)
    database.execute(f"CREATE TABLE t (id int, {columns}, PRIMARY KEY (id, {quoted(NAMES[1])}, {quoted(NAMES[3])}))",
                     f"INSERT INTO t VALUES (1, {values}), (2, {values})")  # fmt: skip
    listed = engine.names(NAMES)
    declared = ", ".join(f"{quoted(name)} VARCHAR" for name in NAMES)
    project = write_project({
        "wide": f"CREATE TABLE wide (id INTEGER PRIMARY KEY, {declared}) AS SELECT id, {listed} FROM t",
        "versions": f"CREATE TABLE versions (version BIGINT PRIMARY KEY, id INTEGER, {declared}) AS SELECT a.id, {engine.names(NAMES, 'a')}"
                    f" FROM t AS a LEFT JOIN t AS b ON b.id = a.id AND b.{quoted(NAMES[1])} = a.{quoted(NAMES[1])}",
    })  # fmt: skip
    pipeline = make_pipeline(database.url, project=project)
    run_cleanly(pipeline)
    for row in packets(pipeline, 1, "t"):
        assert [row[name] for name in NAMES] == [value.strip('"') for value in given]
    database.execute(f"UPDATE t SET {quoted(NAMES[0])} = 'later' WHERE id = 1", "DELETE FROM t WHERE id = 2")
    run_cleanly(pipeline)
    url = new_database().url
    other = make_pipeline(database.url, url, project=project)
    other.replay(url)
    for one in (pipeline, other):
        assert rows_of(one, f"SELECT id, {listed} FROM wide") == [(1, "later", *given[1:])]
        assert [row[1:] for row in rows_of(one, f"SELECT version, id, is_deleted, {listed} FROM versions ORDER BY id, version")] == [
            (1, False, *given), (1, False, "later", *given[1:]), (2, False, *given), (2, True, *given),
        ]  # fmt: skip


def test_tables_of_any_name_go_all_the_way(
    database: Database, new_database: Any, make_pipeline: Any, write_project: Any
) -> None:
    names = [
        *(name for name in NAMES if not name.isidentifier()),
        "Plain",
        "PLAIN",
        "plain",
        "select",
        "batches",
        "marks",
        "rowid",
    ]
    database.execute(*(f"CREATE TABLE {quoted(name)} (id int PRIMARY KEY, v text)" for name in names),
                     *(f"INSERT INTO {quoted(name)} VALUES (1, {engine.text(name)}), (2, 'x')" for name in names))  # fmt: skip
    # A warehouse tells its own tables apart by other names.
    models = {
        f"m{n}": f"CREATE TABLE m{n} (id INTEGER PRIMARY KEY, v VARCHAR) AS SELECT id, v FROM {quoted(name)}"
        for n, name in enumerate(names)
    }
    project = write_project(models)
    pipeline = make_pipeline(database.url, project=project)
    run_cleanly(pipeline)
    database.execute(*(f"UPDATE {quoted(name)} SET v = v || '!' WHERE id = 1" for name in names),
                     *(f"DELETE FROM {quoted(name)} WHERE id = 2" for name in names))  # fmt: skip
    run_cleanly(pipeline)
    url = new_database().url
    other = make_pipeline(database.url, url, project=project)
    other.replay(url)
    found = " UNION ALL ".join(f"SELECT {n}, id, v FROM m{n}" for n in range(len(names)))
    expected = [(n, 1, f"{name}!") for n, name in enumerate(names)]
    assert sorted(rows_of(pipeline, found)) == expected
    assert sorted(rows_of(other, found)) == expected


def test_warehouse_tables_may_have_odd_names(
    database: Database, new_database: Any, make_pipeline: Any, write_project: Any
) -> None:
    names = [
        "Mixed Case",
        "ünï 表",
        "it's",
        'a "quoted" one',
        "100%",
        "a/b",
        "; DROP TABLE x",
        "select",
        "n" * 55,
    ]
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    project = write_project({
        f"model{n}": f"CREATE TABLE {quoted(name)} (r BIGINT PRIMARY KEY, id INTEGER, v VARCHAR) AS SELECT id, v FROM t" for n, name in enumerate(names)
    })  # fmt: skip
    pipeline = make_pipeline(database.url, project=project)
    run_cleanly(pipeline)
    database.execute("UPDATE t SET v = 'c' WHERE id = 1", "DELETE FROM t WHERE id = 2")
    run_cleanly(pipeline)
    url = new_database().url
    other = make_pipeline(database.url, url, project=project)
    other.replay(url)
    for one in (pipeline, other):
        for name in names:
            assert rows_of(one, f"SELECT id, v FROM {quoted(f'{name}_current')}") == [(1, "c")], name


@pytest.mark.parametrize("column", ["~at", "a~raw", "~k0.0"])
def test_a_model_is_told_of_columns_whose_names_the_engine_needs(
    column: str, database: Database, make_pipeline: Any, write_project: Any
) -> None:
    database.execute(f"CREATE TABLE t (id int PRIMARY KEY, a numeric, {quoted(column)} text)")
    project = write_project({"dim_t": "CREATE TABLE dim_t (id INTEGER PRIMARY KEY) AS SELECT id FROM t"})
    with pytest.raises(ModelFailed, match="a name of the kind that the engine uses itself"):
        make_pipeline(database.url, project=project).warehouse_sql("duckdb")


def test_columns_that_differ_in_case_only_are_captured_and_a_model_is_told(
    database: Database, make_pipeline: Any, write_project: Any
) -> None:
    database.execute('CREATE TABLE t (id int PRIMARY KEY, a text, "A" json, "Ä" text, "ä" text, "\r" text)', """INSERT INTO t VALUES (1, 'a', '"A"', 'Ä', 'ä', 'r')""",
                     "CREATE TABLE u (id int PRIMARY KEY)", "INSERT INTO u VALUES (1)")  # fmt: skip
    of = "CREATE TABLE dim (id INTEGER PRIMARY KEY) AS SELECT id FROM"
    pipeline = make_pipeline(database.url, project=write_project({"dim": f"{of} u"}))
    run_cleanly(pipeline)
    [row] = packets(pipeline, 1, "t")
    assert (row["a"], row["A"], row["Ä"], row["ä"], row["\r"]) == ("a", "A", "Ä", "ä", "r")
    with pytest.raises(ModelFailed, match="columns that differ in case only"):
        make_pipeline(database.url, project=write_project({"dim": f"{of} t"}, name="other")).warehouse_sql(
            "duckdb"
        )


@pytest.mark.parametrize(
    "model",
    [f"CREATE TABLE {'n' * 64} (id INTEGER PRIMARY KEY) AS SELECT id FROM t",
     f"CREATE TABLE {'n' * 56} (r BIGINT PRIMARY KEY, id INTEGER) AS SELECT id FROM t",
     f'CREATE TABLE n (id INTEGER PRIMARY KEY, "{"ü" * 32}" INTEGER) AS SELECT id, id AS "{"ü" * 32}" FROM t'],
    ids=["a table", "a view", "a column"],
)  # fmt: skip
def test_a_name_that_postgresql_would_cut_is_refused(
    model: str, make_pipeline: Any, write_project: Any
) -> None:
    with pytest.raises(ModelError, match="is longer than 63 bytes"):
        _ = make_pipeline("postgresql://nowhere", project=write_project({"m": model})).project
