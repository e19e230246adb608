"""The folder for this process's temporary files, which no other account can enter and which is removed with the process."""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

_PREFIX = "totes-scratch-"
# A folder is locked right after it is created: a younger one may not be locked yet.
_AGE_SECONDS_MIN = 60.0


def root() -> Path:
    """The process's folder in the system's folder for temporary files, created at the first call."""
    folder = _root(tempfile.gettempdir(), os.getpid())
    if not folder.is_dir():  # a temporary-file cleaner has removed it
        folder.mkdir(mode=0o700)
    return folder


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A new folder within the process's own, removed with its content when the context ends."""
    with tempfile.TemporaryDirectory(dir=root()) as folder:
        yield Path(folder)


@lru_cache(maxsize=8)
def _root(among: str, process: int) -> Path:
    parent = Path(among).resolve()
    _remove_abandoned(parent)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    lock = os.open(folder, os.O_RDONLY)  # until the process ends
    fcntl.flock(lock, fcntl.LOCK_EX)
    atexit.register(_remove, folder, process)
    return folder


def _remove(folder: Path, process: int) -> None:
    if os.getpid() == process:  # not in a fork of it
        shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(parent: Path) -> None:
    """Removes the folders of killed processes: a running process holds its folder's lock."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            state = folder.lstat()
            if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.geteuid():
                continue
            if time.time() - state.st_mtime < _AGE_SECONDS_MIN:
                continue
            lock = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
