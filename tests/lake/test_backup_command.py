"""`totes backup` as a user runs it: killed, raced, mended, restored from, and never telling a secret."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.conftest import Bucket, Command, Database
from tests.lake.lakes import STORES, contents, make_plain, make_shop, named
from totes.lake.layout import manifest_batch, manifest_path

SETTINGS = """
[project]
name = "shop"
path = "{project}"
[source]
url = "{source}"
[lake]
ingestion = "{lake}/ingestion"
processed = "{lake}/processed"
"""
# Where a run dies: among the objects of a batch, before and after the manifest that commits it. The store's points
# count the objects and manifests of all threads, the journal's the manifests.
MOMENTS = (
    "store.put.before:2", "journal.commit.after:1", "store.put.after:3", "journal.commit.before:2",
    "journal.commit.after:1",
)  # fmt: skip


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """A settings file for the lake beside it; a backup needs no source."""
    file = tmp_path / "totes.toml"
    file.write_text(
        SETTINGS.format(project=".", source="postgresql://nobody@127.0.0.1:1/none", lake="lake"), "utf-8"
    )
    return file


@pytest.fixture(params=["folder", "s3"])
def destination(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the backup goes."""
    if request.param == "folder":
        return str(tmp_path / "backup")
    bucket: Bucket = request.getfixturevalue("s3")
    return bucket.url("backup")


def start(folder: Path, destination: str, failpoint: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "totes", "backup", destination, "--json"], cwd=folder, text=True,
        env={**os.environ, "TOTES_FAILPOINT": failpoint}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@contextmanager
def stopped(folder: Path, destination: str, point: str) -> Iterator[subprocess.Popen[str]]:
    """A backup that has stopped itself at a failpoint."""
    runner = start(folder, destination, f"{point}=stop")
    try:
        _, status = os.waitpid(runner.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        yield runner
    finally:
        runner.kill()
        runner.communicate()


def batches_of(objects: dict[str, bytes], name: str) -> list[int]:
    return sorted(
        manifest_batch(path.partition("/")[2]) or 0 for path in objects if path.startswith(f"{name}/batches/")
    )


def check_is_a_beginning(objects: dict[str, bytes], lake: dict[str, bytes]) -> tuple[int, int]:
    """Whatever is there is the lake's, and batches are there without a gap, each with all of its objects."""
    assert all(lake[path] == content for path, content in objects.items())
    lasts = []
    for name in STORES:
        batches = batches_of(objects, name)
        assert batches == list(range(1, len(batches) + 1))
        for batch in batches:
            for path, (size, sha256) in named(objects, name, batch).items():
                assert (len(objects[path]), hashlib.sha256(objects[path]).hexdigest()) == (size, sha256)
        lasts.append(len(batches))
    assert lasts[1] <= lasts[0]
    return lasts[0], lasts[1]


def test_a_backup_killed_again_and_again_is_always_a_lake_and_at_last_the_whole_one(
    lake: Path, settings: Path, destination: str, totes: Callable[..., Command]
) -> None:
    expected, killed, reached = contents(lake), 0, (0, 0)
    moments = MOMENTS[:3] if destination.startswith("s3://") else MOMENTS
    for moment in moments:
        runner = start(settings.parent, destination, moment)
        runner.communicate(timeout=60)
        killed += runner.returncode == -signal.SIGKILL
        before, reached = reached, check_is_a_beginning(contents(destination), expected)
        assert reached >= before
    assert killed >= len(moments) - 1  # where little is left to copy, the last moment may not come
    already = len(contents(destination))
    done = json.loads(totes("backup", destination, "--json").out)
    assert contents(destination) == expected
    copied = sum(done[name]["objects"] + done[name]["batches"] for name in STORES)
    assert copied == len(expected) - already


def test_backups_to_one_place_at_once_do_each_other_no_harm(
    lake: Path, settings: Path, destination: str
) -> None:
    with stopped(settings.parent, destination, "store.put.before:5") as paused:
        other = start(settings.parent, destination)
        output, errors = other.communicate(timeout=60)
        assert (other.returncode, json.loads(output)["processed"]["batch"]) == (0, 3), errors
        assert contents(destination) == contents(lake)
        paused.send_signal(signal.SIGCONT)
        output, errors = paused.communicate(timeout=60)
        assert (paused.returncode, json.loads(output)["processed"]["batch"]) == (0, 3), errors
    assert contents(destination) == contents(lake)


@pytest.mark.sweep  # on a busy machine another thread may have read its object back before the process stops
def test_an_object_is_read_back_before_a_manifest_names_it(
    lake: Path, settings: Path, tmp_path: Path
) -> None:
    with stopped(settings.parent, "backup", "store.put.after:1") as paused:
        written = [
            file for file in (tmp_path / "backup").rglob("*.*") if file.name.endswith((".zst", ".parquet"))
        ]
        for file in written:
            file.write_bytes(file.read_bytes()[:-1] + b"!")
        paused.send_signal(signal.SIGCONT)
        output, errors = paused.communicate(timeout=60)
    assert (paused.returncode, output) == (3, "")
    [named_file] = [file for file in written if f"{file} is not what was written" in errors]
    there = contents(tmp_path / "backup")
    for batch in batches_of(there, "ingestion"):
        assert str(named_file.relative_to(tmp_path / "backup")) not in named(there, "ingestion", batch)


def test_the_command_says_what_it_copied_and_names_what_is_wrong(
    lake: Path, settings: Path, totes: Callable[..., Command], tmp_path: Path
) -> None:
    first = totes("backup", "copies/of shop")
    assert first.code == 0, first.err
    objects = {name: str(sum(path.startswith(name) for path in contents(lake)) - 3) for name in STORES}
    assert [line.split()[1:9:2] for line in first.out.splitlines() if "│" in line] == [
        [name, "3", "3", objects[name]] for name in STORES
    ]
    sound = totes("backup", "copies/of shop", "--check")
    assert sound.code == 0
    assert "Nothing new." in sound.out
    backup = tmp_path / "copies" / "of shop"
    file = backup / next(iter(named(contents(backup), "processed", 2)))
    file.write_bytes(b"?" + file.read_bytes()[1:])
    damaged = totes("backup", "copies/of shop", "--check", "--json")
    assert damaged.code == 1
    [fault] = json.loads(damaged.out)["faults"]
    assert fault.startswith(f"{file} is not what was written")
    assert f"error: missing or wrong: {file}" in damaged.err
    within = totes("backup", "lake/ingestion/backup", "--json")
    assert (within.code, within.out) == (2, "")
    make_plain(tmp_path / "other", 1)
    refused = totes("backup", "copies/of shop", TOTES_LAKE__INGESTION=f"{tmp_path}/other/ingestion", TOTES_LAKE__PROCESSED=f"{tmp_path}/other/processed")  # fmt: skip
    assert refused.code == 3
    assert "Restore it from this backup, or name another place" in refused.err


def test_no_secret_of_a_bucket_is_told(
    lake: Path, settings: Path, s3: Bucket, totes: Callable[..., Command]
) -> None:
    wrong = totes(
        "backup", s3.url("backup"), "--debug", AWS_SECRET_ACCESS_KEY="wrong-4711-secret", timeout=50
    )
    in_url = totes("backup", "s3://key:wrong-4711-secret@lakes/backup", "--debug")
    assert (wrong.code, in_url.code) == (3, 2)
    for failed in (wrong, in_url):
        assert "error: " in failed.err
        assert "4711" not in failed.out + failed.err
    assert s3.url("backup") in wrong.err


def history(warehouse: Path) -> list[list[tuple[Any, ...]]]:
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        return [
            connection.execute(f"FROM {table} ORDER BY ALL").fetchall()
            for table in ("dim_customer", "fact_purchase")
        ]


def test_a_backup_is_restored_by_pointing_at_it(
    database: Database, tmp_path: Path, totes: Callable[..., Command]
) -> None:
    original, restored = tmp_path / "original", tmp_path / "restored"
    for folder in (original, restored):
        folder.mkdir()
    make_shop(database, original)
    for folder, lake in ((original, "lake"), (restored, "../backup")):
        text = SETTINGS.format(project="../original/project", source=database.url, lake=lake)
        (folder / "totes.toml").write_text(text, "utf-8")
    assert totes("backup", "../backup", cwd=original).code == 0
    before = history(original / "warehouse.duckdb")
    shutil.rmtree(original / "lake")

    replayed = totes("replay", "--warehouse", "duckdb:///warehouse.duckdb", cwd=restored)
    assert replayed.code == 0, replayed.err
    assert history(restored / "warehouse.duckdb") == before
    verified = totes("verify", cwd=restored)
    assert verified.code == 0, verified.err

    database.execute(
        "UPDATE town SET county = 'Avon' WHERE town = 'Bath'", "INSERT INTO purchase VALUES (5, 11, 1.00)"
    )
    went_on = totes("run", "--json", cwd=restored)
    assert went_on.code == 0, went_on.err
    cycle = json.loads(went_on.out)
    assert cycle["batch"] == 4
    assert cycle["ingested"] == {
        "purchase": {"upserts": 1, "deletes": 0},
        "town": {"upserts": 1, "deletes": 0},
    }
    assert totes("verify", cwd=restored).code == 0
    assert (tmp_path / "backup" / "processed" / manifest_path(4)).exists()
