"""How a DuckDB file is written while others read it: in a shadow beside it, which then takes its name.

DuckDB lets either one process write a file or any number read it. So a load never writes the file that has the warehouse's
name. It writes the shadow, and when that is complete the two change names. Whoever has the file open goes on reading what it
had; whoever opens it afterwards sees all that was loaded. The file of before is the next shadow, and lacks the newest batches
only, so it is mostly quicker to load these into it too than to copy the file.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from totes.errors import WarehouseError
from totes.failpoint import reach
from totes.lake.lock import lock_if_free

# How long another load is waited for.
PATIENCE_SECONDS = 10.0
_RETRY_SECONDS = 0.1
_IN_USE = "Close the program that writes it; the next load takes up what is missing"
Fingerprint = list[int] | None  # None stands for no file


class Shadow:
    """The shadow of a file, locked against other loads.

    Attributes:
        path: the shadow, to be written and closed before it is published.
        changed: whether it is to be published when the context ends.
    """

    def __init__(self, file: Path) -> None:
        self.path = file.with_name(f".{file.name}.shadow")
        self.changed = False
        self._file = file
        self._note = file.with_name(f".{file.name}.shadow.json")
        self._previous = file.with_name(f".{file.name}.previous")
        self._base = fingerprint(file)

    @classmethod
    @contextmanager
    def of(cls, file: Path) -> Iterator[Shadow]:
        """The shadow of a file; once the context ends the file is what was written into the shadow, if anything was.

        Raises:
            WarehouseError: another load has it, or another program writes the file; nothing is lost then.
        """
        file = file.resolve()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            with lock_if_free(file.with_name(f".{file.name}.lock")) as mine:
                if mine:
                    shadow = cls(file)
                    try:
                        yield shadow
                    finally:
                        if shadow.changed:
                            shadow._publish()
                    return
            if time.monotonic() > deadline:
                raise WarehouseError(
                    f"another load writes {file}",
                    hint="Nothing needs to be done: it loads what this one would",
                )
            time.sleep(_RETRY_SECONDS)

    def is_usable(self) -> bool:
        """Whether the shadow is an earlier or a later state of the file, which nobody else has written since."""
        self._previous.unlink(missing_ok=True)
        with suppress(OSError, ValueError):
            noted: Fingerprint = json.loads(self._note.read_text(encoding="utf-8"))
            return self.path.exists() and noted == self._base
        return False

    def copy(self) -> None:
        """Makes the shadow a copy of the file, or nothing where there is no file."""
        self._remove()
        if self._base is not None:
            with _unwritten(self._file):
                shutil.copyfile(self._file, self.path)
            self._adopt_permissions()
        self._take_note()
        reach("duckdb.shadow.copied")

    def _publish(self) -> None:
        """Exchanges the names of the file and its shadow."""
        if log_of(self.path).exists():
            return  # its end could not be written, as on a full disk: the next load goes on from there
        reach("duckdb.shadow.closed")
        if self._base is None:
            self.path.rename(self._file)
        else:
            with _unwritten(self._file):
                if fingerprint(self._file) != self._base:
                    self._remove()
                    raise WarehouseError(f"another program wrote {self._file} during the load", hint=_IN_USE)
                self._adopt_permissions()
                with suppress(OSError):  # where a file cannot have two names, the next load copies it
                    os.link(self._file, self._previous)
                self.path.replace(self._file)
        reach("duckdb.shadow.published")
        if self._previous.exists():
            self._previous.replace(self.path)
        _sync(self._file.parent)
        self._base = fingerprint(self._file)
        self._take_note()

    def _remove(self) -> None:
        for path in (self._note, self.path, log_of(self.path)):
            path.unlink(missing_ok=True)

    def _adopt_permissions(self) -> None:
        found = self._file.stat()
        self.path.chmod(found.st_mode & 0o777)
        with suppress(PermissionError):
            os.chown(self.path, found.st_uid, found.st_gid)

    def _take_note(self) -> None:
        """Notes which file the shadow belongs to."""
        self._note.write_text(json.dumps(self._base), encoding="utf-8")


def fingerprint(file: Path) -> Fingerprint:
    """What changes with every write to a file."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns]


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


def log_of(file: Path) -> Path:
    """The write-ahead log of a file, which is there while it is written, or where that was not ended."""
    return file.with_name(f"{file.name}.wal")


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
