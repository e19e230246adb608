"""What the pages of one process stand on, and what of it is read once: the lake's past does not change."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import Any, TypeVar

from totes.config import Settings
from totes.monitoring.batches import Batches
from totes.monitoring.past import Past
from totes.monitoring.quarantine import Retry
from totes.pipeline import Pipeline
from totes.star.project import Project, load_project, model_files
from totes.warehouse.adapter import Warehouse

T = TypeVar("T")


class SharedPipeline(Pipeline):
    """A pipeline of which several requests read at once, for as long as somebody looks.

    One of them at a time has the warehouse open, and not for long. Models are read again when their files have changed.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._warehouse_turn = threading.RLock()
        self._loaded: tuple[Hashable, Project] | None = None

    @property
    def project(self) -> Project:
        """See Pipeline."""
        stamp, loaded = self.project_stamp(), self._loaded
        if loaded is None or loaded[0] != stamp:
            name, path = self.settings.project.name, self.settings.project.path
            loaded = self._loaded = (stamp, load_project(name, self.settings.path(path) if path else None))
        return loaded[1]

    def project_stamp(self) -> Hashable:
        """Differs when a file of the project has changed."""
        name, path = self.settings.project.name, self.settings.project.path
        if not path:
            return name
        folder = self.settings.path(path)
        files = [*model_files(name, folder), *sorted((folder / "reference").glob("*.csv"))]
        return tuple((str(file), (found := file.stat()).st_mtime_ns, found.st_size) for file in files)

    def warehouse(self, *, read_only: bool = False) -> AbstractContextManager[Warehouse]:
        """See Pipeline."""
        return self._in_turn(read_only)

    @contextmanager
    def _in_turn(self, read_only: bool) -> Iterator[Warehouse]:
        with self._warehouse_turn, super().warehouse(read_only=read_only) as opened:
            yield opened


class Desk:
    """A pipeline with what its pages have read so far; `retried` is what the last retry of quarantine did."""

    def __init__(self, pipeline: SharedPipeline) -> None:
        self.pipeline = pipeline
        self.retried: Retry | None = None
        self._turn = threading.Lock()
        self._found: dict[str, tuple[Hashable, Any]] = {}

    @cached_property
    def batches(self) -> Batches:
        """The batches, each read once."""
        return Batches(self.pipeline)

    @cached_property
    def past(self) -> Past:
        """The past, read once."""
        return Past(self.pipeline)

    @cached_property
    def _journals(self) -> tuple[Any, Any]:
        return self.pipeline.ingestion_journal, self.pipeline.processed_journal

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What is made of the lake and the models, and need not be made again before one of them has changed."""
        with self._turn:
            ingested, processed = self._journals
            stamp = (ingested.last(), processed.last(), self.pipeline.project_stamp())
            known = self._found.get(name)
            if known is None or known[0] != stamp:
                known = self._found[name] = (stamp, make())
            found: T = known[1]
            return found

    def forget(self, name: str) -> None:
        """Has something made again when it is next asked for."""
        with self._turn:
            self._found.pop(name, None)
