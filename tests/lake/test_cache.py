"""A cache may be lost, damaged, of another lake, of another version, or in use: the lake makes it again."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from totes.errors import LakeDamaged, StoreError
from totes.lake import cache as cache_module
from totes.lake.cache import Cache
from totes.lake.journal import Journal
from totes.lake.manifest import Manifest
from totes.lake.store import Store
from totes.lake.workspace import Workspace

NOON = datetime(2024, 11, 26, 12, tzinfo=UTC)


@pytest.fixture
def journal(tmp_path: Path) -> Journal[Manifest]:
    """A journal of two batches."""
    journal = Journal(Store.open("lake", tmp_path), Manifest)
    for batch in (1, 2):
        journal.commit(Manifest(batch=batch, previous_sha256=None, started_at=NOON, finished_at=NOON))
    return journal


@pytest.fixture
def opened(tmp_path: Path, journal: Journal[Manifest]) -> Callable[..., AbstractContextManager[Cache]]:
    """Opens the cache of a stage."""

    @contextmanager
    def opened(of: Journal[Manifest] = journal) -> Iterator[Cache]:
        with (
            Workspace.open(tmp_path / "cache", "100MB") as workspace,
            Cache.open(workspace, "stage", of) as cache,
        ):
            yield cache

    return opened


def learn(cache: Cache, journal: Journal[Manifest]) -> list[int]:
    """Brings a cache up to its journal, and gives the batches that it took in."""
    taken: list[int] = []

    def take(batch: int) -> str:
        taken.append(batch)
        cache.engine.execute("CREATE TABLE IF NOT EXISTS learnt (batch INTEGER)")
        cache.engine.execute("INSERT INTO learnt VALUES (?)", [batch])
        return journal.read(batch).sha256()

    cache.advance(take)
    return taken


def test_a_cache_learns_each_batch_once(
    opened: Callable[..., AbstractContextManager[Cache]], journal: Journal[Manifest]
) -> None:
    with opened() as cache:
        assert (cache.batch, learn(cache, journal), cache.batch) == (0, [1, 2], 2)
    with opened() as cache:
        assert (cache.batch, learn(cache, journal)) == (2, [])


def test_what_fails_on_the_way_is_not_learnt_by_half(
    opened: Callable[..., AbstractContextManager[Cache]], journal: Journal[Manifest]
) -> None:
    def fail(batch: int) -> str:
        cache.engine.execute("CREATE TABLE half (batch INTEGER)")
        raise RuntimeError

    with opened() as cache:
        with pytest.raises(RuntimeError):
            cache.advance(fail)
        assert cache.batch == 0
        assert learn(cache, journal) == [1, 2]
        assert (
            cache.engine.execute(
                "SELECT table_name FROM duckdb_tables() WHERE table_name = 'half'"
            ).fetchall()
            == []
        )


def test_a_damaged_cache_is_made_again(
    opened: Callable[..., AbstractContextManager[Cache]], journal: Journal[Manifest], tmp_path: Path
) -> None:
    with opened() as cache:
        learn(cache, journal)
    (tmp_path / "cache/stage.duckdb").write_bytes(b"damaged" * 10_000)
    with opened() as cache:
        assert learn(cache, journal) == [1, 2]


def test_a_file_that_is_another_database_is_made_again(
    opened: Callable[..., AbstractContextManager[Cache]], journal: Journal[Manifest], tmp_path: Path
) -> None:
    (tmp_path / "cache").mkdir()
    with duckdb.connect(str(tmp_path / "cache/stage.duckdb")) as other:
        other.execute("CREATE TABLE something_else (a INTEGER)")
    with opened() as cache:
        assert learn(cache, journal) == [1, 2]


def test_a_cache_of_another_lake_is_made_again(
    opened: Callable[..., AbstractContextManager[Cache]], journal: Journal[Manifest], tmp_path: Path
) -> None:
    with opened() as cache:
        learn(cache, journal)
    elsewhere = Journal(Store.open("elsewhere", tmp_path), Manifest)
    with opened(elsewhere) as cache:
        assert cache.batch == 0


def test_a_cache_of_a_lake_that_was_replaced_is_made_again(
    opened: Callable[..., AbstractContextManager[Cache]], journal: Journal[Manifest], tmp_path: Path
) -> None:
    with opened() as cache:
        learn(cache, journal)
    another = Manifest(batch=2, previous_sha256=None, started_at=NOON, finished_at=NOON, totes="0.0.1")
    (tmp_path / "lake/batches/000000000002.json").write_bytes(another.content())
    with opened() as cache:
        assert cache.batch == 0


def test_a_lake_that_has_lost_its_newest_batch_is_not_taken_for_a_new_one(
    opened: Callable[..., AbstractContextManager[Cache]], journal: Journal[Manifest], tmp_path: Path
) -> None:
    with opened() as cache:
        learn(cache, journal)
    lost = tmp_path / "lake/batches/000000000002.json"
    content = lost.read_bytes()
    lost.unlink()
    with pytest.raises(LakeDamaged, match=r"000000000002\.json is missing, though batch 2 was there"):
        opened(Journal(journal.store, Manifest)).__enter__()
    lost.write_bytes(content)
    with opened() as cache:
        assert cache.batch == 2


def test_a_lake_that_has_lost_all_its_manifests_is_damaged_and_an_empty_one_is_new(
    opened: Callable[..., AbstractContextManager[Cache]], journal: Journal[Manifest], tmp_path: Path
) -> None:
    with opened() as cache:
        learn(cache, journal)
    journal.store.put_new("table/packet", b"{}")
    shutil.rmtree(tmp_path / "lake/batches")
    with pytest.raises(LakeDamaged, match=r"000000000001\.json is missing"):
        opened(Journal(journal.store, Manifest)).__enter__()
    shutil.rmtree(tmp_path / "lake/table")
    with opened(Journal(journal.store, Manifest)) as cache:
        assert cache.batch == 0


def test_a_cache_of_another_version_is_made_again(
    opened: Callable[..., AbstractContextManager[Cache]],
    journal: Journal[Manifest],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with opened() as cache:
        learn(cache, journal)
    monkeypatch.setattr(cache_module, "__version__", "99.0.0")
    with opened() as cache:
        assert cache.batch == 0


def test_a_cache_that_another_process_has_open_is_left_alone(
    opened: Callable[..., AbstractContextManager[Cache]],
    journal: Journal[Manifest],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cache_module, "_LOCK_PATIENCE_SECONDS", 0.3)
    with opened() as cache:
        learn(cache, journal)
    holder = subprocess.Popen(
        [sys.executable, "-c", "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()",
         str(tmp_path / "cache/stage.duckdb")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout is not None
    assert holder.stdout.readline() == "open\n"
    with opened() as cache:
        assert learn(cache, journal) == [1, 2]  # in a private one
    holder.communicate("")
    with opened() as cache:
        assert cache.batch == 2


def test_a_cache_that_another_process_is_just_making_is_not_taken_for_a_damaged_one(
    opened: Callable[..., AbstractContextManager[Cache]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "_LOCK_PATIENCE_SECONDS", 0.3)
    with opened():
        pass
    file = tmp_path / "cache/stage.duckdb"
    file.write_bytes(b"half of it")
    with (tmp_path / "cache/stage.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with opened() as cache:
            assert cache.batch == 0  # in a private one
    assert file.read_bytes() == b"half of it"


def test_a_cache_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(StoreError, match="file/cache cannot be made"),
        Workspace.open(tmp_path / "file/cache", "1GB"),
    ):
        pass
