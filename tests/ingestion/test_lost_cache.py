"""A lost cache is rebuilt from many batches at once, and is the one that was lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import duckdb
import pytest

from tests.conftest import Database
from totes.ingestion import known
from totes.pipeline import Pipeline

MODELS = {"dim_t": "CREATE TABLE dim_t (id VARCHAR PRIMARY KEY, v INTEGER) AS SELECT id, v FROM t"}
CHANGES = (
    "UPDATE t SET v = 1 WHERE id = 1",
    "DELETE FROM t WHERE id = 2",
    "INSERT INTO t VALUES (2, 7)",
    "DELETE FROM t WHERE id = 3",
    "ALTER TABLE t ALTER id TYPE text",  # another form of the key
    "UPDATE t SET v = 9 WHERE id = '1'",
)


def test_a_lost_cache_is_rebuilt_from_many_batches_at_once(
    database: Database,
    make_pipeline: Callable[..., Pipeline],
    write_project: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v int)", "INSERT INTO t VALUES (1, 0), (2, 0), (3, 0)"
    )
    pipeline = make_pipeline(database.url, project=write_project(MODELS))
    file = pipeline.settings.cache_folder / "ingestion.duckdb"

    def marks() -> list[tuple[Any, ...]]:
        with duckdb.connect(str(file), read_only=True) as cache:
            tables = "SELECT table_name FROM duckdb_tables() WHERE starts_with(table_name, 'known')"
            [(table,)] = cache.execute(tables).fetchall()
            return cache.execute(f'FROM "{table}" ORDER BY ALL').fetchall()

    pipeline.ingest()
    for change in CHANGES:
        database.execute(change)
        pipeline.ingest()
    before = marks()
    assert [str(key) for key, _ in before] == ["1", "2"]
    for at_once in (100, 3, 1):
        monkeypatch.setattr(known, "_BATCHES_AT_ONCE", at_once)
        file.unlink()
        assert pipeline.ingest().batch is None
        assert marks() == before
