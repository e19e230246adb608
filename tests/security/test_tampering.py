"""What is noticed when somebody who can write to the lake changes it, and what is refused before it does harm."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.conftest import Database, run_cleanly
from totes.errors import LakeDamaged, TotesError
from totes.lake import store as store_module
from totes.lake.document import StoredObject
from totes.lake.journal import Journal, ingestion_journal, processed_journal
from totes.lake.store import Store
from totes.pipeline import Pipeline

MODEL = {"dim_t": "CREATE TABLE dim_t (id INTEGER PRIMARY KEY, v VARCHAR) AS SELECT id, v FROM t"}


@pytest.fixture
def pipeline(database: Database, make_pipeline: Callable[..., Pipeline], write_project: Any) -> Pipeline:
    """A lake of three batches, loaded into a warehouse."""
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v text)")
    made = make_pipeline(database.url, project=write_project(MODEL))
    for batch in (1, 2, 3):
        database.execute(f"INSERT INTO t VALUES ({batch}, 'as written')")
        run_cleanly(made)
    return made


def afresh(pipeline: Pipeline) -> Pipeline:
    """The pipeline of somebody who has never seen the lake."""
    shutil.rmtree(pipeline.settings.cache_folder)
    Path(pipeline.settings.base, "warehouse.duckdb").unlink()
    return Pipeline(pipeline.settings)


def forge(pipeline: Pipeline, batch: int, *, digest: bool) -> None:
    """Puts other rows in the place of a processed batch's, and a manifest that says so."""
    folder = Path(pipeline.processed_store.url)
    file = folder / f"batches/{batch:012d}.json"
    [entry] = processed_journal(pipeline.processed_store).read(batch).models["dim_t"].objects
    with duckdb.connect() as engine:
        engine.execute(
            f"COPY (SELECT * REPLACE ('forged' AS v) FROM '{folder / entry.path}') TO '{folder}/forged' (FORMAT parquet)"
        )
    content = (folder / "forged").read_bytes()
    (folder / "forged").rename(folder / entry.path)
    text = file.read_text().replace(entry.sha256, hashlib.sha256(content).hexdigest())
    text = text.replace(f'"bytes": {entry.bytes}', f'"bytes": {len(content)}')
    text = re.sub(r'"content_sha256": "\w*"', '"content_sha256": ""', text)
    if digest:
        text = text.replace(
            '"content_sha256": ""', f'"content_sha256": "{hashlib.sha256(text.encode()).hexdigest()}"', 1
        )
    file.write_text(text)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_a_manifest_without_its_digest_is_damaged(pipeline: Pipeline, batch: int) -> None:
    forge(pipeline, batch, digest=False)
    with pytest.raises(LakeDamaged, match=f"{batch}\\.json is not what was written"):
        afresh(pipeline).load()


@pytest.mark.parametrize("batch", [1, 2])
def test_a_batch_that_was_replaced_with_all_its_digests_is_noticed_by_the_one_after_it(
    pipeline: Pipeline, batch: int
) -> None:
    forge(pipeline, batch, digest=True)
    fresh = afresh(pipeline)
    with pytest.raises(
        LakeDamaged, match=rf"{batch}\.json is not the manifest that batch {batch + 1} follows"
    ):
        fresh.load()
    with fresh.warehouse() as warehouse:
        newest = warehouse.newest()
    assert (newest.batch if newest else 0) == batch - 1  # nothing of it was loaded


def test_the_newest_batch_replaced_with_all_its_digests_is_noticed_by_whoever_read_it_before(
    database: Database, pipeline: Pipeline
) -> None:
    forge(pipeline, 3, digest=True)
    database.execute("INSERT INTO t VALUES (4, 'as written')")
    failures = Pipeline(pipeline.settings).run().failures
    assert "is not the manifest that was there when the lake was last read" in str(failures["process"])
    assert "the warehouse holds batch 3 of another lake" in str(failures["load"])
    # And whoever never read it has nothing to go by: docs/concepts/threat-model.md says so.
    afresh(pipeline).load()


def test_a_captured_batch_that_was_replaced_is_noticed_by_what_was_made_from_it(
    database: Database, pipeline: Pipeline
) -> None:
    file = Path(pipeline.ingestion_store.url) / "batches/000000000003.json"
    text = re.sub(r'"content_sha256": "\w*"', '"content_sha256": ""', file.read_text()).replace(
        '"public"', '"other"'
    )
    digest = hashlib.sha256(text.encode()).hexdigest()
    file.write_text(text.replace('"content_sha256": ""', f'"content_sha256": "{digest}"', 1))
    assert ingestion_journal(Store.open(pipeline.ingestion_store.url, Path())).read(3).schema_name == "other"
    with pytest.raises(LakeDamaged, match="was made from another ingestion lake"):
        afresh(pipeline).process()


def test_a_document_larger_than_any_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "lake/batches").mkdir(parents=True)
    with (tmp_path / "lake/batches/000000000001.json").open("wb") as file:
        file.truncate(store_module.DOCUMENT_BYTES_MAX + 1)
    with pytest.raises(
        LakeDamaged, match=r"000000000001\.json has 67108865 bytes, more than any document of totes"
    ):
        ingestion_journal(Store.open("lake", tmp_path)).newest()


@pytest.mark.parametrize(
    "content", ["[" * 1_000_000, '{"tables": ' + '{"a":' * 100_000, '{"batch": 1e999999}', "nul\0l"]
)
def test_a_document_that_is_no_manifest_is_damaged(tmp_path: Path, content: str) -> None:
    store = Store.open("lake", tmp_path)
    store.put_new("batches/000000000001.json", content.encode())
    with pytest.raises(LakeDamaged, match="is not a manifest"):
        ingestion_journal(store).newest()


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_link_out_of_the_store_is_not_followed(tmp_path: Path, what: str) -> None:
    store = Store.open("lake", tmp_path)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_bytes(b"secret")
    if what == "file":
        (tmp_path / "lake/t").mkdir()
        (tmp_path / "lake/t/secret").symlink_to(tmp_path / "outside/secret")
    else:
        (tmp_path / "lake/t").symlink_to(tmp_path / "outside")
    entry = StoredObject(path="t/secret", rows=1, bytes=6, sha256=hashlib.sha256(b"secret").hexdigest())
    for read in (
        lambda: store.read("t/secret"),
        lambda: store.check(entry),
        lambda: store.local([entry]).__enter__(),
    ):
        with pytest.raises(LakeDamaged, match=r"t/secret leads out of the store by a symbolic link"):
            read()
    if what == "folder":
        with pytest.raises(LakeDamaged, match="leads out of the store"):
            store.put_new("t/new", b"")
        assert not (tmp_path / "outside/new").exists()
    assert Store.open("lake", tmp_path).url == str(tmp_path / "lake")
    (tmp_path / "link").symlink_to(tmp_path / "lake")  # the whole store may be one
    assert Store.open("link", tmp_path).url == str(tmp_path / "lake")


def test_a_packet_with_more_rows_than_its_manifest_records_is_not_unpacked_completely(
    database: Database, pipeline: Pipeline
) -> None:
    from backports import zstd

    database.execute("INSERT INTO t VALUES (4, 'last')")
    manifest = ingestion_journal(pipeline.ingestion_store)
    pipeline.ingest()
    [entry] = manifest.read(4).tables["t"].objects
    file = Path(pipeline.ingestion_store.url) / entry.path
    line = zstd.decompress(file.read_bytes())
    bomb = zstd.compress(line * 20_000_000)
    assert len(bomb) < 1 << 20
    file.write_bytes(bomb)
    path = Path(pipeline.ingestion_store.url) / "batches/000000000004.json"
    text = path.read_text().replace(entry.sha256, hashlib.sha256(bomb).hexdigest())
    text = text.replace(f'"bytes": {entry.bytes}', f'"bytes": {len(bomb)}')
    text = re.sub(r'"content_sha256": "\w*"', '"content_sha256": ""', text)
    path.write_text(
        text.replace(
            '"content_sha256": ""', f'"content_sha256": "{hashlib.sha256(text.encode()).hexdigest()}"', 1
        )
    )
    with pytest.raises(TotesError, match="has 1 changes of t, but 2 were read"):
        Pipeline(pipeline.settings).process()


def test_a_journal_keeps_to_its_own_numbers(tmp_path: Path, pipeline: Pipeline) -> None:
    store = Path(pipeline.processed_store.url)
    shutil.copy(store / "batches/000000000001.json", store / "batches/000000000002.json")
    with pytest.raises(LakeDamaged):
        afresh(pipeline).load()
    assert json.loads((store / "batches/000000000002.json").read_text())["batch"] == 1
    assert isinstance(processed_journal(pipeline.processed_store), Journal)
