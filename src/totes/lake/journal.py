"""The sequence of a store's manifests: gapless from 1, each written once, by whichever runner is first."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise, takewhile
from threading import Lock
from typing import Generic, TypeVar

from pydantic import ValidationError

from totes.errors import BatchConflict, LakeDamaged, SourceRefused
from totes.failpoint import reach
from totes.lake import layout
from totes.lake.chapter import Sums
from totes.lake.chapters import Chapters
from totes.lake.layout import MANIFESTS, manifest_batch, manifest_path
from totes.lake.manifest import IngestionManifest, Manifest, ModelChanges, ProcessedManifest
from totes.lake.store import DOCUMENT_BYTES_MAX, ObjectExists, Store
from totes.log import logger
from totes.progress import report

M = TypeVar("M", bound=Manifest)
_log = logger()

# How many manifests stay in memory: the newest, the one before, and those in which tables began.
_RECENT_MAX = 8
_READ_AHEAD = 16
_AFTER_CHAPTER = 1000


class Journal(Generic[M]):
    """The manifests of one store, for as long as a process works with it; any number of threads may read.

    `chapter_batches` is how many batches have a chapter, if not as many as in every lake.
    """

    def __init__(self, store: Store, kind: type[M], chapter_batches: int | None = None) -> None:
        self.store = store
        batches = chapter_batches or layout.CHAPTER_BATCHES
        self.chapters: Chapters[M] = Chapters(store, kind, batches, self.content)
        self._kind = kind
        self._last = 0
        self._recent: OrderedDict[int, M] = OrderedDict()
        self._turn = Lock()

    def last(self) -> int:
        """The number of the newest committed batch, 0 before the first.

        If nothing is known of the store, its manifests are listed. Otherwise only the next number is looked for.
        """
        if self._last == 0:
            self._last = self._listed()
        while self._is_there(self._last + 1):
            self._last += 1
        return self._last

    def continues(self, batch: int, sha256: str) -> bool:
        """Whether the store still has the manifest that somebody read earlier; if so, nothing before it is listed."""
        content = self.store.read(manifest_path(batch))
        if content is None or hashlib.sha256(content).hexdigest() != sha256:
            return False
        self._last = max(self._last, batch)
        return True

    def forget(self) -> None:
        """Forgets what is known of the store, which may have been altered."""
        with self._turn:
            self._last = 0
            self._recent.clear()
            self.chapters.forget()

    def _listed(self) -> int:
        """The newest batch: of the manifests after the newest chapter, or of all where there is no chapter."""
        known = self.chapters.last()
        if known and self._is_there(known):
            while there := self._numbers(
                self.store.present([manifest_path(known + number) for number in range(1, _AFTER_CHAPTER + 1)])
            ):
                known = self._gapless(known, there)
            return known
        return self._gapless(0, self._numbers(self.store.list(f"{MANIFESTS}/")))

    def _numbers(self, paths: Iterable[str]) -> set[int]:
        return {batch for path in paths if (batch := manifest_batch(path))}

    def _gapless(self, known: int, found: set[int]) -> int:
        """The newest of the batches found, after making sure that none after `known` is missing."""
        newest = max(found, default=known)
        # A listing may miss a manifest that is written at the same time.
        for batch in (
            one for one in range(known + 1, newest) if one not in found and not self._is_there(one)
        ):
            raise self._missing(batch)
        return newest

    def _is_there(self, batch: int) -> bool:
        return self.store.read(manifest_path(batch)) is not None

    def _missing(self, batch: int) -> LakeDamaged:
        place = self.store.location(manifest_path(batch))
        return LakeDamaged(
            f"{place} is missing, though later batches are there", hint="Restore it from a backup"
        )

    def read(self, batch: int) -> M:
        """The manifest of a committed batch; a few that were read recently are in memory.

        Raises:
            LakeDamaged: it is missing, or is not a manifest of this store.
        """
        with self._turn:
            if manifest := self._recent.get(batch):
                self._recent.move_to_end(batch)
                return manifest
        if chapter := self.chapters.opened(batch):
            return chapter.read(batch)
        manifest = self._stored(batch)
        with self._turn:
            self._recent[batch] = manifest
            while len(self._recent) > _RECENT_MAX:
                self._recent.popitem(last=False)
        return manifest

    def content(self, batch: int) -> bytes:
        """The stored manifest of a committed batch.

        Raises:
            LakeDamaged: it is missing.
        """
        content = self.store.read(manifest_path(batch))
        if content is None:
            raise self._missing(batch)
        return content

    def _stored(self, batch: int) -> M:
        place, content = self.store.location(manifest_path(batch)), self.content(batch)
        if not content.strip(b"\0") and self.store.read(manifest_path(batch + 1)) is None:
            raise LakeDamaged(
                f"{place} is empty: the machine stopped before its content was on the disk",
                hint="Remove that file: its batch was never committed, and the next run writes it",
            )
        try:
            manifest = self._kind.of_content(content)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in problem["loc"])
            what = problem["msg"].removeprefix("Value error, ")
            raise LakeDamaged(
                f"{place} is not a manifest that this version of totes can read ({f'{where}: ' if where else ''}{what})",
                hint="Restore it from a backup, or use the version of totes that wrote it",
            ) from error
        if not manifest.is_intact():
            raise LakeDamaged(
                f"{place} is not what was written: its content does not match the digest in it",
                hint="Restore it from a backup; its batch was not used",
            )
        return manifest

    def manifests(self, first: int, last: int) -> Iterator[M]:
        """The manifests of the batches from `first` to `last`, in order, those of a whole chapter out of the chapter.

        Raises:
            LakeDamaged: as `read`.
        """
        for part in self.chapters.parts(first, last):
            chapter = self.chapters.open(part)
            yield from map(chapter.read, part) if chapter else self._read_ahead(part)

    def newest_first(
        self, last: int, tables: Iterable[str], *, quarantine: bool = False, skip: bool = False
    ) -> Iterator[M]:
        """The manifests up to a batch that changed one of the tables, or its quarantine, the newest first.

        With `skip`, chapters in which none of the tables changed are not read, by the sums of others, which are not proven:
        for what is shown, and not for what is computed.

        Raises:
            LakeDamaged: as `read`.
        """
        wanted = tuple(tables)

        def concerns(manifest: M) -> bool:
            entries = (manifest.entries.get(table) for table in wanted)
            return any(
                entry.changes_quarantine if quarantine else entry.is_changed for entry in entries if entry
            )

        while last > 0:
            part = self.chapters.part(last)
            chapter = self.chapters.open(part)
            found = map(chapter.read, reversed(part)) if chapter else self._backwards(part[::-1])
            yield from filter(concerns, found)
            last = (
                chapter.newest_before(wanted, quarantine=quarantine) if chapter and skip else part.start - 1
            )

    def upcoming(self, first: int, last: int, at_once: int = 1) -> Iterator[range]:
        """The batches from `first` to `last`, so many at once, for somebody who is about to read each with `read`."""
        for part in self.chapters.parts(first, last):
            self.chapters.open(part)
            for start in range(0, len(part), at_once):
                yield part[start : start + at_once]

    def sums(self) -> Sums:
        """Sums over all batches: of the newest chapter, and of the manifests after it."""
        return self._sums(self.last())

    def _sums(self, last: int) -> Sums:
        end, sums = self.chapters.part(last + 1).start - 1, Sums()
        while end:
            part = self.chapters.part(end)
            if chapter := self.chapters.open(part):
                sums = chapter.sums
                break
            end = part.start - 1
        for part in self.chapters.parts(end + 1, last):
            sums = sums.before_next().plus(self.manifests(part.start, part.stop - 1))
        return sums

    def _backwards(self, batches: range) -> Iterator[M]:
        """The manifests of batches, the newest first; those at the beginning that were read lately are not read again."""
        while batches and (manifest := self._recent.get(batches[0])):
            yield manifest
            batches = batches[1:]
        if batches:
            yield from self._read_ahead(batches)

    def _read_ahead(self, batches: range) -> Iterator[M]:
        """The manifests of batches; some are read ahead, since each read from a remote store takes a while."""
        with ThreadPoolExecutor(_READ_AHEAD) as readers:
            for start in range(0, len(batches), _READ_AHEAD):
                yield from readers.map(self._stored, batches[start : start + _READ_AHEAD])

    def write_chapter(self) -> bool:
        """Writes the next chapter if all of its batches are committed; returns whether it did.

        Raises:
            StoreError: the store cannot be read or written.
            LakeDamaged: one of the manifests is missing or wrong.
        """
        if self._last < self.chapters.batches:
            return False
        part = self.chapters.next()
        if part.stop - 1 > self._last:
            return False
        report("writing the lake's chapters", part.start - 1, self._last // len(part) * len(part), "batches")
        manifests = list(self.manifests(part.start, part.stop - 1))
        try:
            self.store.bundle(entry for manifest in manifests for entry in manifest.named_objects())
        except LakeDamaged as error:  # whoever needs the object says so
            _log.warning(f"objects are not bundled: {error.what}", batch=part.stop - 1)
        self.chapters.add(part, [one.content() for one in manifests], self._sums(part.stop - 1))
        return True

    def confirmed(self, batch: int) -> M:
        """The manifest of a committed batch, checked against its neighbours by the digests that chain them.

        The next manifest is read too, if there is one; the previous one is checked if it was read earlier.

        Raises:
            LakeDamaged: as `read`, for the manifest and the next one; or one of the chain was replaced.
        """
        manifest = self.read(batch)
        neighbours = (
            self._recent.get(batch - 1),
            manifest,
            self.read(batch + 1) if batch < self._last else None,
        )
        for before, after in pairwise(neighbours):
            if before and after and after.previous_sha256 != before.sha256():
                raise LakeDamaged(
                    f"{self.store.location(manifest_path(after.batch - 1))} is not the manifest that batch {after.batch}"
                    " follows: one of the two was replaced",
                    hint="Restore both from a backup; their batches were not used",
                )
        return manifest

    def newest(self) -> M | None:
        """The newest manifest, or None before the first batch; it is read again, since the lake may have been replaced."""
        last = self.last()
        if last and (known := self._recent.get(last)) and not self.continues(last, known.sha256()):
            self.forget()
            last = self.last()
        return self.read(last) if last else None

    def commit(self, manifest: M) -> None:
        """Writes a manifest, which commits its batch.

        Raises:
            BatchConflict: another runner has committed this number; the objects of this one are not data.
            LakeDamaged: a later batch is there.
        """
        path = manifest_path(manifest.batch)
        if len(manifest.content()) > DOCUMENT_BYTES_MAX:
            raise SourceRefused(
                f"the manifest of batch {manifest.batch} would have {len(manifest.content())} bytes, more than can be read",
                hint="Spread the source's tables over several lakes with source.tables",
            )
        if self._is_there(manifest.batch + 1) and not self._is_there(manifest.batch):
            raise self._missing(manifest.batch)
        self.store.settle(entry.path for entry in manifest.named_objects())
        reach("journal.commit.before")
        try:
            self.store.put_new(path, manifest.content())
        except ObjectExists as error:
            # If the response to a put was lost, the storage client sends it again and finds its own object.
            if self.store.read(path) != manifest.content():
                raise BatchConflict(f"batch {manifest.batch} was committed by another runner") from error
        self.store.settle([path])
        reach("journal.commit.after")
        self._last = max(self._last, manifest.batch)


def ingestion_journal(store: Store) -> Journal[IngestionManifest]:
    """The journal of an ingestion store."""
    return Journal(store, IngestionManifest)


def processed_journal(store: Store) -> Journal[ProcessedManifest]:
    """The journal of a processed store."""
    return Journal(store, ProcessedManifest)


def table_entries(
    journal: Journal[ProcessedManifest], table: str, last: int
) -> list[tuple[int, ModelChanges]]:
    """A table's changes from the batch at which it began up to `last`, whose manifest has the table; each with its batch."""
    since = journal.read(last).models[table].since or 1
    found = [
        (manifest.batch, manifest.models[table])
        for manifest in takewhile(
            lambda manifest: manifest.batch >= since, journal.newest_first(last, [table])
        )
    ]
    return found[::-1]
