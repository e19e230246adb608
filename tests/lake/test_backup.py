"""A backup is the lake of its first batches, whatever interrupts it, and nothing is in it that was not verified."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Bucket
from tests.lake.lakes import STORES, contents, make_plain, named
from totes.errors import BackupRefused, ConfigurationError, LakeDamaged, StoreError
from totes.lake.backup import Backup, back_up
from totes.lake.layout import manifest_path
from totes.lake.store import Store

MANIFESTS = {f"{name}/{manifest_path(batch)}" for name in STORES for batch in (1, 2, 3)}


@pytest.fixture(params=["folder", "s3"])
def destination(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the backup goes."""
    if request.param == "folder":
        return str(tmp_path / "backup")
    bucket: Bucket = request.getfixturevalue("s3")
    return bucket.url("backup")


def run(lake: Path | str, destination: Path | str, *, check: bool = False) -> Backup:
    ingestion, processed = (Store.open(f"{lake}/{name}", Path()) for name in STORES)
    return back_up(ingestion, processed, str(destination), Path(), check=check)


def objects_of(lake: Path, name: str, batch: int) -> list[Path]:
    """The files of a batch's objects in one store."""
    return [lake / path for path in sorted(named(contents(lake), name, batch))]


def without_batches_after(lake: Path, last: int) -> dict[Path, bytes]:
    """Takes the manifests of later batches away, and gives them."""
    gone = {lake / path for path in MANIFESTS if int(Path(path).stem) > last}
    taken = {path: path.read_bytes() for path in gone}
    for path in gone:
        path.unlink()
    return taken


def change_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_the_lake_of_these_tests_has_objects_of_every_kind(lake: Path) -> None:
    kinds = {"/".join(path.split("/")[:2]) for path in contents(lake)}
    assert kinds == {
        "ingestion/batches", "ingestion/customer", "ingestion/marks", "ingestion/purchase", "ingestion/town",
        "processed/batches", "processed/dim_customer", "processed/fact_purchase", "processed/mailing",
        "processed/quarantine", "processed/removed", "processed/state",
    }  # fmt: skip


def test_a_backup_has_every_object_of_the_lake_byte_for_byte(lake: Path, destination: str) -> None:
    done = run(lake, destination)
    expected = contents(lake)
    assert contents(destination) == expected
    for name, copied in (("ingestion", done.ingestion), ("processed", done.processed)):
        data = [value for path, value in expected.items() if path.startswith(name) and path not in MANIFESTS]
        assert (copied.batch, copied.batches, copied.already_there, copied.checked) == (3, 3, 0, 0)
        assert (copied.objects, copied.bytes) == (len(data), sum(map(len, data)))
    assert done.faults == []


def test_a_lake_in_s3_is_backed_up_to_a_folder(lake: Path, s3: Bucket, tmp_path: Path) -> None:
    for path, content in contents(lake).items():
        name, _, path = path.partition("/")
        Store.open(s3.url(f"lake/{name}"), tmp_path).put_new(path, content)
    run(s3.url("lake"), tmp_path / "backup")
    assert contents(tmp_path / "backup") == contents(lake)


def test_a_backup_is_backed_up_like_any_lake(lake: Path, tmp_path: Path) -> None:
    run(lake, tmp_path / "first")
    run(tmp_path / "first", tmp_path / "second")
    assert contents(tmp_path / "second") == contents(lake)


def test_what_no_manifest_names_is_not_copied(lake: Path, destination: str) -> None:
    everything = contents(lake)
    without_batches_after(lake, 2)
    run(lake, destination)
    of_two = {path for name in STORES for batch in (1, 2) for path in named(everything, name, batch)}
    assert set(contents(destination)) == of_two | {path for path in MANIFESTS if "3.json" not in path}


def test_the_next_run_copies_new_batches_only(lake: Path, tmp_path: Path) -> None:
    backup, third = tmp_path / "backup", without_batches_after(lake, 2)
    run(lake, backup)
    before = {file: (file.stat().st_ino, file.stat().st_mtime_ns) for file in backup.rglob("*.*")}
    for file, content in third.items():
        file.write_bytes(content)
    done = run(lake, backup)
    for name, copied in (("ingestion", done.ingestion), ("processed", done.processed)):
        sizes = [size for size, _ in named(contents(lake), name, 3).values()]
        assert (copied.batch, copied.batches, copied.already_there) == (3, 1, 0)
        assert (copied.objects, copied.bytes) == (len(sizes), sum(sizes))
    assert contents(backup) == contents(lake)
    assert before == {file: (file.stat().st_ino, file.stat().st_mtime_ns) for file in before}


def test_a_run_that_finds_nothing_new_copies_nothing(lake: Path, destination: str) -> None:
    run(lake, destination)
    done = run(lake, destination)
    for copied in (done.ingestion, done.processed):
        assert (copied.batch, copied.batches, copied.objects, copied.bytes) == (3, 0, 0, 0)


def test_a_lake_without_a_batch_makes_a_backup_without_one(tmp_path: Path) -> None:
    done = run(tmp_path / "lake", tmp_path / "backup", check=True)
    assert (done.ingestion.batch, done.processed.batch, done.faults) == (0, 0, [])


def test_objects_that_an_interrupted_run_left_are_not_copied_again(lake: Path, destination: str) -> None:
    expected, objects = contents(lake), objects_of(lake, "ingestion", 1)
    store = Store.open(f"{destination}/ingestion", Path())
    for file in objects[:2]:
        store.put_new(str(file.relative_to(lake / "ingestion")), file)
        file.unlink()  # so that nobody can copy it again
    done = run(lake, destination)
    assert done.ingestion.already_there == 2
    assert contents(destination) == expected


def test_an_object_that_is_there_with_other_content_is_named_and_left(lake: Path, destination: str) -> None:
    path = str(objects_of(lake, "ingestion", 2)[0].relative_to(lake / "ingestion"))
    Store.open(f"{destination}/ingestion", Path()).put_new(path, b"something else")
    with pytest.raises(LakeDamaged, match=r"is not what was written.*remove that object") as caught:
        run(lake, destination)
    assert f"{destination}/ingestion/{path}" in str(caught.value)
    there = contents(destination)
    assert there[f"ingestion/{path}"] == b"something else"
    assert {path for path in there if "/batches/" in path} == {
        f"{name}/{manifest_path(1)}" for name in STORES
    }


@pytest.mark.parametrize("name", STORES)
@pytest.mark.parametrize("damage", [change_a_byte, Path.unlink], ids=["changed", "missing"])
def test_a_damaged_object_of_the_lake_is_named_and_its_batch_not_copied(
    lake: Path, destination: str, name: str, damage: Callable[[Path], None]
) -> None:
    original = contents(lake)
    file = objects_of(lake, name, 2)[0]
    damage(file)
    with pytest.raises(LakeDamaged) as caught:
        run(lake, destination)
    assert str(file) in str(caught.value)
    there = contents(destination)
    assert str(file.relative_to(lake)) not in there
    reached = {"ingestion": 3, "processed": 1} if name == "processed" else {"ingestion": 1, "processed": 1}
    assert {path for path in there if "/batches/" in path} == {
        f"{store}/{manifest_path(batch)}" for store in STORES for batch in range(1, reached[store] + 1)
    }
    file.write_bytes(original[str(file.relative_to(lake))])
    run(lake, destination)
    assert contents(destination) == original


def test_a_damaged_object_does_not_keep_back_the_batches_before_it(tmp_path: Path) -> None:
    make_plain(tmp_path / "lake", 40)
    change_a_byte(objects_of(tmp_path / "lake", "ingestion", 35)[0])
    with pytest.raises(LakeDamaged, match="000000000035-0001"):
        run(tmp_path / "lake", tmp_path / "backup")
    expected = contents(tmp_path / "lake")
    there = contents(tmp_path / "backup")
    assert {path for path in there if "/batches/" in path} == {
        f"{name}/{manifest_path(batch)}" for name in STORES for batch in range(1, 35)
    }
    assert all(expected[path] == content for path, content in there.items())


@pytest.mark.parametrize("name", STORES)
def test_a_manifest_of_another_lake_and_those_around_it_are_not_copied(tmp_path: Path, name: str) -> None:
    lake = tmp_path / "lake"
    make_plain(lake, 30)
    make_plain(tmp_path / "other", 20, owner="another shop")
    shutil.copy(tmp_path / "other" / name / manifest_path(20), lake / name / manifest_path(20))
    with pytest.raises(LakeDamaged, match=r"000000000020\.json does not follow batch 19"):
        run(lake, tmp_path / "backup")
    assert max(path for path in contents(tmp_path / "backup") if f"{name}/batches" in path).endswith(
        "18.json"
    )


def test_a_processed_lake_of_another_ingestion_lake_is_not_copied(lake: Path, tmp_path: Path) -> None:
    make_plain(tmp_path / "other", 3)
    shutil.rmtree(lake / "processed")
    shutil.copytree(tmp_path / "other" / "processed", lake / "processed")
    with pytest.raises(LakeDamaged, match="made from another ingestion batch 1"):
        run(lake, tmp_path / "backup")
    assert not list((tmp_path / "backup" / "processed").glob("batches/*"))


def test_a_processed_lake_that_is_ahead_of_the_ingestion_lake_is_refused(lake: Path, tmp_path: Path) -> None:
    (lake / "ingestion" / manifest_path(3)).unlink()
    with pytest.raises(LakeDamaged, match="at batch 3, the ingestion lake only at 2"):
        run(lake, tmp_path / "backup")
    assert not list((tmp_path / "backup" / "processed").glob("batches/*"))


def test_the_place_of_another_lakes_backup_is_refused(lake: Path, destination: str, tmp_path: Path) -> None:
    make_plain(tmp_path / "other", 2)
    run(tmp_path / "other", destination)
    before = contents(destination)
    with pytest.raises(BackupRefused, match=r"000000000002\.json is not batch 2 of this lake"):
        run(lake, destination)
    assert contents(destination) == before


def test_a_backup_that_is_ahead_of_the_lake_is_refused(lake: Path, destination: str) -> None:
    run(lake, destination)
    before = contents(destination)
    without_batches_after(lake, 2)
    with pytest.raises(BackupRefused, match=r"is at batch 3, and .*ingestion only at 2"):
        run(lake, destination)
    assert contents(destination) == before


def test_check_reads_the_whole_backup_again_and_copies_what_is_new(lake: Path, destination: str) -> None:
    third = without_batches_after(lake, 2)
    run(lake, destination)
    for file, content in third.items():
        file.write_bytes(content)
    done = run(lake, destination, check=True)
    assert done.faults == []
    for name, copied in (("ingestion", done.ingestion), ("processed", done.processed)):
        older = [path for batch in (1, 2) for path in named(contents(lake), name, batch)]
        assert (copied.batch, copied.batches, copied.checked) == (3, 1, len(older))
    assert contents(destination) == contents(lake)


def test_check_names_all_that_is_missing_or_wrong(lake: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    run(lake, backup)
    changed, missing = objects_of(backup, "ingestion", 1)[0], objects_of(backup, "processed", 2)[0]
    spaced, broken, gone = (
        backup / "ingestion" / manifest_path(2), backup / "processed" / manifest_path(1),
        backup / "processed" / manifest_path(2),
    )  # fmt: skip
    change_a_byte(changed)
    missing.unlink()
    spaced.write_bytes(spaced.read_bytes() + b" ")
    broken.write_bytes(b"{")
    gone.unlink()
    faults = run(lake, backup, check=True).faults
    assert [Path(fault.split()[0]) for fault in faults] == [changed, spaced, broken, gone, missing]
    assert "is not what was written" in faults[0]
    assert "is not what was written" in faults[1]
    assert "is not a manifest" in faults[2]
    assert faults[3:] == [f"{gone} is missing, though later batches are there", f"{missing} is missing"]


def test_check_finds_what_is_wrong_with_a_backup_whose_lake_is_lost(lake: Path, destination: str) -> None:
    run(lake, destination)
    shutil.rmtree(lake)
    done = run(lake, destination, check=True)
    assert (done.ingestion.batch, done.processed.batch) == (3, 3)
    assert min(done.ingestion.checked, done.processed.checked) > 0
    assert [fault for fault in done.faults if "only at 0" not in fault] == []
    assert len(done.faults) == 1


@pytest.mark.parametrize(
    ("lake_is_lost", "fault"),
    [(False, "2.json is not batch 2 of this lake"), (True, "2.json does not follow batch 1: one of the two")],
    ids=["lake there", "lake lost"],
)
def test_check_finds_a_manifest_of_another_lake(tmp_path: Path, lake_is_lost: bool, fault: str) -> None:
    make_plain(tmp_path / "lake", 4)
    make_plain(tmp_path / "other", 2, owner="another shop")
    run(tmp_path / "lake", tmp_path / "backup")
    for name in STORES:
        shutil.copy(
            tmp_path / "other" / name / manifest_path(2), tmp_path / "backup" / name / manifest_path(2)
        )
    if lake_is_lost:
        shutil.rmtree(tmp_path / "lake")
    faults = run(tmp_path / "lake", tmp_path / "backup", check=True).faults
    assert [
        name for name in STORES if any(f"{name}/batches" in found and fault in found for found in faults)
    ] == [*STORES]


def test_check_lists_what_is_wrong_with_the_lake_too(lake: Path, tmp_path: Path) -> None:
    file = objects_of(lake, "ingestion", 3)[0]
    change_a_byte(file)
    [fault] = run(lake, tmp_path / "backup", check=True).faults
    assert str(file) in fault


@pytest.mark.parametrize("check", [False, True])
def test_a_bucket_that_is_not_there_is_an_error_and_no_fault_of_the_backup(
    lake: Path, s3: Bucket, check: bool
) -> None:
    with pytest.raises(StoreError, match="s3://no-such-bucket/backup/ingestion"):
        run(lake, "s3://no-such-bucket/backup", check=check)


@pytest.mark.parametrize(
    "place", [".", "lake", "lake/ingestion", "lake/processed/", "lake/ingestion/deep/er", "link", "link/below", "~"]
)  # fmt: skip
def test_a_place_within_the_lake_or_around_it_is_refused(
    lake: Path, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(lake / "processed")
    monkeypatch.setenv("HOME", str(tmp_path))
    before = sorted(tmp_path.rglob("*"))
    ingestion, processed = (Store.open(str(lake / name), Path()) for name in STORES)
    with pytest.raises(ConfigurationError, match="is inside the other"):
        back_up(ingestion, processed, place, tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("place", "refused"),
    [("lake", True), ("lake/ingestion", True), ("lake//processed/x/", True), ("", True), ("lake/ingestion2", False),
     ("lake2", False)],
)  # fmt: skip
def test_prefixes_of_a_bucket_are_kept_apart(s3: Bucket, place: str, refused: bool) -> None:
    ingestion, processed = (Store.open(s3.url(f"lake/{name}"), Path()) for name in STORES)
    if refused:
        with pytest.raises(ConfigurationError, match="is inside the other"):
            back_up(ingestion, processed, s3.url(place), Path())
    else:
        assert back_up(ingestion, processed, s3.url(place), Path()).faults == []


@pytest.mark.parametrize("place", ["", "/", "s3://", "s3:///prefix", "gs://bucket/prefix"])
def test_a_place_that_is_no_store_is_refused(lake: Path, tmp_path: Path, place: str) -> None:
    ingestion, processed = (Store.open(str(lake / name), Path()) for name in STORES)
    with pytest.raises(ConfigurationError):
        back_up(ingestion, processed, place, tmp_path)


def test_large_objects_are_copied_without_being_held_in_memory(tmp_path: Path, destination: str) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("only Linux says how much memory a process holds")
    script = (
        "import re, sys, threading, time; from pathlib import Path\n"
        "from totes.lake.backup import back_up; from totes.lake.store import Store\n"
        "held = lambda: int(re.search(r'RssAnon:\\s+(\\d+)', Path('/proc/self/status').read_text()).group(1)) >> 10\n"
        "stores = [Store.open(f'{sys.argv[1]}/{name}', Path()) for name in ('ingestion', 'processed')]\n"
        "before, peak = held(), [0]\n"
        "def watch():\n"
        "    while True: peak[0] = max(peak[0], held()); time.sleep(0.002)\n"
        "threading.Thread(target=watch, daemon=True).start()\n"
        "assert back_up(*stores, sys.argv[2], Path()).ingestion.bytes == 2 * (32 << 20)\n"
        "print(peak[0] - before)"
    )
    make_plain(tmp_path / "lake", 2, content=bytes(32 << 20))
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "lake"), destination],
        capture_output=True, text=True, check=True, env=os.environ,
    )  # fmt: skip
    assert int(done.stdout) < 40  # MiB, of 128 that were copied
    large = Store.open(f"{destination}/processed", tmp_path)
    [path] = [path for path in large.list("t/") if "000000000002-" in path]
    assert hashlib.sha256(large.read(path) or b"").digest() == hashlib.sha256(bytes(32 << 20)).digest()
