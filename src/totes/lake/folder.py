"""Objects as files in a folder."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

from totes.errors import LakeDamaged
from totes.lake.storage import TooLarge
from totes.permissions import create, make_folders, sync

_CHUNK_BYTES = 1 << 20
_SYNCING_THREADS = 8
# In the name of a file that is being written; no object's path contains it.
_PART = "#"


class Folder:
    """See Storage. `folder` is an absolute path without symbolic links, and no link inside it leads out of it."""

    failures: tuple[type[Exception], ...] = (OSError,)

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, path: str, content: bytes | Path) -> None:
        """See Storage. The content is flushed to disk before the file gets its name."""
        target = self._file(path)
        if target.exists():
            raise FileExistsError(path)
        make_folders(target.parent)
        part = target.with_name(f"{target.name}{_PART}{uuid4().hex[:8]}")
        try:
            with os.fdopen(create(part), "wb") as written:
                if isinstance(content, Path):
                    with content.open("rb") as read:
                        shutil.copyfileobj(read, written, _CHUNK_BYTES)
                else:
                    written.write(content)
                written.flush()
                os.fsync(written.fileno())
            os.link(part, target, follow_symlinks=False)
        finally:
            part.unlink(missing_ok=True)

    def settle(self, paths: Iterable[str]) -> None:
        """See Storage: the folders are flushed too, since they hold the names."""
        files = {self._folder / path for path in paths}
        folders = {folder for file in files for folder in file.parents if folder.is_relative_to(self._folder)}
        with ThreadPoolExecutor(_SYNCING_THREADS) as pool:
            list(pool.map(sync, folders))

    def read(self, path: str, bytes_max: int) -> bytes:
        """See Storage."""
        with self._file(path).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > bytes_max:
                raise TooLarge(size)
            return file.read()

    def list(self, prefix: str, after: str | None) -> list[str]:
        """See Storage. Symbolic links to folders are not followed."""
        top = self._folder / prefix.rpartition("/")[0]
        found = []
        for folder, _, names in os.walk(top, onerror=_unless_missing):
            place = Path(folder).relative_to(self._folder).as_posix()
            found += [name if place == "." else f"{place}/{name}" for name in names if _PART not in name]
        return [path for path in found if path.startswith(prefix) and (after is None or path > after)]

    def present(self, paths: Sequence[str]) -> set[str]:
        """See Storage. A folder with very many objects is not listed for a few."""
        # A Path for each of a thousand would take longer than the look.
        return {path for path in paths if os.path.isfile(f"{self._folder}/{path}")}  # noqa: PTH113

    def digest(self, path: str) -> tuple[str, int]:
        """See Storage."""
        return digest(self._file(path))

    def fetch(self, path: str, target: Path) -> Path:
        """See Storage."""
        return self._file(path)

    def _file(self, path: str) -> Path:
        file = self._folder / path
        if not file.resolve().is_relative_to(self._folder):
            raise LakeDamaged(
                f"{file} leads out of the store by a symbolic link",
                hint="Replace the link with what it points to; a link to the whole store is followed",
            )
        return file


def _unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def digest(file: Path) -> tuple[str, int]:
    """A file's sha256 and size."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest(), os.fstat(content.fileno()).st_size
