"""What every store promises, in a folder and in S3 alike."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import LocalStore, S3Store

from tests.conftest import Bucket
from totes.errors import ConfigurationError, LakeDamaged, StoreError, StoreRefused
from totes.lake.document import StoredObject
from totes.lake.layout import folder_name, new_object_path
from totes.lake.store import ObjectExists, Store

NOON = datetime(2024, 11, 26, 12, tzinfo=UTC)


def overwrite(place: str, path: str, content: bytes | None) -> None:
    """Changes, or deletes, an object behind the store's back."""
    if place.startswith("s3://"):
        bucket, _, prefix = place.removeprefix("s3://").partition("/")
        storage: Any = S3Store(bucket, prefix=prefix, client_options={"allow_http": True})
    else:
        storage = LocalStore(place)
    if content is None:
        obstore.delete(storage, path)
    else:
        obstore.put(storage, path, content)


def test_what_is_put_is_read(store: Store) -> None:
    store.put_new("a/b.json", b"{}")
    assert store.read("a/b.json") == b"{}"


def test_an_empty_object_is_an_object(store: Store) -> None:
    store.put_new("empty", b"")
    assert store.read("empty") == b""


def test_reading_a_missing_object_gives_none(store: Store) -> None:
    assert store.read("never/written") is None


def test_a_second_put_is_refused_and_the_object_is_left_as_it_was(store: Store) -> None:
    store.put_new("batches/1", b"first")
    with pytest.raises(ObjectExists):
        store.put_new("batches/1", b"second")
    assert store.read("batches/1") == b"first"


def test_a_second_put_is_refused_across_openings_of_the_store(place: str, tmp_path: Path) -> None:
    Store.open(place, tmp_path).put_new("batches/1", b"first")
    with pytest.raises(ObjectExists):
        Store.open(place, tmp_path).put_new("batches/1", b"first")


def test_of_sixteen_racing_puts_one_wins(place: str, tmp_path: Path) -> None:
    start = threading.Barrier(16)
    stores = [Store.open(place, tmp_path) for _ in range(16)]

    def put(number: int) -> bool:
        start.wait()
        try:
            stores[number].put_new("batches/1", b"%02d" % number * 100_000)
        except ObjectExists:
            return False
        return True

    with ThreadPoolExecutor(16) as runners:
        won = list(runners.map(put, range(16)))
    assert won.count(True) == 1
    assert stores[0].read("batches/1") == b"%02d" % won.index(True) * 100_000


def test_of_racing_processes_one_wins(place: str, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from totes.lake.store import ObjectExists, Store\n"
        "store = Store.open(sys.argv[1], Path(sys.argv[2])); print('ready', flush=True); sys.stdin.readline()\n"
        "try: store.put_new('one', sys.argv[3].encode()); print('won')\n"
        "except ObjectExists: print('lost')"
    )
    runners = [
        subprocess.Popen([sys.executable, "-c", script, place, str(tmp_path), str(number)],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for number in range(4)
    ]  # fmt: skip
    for runner in runners:
        assert runner.stdout is not None
        assert runner.stdout.readline() == "ready\n"
    answers = [runner.communicate("go\n")[0].strip() for runner in runners]
    assert sorted(answers) == ["lost", "lost", "lost", "won"]
    assert Store.open(place, tmp_path).read("one") == str(answers.index("won")).encode()


def test_an_object_is_seen_whole_or_not_at_all(store: Store) -> None:
    content, seen = os.urandom(8 << 20), []
    writer = threading.Thread(target=store.put_new, args=("big", content))
    writer.start()
    writing = True
    while writing:
        writing = writer.is_alive()
        seen.append(store.read("big"))
    assert all(found in (None, content) for found in seen)
    assert seen[-1] == content


def test_a_prefix_is_listed_after_an_object(store: Store) -> None:
    for path in ("batches/1", "batches/2", "batches/3", "other/4"):
        store.put_new(path, b"")
    assert sorted(store.list("batches/")) == ["batches/1", "batches/2", "batches/3"]
    assert sorted(store.list("batches/", after="batches/1")) == ["batches/2", "batches/3"]
    assert list(store.list("nothing/")) == []


def test_which_of_some_objects_are_there_is_said(store: Store) -> None:
    for path in ("batches/1", "batches/2", "batches/3", "batches/5", "other/4"):
        store.put_new(path, b"")
    assert store.present(["batches/2", "batches/3", "batches/4"]) == {"batches/2", "batches/3"}
    assert store.present(["nothing/1"]) == set()


def test_more_objects_are_listed_than_one_answer_holds(store: Store) -> None:
    with ThreadPoolExecutor(8) as writers:
        list(writers.map(lambda number: store.put_new(f"many/{number:04d}", b""), range(1100)))
    assert sorted(store.list("many/")) == [f"many/{number:04d}" for number in range(1100)]


def test_a_file_is_put_with_its_rows_size_and_digest(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "part"
    file.write_bytes(b"three\nlines\nhere\n")
    assert store.put_file("t/part.jsonl", file, rows=3) == StoredObject(
        path="t/part.jsonl", rows=3, bytes=17, sha256=hashlib.sha256(b"three\nlines\nhere\n").hexdigest()
    )
    assert store.read("t/part.jsonl") == b"three\nlines\nhere\n"


def test_a_file_put_again_after_a_lost_answer_is_a_success(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "part"
    file.write_bytes(b"content")
    first = store.put_file("t/part", file, rows=1)
    assert store.put_file("t/part", file, rows=1) == first


def test_a_file_is_not_put_over_another(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "part"
    file.write_bytes(b"mine")
    store.put_new("t/part", b"theirs")
    with pytest.raises(StoreError, match="t/part"):
        store.put_file("t/part", file, rows=1)
    assert store.read("t/part") == b"theirs"


def test_objects_come_as_local_files_in_the_order_asked_for(store: Store, tmp_path: Path) -> None:
    entries = []
    for number in (1, 2, 3):
        file = tmp_path / str(number)
        file.write_bytes(b"part %d" % number)
        entries.append(store.put_file(f"t/{number}", file, rows=1))
    with store.local([entries[2], entries[0]]) as files:
        assert [file.read_bytes() for file in files] == [b"part 3", b"part 1"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "is missing"),
        (b"Content", "is not what was written"),
        (b"content and more", "is not what was written"),
    ],
    ids=["missing", "changed", "longer"],
)
def test_a_damaged_object_is_named_and_not_given_out(
    place: str, store: Store, tmp_path: Path, content: bytes | None, complaint: str
) -> None:
    file = tmp_path / "part"
    file.write_bytes(b"content")
    entry = store.put_file("t/part", file, rows=1)
    overwrite(place, "t/part", content)
    with pytest.raises(LakeDamaged) as caught, store.local([entry]):
        pass
    assert f"{place}/t/part {complaint}" in str(caught.value)


@pytest.mark.parametrize(
    "table",
    [
        "order details",
        "it's",
        'the "best"',
        "50% off",
        "a%2Fb",
        "Übergröße",
        "表",
        "a/b",
        "a\\b",
        ".hidden",
        "x=1&y+z",
        "#?[*]",
        "..",
    ],
)
def test_any_table_name_makes_a_folder_of_its_own(store: Store, tmp_path: Path, table: str) -> None:
    file = tmp_path / "part"
    file.write_bytes(table.encode())
    path = new_object_path(table, batch=1, part=1, read_at=NOON, ending="jsonl")
    entry = store.put_file(path, file, rows=1)
    assert path.count("/") == 2
    assert store.read(path) == table.encode()
    assert list(store.list(f"{folder_name(table)}/")) == [path]
    with store.local([entry]) as [local]:
        assert local.read_bytes() == table.encode()


def test_a_place_that_is_no_store_is_refused(tmp_path: Path) -> None:
    for url in ("gs://bucket/prefix", "s3://", "http://somewhere"):
        with pytest.raises(ConfigurationError, match=url.partition("//")[0]):
            Store.open(url, tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file/store"):
        Store.open("file/store", tmp_path)


def test_a_bucket_that_is_not_there_is_named(s3: Bucket, tmp_path: Path) -> None:
    with pytest.raises(StoreRefused, match="s3://no-such-bucket/lake"):
        list(Store.open("s3://no-such-bucket/lake", tmp_path).list(""))


def test_a_bucket_that_refuses_is_named_without_the_secret(
    s3: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    store = Store.open(s3.url("store"), tmp_path)
    for call in (lambda: list(store.list("")), lambda: store.put_new("a", b""), lambda: store.read("a")):
        with pytest.raises(StoreRefused, match=s3.url("store")) as caught:
            call()
        assert not caught.value.retryable
        assert "not-the-secret" not in str(caught.value)


def test_a_large_file_is_put_without_being_held_in_memory(place: str, tmp_path: Path) -> None:
    script = (
        "import re, sys, threading, time; from pathlib import Path; from totes.lake.store import Store\n"
        "held = lambda: int(re.search(r'RssAnon:\\s+(\\d+)', Path('/proc/self/status').read_text()).group(1)) >> 10\n"
        "store = Store.open(sys.argv[1], Path()); store.put_new('first', b''); before, peak = held(), [0]\n"
        "def watch():\n"
        "    while True: peak[0] = max(peak[0], held()); time.sleep(0.002)\n"
        "threading.Thread(target=watch, daemon=True).start()\n"
        "assert store.put_file('big', Path(sys.argv[2]), 1).bytes == 100 << 20\n"
        "print(peak[0] - before)"
    )
    if not Path("/proc/self/status").exists():
        pytest.skip("only Linux says how much memory a process holds")
    file = tmp_path / "big"
    with file.open("wb") as content:
        content.truncate(100 << 20)
    done = subprocess.run(
        [sys.executable, "-c", script, place, str(file)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 40  # MiB
