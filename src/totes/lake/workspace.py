"""The engine that a run's stages share: their caches are attached to it, and one hands its rows off to the next.

No stage relies on a hand-off: without one it reads the same rows from the lake.
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
_CATALOG = "memory"  # what DuckDB calls a database without a file


class Handoff(NamedTuple):
    """A query for rows that the lake's objects hold as well, and the workspace's tables that it reads.

    Columns of the names `native` are of the engine's nearest type, which holds all their values, instead of in their raw form.
    """

    query: str
    tables: tuple[str, ...]
    native: frozenset[str] = frozenset()


class Workspace:
    """An engine in memory, which spills into `folder`; tables of its own outlive the stage that made them."""

    def __init__(self, folder: Path, connection: engine.Engine, *, checkpoints: bool) -> None:
        self.folder = folder
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
            folder: the folder of the caches, made if need be.
            memory: the most memory for the engine.
            checkpoints: whether caches are stored in the lake from time to time, and a lost one returns from there.
            reads: the folders of the lake, whose objects the engine reads.

        Raises:
            StoreError: the folder cannot be made.
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
            yield cls(folder, opened.enter_context(closing(connection)), checkpoints=checkpoints)

    def connect(self) -> engine.Engine:
        """Another connection, for a thread or a transaction of its own."""
        return engine.another(self._engine)

    def attach(self, file: Path, name: str) -> engine.Engine:
        """A connection to a database in a file, by that name.

        Raises:
            duckdb.Error: it is in use, or is no database.
        """
        new = not file.exists()
        self._engine.execute(f"ATTACH {engine.text(str(file.absolute()))} AS {engine.name(name)}")
        if new:
            restrict(file)
        connection = self.connect()
        connection.execute(f"USE {engine.name(name)}")
        return connection

    def detach(self, name: str) -> None:
        """Closes such a file, of which no connection is in a transaction."""
        try:
            self._engine.execute(f"DETACH {engine.name(name)}")
        except duckdb.Error as error:
            if _ONLY_NOT_TIDIED not in str(error):
                raise
            # It is closed, and all that was committed stands in the log beside it.
            _log.warning(message(error), file=name)

    def new_table(self) -> str:
        """The quoted name of a table that is not there yet, which every connection sees."""
        return engine.name(_CATALOG, "main", f"rows_{next(self._numbers)}")

    def drop(self, tables: Iterable[str]) -> None:
        """Drops such tables."""
        for table in tables:
            self._engine.execute(f"DROP TABLE IF EXISTS {table}")

    def hand_off(self, manifest_sha256: str, rows: dict[str, Handoff]) -> None:
        """Hands off the rows of a committed batch, by table, in place of those of an earlier one."""
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
    """A new folder that no other process uses, while the context lasts; what killed processes left is removed.

    DuckDB calls its files alike in every process; this way nobody's can be taken for another's, nor kept by a dead one.
    """
    make_folders(among)
    with ExitStack() as opened:
        with lock(among.with_suffix(".lock")):
            for left in among.iterdir():
                _remove_if_left(left)
            folder = Path(tempfile.mkdtemp(dir=among))
            opened.callback(shutil.rmtree, folder, ignore_errors=True)
            opened.enter_context(lock(folder / _LOCK))
        yield folder


def _remove_if_left(found: Path) -> None:
    """Removes what a process left that lives no more: as long as it lives, it holds its folder's lock."""
    if not found.is_dir():  # of an earlier version
        found.unlink(missing_ok=True)
        return
    with lock_if_free(found / _LOCK) as dead:
        if dead:
            shutil.rmtree(found, ignore_errors=True)
