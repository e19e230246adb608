"""How a DuckDB file is written while others read it: in a copy beside it, its shadow, which then takes its name.

DuckDB lets either one process write a file or any number read it. So a load never writes the file that has the warehouse's
name, but its shadow. Whoever has the file open goes on reading what it had; whoever opens it afterwards sees all that was
loaded. The state of the file that a shadow belongs to is in its name, so a killed load's shadow is found and continued.

The file whose name a shadow takes becomes the next shadow, unless what it lacks takes longer to load than to copy. So a
small batch costs no copy of a large file: the next load first loads into the shadow what is missing there.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from totes.errors import WarehouseError
from totes.failpoint import reach
from totes.lake.lock import lock_if_free

_PATIENCE_SECONDS = 10.0  # for another load
_RETRY_SECONDS = 0.1
_NEW = "new"  # the state of a file that is not there yet
_COPIED_PER_ROW = 10_000  # bytes that are copied in the time in which a row is loaded
_COPIED_PER_LOAD = 64 << 20  # bytes that are copied in the time that a load without rows takes
_FICLONE = 0x40049409  # Linux: the copy shares the file's blocks, where the file system can do that
_IN_USE = "Close the program that writes it; the next load takes up what is missing"


class Shadow:
    """The shadow of a file, locked against other loads.

    Attributes:
        path: the shadow, to be written and closed before it is published.
        published: the state of the file once it is published.
    """

    def __init__(self, file: Path) -> None:
        self.published: str | None = None
        self._changed = False  # whether it is to be published when the context ends
        self._lacking: int | None = (
            0  # how many rows the file lacks then; None where loads would not bring all
        )
        self._file = file
        self._state = state_of(file)
        self.path = self._path_of(self._state)

    @classmethod
    @contextmanager
    def of(cls, file: Path, *, alike: bool) -> Iterator[Shadow]:
        """The shadow of a file, published when the context ends, if something was written.

        Args:
            file: the file.
            alike: whether it has to have the file's content; else it may have that of any earlier or unfinished load.

        Raises:
            WarehouseError: another load has it, or another program writes the file; nothing is lost then.
        """
        file = file.resolve()
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            with lock_if_free(file.with_name(f".{file.name}.lock")) as mine:
                if mine:
                    shadow = cls(file)
                    shadow._prepare(alike=alike)
                    try:
                        yield shadow
                    finally:
                        shadow._end()
                    return
            if time.monotonic() > deadline:
                raise WarehouseError(
                    f"another load writes {file}",
                    hint="Nothing needs to be done: it loads what this one would",
                )
            time.sleep(_RETRY_SECONDS)

    def wrote(self, rows: int | None) -> None:
        """Notes that there is something to publish.

        Args:
            rows: how many rows of batches it is; None where loading these batches again would not make the same of the file.
        """
        self._changed = True
        self._lacking = None if rows is None or self._lacking is None else self._lacking + rows

    def copy(self) -> None:
        """Gives the shadow the file's content; an empty one, where there is no file."""
        for path in (self.path, log_of(self.path)):
            path.unlink(missing_ok=True)
        if self._file.exists():
            copied = self.path.with_name(f"{self.path.name}.copy")
            with _unwritten(self._file):
                _copy(self._file, copied)
            copied.rename(self.path)

    def _path_of(self, state: str) -> Path:
        return self._file.with_name(f".{self._file.name}.{state}.shadow")

    def _prepare(self, *, alike: bool) -> None:
        for path in self._file.parent.glob(f".{self._file.name}.*.shadow*"):
            if path not in (self.path, log_of(self.path)):
                path.unlink()
        if alike or not _is_unopened(self.path):
            self.copy()
        reach("duckdb.shadow.copied")

    def _end(self) -> None:
        if log_of(self.path).exists():  # what was committed could not be written into the file
            if self._changed:
                raise WarehouseError(
                    f"{self.path} cannot be written",
                    hint="Check the free space there; the next load goes on from what is loaded",
                )
            return
        reach("duckdb.shadow.closed")
        if self._changed:
            self._publish()
        else:
            self.path.unlink(missing_ok=True)

    def _publish(self) -> None:
        published = state_of(self.path)
        if not self._file.exists():
            self.path.rename(self._file)
        else:
            with _unwritten(self._file):
                if state_of(self._file) != self._state:
                    raise WarehouseError(f"another program wrote {self._file} during the load", hint=_IN_USE)
                found = self._file.stat()
                self.path.chmod(found.st_mode & 0o777)
                with suppress(PermissionError):
                    os.chown(self.path, found.st_uid, found.st_gid)
                if self._is_quickly_loaded(found.st_size):
                    with suppress(OSError):  # a file system without links: the next load copies the file
                        os.link(self._file, self._path_of(published))
                self.path.replace(self._file)
        self.published = published
        reach("duckdb.shadow.published")
        descriptor = os.open(self._file.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _is_quickly_loaded(self, size: int) -> bool:
        """Whether loading what the file lacks takes less time than a copy of it."""
        return self._lacking is not None and _COPIED_PER_LOAD + _COPIED_PER_ROW * self._lacking < size


def log_of(file: Path) -> Path:
    """The write-ahead log of a file, which is there while it is written, or where that was not ended."""
    return file.with_name(f"{file.name}.wal")


def state_of(file: Path) -> str:
    """What changes with every write to a file."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return _NEW
    parts = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
    return sha256(repr(parts).encode()).hexdigest()[:16]


def known_state(file: Path) -> str | None:
    """The state of a file that nobody is writing; None while somebody is."""
    return None if log_of(file).exists() else state_of(file)


def _copy(file: Path, copy: Path) -> None:
    with file.open("rb") as source, copy.open("wb") as target:
        copy.chmod(0o600)
        try:
            fcntl.ioctl(target, _FICLONE, source.fileno())
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS):
                raise
            shutil.copyfile(file, copy)


def _is_unopened(file: Path) -> bool:
    """Whether a file is there that no process has open, not even to read it: only that may be written in its place.

    The kernel gives a lease to write only then. Where it cannot say, somebody may have it open.
    """
    if not file.exists() or not hasattr(fcntl, "F_SETLEASE"):
        return False
    with file.open("rb") as opened:
        try:
            fcntl.fcntl(
                opened, fcntl.F_SETSIG, signal.SIGURG
            )  # which is ignored, if somebody opens it just now
            fcntl.fcntl(opened, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError:
            return False
    return True


@contextmanager
def _unwritten(file: Path) -> Iterator[None]:
    """Makes sure that no other process has a file open to write, while the context lasts.

    Raises:
        WarehouseError: one has.
    """
    with file.open("rb") as opened:
        try:
            fcntl.lockf(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            raise WarehouseError(f"another program writes {file}", hint=_IN_USE) from error
        yield
