"""Surrogate keys are a sequence without gaps, in the order of the rows' own keys: processing a lake anew gives the same."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from tests.conftest import Database, rows_of, run_cleanly

FACT = """CREATE TABLE fact_o (record BIGINT PRIMARY KEY, name VARCHAR NOT NULL, id INTEGER NOT NULL) AS
SELECT o.name, o.id FROM o"""
IN_ORDER = """SELECT count(*), min(record), max(record), bool_and(record > before)
FROM (SELECT record, lag(record, 1, 0) OVER (ORDER BY batch_id, id) AS before FROM fact_o)"""
ROWS = 50_000


def test_surrogates_follow_the_key_over_all_objects_of_a_batch(
    database: Database, make_pipeline: Any, write_project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("totes.processing.output.PART_GROUPS_MAX", 1)
    monkeypatch.setattr("totes.processing.output.GROUP_ROWS", 10_240)
    database.execute(
        "CREATE TABLE o (id int PRIMARY KEY, name text)",
        f"INSERT INTO o SELECT i, 'n' || i FROM generate_series(1, {ROWS}) AS i ORDER BY md5(i::text)",
    )
    pipeline = make_pipeline(database.url, project=write_project({"fact_o": FACT}))
    first = run_cleanly(pipeline).processed
    assert len(first.batches[1]["fact_o"].objects) == 5
    assert rows_of(pipeline, IN_ORDER) == [(ROWS, 1, ROWS, True)]

    database.execute("UPDATE o SET name = 'x' WHERE id % 10 = 3", "DELETE FROM o WHERE id % 10 = 7")
    run_cleanly(pipeline)
    assert rows_of(pipeline, IN_ORDER) == [(ROWS * 6 // 5, 1, ROWS * 6 // 5, True)]
    before = rows_of(pipeline, "SELECT record, id, name, is_deleted FROM fact_o ORDER BY record")

    settings = pipeline.settings
    shutil.rmtree(settings.base / settings.lake.processed)
    (settings.base / settings.warehouse.url.get_secret_value().removeprefix("duckdb:///")).unlink()
    run_cleanly(pipeline)
    assert rows_of(pipeline, "SELECT record, id, name, is_deleted FROM fact_o ORDER BY record") == before
