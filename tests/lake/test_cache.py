"""A cache may be lost, damaged, of another lake, of another version, or in use: the lake makes it again."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from totes import scratch
from totes.errors import LakeDamaged, StoreError
from totes.lake import cache as cache_module
from totes.lake import cache_file
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
    previous = None
    for batch in (1, 2):
        manifest = Manifest(batch=batch, previous_sha256=previous, started_at=NOON, finished_at=NOON)
        journal.commit(manifest)
        previous = manifest.sha256()
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

    def take(batches: range) -> str:
        [batch] = batches
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
    def fail(batches: range) -> str:
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


@pytest.mark.parametrize("damage_at", [0, 12400, -1])
def test_damage_anywhere_in_the_file_is_found_and_the_cache_made_again(
    opened: Callable[..., AbstractContextManager[Cache]],
    journal: Journal[Manifest],
    tmp_path: Path,
    damage_at: int,
) -> None:
    with opened() as cache:
        learn(cache, journal)
        cache.engine.execute("CREATE TABLE much AS SELECT range AS a, hash(range) AS h FROM range(300000)")
    file = tmp_path / "cache/stage.duckdb"
    with file.open("r+b") as content:
        content.seek(damage_at if damage_at >= 0 else file.stat().st_size // 2)
        content.write(b"\xff" * 64)
    for _ in range(2):  # what is found in the middle of the work ends it, and heals the next
        with suppress(StoreError), opened() as cache:
            if "much" in cache.tables():
                cache.engine.execute("SELECT sum(h) FROM much").fetchall()
    with opened() as cache:
        assert (cache.batch, learn(cache, journal)) == (0, [1, 2])


def test_a_database_that_is_no_cache_is_refused_and_stays_as_it_is(
    opened: Callable[..., AbstractContextManager[Cache]], tmp_path: Path
) -> None:
    (tmp_path / "cache").mkdir()
    file = tmp_path / "cache/stage.duckdb"
    with duckdb.connect(str(file)) as other:
        other.execute("CREATE TABLE something_else (a INTEGER)")
    content = file.read_bytes()
    with pytest.raises(StoreError, match=r"stage\.duckdb is not a cache of totes: something_else is in it"):
        opened().__enter__()
    assert file.read_bytes() == content


@pytest.mark.parametrize(
    "planted",
    [
        "CREATE MACRO count(a) AS 7",
        "CREATE MACRO duckdb_functions() AS TABLE SELECT 1 AS a WHERE false",
        "CREATE VIEW learnt_too AS FROM learnt",
        "CREATE TYPE batch AS ENUM ('a')",
        "CREATE TABLE counted (a INTEGER DEFAULT 1)",
        "CREATE TABLE checked (a INTEGER CHECK (a > 1))",
        "CREATE TABLE derived (a INTEGER, b INTEGER AS (a + 1))",
        "CREATE SCHEMA other",
        "CREATE INDEX odd ON learnt ((batch + 1))",
    ],
)
def test_a_cache_that_holds_more_than_tables_of_values_is_refused(
    opened: Callable[..., AbstractContextManager[Cache]],
    journal: Journal[Manifest],
    tmp_path: Path,
    planted: str,
) -> None:
    with opened() as cache:
        learn(cache, journal)
    with duckdb.connect(str(tmp_path / "cache/stage.duckdb")) as other:
        other.execute(planted)
    with pytest.raises(StoreError, match="is not a cache of totes"):
        opened().__enter__()


def test_what_is_planted_beside_the_file_is_refused_too(
    opened: Callable[..., AbstractContextManager[Cache]], journal: Journal[Manifest], tmp_path: Path
) -> None:
    with opened() as cache:
        learn(cache, journal)
    with duckdb.connect(str(tmp_path / "cache/stage.duckdb")) as other:
        other.execute("PRAGMA disable_checkpoint_on_shutdown")
        other.execute("CREATE MACRO count(a) AS 7")
    assert (tmp_path / "cache/stage.duckdb.wal").exists()
    with pytest.raises(StoreError, match="is not a cache of totes"):
        opened().__enter__()


def test_the_cache_of_another_lake_stays_as_it_is(
    opened: Callable[..., AbstractContextManager[Cache]], journal: Journal[Manifest], tmp_path: Path
) -> None:
    with opened() as cache:
        learn(cache, journal)
    elsewhere = Journal(Store.open("elsewhere", tmp_path), Manifest)
    with opened(elsewhere) as cache:
        assert cache.batch == 0
    elsewhere.commit(
        Manifest(batch=1, previous_sha256=None, started_at=NOON, finished_at=NOON, totes="0.0.1")
    )
    with opened(elsewhere) as cache:
        assert learn(cache, elsewhere) == [1]
    with opened() as cache:
        assert cache.batch == 2
    with opened(elsewhere) as cache:
        assert cache.batch == 1


def test_the_cache_of_a_lake_that_was_moved_goes_on(
    opened: Callable[..., AbstractContextManager[Cache]], journal: Journal[Manifest], tmp_path: Path
) -> None:
    with opened() as cache:
        learn(cache, journal)
    (tmp_path / "lake").rename(tmp_path / "moved")
    with opened(Journal(Store.open("moved", tmp_path), Manifest)) as cache:
        assert cache.batch == 2


def test_a_manifest_that_was_replaced_is_noticed_by_whoever_read_the_former_one(
    opened: Callable[..., AbstractContextManager[Cache]], journal: Journal[Manifest], tmp_path: Path
) -> None:
    with opened() as cache:
        learn(cache, journal)
    another = Manifest(batch=2, previous_sha256=None, started_at=NOON, finished_at=NOON, totes="0.0.1")
    (tmp_path / "lake/batches/000000000002.json").write_bytes(another.content())
    with pytest.raises(
        LakeDamaged,
        match=r"000000000002\.json is not the manifest that was there when the lake was last read",
    ):
        opened(Journal(journal.store, Manifest)).__enter__()


@pytest.mark.parametrize("trouble", ["folder", "permission"])
def test_a_cache_that_cannot_be_opened_is_named_and_not_removed(
    opened: Callable[..., AbstractContextManager[Cache]],
    journal: Journal[Manifest],
    tmp_path: Path,
    trouble: str,
) -> None:
    with opened() as cache:
        learn(cache, journal)
    file = tmp_path / "cache/stage.duckdb"
    if trouble == "folder":
        file.rename(tmp_path / "away")
        file.mkdir()
    else:
        if os.geteuid() == 0:
            pytest.skip("root may read everything")
        file.chmod(0)
    with pytest.raises(
        StoreError, match=r"stage\.duckdb cannot be opened: (Is a directory|Permission denied)"
    ):
        opened().__enter__()
    assert file.exists()


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
    monkeypatch.setattr(cache_file, "_LOCK_PATIENCE_SECONDS", 0.3)
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
    monkeypatch.setattr(cache_file, "_LOCK_PATIENCE_SECONDS", 0.3)
    with opened():
        pass
    file = tmp_path / "cache/stage.duckdb"
    file.write_bytes(b"half of it")
    with (tmp_path / "cache/stage.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with opened() as cache:
            assert cache.batch == 0  # in a private one
    assert file.read_bytes() == b"half of it"


def test_a_private_cache_that_cannot_be_made_leaves_no_folder(
    journal: Journal[Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_file, "_LOCK_PATIENCE_SECONDS", 0.3)
    with (
        Workspace.open(tmp_path / "cache", "100MB") as workspace,
        Cache.open(workspace, "stage", journal),
    ):
        before = set(scratch.root().iterdir())
        with pytest.raises(duckdb.BinderException, match="already exists"):
            Cache.open(workspace, "stage", journal)
        assert set(scratch.root().iterdir()) == before


def test_a_cache_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(StoreError, match="file/cache cannot be used"),
        Workspace.open(tmp_path / "file/cache", "1GB"),
    ):
        pass
