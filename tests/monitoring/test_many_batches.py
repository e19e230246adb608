"""`verify` reads every batch of the lake, also where there are more than are read at once."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Database, rows_of
from totes.monitoring import lake_rows
from totes.monitoring.verification import verify
from totes.pipeline import Pipeline

BATCHES = 8
FACT = "CREATE TABLE fact (record BIGINT PRIMARY KEY, id INTEGER, v INTEGER) AS SELECT id, v FROM t"


def test_each_of_many_batches_is_compared(
    database: Database, make_pipeline: Any, write_project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lake_rows, "_BATCHES_AT_ONCE", 3)
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v int)", "INSERT INTO t VALUES (1, 1)")
    pipeline: Pipeline = make_pipeline(database.url, project=write_project({"fact": FACT}))
    for batch in range(1, BATCHES + 1):
        database.execute(f"UPDATE t SET v = {batch}")
        assert pipeline.ingest().batch == batch
    pipeline.process()
    pipeline.load()
    assert rows_of(pipeline, "SELECT count(*), max(v) FROM fact") == [(BATCHES, BATCHES)]
    told: list[str] = []
    verdict = verify(pipeline, (), 1.0, told.append)
    assert (verdict.batch, verdict.equal) == (BATCHES, True)
    assert (verdict.tables["fact"].rows, verdict.tables["fact"].altered) == (1, 0)
