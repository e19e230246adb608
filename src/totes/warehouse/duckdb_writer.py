"""How a DuckDB file is opened: to read it, beside any number of others; to write its shadow, one process at a time."""

from __future__ import annotations

import re
import time
from contextlib import ExitStack
from pathlib import Path

import duckdb

from totes import engine
from totes.errors import WarehouseError
from totes.messages import message
from totes.warehouse.duckdb_shadow import Shadow, log_of

# How long a file that another process writes is waited for.
_PATIENCE_SECONDS = 5.0
_HOLDER = re.compile(r"lock is held in (.+?) \(PID (\d+)\)")
_IN_USE = (
    "Close the program that writes it, or try again when it has ended; the next load takes up what is missing"
)
_LOCK_RETRY_SECONDS = 0.1
# Batches are written into the file together, when it is closed: nobody reads it until then.
_LOG_MAX = 256 << 20
# A file that another process is just making is no DuckDB file yet.
_MAKING_PATIENCE_SECONDS = 1.0


class Writer:
    """Opens the shadow of a file when there is something to write, for as long as `opened` lasts."""

    def __init__(self, file: Path, memory: str, reads: tuple[Path, ...], opened: ExitStack) -> None:
        self._file = file
        self._memory = memory
        self._reads = reads
        self._opened = opened
        self._shadow: Shadow | None = None

    def open(self, reading: engine.Engine | None, *, alike: bool) -> engine.Engine:
        """The connection to write with, in place of the one to read with, which is closed; called once.

        Args:
            reading: the connection to read with.
            alike: whether what is written has to have the file's content; else it may be at a batch before or after it.

        Raises:
            WarehouseError: another load or another program writes the file.
        """
        if log_of(self._file).exists():  # another program was killed while it wrote the file
            if reading:
                reading.close()
            _connect(self._file, self._memory, self._reads, read_only=False).close()
        try:
            shadow = self._shadow = self._opened.enter_context(Shadow.of(self._file, alike=alike))
        except WarehouseError:
            # Fails too where a program writes the file, and names that.
            connect_to_read(self._file, self._memory).close()
            raise
        try:
            connection = self._connect(shadow)
        except duckdb.Error:  # what a killed load has left may be damaged
            shadow.copy()
            connection = self._connect(shadow)
        self._opened.callback(connection.close)
        if reading:
            reading.close()
        return connection

    def _connect(self, shadow: Shadow) -> engine.Engine:
        return engine.connect(shadow.path, memory=self._memory, reads=self._reads, log_bytes_max=_LOG_MAX)

    @property
    def is_open(self) -> bool:
        """Whether the connection to write with is in use."""
        return self._shadow is not None

    def wrote(self, rows: int | None) -> None:
        """See Shadow."""
        if self._shadow:
            self._shadow.wrote(rows)

    @property
    def published(self) -> str | None:
        """The state of the file that was published, if one was."""
        return self._shadow.published if self._shadow else None


def connect_to_read(file: Path, memory: str) -> engine.Engine:
    """A connection to read a file with; to an empty database where there is no file.

    Raises:
        WarehouseError: another process writes it, or it is no DuckDB file.
    """
    if not file.exists():
        return engine.connect(None, memory=memory)
    return _connect(file, memory, (), read_only=True)


def _connect(file: Path, memory: str, reads: tuple[Path, ...], read_only: bool) -> engine.Engine:
    began = locked_until = time.monotonic()
    while True:
        try:
            return engine.connect(file, memory=memory, reads=reads, read_only=read_only)
        except duckdb.Error as error:
            now = time.monotonic()
            if isinstance(error, duckdb.IOException) and "lock" in str(error).lower():
                locked_until = now
                if now - began > _PATIENCE_SECONDS:
                    holder = _HOLDER.search(str(error))
                    by = f"process {holder.group(2)} ({holder.group(1)})" if holder else "another process"
                    raise WarehouseError(f"{file} is in use by {by}", hint=_IN_USE) from error
            elif now - locked_until > _MAKING_PATIENCE_SECONDS:  # whoever had it open may be just making it
                raise WarehouseError(
                    f"opening {file} failed: {message(error)}", hint="Check warehouse.url"
                ) from error
            time.sleep(_LOCK_RETRY_SECONDS)
