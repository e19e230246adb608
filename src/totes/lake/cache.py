"""A stage's local memory: a DuckDB file with what a batch must know of older ones.

It holds nothing that the lake does not: when it is lost, damaged, or of another lake, it is made again from the
manifests, beginning with a checkpoint where there is one. When another process has it open, a private one is made for
this run.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb

from totes import __version__, engine
from totes.deadline import NEVER, Deadline
from totes.engine import Engine
from totes.errors import LakeDamaged, StoreError
from totes.failpoint import reach
from totes.lake.checkpoint import restore_checkpoint, save_checkpoint
from totes.lake.journal import Journal
from totes.lake.layout import manifest_path
from totes.lake.lock import lock_if_free
from totes.lake.store import Store
from totes.lake.workspace import Workspace
from totes.log import logger

_LOCK_PATIENCE_SECONDS = 5.0
# A checkpoint is stored when there are twice as many batches as at the last one, or so many more, or when the file has grown by
# so much and this share: what is stored over time then grows with what is captured, and a lost cache is never far behind.
CHECKPOINT_BATCHES = 16
CHECKPOINT_BYTES, _CHECKPOINT_GROWTH = 16 << 20, 1.25
_log = logger()


class Cache:
    """An open cache; `engine` is in a transaction between `begin` and `commit` or `rollback`."""

    engine: Engine

    def __init__(self, workspace: Workspace, stage: str, journal: Journal[Any]) -> None:
        self._workspace = workspace
        self._stage = stage
        self._journal = journal
        self._private: Path | None = None

    @classmethod
    def open(cls, workspace: Workspace, stage: str, journal: Journal[Any]) -> Cache:
        """Opens the stage's cache in the workspace's folder, empty if it is new or does not belong to the journal's lake.

        Raises:
            LakeDamaged: the cache knows of batches that the lake does not have any more.
            StoreError: the cache cannot be made.
        """
        cache = cls(workspace, stage, journal)
        file = workspace.folder / f"{stage}.duckdb"
        connection = _connect_patiently(workspace, file, stage, journal.store)
        if connection is None:
            cache._private = Path(tempfile.mkdtemp(prefix="totes-cache-"))
            file = cache._private / file.name
            restore_checkpoint(journal.store, stage, file)
            connection = workspace.attach(file, stage)
        cache.engine = connection
        try:
            if not cache._belongs(file):
                cache._empty()
        except BaseException as error:
            cache.__exit__(type(error), error, error.__traceback__)
            raise
        return cache

    def __enter__(self) -> Cache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.engine.close()
        # Where something went wrong the file may be in a state that says so again.
        with suppress(duckdb.Error) if error else nullcontext():
            self._workspace.detach(self._stage)
        if self._private:
            shutil.rmtree(self._private, ignore_errors=True)

    @property
    def batch(self) -> int:
        """The batch that the cache knows of."""
        return int(engine.scalar(self.engine, "SELECT batch FROM totes_position"))

    def tables(self) -> set[str]:
        """The names of all tables that the cache keeps."""
        rows = self.engine.execute(
            "SELECT table_name FROM duckdb_tables() WHERE database_name = ?", [self._stage]
        ).fetchall()
        return {name for (name,) in rows}

    def begin(self) -> None:
        """Starts a transaction; what follows happens wholly or not at all."""
        self.engine.execute("BEGIN")
        reach("cache.begin")

    def commit(self, batch: int, manifest_sha256: str) -> None:
        """Ends the transaction with the cache standing at `batch`."""
        self.engine.execute(
            "UPDATE totes_position SET batch = ?, manifest_sha256 = ?", [batch, manifest_sha256]
        )
        reach("cache.commit.before")
        self.engine.execute("COMMIT")
        reach("cache.commit.after")

    def rollback(self) -> None:
        """Ends the transaction with the cache standing where it stood."""
        self.engine.execute("ROLLBACK")

    def advance(self, apply: Callable[[int], str], deadline: Deadline = NEVER) -> bool:
        """Brings the cache to the journal's newest batch; False where half of the time until a deadline was too short.

        Args:
            apply: takes a batch number, applies that batch to the tables of the cache, and gives the digest of the
                batch's manifest.
            deadline: when the call should be over.
        """
        last, first = self._journal.last(), self.batch + 1
        for batch in range(first, last + 1):
            if batch > first and deadline.half_over():
                _log.info("caught up in part", cache=self._stage, batch=batch - 1, newest=last)
                return False
            self.begin()
            try:
                digest = apply(batch)
            except BaseException:
                self.rollback()
                raise
            self.commit(batch, digest)
        return True

    def store_checkpoint(self) -> None:
        """Stores a checkpoint where one is due; outside of a transaction.

        Raises:
            StoreError: it cannot be stored; what was committed stays so.
        """
        if not self._workspace.checkpoints:
            return
        [(batch, digest, stored_batch, stored_bytes)] = self.engine.execute(
            "SELECT batch, manifest_sha256, checkpoint_batch, checkpoint_bytes FROM totes_position"
        ).fetchall()
        if batch == stored_batch:
            return
        size = self._bytes()
        due = size >= max(stored_bytes + CHECKPOINT_BYTES, stored_bytes * _CHECKPOINT_GROWTH)
        if not due and batch - stored_batch < min(max(stored_batch, 1), CHECKPOINT_BATCHES):
            return
        self._note_checkpoint(batch, size)  # the copy is to know of itself
        try:
            with tempfile.TemporaryDirectory(prefix="totes-") as scratch:
                file = Path(scratch) / "copy.duckdb"
                self._workspace.copy(self._stage, file)
                save_checkpoint(self._journal.store, self._stage, batch, digest, file)
        except BaseException:
            self._note_checkpoint(stored_batch, stored_bytes)
            raise

    def _note_checkpoint(self, batch: int, size: int) -> None:
        self.engine.execute(
            "UPDATE totes_position SET checkpoint_batch = ?, checkpoint_bytes = ?", [batch, size]
        )

    def _bytes(self) -> int:
        """How much room the tables take in the file."""
        used = "(total_blocks - free_blocks) * block_size"
        sql = f"SELECT {used} FROM pragma_database_size() WHERE database_name = {engine.text(self._stage)}"
        return int(engine.scalar(self.engine, sql))

    def _empty(self) -> None:
        """Begins anew, without letting go of the file's lock."""
        tables = self.tables()
        self.begin()
        for table in tables:
            self.engine.execute(f"DROP TABLE {engine.name(table)}")
        self.engine.execute(
            "CREATE TABLE totes_position (store VARCHAR, version VARCHAR, batch BIGINT, manifest_sha256 VARCHAR,"
            " checkpoint_batch BIGINT, checkpoint_bytes BIGINT)"
        )
        self.engine.execute(
            "INSERT INTO totes_position VALUES (?, ?, 0, NULL, 0, 0)", [self._journal.store.url, __version__]
        )
        self.engine.execute("COMMIT")

    def _belongs(self, file: Path) -> bool:
        try:
            [(store, version, batch, digest, _)] = self.engine.execute(
                "SELECT store, version, batch, manifest_sha256, checkpoint_batch FROM totes_position"
            ).fetchall()
        except (duckdb.Error, ValueError):
            return False
        if (store, version) != (self._journal.store.url, __version__):
            return False
        if batch == 0:
            return True
        last = self._journal.last()
        if batch > last:
            if last == 0 and self._journal.store.is_empty():
                return False  # a new lake in the place of the old one
            place = self._journal.store.location(manifest_path(last + 1))
            raise LakeDamaged(
                f"{place} is missing, though batch {batch} was there when the lake was last read",
                hint=f"Restore it from a backup. If the lake is meant to end there, delete {file} and the lake's checkpoints/",
            )
        return bool(self._journal.read(batch).sha256() == digest)


def _connect_patiently(workspace: Workspace, file: Path, stage: str, store: Store) -> Engine | None:
    """Opens the file, or gives None when somebody else keeps it for longer than a few seconds."""
    deadline = time.monotonic() + _LOCK_PATIENCE_SECONDS
    unreadable: duckdb.Error | None = None
    while time.monotonic() < deadline:
        # A file that another process is just making cannot be read yet, and is not to be taken for a damaged one.
        with lock_if_free(file.with_suffix(".lock")) as mine:
            try:
                if mine:
                    if not file.exists():
                        restore_checkpoint(store, stage, file)
                    return workspace.attach(file, stage)
            except duckdb.Error as error:
                if not _is_taken(error):
                    if unreadable:
                        raise StoreError(
                            f"the cache {file} cannot be written: {error}", hint="Set lake.cache"
                        ) from error
                    unreadable = error
                    _log.warning("the cache cannot be read and is made again from the lake", file=str(file))
                    _remove(file)
                    continue
        time.sleep(0.05)
    return None


def _is_taken(error: duckdb.Error) -> bool:
    """Whether another process has the file open, or another workspace of this one."""
    told = str(error)
    return "file handle conflict" in told or (
        isinstance(error, duckdb.IOException) and "lock" in told.lower()
    )


def _remove(file: Path) -> None:
    for path in (file, file.with_name(file.name + ".wal")):
        path.unlink(missing_ok=True)
