"""A workspace spills into a folder of its own, and leaves nothing, killed or not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from totes import engine
from totes.errors import StoreError
from totes.lake.workspace import Workspace

_HOLD = """
import sys
from pathlib import Path
from totes.lake.workspace import Workspace
with Workspace.open(Path(sys.argv[1]), "40MB") as workspace:
    connection = workspace.connect()
    connection.execute(f"CREATE TABLE {workspace.new_table()} AS SELECT range AS n, hash(range) AS h FROM range(3000000)")
    print("spilled", flush=True)
    sys.stdin.read()
"""


def test_two_workspaces_in_one_folder_spill_beside_one_another_and_leave_nothing(tmp_path: Path) -> None:
    with Workspace.open(tmp_path, "40MB") as one, Workspace.open(tmp_path, "40MB") as other:
        tables = []
        for workspace in (one, other, one, other):
            name = workspace.new_table()
            tables.append((workspace, name))
            workspace.connect().execute(
                f"CREATE TABLE {name} AS SELECT range + {len(tables)} AS n, hash(range + {len(tables)}) AS h FROM range(2000000)"
            )
        assert (
            len([path for path in (tmp_path / "scratch").rglob("*") if path.stat().st_size > 1_000_000]) >= 2
        )
        for workspace, name in tables:
            bent = engine.scalar(workspace.connect(), f"SELECT count(*) FROM {name} WHERE h <> hash(n)")
            assert bent == 0
    assert list((tmp_path / "scratch").iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_uses_is_not(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "spilled\n"
        [used] = (tmp_path / "scratch").iterdir()
        with Workspace.open(tmp_path, "40MB"):
            assert used.is_dir()
        holder.kill()
    assert used.is_dir()
    with Workspace.open(tmp_path, "40MB"):
        assert not used.exists()


def test_a_file_that_cannot_be_detached_is_an_error(tmp_path: Path) -> None:
    with Workspace.open(tmp_path, "40MB") as workspace, pytest.raises(duckdb.Error, match="nothing"):
        workspace.detach("nothing")


def test_what_happens_within_a_workspace_is_not_said_of_its_folder(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="of the work") as failed, Workspace.open(tmp_path, "40MB"):
        raise OSError("of the work")
    assert not isinstance(failed.value, StoreError)
