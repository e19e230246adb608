"""What holds data is readable by its owner alone, or as the owner of a folder chose; nothing follows a link laid in its way."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command, Database
from totes import permissions, scratch
from totes.errors import ConfigurationError
from totes.lake.cache_file import attach
from totes.lake.lock import lock_if_free
from totes.lake.store import Store
from totes.lake.workspace import Workspace
from totes.pipeline import Pipeline
from totes.star.project import load_project
from totes.terrifictotes import binaries

MODEL = {"dim_t": "CREATE TABLE dim_t (id INTEGER PRIMARY KEY, v VARCHAR) AS SELECT id, v FROM t"}


@pytest.fixture(autouse=True)
def loose() -> Iterator[None]:
    """A umask under which everybody may read what a program makes."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def source(database: Database) -> Database:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text)",
        "INSERT INTO t SELECT i, 'a' FROM generate_series(1, 9) i",
    )
    return database


def modes(*places: Path) -> dict[str, str]:
    """The modes of places and all that is in them, each once, by an example."""
    found = [path for place in places for path in (place, *place.rglob("*"))]
    return {f"{stat.S_IMODE(path.stat().st_mode):o}": str(path) for path in found}


def made(folder: Path) -> list[Path]:
    return [folder / "lake", folder / ".totes", folder / "warehouse.duckdb", folder / "backup"]


def test_lake_caches_warehouse_health_and_backup_are_their_owners_alone(
    source: Database, totes: Callable[..., Command], write_project: Any, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    project = write_project(MODEL)
    (tmp_path / "totes.toml").write_text(
        f'[project]\nname = "project"\npath = "{project["path"]}"\n[source]\nurl = "{source.url}"\n[lake]\ncheckpoints = true\n'
        '[alerts]\nurls = ["json://127.0.0.1:1"]\n'
    )
    assert totes("run").code == 0
    assert totes("backup", "backup").code == 0
    assert set(modes(*made(tmp_path))) == {"600", "700"}
    assert list((tmp_path / ".totes").glob("health-*.json"))


def test_within_a_program_that_has_another_umask_it_is_the_same(
    source: Database, make_pipeline: Any, write_project: Any, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    pipeline: Pipeline = make_pipeline(source.url, project=write_project(MODEL))
    before = os.umask(0o022)
    try:
        assert pipeline.run().failures == {}
    finally:
        after = os.umask(before)
    assert set(modes(tmp_path / "lake", tmp_path / "warehouse.duckdb")) == {"600", "700"}
    assert modes(tmp_path / ".totes")["700"]
    assert stat.S_IMODE((tmp_path / ".totes").stat().st_mode) == 0o700
    assert stat.S_IMODE(scratch.root().stat().st_mode) == 0o700
    assert after == 0o022  # that of the program was not changed


@pytest.mark.parametrize(
    ("chosen", "folders", "files"),
    [
        (0o755, 0o700, 0o600),
        (0o777, 0o700, 0o600),
        (0o1777, 0o700, 0o600),
        (0o700, 0o700, 0o600),
        (0o750, 0o750, 0o640),
        (0o770, 0o770, 0o660),
        (0o2770, 0o2770, 0o660),
    ],
)
def test_a_folder_that_shuts_others_out_shares_with_its_group(
    tmp_path: Path, chosen: int, folders: int, files: int
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    place.chmod(chosen)
    store = Store.open("place/lake", tmp_path)
    store.put_new("a/b", b"content")
    permissions.replace(place / "health", b"{}")
    with Workspace.open(place / "cache", "100MB") as workspace:
        assert attach(workspace, place / "cache/stage.duckdb", "stage")
    for folder in (place / "lake", place / "lake/a", place / "cache"):
        assert stat.S_IMODE(folder.stat().st_mode) == folders
    for file in (
        place / "lake/a/b",
        place / "health",
        place / "cache/stage.duckdb",
        place / "cache/stage.lock",
    ):
        assert stat.S_IMODE(file.stat().st_mode) & 0o777 & ~0o022 == files & ~0o022
    assert permissions.umask(place) == 0o777 & ~folders


def test_a_link_that_was_laid_in_the_way_of_a_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("precious")
    (tmp_path / "stage.lock").symlink_to(tmp_path / "theirs")
    with pytest.raises(OSError, match="symbolic links"), lock_if_free(tmp_path / "stage.lock"):
        pass
    assert (tmp_path / "theirs").read_text() == "precious"


def test_what_a_killed_process_left_in_the_temporary_folder_is_removed_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left, theirs = tmp_path / "totes-scratch-left", tmp_path / "theirs"
    for folder in (left, theirs):
        folder.mkdir()
        (folder / "part").touch()
    (tmp_path / "totes-scratch-link").symlink_to(theirs)
    os.utime(left, (0, 0))
    os.utime(theirs, (0, 0))
    mine = scratch.root()
    assert mine.parent == tmp_path
    assert not left.exists()
    assert (theirs / "part").exists()
    with scratch.temporary_folder() as folder:
        assert folder.parent == mine
    os.utime(mine, (0, 0))
    scratch._root.cache_clear()
    assert scratch.root() != mine
    assert mine.exists()  # its process lives


def test_a_reference_file_that_leads_out_of_the_project_is_refused(
    tmp_path: Path, write_project: Any
) -> None:
    project = write_project(MODEL, {"inside": "a,b\n1,2\n"})
    (tmp_path / "secret.csv").write_text("user,password\n")
    load_project(project["name"], project["path"])
    (project["path"] / "reference/linked.csv").symlink_to(project["path"] / "reference/inside.csv")
    load_project(project["name"], project["path"])
    (project["path"] / "reference/secret.csv").symlink_to(tmp_path / "secret.csv")
    with pytest.raises(ConfigurationError, match=r"secret\.csv is a symbolic link out of the project"):
        load_project(project["name"], project["path"])


def test_the_programs_of_the_demo_are_copied_to_a_folder_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package/postgres").write_text("program")
    (tmp_path / "theirs").write_text("precious")
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    (shared / "totes-postgresql-1.lock").symlink_to(tmp_path / "theirs")
    own = binaries._own_folder(shared)
    assert stat.S_IMODE(own.stat().st_mode) == 0o755
    assert binaries._own_folder(shared) == own
    copy = binaries._copy_once(tmp_path / "package", own / "1")
    assert (copy / "package/postgres").read_text() == "program"
    assert (tmp_path / "theirs").read_text() == "precious"


@pytest.mark.parametrize("laid", ["link", "open", "file"])
def test_a_folder_that_somebody_else_laid_there_is_refused(tmp_path: Path, laid: str) -> None:
    own = tmp_path / f"totes-postgresql-{os.geteuid()}"
    if laid == "link":
        (tmp_path / "theirs").mkdir()
        own.symlink_to(tmp_path / "theirs")
    elif laid == "open":
        own.mkdir()
        own.chmod(0o777)
    else:
        own.touch()
    with pytest.raises(ConfigurationError, match="is not a folder that this account alone may write"):
        binaries._own_folder(tmp_path)
