"""Checkpoints: a cache that is lost returns from its last copy, and where that cannot be used, from the lake."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.conftest import Database, rows_of, run_cleanly
from totes import engine
from totes.deadline import Deadline
from totes.ingestion import known
from totes.lake import cache as cache_module
from totes.lake import checkpoint as checkpoint_module
from totes.lake.document import StoredObject
from totes.lake.layout import checkpoint_batch
from totes.lake.store import Store
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
    files = {
        file: file.read_bytes()
        for file in Path(pipeline.ingestion_store.url).rglob("checkpoints/**/*.parquet")
    }
    assert files
    lose_cache(pipeline)
    make_batches(database, pipeline, 1)
    assert {file: file.read_bytes() for file in files} == files


def test_a_checkpoint_that_goes_while_it_is_copied_is_passed_over(
    database: Database, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_batches(database, pipeline, 4)
    [newest] = Path(pipeline.ingestion_store.url).glob("checkpoints/ingestion/000000000004-*/")
    local = Store.local

    @contextmanager
    def local_but_late(store: Store, objects: Sequence[StoredObject]) -> Iterator[Sequence[Path]]:
        with local(store, objects) as files:
            if newest.name in objects[0].path:
                shutil.rmtree(newest, ignore_errors=True)
            yield files

    lose_cache(pipeline)
    monkeypatch.setattr(Store, "local", local_but_late)
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
        [*newest] = Path(store.url).rglob("000000000004-*/*.parquet")
        newest[-1].write_bytes(b"damaged")
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
    monkeypatch.setattr(known, "_BATCHES_AT_ONCE", 1)
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


def plant(pipeline: Pipeline, number: int, content: bytes) -> None:
    """Puts another object in the place of a table of each checkpoint, with a document that says so."""
    for store in (pipeline.ingestion_store, pipeline.processed_store):
        for file in Path(store.url).glob("checkpoints/*/*.json"):
            document = json.loads(file.read_text())
            entry = document["tables"][number]["file"]
            (Path(store.url) / entry["path"]).write_bytes(content)
            entry |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            file.write_text(json.dumps(document))


def test_a_planted_database_is_not_opened_as_one(
    database: Database, pipeline: Pipeline, tmp_path: Path
) -> None:
    make_batches(database, pipeline, 2)
    planted = tmp_path / "planted.duckdb"
    with duckdb.connect(str(planted)) as connection:
        for function in ("md5(a)", "coalesce(a, b)", "count(a)", "hash(a)"):
            connection.execute(
                f"CREATE MACRO {function} AS (SELECT content FROM read_text('{tmp_path}/secret'))"
            )
        connection.execute("CREATE TABLE totes_position (batch BIGINT)")
    (tmp_path / "secret").write_text("a secret of the runner")
    plant(pipeline, 0, planted.read_bytes())
    lose_cache(pipeline)
    make_batches(database, pipeline, 1)
    assert is_equal(pipeline)
    for store in (pipeline.ingestion_store, pipeline.processed_store):
        for file in Path(store.url).rglob("*.*"):
            assert file.is_dir() or b"a secret of the runner" not in file.read_bytes()


NO_TABLES: tuple[dict[str, Any], ...] = (
    {"name": "totes_position"},
    {"types": {"k0": "INTEGER); COPY (SELECT 1) TO '/tmp/planted' --"}},
    {"types": {"no_such_column": "INTERVAL"}},
    {"file": {"path": "../../outside", "rows": 1, "bytes": 1, "sha256": ""}},
    {"macros": ["count"]},
)


def test_a_document_that_describes_no_tables_is_passed_over(database: Database, pipeline: Pipeline) -> None:
    def files() -> Iterator[Path]:
        for store in (pipeline.ingestion_store, pipeline.processed_store):
            yield from Path(store.url).glob("checkpoints/*/*.json")

    make_batches(database, pipeline, 2)
    documents = {file: json.loads(file.read_text()) for file in files()}
    assert len(documents) == 4
    for change in NO_TABLES:
        for newer in set(files()) - documents.keys():
            newer.unlink()
        for file, document in documents.items():
            first, *others = document["tables"]
            file.write_text(json.dumps(document | {"tables": [first | change, *others]}))
        lose_cache(pipeline)
        make_batches(database, pipeline, 1)
        assert is_equal(pipeline), change


def test_where_checkpoints_are_off_those_that_are_there_are_not_opened(
    database: Database, pipeline: Pipeline, make_pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_batches(database, pipeline, 2)
    off = Pipeline(
        pipeline.settings.model_copy(
            update={"lake": pipeline.settings.lake.model_copy(update={"checkpoints": False})}
        )
    )
    read: list[str] = []
    for method in ("read", "list"):
        original = getattr(Store, method)
        monkeypatch.setattr(
            Store,
            method,
            lambda store, path, *after, original=original: (read.append(path), original(store, path, *after))[
                1
            ],
        )
    lose_cache(off)
    make_batches(database, off, 1)
    assert read
    assert [path for path in read if "checkpoint" in path] == []


def test_a_checkpoint_of_a_batch_that_the_lake_holds_no_longer_is_noticed(
    database: Database, pipeline: Pipeline
) -> None:
    make_batches(database, pipeline, 2)
    lose_cache(pipeline)
    document = next(Path(pipeline.ingestion_store.url).glob("checkpoints/ingestion/000000000002-*.json"))
    described = json.loads(document.read_text())
    document.write_text(json.dumps(described | {"manifest_sha256": "0" * 64}))
    failures = pipeline.run().failures
    assert "000000000002.json is not the manifest that was there when the lake was last read" in str(
        failures["ingest"]
    )


def test_every_type_returns_as_it_was(tmp_path: Path) -> None:
    values = {
        "HUGEINT": "170141183460469231731687303715884105727",
        "UHUGEINT": "340282366920938463463374607431768211455",
        "BIGNUM": "123456789012345678901234567890123456789012345678901234567890",
        "BIT": "10101",
        "INTERVAL": "-1 month 2 days 00:00:00.000001",
        "TIMETZ": "12:00:00.123456-15:59:59",
        "TIMESTAMP_S": "infinity",
        "TIMESTAMP_MS": "2020-01-01 00:00:00.123",
        "TIMESTAMP": "0044-03-15 (BC) 01:02:03.123456",
        "TIMESTAMPTZ": "-infinity",
        "DATE": "infinity",
        "TIME": "24:00:00",
        "DECIMAL(38, 10)": "1234567890123456789012345678.0123456789",
        "DOUBLE": "-0.0",
        "BLOB": "\\x00\\xFF",
        "UUID": "00000000-0000-0000-0000-0000000000ff",
        "STRUCT(a VARCHAR, b INTEGER)[]": "[{'a': x, 'b': 1}]",
    }
    store, connection = Store.open("lake", tmp_path), engine.connect(None, memory="1GB", reads=[tmp_path])
    connection.execute(f"CREATE TABLE t ({', '.join(f'c{n} {kind}' for n, kind in enumerate(values))})")
    connection.execute(f"INSERT INTO t VALUES ({', '.join('?' * len(values))})", list(values.values()))
    connection.execute(f"INSERT INTO t VALUES ({', '.join(['NULL'] * len(values))})")
    asked = (
        f"SELECT {', '.join(f'c{n}::VARCHAR, typeof(c{n})' for n in range(len(values)))} FROM t ORDER BY 1"
    )
    before = connection.execute(asked).fetchall()
    checkpoint = checkpoint_module.Checkpoint(stage="s", batch=1, manifest_sha256="", bytes=0, tables=())
    checkpoint_module.save_checkpoint(store, connection, "s", {"t": "a comment"}, checkpoint)
    connection.execute("DROP TABLE t")
    [stored] = checkpoint_module.checkpoints(store, "s")
    checkpoint_module.restore_tables(store, connection, stored)
    assert connection.execute(asked).fetchall() == before
    assert engine.scalar(connection, "SELECT comment FROM duckdb_tables()") == "a comment"
