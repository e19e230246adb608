"""The engine's habits that the pipeline relies on."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from totes import engine, scratch
from totes.errors import EngineFault


def test_rows_inserted_within_a_transaction_are_seen_within_it(tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    connection = engine.connect(None, memory="1GB", reads=[tmp_path])
    connection.execute(
        f"COPY (SELECT range AS a FROM range(300000)) TO '{file}' (FORMAT parquet, ROW_GROUP_SIZE 50000)"
    )
    connection.execute("BEGIN")
    connection.execute("CREATE TEMP TABLE t (a BIGINT)")
    connection.execute(f"INSERT INTO t SELECT a FROM {engine.parquet([file])}")
    connection.execute("CREATE TEMP TABLE u AS SELECT * FROM t")
    assert engine.scalar(connection, "SELECT count(a) FROM u") == 300_000


def test_a_copy_that_writes_another_number_of_rows_is_a_fault(tmp_path: Path) -> None:
    connection = engine.connect(None, memory="1GB", reads=[tmp_path])
    with pytest.raises(EngineFault, match="wrote 2 rows instead of 3"):
        engine.copy_out(connection, f"COPY (FROM range(2)) TO '{tmp_path}/x.parquet'", 3)


def test_names_and_texts_cannot_leave_their_quotes() -> None:
    connection = engine.connect(None, memory="1GB")
    wicked = """a"b'c; DROP TABLE x --"""
    assert (
        connection.execute(f"SELECT {engine.text(wicked)} AS {engine.name(wicked)}").description[0][0]
        == wicked
    )
    assert engine.scalar(connection, f"SELECT {engine.text(wicked)}") == wicked


def test_a_folder_called_like_a_column_does_not_become_one(tmp_path: Path) -> None:
    folder = tmp_path / "date=2024-01-01"
    folder.mkdir()
    connection = engine.connect(None, memory="1GB", reads=[tmp_path])
    connection.execute(f"COPY (SELECT 'mine' AS \"date\") TO '{folder}/x.parquet'")
    (folder / "x.jsonl").write_text('{"date":"mine"}\n')
    assert engine.scalar(connection, f'SELECT "date" FROM {engine.parquet([folder / "x.parquet"])}') == "mine"
    lines = engine.json_lines([folder / "x.jsonl"], "{'date': 'VARCHAR'}", "none")
    assert engine.scalar(connection, f'SELECT "date" FROM {lines}') == "mine"


def test_an_expression_that_stands_twice_in_a_try_fails_for_its_row_only() -> None:
    connection = engine.connect(None, memory="1GB")
    connection.execute("CREATE TABLE t AS SELECT * FROM (VALUES ('1'), ('x')) AS t (v)")
    assert connection.execute("SELECT TRY(v::INT + v::INT) FROM t").fetchall() == [(2,), (None,)]


REACHES_OUT = (
    "FROM read_text('{outside}/secret')",
    "FROM read_text('{inside}/../outside/secret')",
    "FROM read_text('{inside}/link')",
    "FROM read_csv('{inside}/linked/secret')",
    "FROM read_blob('/etc/passwd')",
    "FROM glob('{outside}/*')",
    "ATTACH '{outside}/other.duckdb'",
    "COPY (SELECT 1) TO '{outside}/written'",
    "EXPORT DATABASE '{outside}/export'",
    "FROM 'https://127.0.0.1:9/x.parquet'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '{inside}/made.duckdb_extension'",
    "CREATE SECRET (TYPE s3)",
)


@pytest.mark.parametrize("kind", ["memory", "file", "another"])
def test_a_statement_reaches_the_named_folders_and_nothing_else(tmp_path: Path, kind: str) -> None:
    inside, outside = tmp_path / "in'side", tmp_path / "outside"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "secret").write_text("a\n1\n")
    (inside / "link").symlink_to(outside / "secret")
    (inside / "linked").symlink_to(outside)
    file = tmp_path / "file.duckdb" if kind == "file" else None
    connection = engine.connect(file, memory="1GB", reads=[inside])
    if kind == "another":
        connection = engine.another(connection)
    for statement in REACHES_OUT:
        with pytest.raises((duckdb.PermissionException, duckdb.IOException)):
            connection.execute(statement.format(inside=str(inside).replace("'", "''"), outside=outside))
    quoted = engine.text(str(inside / "secret"))
    assert engine.scalar(connection, f"SELECT count(*) FROM read_csv({quoted})") == 1
    connection.execute(f"ATTACH {engine.text(str(inside / 'other.duckdb'))} AS other")
    connection.execute("CREATE TABLE other.t AS SELECT 1 AS a")
    connection.execute(f"COPY other.t TO {engine.text(str(scratch.root() / 'engine.parquet'))}")


def test_no_statement_changes_the_settings() -> None:
    connection = engine.connect(None, memory="1GB")
    for setting in (
        "enable_external_access = true",
        "allowed_directories = ['/']",
        "lock_configuration = false",
        "TimeZone = 'Asia/Tokyo'",
        "allow_community_extensions = true",
        "autoload_known_extensions = true",
        "temp_directory = '/etc'",
    ):
        for one in (connection, engine.another(connection)):
            with pytest.raises(duckdb.InvalidInputException):
                one.execute(f"SET {setting}")
    settings = "SELECT current_setting('TimeZone'), current_setting('enable_progress_bar')"
    for one in (connection, engine.another(connection)):
        assert one.execute(settings).fetchall() == [("UTC", False)]


def test_a_macro_with_the_name_of_a_function_reaches_no_more_than_its_caller(tmp_path: Path) -> None:
    file = tmp_path / "planted.duckdb"
    with duckdb.connect(str(file)) as planted:
        planted.execute("CREATE MACRO md5(a) AS (SELECT content FROM read_text('/etc/passwd'))")
    connection = engine.connect(file, memory="1GB")
    with pytest.raises(duckdb.PermissionException):
        connection.execute("SELECT md5('a')").fetchall()
