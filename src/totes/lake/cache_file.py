"""The files of caches: how one is opened, and what to do when it cannot be.

A file may be in use: wait. It may be damaged: rebuild it from the lake. Or it is not accessible: report it to a person.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import duckdb

from totes.engine import Engine
from totes.errors import StoreError
from totes.lake.lock import lock_if_free
from totes.lake.workspace import Workspace
from totes.log import logger
from totes.messages import message

_LOCK_PATIENCE_SECONDS = 5.0
_IN_USE = re.compile(
    r"file handle conflict|could not set lock|conflicting lock|already attached", re.IGNORECASE
)
_MACHINE = re.compile(
    r"No space left|Permission denied|Read-only file|Cannot allocate|Too many open|Input/output"
)
_DAMAGED = re.compile(
    r"not a valid DuckDB database|corrupt (database|WAL) file|read a database file with version|Could not read enough bytes|"
    r"Failed to deserialize|Failure while replaying WAL",
    re.IGNORECASE,
)
_log = logger()


def attach(workspace: Workspace, file: Path, name: str) -> Engine | None:
    """Attaches a cache's file, created if needed; None if another process holds it for more than a few seconds.

    A damaged file is replaced by an empty one: it holds nothing that the lake does not.

    Raises:
        StoreError: the file cannot be created, read or written.
    """
    deadline = time.monotonic() + _LOCK_PATIENCE_SECONDS
    rebuilt = False
    while time.monotonic() < deadline:
        try:
            # The lock: a file that another process is just creating cannot be read yet, and would look damaged.
            with lock_if_free(file.with_suffix(".lock")) as mine:
                if mine:
                    _check_access(file)
                    return workspace.attach(file, name)
        except OSError as error:
            raise StoreError(
                f"the cache {file} cannot be opened: {error.strerror}",
                hint="Check its permissions and the space there, or set lake.cache to another folder",
            ) from error
        except duckdb.Error as error:
            if not is_in_use(error):
                if rebuilt or not (is_damage(error) or isinstance(error, duckdb.InternalException)):
                    raise StoreError(
                        f"the cache {file} cannot be opened: {message(error)}",
                        hint="Check its permissions and the space there, or set lake.cache to another folder",
                    ) from error
                rebuilt = True
                _log.warning("the cache is damaged and is rebuilt from the lake", file=str(file))
                remove(file)
                continue
        time.sleep(0.05)
    return None


def _check_access(file: Path) -> None:
    if file.exists():
        os.close(os.open(file, os.O_RDWR))


def is_in_use(error: duckdb.Error) -> bool:
    """Whether another process, or another workspace of this one, has the file open."""
    return _IN_USE.search(str(error)) is not None


def is_damage(error: BaseException | None) -> bool:
    """Whether the error means that the file's content is not what was written."""
    if not isinstance(error, duckdb.Error) or _MACHINE.search(str(error)):
        return False
    return isinstance(error, duckdb.SerializationException) or _DAMAGED.search(str(error)) is not None


def fingerprint(file: Path) -> tuple[int, ...] | None:
    """A value that changes with every write to the file; None if there is no file, or there is a write-ahead log beside it."""
    if not file.exists() or file.with_name(f"{file.name}.wal").exists():
        return None
    found = file.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def remove(file: Path) -> None:
    """Removes a cache's file and its write-ahead log."""
    for path in (file, file.with_name(f"{file.name}.wal")):
        path.unlink(missing_ok=True)
