"""The demo's folder: created, recognised by its settings file, cleared, and listed at the end. Other files are not touched."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from totes.config import FILE_NAME
from totes.errors import ConfigurationError
from totes.permissions import make_folders

MARKER = "# Made by `totes demo`, which starts this folder afresh when it is run again."

_SETTINGS = """\
{marker}
# These are the settings of a pipeline. Paths start from this file's folder.

[project]
# Which star schema is built: TerrificTotes is built in. For your own, set `path` to the folder with its
# models/ and reference/.
name = "terrifictotes"

[source]
# The PostgreSQL database that is read, with a role that can read and nothing else. The demo's own server has
# stopped. For another database make another folder: a lake holds the history of one source.
url = "{url}"
schema = "public"

[lake]
# Captured changes, as immutable JSON lines, and the star's rows, as immutable Parquet files: folders, or
# s3://bucket/prefix.
ingestion = "lake/ingestion"
processed = "lake/processed"

[warehouse]
# The star schema: a DuckDB file, or postgresql://...
url = "duckdb:///warehouse.duckdb"
"""

# What the demo creates, with descriptions, in the order of the data flow.
_MADE = (
    (FILE_NAME, "the settings"),
    ("lake/ingestion", "captured changes, as JSON lines"),
    ("lake/processed", "rows of the star, as Parquet"),
    ("warehouse.duckdb", "the star schema, with its history"),
    (".totes", "a cache, rebuilt if it is lost"),
)


@dataclass(frozen=True)
class Made:
    """A file, or a folder and the number of files in it; `size` is in bytes."""

    path: str
    files: int
    size: int
    description: str


def check(folder: Path) -> None:
    """Makes sure that a demo may use a folder; changes nothing.

    Raises:
        ConfigurationError: it is not a folder, or has something other than a demo in it.
    """
    with _writing(folder):
        if folder.exists() and not folder.is_dir():
            raise ConfigurationError(f"{folder} is a file", hint="Name another folder with --dir")
        if folder.exists() and any(folder.iterdir()) and not _is_demo(folder):
            raise ConfigurationError(
                f"{folder} is not empty, and not the folder of a demo",
                hint="Nothing was changed; name another folder with --dir",
            )


def clear(folder: Path, source_url: str) -> Path:
    """Creates the folder with its settings file, and removes from it what an earlier demo wrote.

    Args:
        folder: a folder that has been checked.
        source_url: goes into the settings, which only their owner can read.

    Returns:
        The path of the settings file.
    """
    settings = folder / FILE_NAME
    with _writing(folder):
        make_folders(folder)
        warehouse = [*folder.glob("warehouse.duckdb*"), *folder.glob(".warehouse.duckdb.*")]
        for path in (folder / "lake", folder / ".totes", *warehouse):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        # Last, so that a folder that was only partly cleared is still recognised.
        settings.unlink(missing_ok=True)
        settings.touch(mode=0o600)
        settings.write_text(_SETTINGS.format(marker=MARKER, url=source_url), encoding="utf-8")
    return settings


def list_made(folder: Path) -> list[Made]:
    """What the demo has written into the folder."""
    listed = []
    for name, description in _MADE:
        path = folder / name
        files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
        size = sum(file.stat().st_size for file in files)
        listed.append(Made(f"{name}/" if path.is_dir() else name, len(files), size, description))
    return listed


def _is_demo(folder: Path) -> bool:
    try:
        return MARKER in (folder / FILE_NAME).read_text(encoding="utf-8", errors="replace").splitlines()
    except (FileNotFoundError, IsADirectoryError):
        return False


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            f"the folder {folder} cannot be written: {error.strerror}", hint="Name another folder with --dir"
        ) from error
