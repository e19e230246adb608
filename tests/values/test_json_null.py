"""JSON's null, SQL's NULL, and JSON's null with blanks around it are three things, and stay so on every way to the star."""

from __future__ import annotations

import shutil
from typing import Any

from tests.conftest import Database, rows_of, run_cleanly
from tests.plain_lake import manifests_of, objects_of, rows_of_lake, rows_of_source
from totes.pipeline import Pipeline

# As `json` keeps them: text with its blanks, tabs and line breaks. Those between tokens become blanks in the lake.
VALUES = [
    "null",
    " null",
    "  null",
    "   null",
    "null ",
    " null ",
    '"null"',
    " 1",
    "[null]",
    ' {"a": null}',
    None,
]
MODELS = {
    "text": "CREATE TABLE text (r BIGINT PRIMARY KEY, id INTEGER, v INTEGER, j VARCHAR) AS SELECT id, v, j FROM t",
    "document": "CREATE TABLE document (id INTEGER PRIMARY KEY, v INTEGER, j JSON) AS SELECT id, v, j FROM t",
    "joined": """CREATE TABLE joined (r BIGINT PRIMARY KEY, id INTEGER, v INTEGER, j VARCHAR, w INTEGER) AS
SELECT t.id, t.v, t.j, u.w FROM t JOIN u ON u.id = t.id""",
}


def check(pipeline: Pipeline, v: int) -> None:
    expected = [(number, v, value) for number, value in enumerate(VALUES)]
    for table in ("text_current", "document", "joined_current"):
        assert rows_of(pipeline, f"SELECT id, v, CAST(j AS VARCHAR) FROM {table} ORDER BY id") == expected


def test_a_json_null_keeps_its_blanks_in_lake_and_star(
    database: Database, make_pipeline: Any, write_project: Any
) -> None:
    rows = ", ".join(
        f"({n}, 0, {'NULL' if v is None else chr(39) + v + chr(39)})" for n, v in enumerate(VALUES)
    )
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v int, j json)", f"INSERT INTO t VALUES {rows}",
                     "CREATE TABLE u (id int PRIMARY KEY, w int)", "INSERT INTO u SELECT id, 1 FROM t")  # fmt: skip
    pipeline: Pipeline = make_pipeline(
        database.url, project=write_project(MODELS), lake={"compression": "gzip"}
    )
    run_cleanly(pipeline)  # out of memory
    check(pipeline, 0)
    database.execute("UPDATE t SET v = 1")
    pipeline.ingest()
    for stage in (pipeline.process, pipeline.load):  # out of the lake
        stage()
    check(pipeline, 1)
    shutil.rmtree(pipeline.settings.cache_folder)  # out of the lake, as it was some batches ago
    database.execute("UPDATE u SET w = 2", "UPDATE t SET v = 2")
    run_cleanly(pipeline)
    check(pipeline, 2)
    objects = objects_of(str(pipeline.settings.base / "lake" / "ingestion"))
    assert rows_of_lake(objects) == rows_of_source(database.url, manifests_of(objects)[-1])
