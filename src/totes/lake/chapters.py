"""The chapters of a store: which there are, reading one, and writing the next.

Any number of runners may write the same chapter; they would write the same, and the first one's stays.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Lock
from typing import Generic, TypeVar

from pydantic import ValidationError

from totes.errors import LakeDamaged
from totes.lake.chapter import Chapter, OpenChapter, Sums
from totes.lake.layout import CHAPTERS, chapter_batch, chapter_path
from totes.lake.manifest import Manifest
from totes.lake.store import ObjectExists, Store
from totes.log import logger

_OPEN_MAX = 2
_FEW = 50  # one in so many
M = TypeVar("M", bound=Manifest)
_log = logger()


class Chapters(Generic[M]):
    """The chapters of one store, each of so many batches; `manifest` gives the stored manifest of a batch."""

    def __init__(self, store: Store, kind: type[M], batches: int, manifest: Callable[[int], bytes]) -> None:
        self._store = store
        self._kind = kind
        self.batches = batches
        self._manifest = manifest
        self._last: int | None = None
        self._open: OrderedDict[int, OpenChapter[M] | None] = OrderedDict()
        self._turn = Lock()

    def last(self) -> int:
        """The last batch of the newest chapter, 0 if there is none; the chapters are listed once."""
        if self._last is None:
            found = (chapter_batch(path) for path in self._store.list(f"{CHAPTERS}/"))
            self._last = max((last for last in found if last and last % self.batches == 0), default=0)
        return self._last

    def forget(self) -> None:
        """Forgets what is known of the store."""
        with self._turn:
            self._last = None
            self._open.clear()

    def part(self, last: int) -> range:
        """The batches up to `last` that are in the same chapter, or would be."""
        return range((last - 1) // self.batches * self.batches + 1, last + 1)

    def parts(self, first: int, last: int) -> Iterator[range]:
        """The batches from `first` to `last`, by chapter."""
        while first <= last:
            end = min(last, self.part(first).start + self.batches - 1)
            yield range(first, end + 1)
            first = end + 1

    def next(self) -> range:
        """The batches of the first chapter that is not there."""
        return range(self.last() + 1, self.last() + self.batches + 1)

    def open(self, batches: range) -> OpenChapter[M] | None:
        """The chapter with the batches, if there is one, these are not just a few, and it is proven by its newest manifest.

        Raises:
            StoreError: the store cannot be read.
            LakeDamaged: the manifest of the chapter's last batch is missing.
        """
        last = self.part(batches.start).start + self.batches - 1
        if len(batches) * _FEW < self.batches or last > self.last():
            return None
        with self._turn:
            if last not in self._open:
                self._open[last] = self._opened(last)
                while len(self._open) > _OPEN_MAX:
                    self._open.popitem(last=False)
            return self._open[last]

    def opened(self, batch: int) -> OpenChapter[M] | None:
        """The chapter with a batch, if it was opened lately."""
        return self._open.get(self.part(batch).start + self.batches - 1)

    def _opened(self, last: int) -> OpenChapter[M] | None:
        try:
            content = self._store.read(chapter_path(last))
            if content is None:
                return None
            chapter = Chapter.model_validate_json(content)
            batches = (chapter.first, chapter.last, len(chapter.manifests))
            if batches == (last - self.batches + 1, last, self.batches):
                found = OpenChapter(chapter, self._kind)
                if found.is_proven_by(self._manifest(last)):
                    return found
        except (ValidationError, IndexError, ValueError) as error:
            _log.warning("a chapter cannot be read", batch=last, error=str(error).partition("\n")[0])
            return None
        _log.warning("a chapter does not belong to the manifests, and is not used", batch=last)
        return None

    def add(self, batches: range, contents: list[bytes], sums: Sums) -> None:
        """Writes a chapter, unless it is there by now.

        Raises:
            StoreError: it cannot be written.
            LakeDamaged: the manifests do not follow one another.
        """
        chapter = Chapter.of(batches.start, contents, sums)
        last = batches.stop - 1
        if not OpenChapter(chapter, self._kind).is_proven_by(contents[-1]):
            raise LakeDamaged(
                f"the manifests of {self._store.url} from batch {batches.start} to {last} do not follow one another:"
                " one of them was replaced",
                hint="Restore them from a backup",
            )
        with suppress(ObjectExists):
            self._store.put_new(chapter_path(last), chapter.content())
            _log.info("chapter", batch=last, bytes=len(chapter.content()))
        self._last = last
