"""A loss of power at any moment: the lake is with the batch or without it, and can be read.

The system calls of a real commit are recorded, and replayed against a disk that loses what was not synced: of a file
the bytes since its last sync, of a folder the names since its last sync, or only the bytes.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lake.lakes import NOON
from totes.errors import LakeDamaged
from totes.lake.journal import Journal, ingestion_journal
from totes.lake.manifest import Manifest
from totes.lake.store import Store

_COMMIT = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from totes.lake.journal import ingestion_journal
from totes.lake.manifest import IngestionManifest, Position, TableChanges
from totes.lake.store import Store
from totes import permissions
NOON = datetime(2024, 11, 26, 12, tzinfo=UTC)
folder = Path(sys.argv[1])
store = Store.open(sys.argv[1] + "/lake", Path())
(folder / "part").write_bytes(b"line\\n" * 50_000)
entries = tuple(store.put_file(f"t/date=2024-11-26/000000000001-{n:04d}-00000000.jsonl", folder / "part", 1) for n in (1, 2))
ingestion_journal(store).commit(IngestionManifest(
    batch=1, previous_sha256=None, started_at=NOON, finished_at=NOON, schema_name="s", compression="none",
    tables={"t": TableChanges(columns=(), key=(), marked_by="content", objects=entries)},
    position=Position(system_identifier="1", timeline=1, database="d", horizon=1, next_transaction=1, read_at=NOON)))
(folder / "committed").touch()
permissions.replace(folder / "health.json", b"first")
permissions.replace(folder / "health.json", b"second")
(folder / "replaced").touch()
"""
_CALLS = "openat,write,pwrite64,sendfile,fsync,fdatasync,link,linkat,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat"


@dataclass
class Call:
    """A system call that succeeded: the paths in it, the file that its first argument is, and what it gave."""

    name: str
    given: str
    result: int
    paths: list[str]
    file: str


class Disk:
    """What is in memory, and what a loss of power leaves of it, by absolute path below `top`."""

    def __init__(self, top: str) -> None:
        self.top = top
        self.files: dict[str, int] = {}  # a file by each of its names
        self.written: dict[int, int] = {}
        self.folders: set[str] = set()
        self.synced: dict[int, int] = {}  # how many bytes of a file are on the disk
        self.names: dict[str, int] = {}  # and which names
        self.synced_folders: set[str] = set()

    def apply(self, call: Call) -> None:
        """Takes a call into account."""
        first, last = (call.paths[0], call.paths[-1]) if call.paths else ("", "")
        if call.name == "openat" and "O_CREAT" in call.given:
            self._make(first)
        elif call.name in ("write", "pwrite64", "sendfile") and call.file in self.files:
            self.written[self.files[call.file]] += call.result
        elif call.name in ("fsync", "fdatasync"):
            self._sync(call.file)
        elif call.name.startswith("mkdir"):
            self.folders.add(first)
        elif call.name.startswith("link"):
            self.files[last] = self.files[first]
        elif call.name.startswith("rename"):
            self.files[last] = self.files.pop(first)
        elif call.name.startswith("unlink"):
            self.files.pop(first, None)

    def _make(self, path: str) -> None:
        if path not in self.files:
            self.files[path] = len(self.written)
            self.written[self.files[path]] = self.synced[self.files[path]] = 0

    def _sync(self, path: str) -> None:
        if path in self.files:
            self.synced[self.files[path]] = self.written[self.files[path]]
            return
        inside = {name: file for name, file in self.files.items() if str(Path(name).parent) == path}
        others = {name: file for name, file in self.names.items() if str(Path(name).parent) != path}
        self.names = others | inside
        self.synced_folders |= {name for name in self.folders if str(Path(name).parent) == path}

    def left(self, *, names_survive: bool) -> dict[str, int]:
        """The files that are there after a loss of power, with how many of their first bytes."""
        folders = (self.folders if names_survive else self.synced_folders) | {self.top}
        return {
            name: self.synced[file]
            for name, file in (self.files if names_survive else self.names).items()
            if all(str(one) in folders for one in Path(name).parents if str(one).startswith(self.top))
        }


def calls(lines: list[str], top: str) -> Iterator[Call]:
    """The calls that a recording holds of files below a folder."""
    opened: dict[int, str] = {}
    unfinished: dict[str, str] = {}
    for line in lines:
        process, _, text = line.partition(" ")
        text = text.strip()
        if text.endswith("<unfinished ...>"):
            unfinished[process] = text.removesuffix("<unfinished ...>").strip()
            continue
        if resumed := re.match(r"<\.\.\. \w+ resumed>(.*)", text):
            text = unfinished.pop(process) + resumed.group(1)
        found = re.match(r"(\w+)\((-?\d+)?(.*)\)\s+= (\d+)", text)
        if not found:
            continue
        name, number, given, result = found.groups()
        paths = [path for path in re.findall(r'"([^"]*)"', given) if path.startswith(top)]
        call = Call(name, given, int(result), paths, opened.get(int(number or -1), ""))
        if name == "openat" and (place := re.search(r'"([^"]*)"', given)):
            opened[call.result] = place.group(1)
        if paths or call.file.startswith(top):
            yield call


def test_a_loss_of_power_at_any_moment_leaves_the_lake_with_the_batch_or_without_it(tmp_path: Path) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    folder = tmp_path.resolve() / "machine"
    folder.mkdir()
    record = tmp_path / "calls"
    command = [strace, "-f", "-o", str(record), "-e", f"trace={_CALLS}", "-s", "4096", sys.executable, "-c", _COMMIT, str(folder)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "ptrace" in done.stderr:
        pytest.skip("processes cannot be traced here")
    assert done.returncode == 0, done.stderr
    committed = replaced = False
    seen: set[tuple[bool, ...]] = set()
    disk, health = Disk(str(folder)), str(folder / "health.json")
    for call in calls(record.read_text(errors="replace").splitlines(), str(folder)):
        disk.apply(call)
        committed |= str(folder / "committed") in disk.files
        replaced |= str(folder / "replaced") in disk.files
        states = [disk.left(names_survive=survive) for survive in (False, True)]
        outcome = tuple(holds_batch(folder, left, tmp_path / "after") for left in states)
        seen.add(outcome)
        assert outcome[0] or not committed, "a batch that was committed is lost"
        assert all(left.get(health, 5) in (len(b"first"), len(b"second")) for left in states)
        assert states[0].get(health) == len(b"second") or not replaced
    assert committed
    assert replaced
    assert {(False, False), (True, True)} <= seen


def holds_batch(folder: Path, left: dict[str, int], place: Path) -> bool:
    """Whether the lake of a folder holds the batch after a loss of power that left so much; it can be read if so."""
    shutil.rmtree(place, ignore_errors=True)
    for name, size in left.items():
        path = Path(name).relative_to(folder)
        if path.parts[0] == "lake" and "#" not in name:
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (place / path).write_bytes(Path(name).read_bytes()[:size])
    journal = ingestion_journal(Store.open(str(place / "lake"), place))
    if journal.last() == 0:
        return False
    with journal.store.local(journal.confirmed(1).named_objects()) as files:
        assert len(files) == 2
    return True


@pytest.mark.parametrize("content", [b"", b"\0" * 700])
def test_an_empty_manifest_of_an_earlier_loss_of_power_says_what_to_do(
    tmp_path: Path, content: bytes
) -> None:
    journal = Journal(Store.open("lake", tmp_path), Manifest)
    journal.commit(Manifest(batch=1, previous_sha256=None, started_at=NOON, finished_at=NOON))
    empty = tmp_path / "lake/batches/000000000002.json"
    empty.write_bytes(content)
    with pytest.raises(
        LakeDamaged, match=r"000000000002\.json is empty.*Remove that file: its batch was never committed"
    ):
        Journal(journal.store, Manifest).newest()
    empty.unlink()
    newest = Journal(journal.store, Manifest).newest()
    assert newest
    assert newest.batch == 1
