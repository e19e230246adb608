"""A cache that was lost in mid-life is made again from the lake, and history goes on as if it had not been lost."""

from __future__ import annotations

import hashlib
import json
import shutil
from datetime import datetime as at
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Database, rows_of, run_cleanly
from totes.pipeline import Pipeline

TABLES = (
    "CREATE TABLE area (code text PRIMARY KEY, name text)",
    "CREATE TABLE site (id int PRIMARY KEY, area text)",
    "CREATE TABLE o (id int PRIMARY KEY, v text, site int, last_updated timestamp)",
    "INSERT INTO area VALUES ('n', 'North'), ('s', 'South')",
    "INSERT INTO site VALUES (1, 'n'), (2, 's')",
    "INSERT INTO o VALUES (1, 'a', 1, '2024-01-01 10:00'), (2, 'b', 2, '2024-01-01 11:00'), (3, 'c', 1, NULL)",
)
MODELS = {
    "alone": "CREATE TABLE alone (record BIGINT PRIMARY KEY, id INTEGER, v VARCHAR) AS SELECT id, v FROM o",
    "chain": """CREATE TABLE chain (record BIGINT PRIMARY KEY, id INTEGER, v VARCHAR, area VARCHAR) AS
SELECT o.id, o.v, area.name AS area FROM o JOIN site ON site.id = o.site JOIN area ON area.code = site.area""",
    "latest": """CREATE TABLE latest (id INTEGER PRIMARY KEY, v VARCHAR, area VARCHAR) AS
SELECT o.id, o.v, area.name AS area FROM o JOIN site ON site.id = o.site JOIN area ON area.code = site.area""",
}
VERSIONED = ("alone", "chain")


@pytest.fixture
def pipeline(database: Database, make_pipeline: Any, write_project: Any) -> Pipeline:
    database.execute(*TABLES)
    return make_pipeline(database.url, project=write_project(MODELS))


def versions(pipeline: Pipeline, table: str, key: int = 1) -> list[tuple[Any, ...]]:
    return rows_of(
        pipeline,
        f"SELECT v, valid_from, valid_to, is_deleted FROM {table} WHERE id = {key} ORDER BY valid_from",
    )


def lose_cache(pipeline: Pipeline) -> None:
    shutil.rmtree(pipeline.settings.cache_folder)


def run(pipeline: Pipeline, database: Database, *statements: str) -> at:
    """Changes the source, loses the caches, and runs; gives the read time."""
    database.execute(*statements)
    lose_cache(pipeline)
    cycle = run_cleanly(pipeline)
    assert cycle.ingested.batch is not None
    return cycle.ingested.read_at


def test_a_lake_of_a_release_that_rebuilt_no_table_goes_on(
    pipeline: Pipeline, database: Database, tmp_path: Path
) -> None:
    pipeline.ingest()
    pipeline.process()
    file = tmp_path / "lake" / "processed" / "batches" / "000000000001.json"
    document = json.loads(file.read_text("utf-8"))
    for model in document["models"].values():
        for later in ("soft_deletes", "since", "renamed", "definition"):
            del model[later]
    plain = json.dumps(document | {"content_sha256": ""}, indent=1)
    digest = hashlib.sha256(plain.encode()).hexdigest()
    file.write_text(plain.replace('"content_sha256": ""', f'"content_sha256": "{digest}"'), "utf-8")
    run(pipeline, database, "UPDATE o SET v = 'b2' WHERE id = 2", "DELETE FROM o WHERE id = 3")
    assert rows_of(pipeline, "SELECT * FROM latest ORDER BY 1") == [(1, "a", "North"), (2, "b2", "South")]
    assert [row[0] for row in versions(pipeline, "alone", 2)] == ["b", "b2"]


def test_a_deleted_row_that_returns_unchanged_comes_back(pipeline: Pipeline, database: Database) -> None:
    run_cleanly(pipeline)
    gone = run(pipeline, database, "DELETE FROM o WHERE id = 1")
    back = run(pipeline, database, "INSERT INTO o VALUES (1, 'a', 1, '2024-01-01 10:00')")
    for table in VERSIONED:
        assert versions(pipeline, table) == [
            ("a", at(2024, 1, 1, 10), gone, False),
            ("a", gone, back, True),
            ("a", back, None, False),
        ]
        assert rows_of(pipeline, f"SELECT id FROM {table}_current ORDER BY 1") == [(1,), (2,), (3,)]
    assert rows_of(pipeline, "SELECT id FROM latest ORDER BY 1") == [(1,), (2,), (3,)]


def test_a_deleted_row_is_not_deleted_once_more(pipeline: Pipeline, database: Database) -> None:
    run_cleanly(pipeline)
    gone = run(pipeline, database, "DELETE FROM o WHERE id = 1")
    run(pipeline, database, "UPDATE o SET v = 'b2' WHERE id = 2")
    run(pipeline, database, "UPDATE site SET area = 's' WHERE id = 1")  # what the deleted row joined
    for table in VERSIONED:
        assert versions(pipeline, table) == [
            ("a", at(2024, 1, 1, 10), gone, False),
            ("a", gone, None, True),
        ]


def test_a_row_whose_join_ended_returns_with_it(pipeline: Pipeline, database: Database) -> None:
    run_cleanly(pipeline)
    gone = run(pipeline, database, "DELETE FROM area WHERE code = 's'")
    back = run(pipeline, database, "INSERT INTO area VALUES ('s', 'South')")
    assert versions(pipeline, "chain", 2) == [
        ("b", at(2024, 1, 1, 11), gone, False),
        ("b", gone, back, True),
        ("b", back, None, False),
    ]
    assert rows_of(pipeline, "SELECT id FROM latest ORDER BY 1") == [(1,), (2,), (3,)]


def test_no_row_that_did_not_change_gets_a_version(pipeline: Pipeline, database: Database) -> None:
    run_cleanly(pipeline)
    run(pipeline, database, "UPDATE o SET v = 'a2', last_updated = '2024-02-01' WHERE id = 1")
    # Every row is written again at the source, and only the first is another.
    run(pipeline, database, "UPDATE o SET v = v", "UPDATE o SET v = 'a3', last_updated = '2024-03-01' WHERE id = 1",
        "UPDATE site SET area = area")  # fmt: skip
    for table in VERSIONED:
        assert [(row[0], row[1]) for row in versions(pipeline, table)] == [
            ("a", at(2024, 1, 1, 10)), ("a2", at(2024, 2, 1)), ("a3", at(2024, 3, 1)),
        ]  # fmt: skip
        assert [len(versions(pipeline, table, key)) for key in (2, 3)] == [1, 1]


def test_a_version_begins_after_the_one_before_it_that_only_the_lake_knows(
    pipeline: Pipeline, database: Database
) -> None:
    database.execute("UPDATE o SET last_updated = '2999-01-01' WHERE id = 1")
    run_cleanly(pipeline)
    run(pipeline, database, "UPDATE o SET v = 'z', last_updated = '2024-02-01' WHERE id = 1")
    for table in VERSIONED:
        assert versions(pipeline, table) == [
            ("a", at(2999, 1, 1), at(2999, 1, 1, 0, 0, 0, 1), False),
            ("z", at(2999, 1, 1, 0, 0, 0, 1), None, False),
        ]
