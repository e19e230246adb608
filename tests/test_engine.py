"""The engine's habits that the pipeline relies on."""

from __future__ import annotations

from pathlib import Path

import pytest

from totes import engine
from totes.errors import EngineFault


def test_rows_inserted_within_a_transaction_are_seen_within_it(tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    connection = engine.connect(None, memory="1GB")
    connection.execute(
        f"COPY (SELECT range AS a FROM range(300000)) TO '{file}' (FORMAT parquet, ROW_GROUP_SIZE 50000)"
    )
    connection.execute("BEGIN")
    connection.execute("CREATE TEMP TABLE t (a BIGINT)")
    connection.execute(f"INSERT INTO t SELECT a FROM {engine.parquet([file])}")
    connection.execute("CREATE TEMP TABLE u AS SELECT * FROM t")
    assert engine.scalar(connection, "SELECT count(a) FROM u") == 300_000


def test_a_copy_that_writes_another_number_of_rows_is_a_fault(tmp_path: Path) -> None:
    connection = engine.connect(None, memory="1GB")
    with pytest.raises(EngineFault, match="wrote 2 rows where there were 3"):
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
    connection = engine.connect(None, memory="1GB")
    connection.execute(f"COPY (SELECT 'mine' AS \"date\") TO '{folder}/x.parquet'")
    (folder / "x.jsonl").write_text('{"date":"mine"}\n')
    assert engine.scalar(connection, f'SELECT "date" FROM {engine.parquet([folder / "x.parquet"])}') == "mine"
    lines = engine.json_lines([folder / "x.jsonl"], "{'date': 'VARCHAR'}", "none")
    assert engine.scalar(connection, f'SELECT "date" FROM {lines}') == "mine"


def test_an_expression_that_stands_twice_in_a_try_fails_for_its_row_only() -> None:
    connection = engine.connect(None, memory="1GB")
    connection.execute("CREATE TABLE t AS SELECT * FROM (VALUES ('1'), ('x')) AS t (v)")
    assert connection.execute("SELECT TRY(v::INT + v::INT) FROM t").fetchall() == [(2,), (None,)]
