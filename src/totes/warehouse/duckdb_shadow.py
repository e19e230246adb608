"""How a DuckDB file is written while others read it: in a copy beside it, its shadow, which then takes its name.

DuckDB lets either one process write a file or any number read it. So a load never writes the file that has the warehouse's
name, but its shadow. Whoever has the file open goes on reading what it had; whoever opens it afterwards sees all that was
loaded. The state of the file that a shadow was copied from is in its name, so a killed load's shadow is found and continued.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from totes.errors import WarehouseError, WarehouseRefused
from totes.failpoint import reach
from totes.lake.lock import lock_if_free

_PATIENCE_SECONDS = 10.0  # for another load
_RETRY_SECONDS = 0.1
_NEW = "new"  # the state of a file that is not there yet
_FICLONE = 0x40049409  # Linux: the copy shares the file's blocks, where the file system can do that
_IN_USE = "Close the program that writes it; the next load takes up what is missing"


class Shadow:
    """The shadow of a file, locked against other loads.

    Attributes:
        path: the shadow, to be written and closed before it is published.
        changed: whether it is to be published when the context ends; it is, where a killed load has left it.
        published: the state of the file once it is published.
    """

    def __init__(self, file: Path) -> None:
        self.changed = False
        self.published: str | None = None
        self._file = file
        self._state = state_of(file)
        self.path = file.with_name(f".{file.name}.{self._state}.shadow")

    @classmethod
    @contextmanager
    def of(cls, file: Path) -> Iterator[Shadow]:
        """The shadow of a file, with the file's content or that of a load which was killed; then published, if changed.

        Raises:
            WarehouseError: another load has it, or another program writes the file; nothing is lost then.
        """
        file = file.resolve()
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            with lock_if_free(file.with_name(f".{file.name}.lock")) as mine:
                if mine:
                    shadow = cls(file)
                    shadow._prepare()
                    try:
                        yield shadow
                    except WarehouseRefused:
                        shadow.changed &= (
                            shadow._state != _NEW
                        )  # a killed load's shadow may be of another lake
                        raise
                    finally:
                        shadow._end()
                    return
            if time.monotonic() > deadline:
                raise WarehouseError(
                    f"another load writes {file}",
                    hint="Nothing needs to be done: it loads what this one would",
                )
            time.sleep(_RETRY_SECONDS)

    def _prepare(self) -> None:
        for path in self._file.parent.glob(f".{self._file.name}.*.shadow*"):
            if not path.name.startswith(self.path.name):
                path.unlink()
        self.changed = self.path.exists()
        if self._file.exists() and not self.path.exists():
            copy = self.path.with_name(f"{self.path.name}.copy")
            with _unwritten(self._file):
                _copy(self._file, copy)
            copy.rename(self.path)
        reach("duckdb.shadow.copied")

    def _end(self) -> None:
        if log_of(self.path).exists():
            return  # what was committed could not be written into the file, as on a full disk: the next load goes on from there
        reach("duckdb.shadow.closed")
        if self.changed:
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
                self.path.replace(self._file)
        self.published = published
        reach("duckdb.shadow.published")
        descriptor = os.open(self._file.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


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
