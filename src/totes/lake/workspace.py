"""The engine that a run's stages share: their caches are attached to it, and one stage can hand off rows to the next.

No stage depends on a handoff: without one, the same rows are read from the lake.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import duckdb

from totes import engine
from totes.errors import StoreError
from totes.lake.lock import lock, lock_if_free
from totes.log import logger
from totes.messages import message
from totes.permissions import make_folders, obstacle, restrict

_ONLY_NOT_TIDIED = "CHECKPOINT during DETACH failed"
_log = logger()
_LOCK = "lock"
_CATALOG = "memory"  # DuckDB's name for a database without a file


class Handoff(NamedTuple):
    """A batch's rows of a table, in memory: a query for them, and the workspace's tables that it reads.

    The query has the table's columns, `_op`, `_at`, and of a batch from the log `~turn` and `~seq`, which else are NULL. Reading
    the batch's objects from the lake gives the same rows. Only the columns `native` differ: they have the engine's nearest type,
    which holds all their values, instead of the raw form.
    """

    query: str
    tables: tuple[str, ...]
    native: frozenset[str] = frozenset()


class Workspace:
    """An engine in `memory`, as `600MB`, which spills into `folder`; its own tables outlive the stage that created them."""

    def __init__(self, folder: Path, connection: engine.Engine, memory: str, *, checkpoints: bool) -> None:
        self.folder = folder
        self.memory = memory
        self.checkpoints = checkpoints
        self._engine = connection
        self._numbers = itertools.count(1)
        self._handoffs: dict[str, dict[str, Handoff]] = {}

    @classmethod
    @contextmanager
    def open(
        cls, folder: Path, memory: str, *, checkpoints: bool = False, reads: Iterable[Path] = ()
    ) -> Iterator[Workspace]:
        """Opens a workspace for as long as the context lasts.

        Args:
            folder: the folder of the caches, created if needed.
            memory: the engine's memory limit.
            checkpoints: whether checkpoints of caches are stored in the lake, and lost caches restored from them.
            reads: the folders of the lake, whose objects the engine reads.

        Raises:
            StoreError: the folder cannot be created.
        """
        with ExitStack() as opened:
            try:
                make_folders(folder)
                scratch = opened.enter_context(_own_folder(folder / "scratch"))
            except OSError as error:
                found, hint = obstacle(folder, error, "lake.cache")
                raise StoreError(f"the cache folder {folder} cannot be used: {found}", hint=hint) from error
            connection = engine.connect(
                None, memory=memory, scratch=scratch, reads=(folder, *reads), symbol_tables=False
            )
            yield cls(folder, opened.enter_context(closing(connection)), memory, checkpoints=checkpoints)

    def connect(self) -> engine.Engine:
        """Opens another connection, for a thread or transaction of its own."""
        return engine.another(self._engine)

    def attach(self, file: Path, name: str) -> engine.Engine:
        """Attaches a database file under a name, and returns a connection that uses it.

        Raises:
            duckdb.Error: the file is in use, or is not a database.
        """
        new = not file.exists()
        self._engine.execute(f"ATTACH {engine.text(str(file.absolute()))} AS {engine.name(name)}")
        if new:
            restrict(file)
        connection = self.connect()
        connection.execute(f"USE {engine.name(name)}")
        return connection

    def detach(self, name: str) -> None:
        """Closes an attached file; no connection to it may be in a transaction."""
        try:
            self._engine.execute(f"DETACH {engine.name(name)}")
        except duckdb.Error as error:
            if _ONLY_NOT_TIDIED not in str(error):
                raise
            # The file is closed, and all that was committed is in its write-ahead log.
            _log.warning(message(error), file=name)

    def new_table(self) -> str:
        """A quoted name for a new table that every connection can see."""
        return engine.name(_CATALOG, "main", f"rows_{next(self._numbers)}")

    def drop(self, tables: Iterable[str]) -> None:
        """Drops tables of the workspace, from any thread."""
        with closing(self.connect()) as connection:
            for table in tables:
                connection.execute(f"DROP TABLE IF EXISTS {table}")

    def hand_off(self, manifest_sha256: str, rows: dict[str, Handoff]) -> None:
        """Hands off the rows of a committed batch, by table, in place of those of an earlier one."""
        for earlier in tuple(self._handoffs):
            self.release(earlier)
        self._handoffs = {manifest_sha256: rows}

    def handoff(self, manifest_sha256: str, table: str) -> Handoff | None:
        """A table's rows of a batch, if they were handed off."""
        return self._handoffs.get(manifest_sha256, {}).get(table)

    def release(self, manifest_sha256: str) -> None:
        """Drops a batch's rows that were handed off; whoever needs them again reads the lake."""
        for rows in self._handoffs.pop(manifest_sha256, {}).values():
            self.drop(rows.tables)


@contextmanager
def _own_folder(among: Path) -> Iterator[Path]:
    """A folder that no other process uses, while the context lasts; folders of killed processes are removed.

    DuckDB uses the same file names in every process: in one folder, processes would overwrite one another's files.
    """
    make_folders(among)
    with ExitStack() as opened:
        with lock(among.with_suffix(".lock")):
            for existing in among.iterdir():
                _remove_if_abandoned(existing)
            folder = Path(tempfile.mkdtemp(dir=among))
            opened.callback(shutil.rmtree, folder, ignore_errors=True)
            opened.enter_context(lock(folder / _LOCK))
        yield folder


def _remove_if_abandoned(folder: Path) -> None:
    """Removes the folder of a process that has ended: a running one holds its folder's lock."""
    if not folder.is_dir():  # a file of an earlier version
        folder.unlink(missing_ok=True)
        return
    with lock_if_free(folder / _LOCK) as abandoned:
        if abandoned:
            shutil.rmtree(folder, ignore_errors=True)
