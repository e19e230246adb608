"""A disk is full: the stage that needs it says so and where, nothing half-written is taken for data, and space is all it needs."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command, Database, Mailbox
from tests.faults import kiosk
from tests.plain_lake import manifests_of, objects_of, rows_of_lake, rows_of_source

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
    ("what", "stages", "file"),
    [
        ("ingestion", ["ingest"], "/ingestion/note/"),
        ("processed", ["process"], "/processed/fact_note/"),
        ("cache", ["ingest", "process"], "/cache"),
        ("temporary", ["ingest", "process"], "/temporary"),
        ("warehouse", ["load"], "/warehouse.duckdb"),
    ],
)
def test_a_full_disk_is_named_and_told_and_room_is_all_that_is_needed(
    disk: Disk,
    database: Database,
    totes: Callable[..., Command],
    write_project: Callable[..., dict[str, Any]],
    smtp: Mailbox,
    tmp_path: Path,
    what: str,
    stages: list[str],
    file: str,
) -> None:
    database.execute(*FIRST)
    write_project({"fact_note": MODEL})
    places = dict.fromkeys(("ingestion", "processed", "cache", "temporary", "warehouse"), tmp_path)
    places[what] = disk.folder
    (places["temporary"] / "temporary").mkdir()
    warehouse = f"duckdb:///{places['warehouse']}/warehouse.duckdb"
    settings = {
        "TOTES_SOURCE__URL": database.url, "TOTES_PROJECT__PATH": "project", "TOTES_WAREHOUSE__URL": warehouse,
        "TOTES_LAKE__COMPRESSION": "gzip", "TOTES_ALERTS__URLS": json.dumps([smtp.url]),
        "TOTES_LAKE__INGESTION": f"{places['ingestion']}/ingestion",
        "TOTES_LAKE__PROCESSED": f"{places['processed']}/processed",
        "TOTES_LAKE__CACHE": f"{places['cache']}/cache", "TMPDIR": f"{places['temporary']}/temporary",
    }  # fmt: skip
    assert totes("run", **settings).code == 0
    database.execute(SECOND)
    disk.fill()
    failed = totes("run", **settings)
    lines = [line for line in failed.err.splitlines() if line.startswith("error: ")]
    assert failed.code == 3
    assert lines
    assert {line.split()[1].rstrip(":") for line in lines} <= set(stages)
    for line in lines:
        assert "No space left on device" in line
        assert "free space" in line
        assert file in line
    assert "Traceback" not in failed.err
    assert smtp.subjects == [f"[totes] terrifictotes: {line.split()[1].rstrip(':')} fails" for line in lines]
    disk.free()
    assert totes("run", **settings).code == 0
    stored = objects_of(f"{places['ingestion']}/ingestion")
    manifests = manifests_of(stored)
    assert (len(manifests), len(manifests_of(objects_of(f"{places['processed']}/processed")))) == (2, 2)
    assert rows_of_lake(stored) == rows_of_source(database.url, manifests[-1])
    assert kiosk.query(warehouse, "SELECT note_id, body FROM fact_note_current ORDER BY 1") == [
        database.execute("SELECT note_id, body FROM note ORDER BY 1")
    ]
    assert list((places["temporary"] / "temporary").iterdir()) == []
