"""A stage's cache: a local DuckDB file with the state that a batch needs from earlier batches.

It holds nothing that the lake does not. A cache that is lost, damaged or from another version is rebuilt from the
lake, starting at a checkpoint if there is one. While another process has the file open, a run uses a private cache.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb

from totes import __version__, engine, scratch
from totes.deadline import NEVER, Deadline
from totes.engine import Engine
from totes.errors import LakeDamaged, StoreError
from totes.failpoint import reach
from totes.lake.cache_file import attach, fingerprint, is_damage, remove
from totes.lake.checkpoint import Checkpoint, checkpoints, restore_tables, save_checkpoint
from totes.lake.journal import Journal
from totes.lake.layout import manifest_path
from totes.lake.workspace import Workspace
from totes.log import logger
from totes.messages import message
from totes.progress import report

# A checkpoint is due when the number of batches has doubled since the last one or grown by CHECKPOINT_BATCHES, or when the file
# has grown by both CHECKPOINT_BYTES and the factor _CHECKPOINT_GROWTH. So the space for checkpoints grows in proportion to the
# captured data, and a lost cache never has far to catch up.
CHECKPOINT_BATCHES = 16
CHECKPOINT_BYTES, _CHECKPOINT_GROWTH = 16 << 20, 1.25
# Finds what no cache contains: anything but plain tables of values, or tables without `totes_position`, which every cache has.
_NO_CACHE = """
SELECT view_name FROM duckdb_views() WHERE NOT internal AND database_name = $file
UNION ALL SELECT function_name FROM duckdb_functions() WHERE NOT internal AND database_name = $file
UNION ALL SELECT type_name FROM duckdb_types() WHERE NOT internal AND database_name = $file
UNION ALL SELECT schema_name FROM duckdb_schemas() WHERE NOT internal AND database_name = $file AND schema_name <> 'main'
UNION ALL SELECT sequence_name FROM duckdb_sequences() WHERE database_name = $file
UNION ALL SELECT index_name FROM duckdb_indexes() WHERE database_name = $file
UNION ALL SELECT constraint_text FROM duckdb_constraints() WHERE database_name = $file
UNION ALL SELECT column_name FROM duckdb_columns() WHERE database_name = $file AND column_default IS NOT NULL
UNION ALL SELECT table_name FROM duckdb_tables() WHERE database_name = $file AND NOT EXISTS (
    FROM duckdb_tables() WHERE database_name = $file AND table_name = 'totes_position')
"""
# The files that this process has closed, with their fingerprints: a file whose fingerprint is the same needs no new check.
_closed: dict[Path, tuple[int, ...] | None] = {}
_log = logger()


class Cache:
    """An open cache; `engine` is in a transaction between `begin` and `commit` or `rollback`."""

    def __init__(
        self,
        workspace: Workspace,
        stage: str,
        journal: Journal[Any],
        file: Path,
        connection: Engine,
        private: Path | None = None,
    ) -> None:
        self.engine = connection
        self._workspace = workspace
        self._stage = stage
        self._journal = journal
        self._file = file
        self._private = private
        self._batch: int | None = None  # as it was last committed or read

    @classmethod
    def open(cls, workspace: Workspace, stage: str, journal: Journal[Any]) -> Cache:
        """Opens the stage's cache in the workspace's folder; rebuilds it if it is lost, damaged or from another version.

        The cache of another lake is not touched: this lake gets its own file beside it. If another process has the cache
        open, a private one is built.

        Raises:
            LakeDamaged: the cache has read batches that are no longer in the lake.
            StoreError: the cache cannot be created.
        """
        own = sha256(journal.store.url.encode()).hexdigest()[:8]
        for file in (workspace.folder / f"{stage}.duckdb", workspace.folder / f"{stage}-{own}.duckdb"):
            new, before = not file.exists(), fingerprint(file)
            connection = attach(workspace, file, stage)
            if connection is None:
                break
            cache = cls(workspace, stage, journal, file, connection)
            with cache._closed_if_it_fails():
                if not new and not (before and before == fingerprint(file) == _closed.get(file)):
                    cache._check_content()
                if cache._settle():
                    return cache
            cache.__exit__(None, None, None)
        private = Path(tempfile.mkdtemp(dir=scratch.root()))
        file = private / f"{stage}.duckdb"
        try:
            cache = cls(workspace, stage, journal, file, workspace.attach(file, stage), private)
        except BaseException:
            shutil.rmtree(private, ignore_errors=True)
            raise
        with cache._closed_if_it_fails():
            cache._rebuild()
        return cache

    def __enter__(self) -> Cache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.engine.close()
        # After an error the file may be in a state in which detaching it fails too.
        with suppress(duckdb.Error) if error else nullcontext():
            self._workspace.detach(self._stage)
        _closed[self._file] = None if error or self._private else fingerprint(self._file)
        if self._private:
            shutil.rmtree(self._private, ignore_errors=True)
        elif is_damage(error):
            remove(self._file)
            raise StoreError(
                f"the cache {self._file} was damaged and has been removed",
                hint="Run it again: the cache is rebuilt from the lake",
            ) from error

    @property
    def batch(self) -> int:
        """The newest batch that the cache has applied."""
        if self._batch is None:
            self._batch = int(engine.scalar(self.engine, "SELECT batch FROM totes_position"))
        return self._batch

    def tables(self) -> set[str]:
        """The names of all tables in the cache."""
        rows = self.engine.execute(
            "SELECT table_name FROM duckdb_tables() WHERE database_name = ?", [self._stage]
        ).fetchall()
        return {name for (name,) in rows}

    def begin(self) -> None:
        """Starts a transaction."""
        self.engine.execute("BEGIN")
        reach("cache.begin")

    def commit(self, batch: int, manifest_sha256: str) -> None:
        """Commits the transaction, and with it `batch` as the newest batch of the cache."""
        self.engine.execute(
            "UPDATE totes_position SET batch = ?, manifest_sha256 = ?", [batch, manifest_sha256]
        )
        reach("cache.commit.before")
        self.engine.execute("COMMIT")
        self._batch = batch
        reach("cache.commit.after")

    def rollback(self) -> None:
        """Rolls the transaction back."""
        self.engine.execute("ROLLBACK")

    def advance(self, apply: Callable[[range], str], deadline: Deadline = NEVER, *, at_once: int = 1) -> bool:
        """Brings the cache to the journal's newest batch; returns False if half of the time to the deadline is up before that.

        Args:
            apply: takes batch numbers, applies these batches to the cache's tables, and returns the digest of the
                last one's manifest.
            deadline: when the call should be over.
            at_once: how many batches may be applied at once, in one transaction.
        """
        last, first = self._journal.last(), self.batch + 1
        for part in self._journal.upcoming(first, last, at_once):
            if part.start > first and deadline.half_over():
                _log.info("caught up in part", cache=self._stage, batch=part.start - 1, newest=last)
                return False
            done = part.start - first
            report(f"bringing the {self._stage} cache up to date", done, last - first + 1, "batches")
            self.begin()
            try:
                digest = apply(part)
            except BaseException:
                self.rollback()
                raise
            self.commit(part.stop - 1, digest)
        return True

    def store_summaries(self, deadline: Deadline = NEVER) -> None:
        """Stores what later runners start from, if it is due: chapters, and a checkpoint. Not for use in a transaction.

        Of a lake that was written without chapters these are many: they are written until half of the time is up.

        Raises:
            StoreError: it cannot be stored; the batch stays committed.
        """
        while self._journal.write_chapter() and not deadline.half_over():
            pass
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
        checkpoint = Checkpoint(stage=self._stage, batch=batch, manifest_sha256=digest, bytes=size, tables=())
        save_checkpoint(self._journal.store, self.engine, self._stage, self._comments(), checkpoint)
        self._note_checkpoint(batch, size)

    def _note_checkpoint(self, batch: int, size: int) -> None:
        self.engine.execute(
            "UPDATE totes_position SET checkpoint_batch = ?, checkpoint_bytes = ?", [batch, size]
        )

    def _bytes(self) -> int:
        """The bytes that the tables take up in the file."""
        used = "(total_blocks - free_blocks) * block_size"
        sql = f"SELECT {used} FROM pragma_database_size() WHERE database_name = {engine.text(self._stage)}"
        return int(engine.scalar(self.engine, sql))

    @contextmanager
    def _closed_if_it_fails(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise

    def _settle(self) -> bool:
        """Makes the file the cache of this lake; returns False, with nothing changed, if it is another lake's."""
        if "totes_position" not in self.tables() or self._version() != __version__:
            self._rebuild()
            return True
        [(store, batch, digest)] = self.engine.execute(
            "SELECT store, batch, manifest_sha256 FROM totes_position"
        ).fetchall()
        if batch == 0:
            self._rebuild()
            return True
        if self._journal.continues(batch, digest):
            if store != self._journal.store.url:  # the lake was moved
                self.engine.execute("UPDATE totes_position SET store = ?", [self._journal.store.url])
            return True
        self._journal.forget()
        last = self._journal.last()
        if batch <= last:
            self._journal.read(batch)
        if store != self._journal.store.url:
            return False
        if last == 0 and self._journal.store.is_empty():
            self._rebuild()  # a new lake in the place of the old one
            return True
        raise self._contradicted(batch, f"delete {self._file} and the lake's checkpoints/")

    def _check_content(self) -> None:
        """Makes sure that the file holds a cache's tables and nothing else.

        Raises:
            StoreError: it is some other database.
        """
        # On a connection outside of the file: inside it, the file's own macros would shadow the engine's functions.
        with closing(self._workspace.connect()) as outside:
            found = {name for (name,) in outside.execute(_NO_CACHE, {"file": self._stage}).fetchall()}
        if found:
            raise StoreError(
                f"{self._file} is not a cache of totes: {min(found)} is in it",
                hint="Set lake.cache to a folder of its own, or remove that file",
            )

    def _version(self) -> str:
        return str(engine.scalar(self.engine, "SELECT version FROM totes_position"))

    def _comments(self) -> dict[str, str | None]:
        """The tables that go into a checkpoint, each with its comment."""
        rows = self.engine.execute(
            "SELECT table_name, comment FROM duckdb_tables() WHERE database_name = ?", [self._stage]
        ).fetchall()
        return {name: comment for name, comment in rows if name != "totes_position"}

    def _rebuild(self) -> None:
        """Restores the newest usable checkpoint, or else empties the cache, without releasing the file's lock."""
        self._journal.forget()  # with the cache, the lake may have been replaced too
        for checkpoint in (
            checkpoints(self._journal.store, self._stage) if self._workspace.checkpoints else ()
        ):
            self._check_checkpoint(checkpoint)
            try:
                self._start_with(checkpoint)
            except (LakeDamaged, duckdb.Error) as error:
                _log.warning(
                    f"a checkpoint cannot be used: {message(error)}",
                    cache=self._stage,
                    batch=checkpoint.batch,
                )
            else:
                size = sum(table.file.bytes for table in checkpoint.tables)
                _log.info(
                    "the cache was restored from a checkpoint",
                    cache=self._stage,
                    batch=checkpoint.batch,
                    bytes=size,
                )
                return
        self._start_with(None)

    def _check_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Makes sure that the lake still has the manifest that the checkpoint was built from."""
        last = self._journal.last()
        if (
            checkpoint.batch > last
            or self._journal.read(checkpoint.batch).sha256() != checkpoint.manifest_sha256
        ):
            raise self._contradicted(checkpoint.batch, "delete the lake's checkpoints/")

    def _contradicted(self, batch: int, way_out: str) -> LakeDamaged:
        """The error for a lake that is not the one read before: batches are missing, or one was altered."""
        last = self._journal.last()
        hint = f"Restore it from a backup. If the lake is meant to be as it is, {way_out}"
        if batch > last:
            place = self._journal.store.location(manifest_path(last + 1))
            return LakeDamaged(
                f"{place} is missing, though batch {batch} was there when the lake was last read", hint=hint
            )
        place = self._journal.store.location(manifest_path(batch))
        return LakeDamaged(
            f"{place} is not the manifest that was there when the lake was last read", hint=hint
        )

    def _start_with(self, checkpoint: Checkpoint | None) -> None:
        self.begin()
        try:
            for table in self.tables():
                self.engine.execute(f"DROP TABLE {engine.name(table)}")
            self.engine.execute(
                "CREATE TABLE totes_position (store VARCHAR, version VARCHAR, batch BIGINT, manifest_sha256 VARCHAR,"
                " checkpoint_batch BIGINT, checkpoint_bytes BIGINT)"
            )
            position: list[Any] = [0, None, 0, 0]
            if checkpoint:
                restore_tables(self._journal.store, self.engine, checkpoint)
                position = [
                    checkpoint.batch,
                    checkpoint.manifest_sha256,
                    checkpoint.batch,
                    checkpoint.bytes,
                ]
            self.engine.execute(
                "INSERT INTO totes_position VALUES (?, ?, ?, ?, ?, ?)",
                [self._journal.store.url, __version__, *position],
            )
        except BaseException:
            self.rollback()
            raise
        self.engine.execute("COMMIT")
        self._batch = None
