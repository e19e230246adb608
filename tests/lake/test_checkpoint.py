"""Checkpoints: a cache that is lost returns from its last copy, and where that cannot be used, from the lake."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Database, rows_of, run_cleanly
from totes.deadline import Deadline
from totes.lake import cache as cache_module
from totes.lake import checkpoint as checkpoint_module
from totes.lake.layout import checkpoint_batch
from totes.monitoring.verification import verify
from totes.pipeline import Pipeline

MODELS = {
    "dim_t": "CREATE TABLE dim_t (id INTEGER PRIMARY KEY, v VARCHAR) AS SELECT id, v FROM t",
    "fact_u": """CREATE TABLE fact_u (u_key BIGINT PRIMARY KEY, id INTEGER NOT NULL, t_id INTEGER REFERENCES dim_t, v VARCHAR) AS
        SELECT u.id, u.t_id, t.v FROM u LEFT JOIN t ON t.id = u.t_id""",
}
LITTLE_TIME = Deadline.after(1e-9)


@pytest.fixture
def pipeline(
    database: Database, make_pipeline: Any, write_project: Any, monkeypatch: pytest.MonkeyPatch
) -> Pipeline:
    """A pipeline whose caches are stored after every second batch."""
    monkeypatch.setattr(cache_module, "CHECKPOINT_BATCHES", 2)
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text)",
        "CREATE TABLE u (id int PRIMARY KEY, t_id int REFERENCES t)",
        "INSERT INTO t SELECT i, 'a' FROM generate_series(1, 20) i",
        "INSERT INTO u SELECT i, 1 + i % 20 FROM generate_series(1, 100) i",
    )
    pipeline: Pipeline = make_pipeline(
        database.url, project=write_project(MODELS), lake={"checkpoints": True}
    )
    return pipeline


def make_batches(database: Database, pipeline: Pipeline, number: int) -> None:
    for _ in range(number):
        database.execute(
            "UPDATE t SET v = v || '!' WHERE id = 3", "INSERT INTO u SELECT max(id) + 1, 3 FROM u"
        )
        run_cleanly(pipeline)


def stored(pipeline: Pipeline, stage: str) -> list[int]:
    """The batches at which the stage's cache was stored."""
    store = pipeline.ingestion_store if stage == "ingestion" else pipeline.processed_store
    paths = store.list(f"checkpoints/{stage}/")
    return sorted(batch for path in paths if (batch := checkpoint_batch(path)))


def lose_cache(pipeline: Pipeline) -> None:
    shutil.rmtree(pipeline.settings.cache_folder)


def lose_batches(pipeline: Pipeline, *batches: int) -> None:
    """Takes away what a cache that is made out of these batches would read."""
    for store in (pipeline.ingestion_store, pipeline.processed_store):
        for batch in batches:
            for file in Path(store.url).rglob(f"date=*/{batch:012d}-*"):
                file.unlink()


def spoil_checkpoints(pipeline: Pipeline) -> None:
    """Makes them those of another version."""
    for store in (pipeline.ingestion_store, pipeline.processed_store):
        for document in Path(store.url).rglob("checkpoints/*/*.json"):
            document.write_text(document.read_text().replace('"totes": "', '"totes": "99.'))


def is_equal(pipeline: Pipeline) -> bool:
    return verify(pipeline, ("dim_t",), 1.0, lambda _: None).equal


def test_a_lost_cache_returns_from_the_checkpoint_and_what_came_after_it(
    database: Database, pipeline: Pipeline
) -> None:
    make_batches(database, pipeline, 5)
    assert stored(pipeline, "ingestion") == stored(pipeline, "processing") == [1, 2, 4]
    lose_cache(pipeline)
    lose_batches(pipeline, 1, 2, 3, 4)
    make_batches(database, pipeline, 1)
    assert rows_of(pipeline, "SELECT v, count(*) FROM fact_u_current GROUP BY 1 ORDER BY 1") == [
        ("a", 95),
        ("a!!!!!!", 11),
    ]
    assert rows_of(pipeline, "SELECT count(*) FROM fact_u WHERE id = 101") == [(6,)]
    assert stored(pipeline, "ingestion")[-1] == 6


def test_a_restored_cache_knows_that_it_was_stored(database: Database, pipeline: Pipeline) -> None:
    make_batches(database, pipeline, 2)
    lose_cache(pipeline)
    make_batches(database, pipeline, 1)
    assert stored(pipeline, "ingestion") == stored(pipeline, "processing") == [1, 2]


def test_a_checkpoint_is_still_there_after_a_cache_has_returned_from_it(
    database: Database, pipeline: Pipeline
) -> None:
    make_batches(database, pipeline, 2)
    files = {file: file.read_bytes() for file in Path(pipeline.ingestion_store.url).rglob("*.duckdb")}
    lose_cache(pipeline)
    make_batches(database, pipeline, 1)
    assert {file: file.read_bytes() for file in files} == files


def test_a_checkpoint_that_goes_while_it_is_copied_is_passed_over(
    database: Database, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_batches(database, pipeline, 4)
    [newest] = Path(pipeline.ingestion_store.url).rglob("000000000004-*.duckdb")
    copy = shutil.copyfile

    def copy_late(source: Path, target: Path) -> object:
        newest.unlink(missing_ok=True)
        return copy(source, target)

    lose_cache(pipeline)
    monkeypatch.setattr(shutil, "copyfile", copy_late)
    make_batches(database, pipeline, 1)
    assert not newest.exists()
    assert is_equal(pipeline)


def test_a_file_that_has_grown_is_stored_at_once(
    database: Database, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_batches(database, pipeline, 2)
    monkeypatch.setattr(cache_module, "CHECKPOINT_BATCHES", 1000)
    monkeypatch.setattr(cache_module, "CHECKPOINT_BYTES", 1 << 20)
    database.execute("INSERT INTO u SELECT i, NULL FROM generate_series(1000, 300000) i")
    run_cleanly(pipeline)
    make_batches(database, pipeline, 1)
    assert stored(pipeline, "processing") == [1, 2, 3]


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    database: Database, pipeline: Pipeline
) -> None:
    make_batches(database, pipeline, 4)
    for store in (pipeline.ingestion_store, pipeline.processed_store):
        [newest] = Path(store.url).rglob("000000000004-*.duckdb")
        newest.write_bytes(b"damaged")
    lose_cache(pipeline)
    lose_batches(pipeline, 1, 2)
    make_batches(database, pipeline, 1)
    assert rows_of(pipeline, "SELECT v FROM dim_t WHERE id = 3") == [("a!!!!!",)]


def test_without_a_usable_checkpoint_the_cache_is_made_out_of_the_lake(
    database: Database, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_batches(database, pipeline, 2)
    spoil_checkpoints(pipeline)
    lose_cache(pipeline)
    make_batches(database, pipeline, 1)
    assert is_equal(pipeline)
    spoil_checkpoints(pipeline)
    lose_cache(pipeline)
    lose_batches(pipeline, 1)
    database.execute("UPDATE t SET v = 'last'")
    assert set(pipeline.run().failures) == {"ingest"}  # what was taken away is what it is made of


def test_runners_that_store_the_same_batch_do_not_hinder_one_another(
    database: Database, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = checkpoint_module.save_checkpoint

    def save_twice(*arguments: Any) -> None:
        save(*arguments)
        save(*arguments)

    monkeypatch.setattr(cache_module, "save_checkpoint", save_twice)
    make_batches(database, pipeline, 2)
    assert stored(pipeline, "ingestion") == [1, 1, 2, 2]
    lose_cache(pipeline)
    make_batches(database, pipeline, 1)


def test_a_checkpoint_of_another_version_keeps_none_from_its_place(
    database: Database, pipeline: Pipeline
) -> None:
    make_batches(database, pipeline, 2)
    spoil_checkpoints(pipeline)
    lose_cache(pipeline)
    # The cache is made again, at the batch that it was stored at.
    assert run_cleanly(pipeline).ingested.batch is None
    lose_cache(pipeline)
    for file in Path(pipeline.ingestion_store.url).rglob("marks/**/00000000000[12]-*"):
        file.unlink()
    database.execute("UPDATE t SET v = 'b' WHERE id = 4")
    assert pipeline.ingest().changes["t"].upserts == 1


def test_what_cannot_be_stored_is_said_and_tried_again(
    database: Database, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_batches(database, pipeline, 1)
    place = Path(pipeline.ingestion_store.url) / "checkpoints/ingestion"
    shutil.rmtree(place)
    place.write_text("in the way")
    database.execute("UPDATE t SET v = 'b'")
    assert set(pipeline.run().failures) == {"ingest"}
    assert rows_of(pipeline, "SELECT DISTINCT v FROM dim_t") == [("b",)]  # the batch is committed
    place.unlink()
    assert run_cleanly(pipeline).ingested.batch is None
    assert stored(pipeline, "ingestion") == [2]


def test_checkpoints_are_stored_only_where_they_are_asked_for(
    database: Database, pipeline: Pipeline, make_pipeline: Any, write_project: Any, tmp_path: Path
) -> None:
    plain = make_pipeline(database.url, folder=tmp_path / "plain", project=write_project(MODELS))
    make_batches(database, plain, 3)
    assert list(plain.ingestion_store.list("checkpoints/")) == []


def test_a_cache_that_takes_long_to_make_again_is_made_in_several_calls(
    database: Database, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "CHECKPOINT_BATCHES", 1000)
    make_batches(database, pipeline, 4)
    spoil_checkpoints(pipeline)
    lose_cache(pipeline)
    database.execute("UPDATE t SET v = 'c' WHERE id = 4")
    calls = [pipeline.ingest(deadline=LITTLE_TIME) for _ in range(5)]
    assert [(call.batch, call.more) for call in calls] == [
        *[(None, True)] * 3,
        (5, False),
        (None, False),
    ]
    assert [pipeline.process(deadline=LITTLE_TIME).more for _ in range(5)] == [True, True, True, False, False]
    pipeline.load()
    assert is_equal(pipeline)
