"""Columns called `_lsn` or `_seq`: by query they are captured as any other; from the log such a table is left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command, Database, rows_of, run_cleanly
from tests.ingestion.log.conftest import MODEL, Lake
from totes.monitoring.history import read_history
from totes.monitoring.verification import verify
from totes.pipeline import Pipeline

MODELS = MODEL | {
    "dim_u": 'CREATE TABLE dim_u (id INTEGER PRIMARY KEY, lsn VARCHAR, seq BIGINT, v VARCHAR) AS SELECT id, _lsn AS lsn, "_SEQ" AS seq, v FROM u',
    "fact_u": 'CREATE TABLE fact_u (key BIGINT PRIMARY KEY, id INTEGER, lsn VARCHAR, seq BIGINT) AS SELECT id, _lsn AS lsn, "_SEQ" AS seq FROM u',
}


@pytest.fixture(params=["text", "json"])
def table(request: pytest.FixtureRequest, source: Database) -> Database:
    """A source with such a table; packets of tables with documents are read in another way."""
    source.execute(
        f'CREATE TABLE u (id int PRIMARY KEY, _lsn text, "_SEQ" bigint, v {request.param})',
        "INSERT INTO u VALUES (1, 'A/B', 7, '1'), (2, NULL, NULL, NULL), (3, '0/1', -1, '3')",
    )
    return source


def forget(pipeline: Pipeline) -> None:
    """Removes the caches, so that everything is read from the lake."""
    for file in pipeline.settings.cache_folder.glob("*.duckdb"):
        file.unlink()


def is_equal(pipeline: Pipeline) -> bool:
    return verify(pipeline, (), 1.0, lambda _: None).equal


def test_by_query_they_are_columns_as_any_other(
    table: Database, new_lake: Callable[..., Lake], write_project: Any
) -> None:
    pipeline = new_lake(table, "query", project=write_project(MODELS)).pipeline
    pipeline.ingest()  # on its own: the next stage reads the packets
    forget(pipeline)
    pipeline.process()
    table.execute(
        "UPDATE u SET _lsn = 'not/a position', \"_SEQ\" = 8 WHERE id = 1", "DELETE FROM u WHERE id = 3"
    )
    pipeline.ingest()
    forget(pipeline)
    run_cleanly(pipeline)
    assert rows_of(pipeline, "SELECT id, lsn, seq FROM dim_u ORDER BY id") == [
        (1, "not/a position", 8),
        (2, None, None),
    ]
    assert rows_of(pipeline, "SELECT id, lsn, seq FROM fact_u ORDER BY key")[:4] == [
        (1, "A/B", 7), (2, None, None), (3, "0/1", -1), (1, "not/a position", 8),
    ]  # fmt: skip
    assert is_equal(pipeline)
    history = read_history(pipeline, "u", ["1"])
    assert [(version.values["_lsn"], version.values["_SEQ"]) for version in history] == [
        ("A/B", 7),
        ("not/a position", 8),
    ]


def test_a_comparison_by_content_knows_them(
    table: Database, new_lake: Callable[..., Lake], write_project: Any
) -> None:
    lake = new_lake(table, "query", project=write_project(MODELS))
    lake.ingest()
    table.execute(
        "CREATE TABLE w (LIKE u INCLUDING ALL)", "INSERT INTO w SELECT * FROM u", "UPDATE w SET _lsn = 'C/D' WHERE id = 3",
        "ALTER TABLE u RENAME TO old", "ALTER TABLE w RENAME TO u",
    )  # fmt: skip
    lake.ingest()
    assert [line["id"] for line in lake.lines(2, "u")] == [3]


def test_from_the_log_the_table_is_left_out_and_comes_back_by_query(
    table: Database, new_lake: Callable[..., Lake], write_project: Any
) -> None:
    project = write_project(MODELS)
    by_query = new_lake(table, "query", project=project)
    run_cleanly(by_query.pipeline)
    from_log = new_lake(table, "log", project=project)
    table.execute("UPDATE u SET _lsn = 'x' WHERE id = 1", "INSERT INTO t VALUES (1, 'a')")
    failure = from_log.pipeline.ingest().failure
    assert failure is not None
    assert "public.u has a column _SEQ, a name that the lake uses itself" in str(failure)
    table.execute("INSERT INTO t VALUES (2, 'b')")
    from_log.pipeline.ingest()
    assert from_log.steps(3) == [("upsert", 2, "b")]
    run_cleanly(by_query.pipeline)
    forget(by_query.pipeline)
    run_cleanly(by_query.pipeline)
    assert is_equal(by_query.pipeline)
    assert rows_of(by_query.pipeline, "SELECT lsn FROM dim_u WHERE id = 1") == [("x",)]


def test_a_column_that_is_added_after_batches_from_the_log(
    source: Database, new_lake: Callable[..., Lake], write_project: Any
) -> None:
    source.execute("CREATE TABLE u (id int PRIMARY KEY, v text)")
    project = write_project(MODEL)
    lake = new_lake(source, "log", project=project)
    run_cleanly(lake.pipeline)
    source.execute("INSERT INTO u VALUES (1, 'a')", "DELETE FROM u", "INSERT INTO u VALUES (1, 'b')")
    run_cleanly(lake.pipeline)
    source.execute("ALTER TABLE u ADD _seq int DEFAULT 5")
    by_query = new_lake(source, "query", project=project)
    run_cleanly(by_query.pipeline)
    found = [
        (version.values["_op"], version.values.get("v"), version.values["_seq"])
        for version in read_history(by_query.pipeline, "u", ["1"])
    ]
    assert [each[:2] for each in found] == [
        ("upsert", "a"),
        ("delete", None),
        ("upsert", "b"),
        ("upsert", "b"),
    ]
    assert found[-1][2] == 5


def test_doctor_warns_of_them_for_capture_from_the_log_alone(
    table: Database,
    new_lake: Callable[..., Lake],
    write_project: Any,
    totes: Callable[..., Command],
    tmp_path: Path,
) -> None:
    (tmp_path / "totes.toml").write_text(
        f'[project]\nname = "p"\npath = "{write_project(MODEL)["path"]}"\n[source]\nurl = "{table.url}"\n'
    )
    by_query = json.loads(totes("doctor", "--json").out)["checks"]
    assert [check["found"] for check in by_query if "a name that the lake" in check["found"]] == []
    from_log = json.loads(totes("doctor", "--json", TOTES_SOURCE__CAPTURE="log").out)["checks"]
    found = [check for check in from_log if "a name that the lake" in check["found"]]
    assert [(check["name"], check["severity"]) for check in found] == [("publication", "warning")]
