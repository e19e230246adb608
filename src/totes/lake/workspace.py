"""The engine that a run's stages share: their caches are attached to it, and what one has at hand another can take.

A stage never relies on it. What is not handed on is read from the lake, and is the same.
"""

from __future__ import annotations

import fcntl
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
from totes.lake.lock import lock_if_free
from totes.log import logger

_ONLY_NOT_TIDIED = "CHECKPOINT during DETACH failed"
_log = logger()
_LOCK = "lock"
# Compressed with symbol tables, which takes three times as long, a file of much text has two thirds of its size.
_WRITE_FAST = "SET disabled_compression_methods = 'dict_fsst,fsst'"
_WRITE_SMALL = "SET disabled_compression_methods = ''"
_CATALOG = "memory"  # what DuckDB calls a database without a file


class AtHand(NamedTuple):
    """A query for rows that reading objects of the lake would give as well, and the workspace's tables that it reads.

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
        self._handed: dict[str, dict[str, AtHand]] = {}

    @classmethod
    @contextmanager
    def open(cls, folder: Path, memory: str, *, checkpoints: bool = False) -> Iterator[Workspace]:
        """Opens a workspace for as long as the context lasts.

        Args:
            folder: the folder of the caches, made if need be.
            memory: the most memory for the engine.
            checkpoints: whether caches are stored in the lake from time to time.

        Raises:
            StoreError: the folder cannot be made.
        """
        with ExitStack() as opened:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                scratch = opened.enter_context(_own_folder(folder / "scratch"))
            except OSError as error:
                raise StoreError(
                    f"the cache folder {folder} cannot be made: {error}", hint="Set lake.cache"
                ) from error
            connection = engine.connect(None, memory=memory, scratch=scratch)
            connection.execute(_WRITE_FAST)
            yield cls(folder, opened.enter_context(closing(connection)), checkpoints=checkpoints)

    def connect(self) -> engine.Engine:
        """Another connection, for a thread or a transaction of its own."""
        return engine.another(self._engine)

    def attach(self, file: Path, name: str) -> engine.Engine:
        """A connection to a database in a file, by that name.

        Raises:
            duckdb.Error: it is in use, or is no database.
        """
        self._engine.execute(f"ATTACH {engine.text(str(file.absolute()))} AS {engine.name(name)}")
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
            _log.warning(engine.first_line(error), file=name)

    def copy(self, name: str, file: Path) -> None:
        """Copies an attached file into a new one that is as small as can be."""
        other = engine.name(f"copy of {name}")
        self._engine.execute(_WRITE_SMALL)
        try:
            self._engine.execute(f"ATTACH {engine.text(str(file.absolute()))} AS {other}")
            try:
                self._engine.execute(f"COPY FROM DATABASE {engine.name(name)} TO {other}")
            finally:
                self._engine.execute(f"DETACH {other}")
        finally:
            self._engine.execute(_WRITE_FAST)

    def new_table(self) -> str:
        """The quoted name of a table that is not there yet, which every connection sees."""
        return engine.name(_CATALOG, "main", f"rows_{next(self._numbers)}")

    def drop(self, tables: Iterable[str]) -> None:
        """Drops such tables."""
        for table in tables:
            self._engine.execute(f"DROP TABLE IF EXISTS {table}")

    def hand_on(self, manifest_sha256: str, rows: dict[str, AtHand]) -> None:
        """Keeps the rows of a committed batch at hand, by table, and those of no other."""
        self._handed = {manifest_sha256: rows}

    def put_at_hand(self, manifest_sha256: str, table: str, rows: AtHand) -> None:
        """Keeps rows of one more table at hand."""
        self._handed.setdefault(manifest_sha256, {})[table] = rows

    def let_go(self, manifest_sha256: str, table: str) -> None:
        """Drops rows that are at hand; from here on they are read from the lake."""
        rows = self._handed.get(manifest_sha256, {}).pop(table, None)
        if rows:
            self.drop(rows.tables)

    def handed(self, manifest_sha256: str, table: str) -> AtHand | None:
        """A table's rows of a batch, where these are at hand."""
        return self._handed.get(manifest_sha256, {}).get(table)


@contextmanager
def _own_folder(among: Path) -> Iterator[Path]:
    """A new folder that no other process uses, while the context lasts; what killed processes left is removed.

    DuckDB calls its files alike in every process; this way nobody's can be taken for another's, nor kept by a dead one.
    """
    among.mkdir(exist_ok=True)
    with ExitStack() as opened:
        with among.with_suffix(".lock").open("wb") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            for left in among.iterdir():
                _remove_if_left(left)
            folder = Path(tempfile.mkdtemp(dir=among))
            opened.callback(shutil.rmtree, folder, ignore_errors=True)
            lock = opened.enter_context((folder / _LOCK).open("wb"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def _remove_if_left(found: Path) -> None:
    """Removes what a process left that lives no more: as long as it lives, it holds its folder's lock."""
    if not found.is_dir():  # of an earlier version
        found.unlink(missing_ok=True)
        return
    with lock_if_free(found / _LOCK) as dead:
        if dead:
            shutil.rmtree(found, ignore_errors=True)
