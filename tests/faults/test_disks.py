"""A disk is full: the stage that needs it says so and where, nothing half-written is taken for data, and space is all it needs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Database, Mailbox
from tests.faults import kiosk
from tests.plain_lake import manifests_of, objects_of, rows_of_lake, rows_of_source
from tests.processes import run
from tests.spread import in_sweep

# A megabyte that does not compress well, and a little more in the second batch.
FIRST = (
    "CREATE TABLE note (note_id integer PRIMARY KEY, body text NOT NULL)",
    "INSERT INTO note SELECT n, (SELECT string_agg(md5(n::text || m), '') FROM generate_series(1, 100) AS m)"
    " FROM generate_series(1, 300) AS n",
)
SECOND = "UPDATE note SET body = reverse(body)"
MODEL = """
CREATE TABLE fact_note (note_record BIGINT PRIMARY KEY, note_id INTEGER NOT NULL, body VARCHAR NOT NULL) AS
SELECT note_id, body FROM note
"""
LEFT_BYTES = 120_000


class Disk:
    """A small disk that can be filled up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self) -> None:
        """Leaves little free."""
        free = os.statvfs(self.folder).f_bavail * os.statvfs(self.folder).f_bsize
        with (self.folder / "filler").open("wb") as filler:
            filler.write(bytes(max(0, free - LEFT_BYTES)))

    def free(self) -> None:
        """Makes room."""
        (self.folder / "filler").unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A file system of 48 MB in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("a small disk needs the command `mount`")
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield Disk(folder)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize(
    ("what", "stage", "file"),
    [
        ("ingestion", "ingest", "/ingestion/note/"),
        in_sweep("processed", "process", "/processed/fact_note/"),
        ("cache", "process", "/cache/processing.duckdb"),
        in_sweep("temporary", "ingest", "/temporary/totes-"),
        ("warehouse", "load", "/warehouse.duckdb"),
    ],
)
def test_a_full_disk_is_named_and_reported_and_free_space_is_all_that_is_needed(
    disk: Disk,
    database: Database,
    write_project: Callable[..., dict[str, Any]],
    smtp: Mailbox,
    tmp_path: Path,
    what: str,
    stage: str,
    file: str,
) -> None:
    database.execute(*FIRST)
    write_project({"fact_note": MODEL})
    places = dict.fromkeys(("ingestion", "processed", "cache", "temporary", "warehouse"), tmp_path)
    places[what] = disk.folder
    temporary = places["temporary"] / "temporary"
    temporary.mkdir()
    warehouse = f"duckdb:///{places['warehouse']}/warehouse.duckdb"
    lake = {name: f"{places[name]}/{name}" for name in ("ingestion", "processed", "cache")}
    (tmp_path / "totes.toml").write_text(
        f'[project]\npath = "project"\n[source]\nurl = "{database.url}"\n[warehouse]\nurl = "{warehouse}"\n'
        f'[alerts]\nurls = ["{smtp.url}"]\n[lake]\ncompression = "gzip"\n'
        + "".join(f'{name} = "{place}"\n' for name, place in lake.items()),
        encoding="utf-8",
    )
    assert run(tmp_path, TMPDIR=str(temporary)).failures == {}
    database.execute(SECOND)
    disk.fill()
    [(failed, line)] = run(tmp_path, TMPDIR=str(temporary)).failures.items()
    assert failed == stage
    assert "No space left on device" in line
    assert "free space" in line or "disk space" in line
    assert file in line
    assert "\n" not in line
    assert smtp.subjects == [f"[totes] terrifictotes: {stage} fails"]
    disk.free()
    assert run(tmp_path, TMPDIR=str(temporary)).failures == {}
    stored, processed = objects_of(lake["ingestion"]), objects_of(lake["processed"])
    manifests = manifests_of(stored)
    assert (len(manifests), len(manifests_of(processed))) == (2, 2)
    assert rows_of_lake(stored) == rows_of_source(database.url, manifests[-1])
    assert kiosk.query(warehouse, "SELECT note_id, body FROM fact_note_current ORDER BY 1") == [
        database.execute("SELECT note_id, body FROM note ORDER BY 1")
    ]
    assert [file for file in temporary.rglob("*") if file.is_file()] == []
