"""The small objects of old batches are in bundles too: they are read from there at once, and may be deleted."""

from __future__ import annotations

import shutil
import zipfile
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.conftest import Database, run_cleanly
from tests.contracts.shop import MODELS, SCHEMA
from tests.lake.counted import counted
from totes.errors import CommandFailed, LakeDamaged
from totes.lake import bundle, bundles, layout
from totes.lake.backup import back_up
from totes.lake.document import StoredObject
from totes.lake.folder import digest
from totes.lake.store import Store
from totes.monitoring.history import read_history
from totes.monitoring.verification import verify
from totes.pipeline import Pipeline

BATCHES, LENGTH = 10, 4


def stored(store: Store, batch: int, content: bytes) -> StoredObject:
    path = f"sale/date=2026-11-28/{batch:012d}-0001-0000000{batch % 10}.jsonl"
    store.put_new(path, content)
    found, size = digest(Path(store.url) / path)
    return StoredObject(path=path, rows=1, bytes=size, sha256=found)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open("lake", tmp_path)


@pytest.fixture
def entries(store: Store) -> list[StoredObject]:
    """Objects of a chapter, of which one is not small."""
    contents = [f'{{"n":{batch}}}\n'.encode() for batch in range(1, 40)]
    return [
        stored(store, batch, content)
        for batch, content in enumerate([*contents, b"x" * (bundle.SMALL_BYTES_MAX + 1)], 1)
    ]


PLACE = "chapters/000000001000/sale.zip"


def test_objects_are_in_their_chapters_bundle_and_any_tool_can_open_it(
    store: Store, entries: list[StoredObject]
) -> None:
    store.bundle(entries)
    with zipfile.ZipFile(Path(store.url) / PLACE) as archive:
        assert archive.namelist() == [entry.path for entry in entries[:-1]]
        assert archive.read(entries[2].path) == b'{"n":3}\n'
    before = (Path(store.url) / PLACE).read_bytes()
    store.bundle(entries)  # as another runner would
    assert (Path(store.url) / PLACE).read_bytes() == before


def test_many_objects_are_read_by_one_request_and_few_by_one_each(
    store: Store, entries: list[StoredObject]
) -> None:
    store.bundle(entries)
    requests = Counter[str]()
    counted(store, requests)
    with store.local(entries) as files:
        assert [file.read_bytes() for file in files[:3]] == [b'{"n":1}\n', b'{"n":2}\n', b'{"n":3}\n']
    assert requests == {"get": 2}  # the bundle, and the object that is too large for it
    requests.clear()
    with store.local(entries[:3]):
        assert requests == {"get": 3}


@pytest.mark.parametrize("damage", ["gone", "overwritten", "forged", "compressed"])
def test_a_bundle_is_believed_only_where_the_manifest_agrees(
    store: Store, entries: list[StoredObject], damage: str
) -> None:
    store.bundle(entries)
    place = Path(store.url) / PLACE
    place.unlink()
    if damage == "overwritten":
        place.write_bytes(b"nothing of a bundle")
    elif damage == "forged":
        place.write_bytes(bundle.pack({entry.path: b'{"n":0}\n' for entry in entries}))
    elif damage == "compressed":
        with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
            for entry in entries[:-1]:
                archive.writestr(entry.path, (Path(store.url) / entry.path).read_bytes())
    again = Store.open(store.url, Path())
    with again.local(entries) as files:
        assert files[4].read_bytes() == b'{"n":5}\n'
    (Path(store.url) / entries[4].path).unlink()
    with pytest.raises(LakeDamaged, match="is missing, though a manifest names it"), again.local(entries):
        pass
    assert not again.check(entries[4])


@pytest.fixture
def pipeline(
    database: Database,
    make_pipeline: Callable[..., Pipeline],
    write_project: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> Pipeline:
    """A shop's pipeline over a lake with short chapters, in which a customer and an order change in each batch."""
    monkeypatch.setattr(layout, "CHAPTER_BATCHES", LENGTH)
    monkeypatch.setattr(bundles, "_MANY", 2)
    database.execute(*SCHEMA)
    pipeline = make_pipeline(database.url, project=write_project(MODELS))
    run_cleanly(pipeline)
    for number in range(2, BATCHES + 1):
        change(database, number)
        run_cleanly(pipeline)
    return pipeline


def change(database: Database, number: int) -> None:
    database.execute(
        f"UPDATE customer SET city = 'Bath {number}' WHERE customer_id = 10",
        f"UPDATE \"order\" SET quantity = {number}, last_updated = last_updated + interval '1 hour' WHERE order_id = 1",
    )


def expire(pipeline: Pipeline) -> int:
    """Deletes every object that is in a bundle, and the caches; gives how many."""
    deleted = 0
    for store in (pipeline.ingestion_store, pipeline.processed_store):
        lake = Path(store.url)
        for archive in lake.glob("chapters/*/**/*.zip"):
            with zipfile.ZipFile(archive) as opened:
                for path in opened.namelist():
                    (lake / path).unlink()
                    deleted += 1
    shutil.rmtree(pipeline.settings.cache_folder)
    return deleted


def anew(pipeline: Pipeline) -> Pipeline:
    return Pipeline(pipeline.settings)


def histories(pipeline: Pipeline) -> list[Any]:
    keys = (("order", "1"), ("customer", "10"), ("dim_customer", "10"), ("fact_order", "1"), ("order", "2"))
    return [read_history(anew(pipeline), table, [key]) for table, key in keys]


def star(file: Path) -> list[Any]:
    with closing(duckdb.connect(file, read_only=True)) as connection:
        return [
            connection.execute(f"FROM {table} ORDER BY ALL").fetchall()
            for table in ("dim_customer", "fact_order")
        ]


def test_objects_that_are_in_bundles_can_be_deleted_and_nothing_is_lost(
    pipeline: Pipeline, database: Database, tmp_path: Path
) -> None:
    before, loaded = histories(pipeline), star(tmp_path / "warehouse.duckdb")
    assert expire(pipeline) > 4 * LENGTH
    assert histories(pipeline) == before
    change(database, BATCHES + 1)
    run_cleanly(anew(pipeline))  # which has no cache
    assert verify(anew(pipeline), (), 1.0, lambda _doing: None).equal
    one = anew(pipeline)
    stores = one.ingestion_store, one.processed_store
    back_up(*stores, str(tmp_path / "backup"), tmp_path, check=False)
    assert not back_up(*stores, str(tmp_path / "backup"), tmp_path, check=True).faults
    anew(pipeline).replay(f"duckdb:///{tmp_path}/again.duckdb", BATCHES)
    assert star(tmp_path / "again.duckdb") == loaded


def test_an_object_that_is_nowhere_is_named(pipeline: Pipeline, tmp_path: Path) -> None:
    expire(pipeline)
    for archive in (tmp_path / "lake/ingestion/chapters").rglob("order.zip"):
        archive.unlink()
    with pytest.raises((LakeDamaged, CommandFailed), match="is missing, though a manifest names it"):
        read_history(anew(pipeline), "order", ["1"])
