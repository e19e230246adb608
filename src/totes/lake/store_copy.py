"""Copies one store into another, batch by batch: objects first, each verified on both sides, then their manifest.

It handles one store and its copy; `backup.py` makes a backup of two of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from totes.display import count, size
from totes.errors import BackupRefused, BatchConflict, LakeDamaged, StoreError, TotesError
from totes.lake.document import StoredObject
from totes.lake.journal import Journal
from totes.lake.layout import MANIFESTS, manifest_batch, manifest_path
from totes.lake.manifest import IngestionManifest, Manifest, ProcessedManifest
from totes.lake.store import ObjectExists
from totes.progress import report
from totes.redaction import redact

M = TypeVar("M", bound=Manifest)

# Hashing, reading and writing release Python's lock; with S3 the number of concurrent requests is what matters.
_THREADS = 8
_BATCHES_AHEAD = 16


@dataclass
class Copied:
    """What a run did for one store.

    `batch` is the newest in the backup. `batches`, `objects` and `bytes` count what this run copied, `already_there` the
    objects that an interrupted run had copied before, and `checked` those that were read to verify them.
    """

    batch: int = 0
    batches: int = 0
    objects: int = 0
    bytes: int = 0
    already_there: int = 0
    checked: int = 0


class StoreCopy(Generic[M]):
    """One store and its copy; `made_from` is the copied ingestion store, for the copy of the processed one."""

    def __init__(
        self,
        name: str,
        source: Journal[M],
        target: Journal[M],
        done: Copied,
        made_from: Journal[IngestionManifest] | None = None,
    ) -> None:
        self.source = source
        self.target = target
        self._name = name
        self._done = done
        self._made_from = made_from
        self._first = 1

    def copy(self, last: int) -> None:
        """Copies the batches up to `last` that the target does not have."""
        first = self._first = self._same_lake() + 1
        self._done.batch = first - 1
        previous = self.source.read(first - 1) if first > 1 else None
        ahead: deque[tuple[M, list[Future[StoredObject | None]]]] = deque()
        damage: TotesError | None = None
        with _threads() as threads:
            for batch in range(first, last + 1):
                try:
                    manifest = self.source.read(batch)
                    if fault := self._out_of_order(self.source, batch, manifest, previous):
                        if ahead:
                            ahead.pop()  # this may be the one that was altered
                        raise LakeDamaged(fault, hint="Restore them from an earlier backup")
                except TotesError as error:
                    damage = error  # earlier batches are still copied
                    break
                previous = manifest
                copies = [threads.submit(self._copy_object, entry) for entry in manifest.named_objects()]
                ahead.append((manifest, copies))
                if len(ahead) > _BATCHES_AHEAD:
                    self._finish(*ahead.popleft(), last)
            while ahead:
                self._finish(*ahead.popleft(), last)
        while self.target.write_chapter():
            pass
        if damage:
            raise damage

    def check(self, faults: list[str]) -> None:
        """Reads every manifest and object of the target, and adds a line to `faults` for each that is missing or wrong."""
        store = self.target.store
        last = max((manifest_batch(path) or 0 for path in store.list(f"{MANIFESTS}/")), default=0)
        lake = self.source.last()
        self._done.batch = last
        previous: M | None = None
        with _threads() as threads:
            for batch in range(1, last + 1):
                original = _readable(self.source, batch, faults) if batch <= lake else None
                copied = _readable(self.target, batch, faults)
                if copied:
                    faults += self._faults_of_manifest(batch, copied, original, previous)
                previous = manifest = copied or original
                if manifest is None:
                    continue
                for found in threads.map(self._faults_of_object, manifest.named_objects()):
                    faults += found
                    self._done.checked += 1
                    checked = f"checking the {self._name} lake, {count(self._done.checked, 'object')}"
                    report(checked, batch - 1, last, "batches")

    def _same_lake(self) -> int:
        """The newest batch at the target, after checking that the target is a copy of the source up to there.

        Manifests are chained: if the newest are equal, all are.
        """
        last = self.target.last()  # before the source's, which may advance meanwhile
        if last > self.source.last():
            raise BackupRefused(
                f"{self.target.store.url} is at batch {last}, and {self.source.store.url} only at {self.source.last()}",
                hint="Was the lake lost, or is it another one? Restore it from this backup, or name another place",
            )
        if last and self.target.store.read(manifest_path(last)) != self.source.read(last).content():
            raise _another_lake(self.target, last)
        return last

    def _out_of_order(self, journal: Journal[M], batch: int, manifest: M, previous: M | None) -> str | None:
        """How a manifest contradicts the manifests that it refers to; None if it does not."""
        place = journal.store.location(manifest_path(batch))
        if manifest.batch != batch:
            return f"{place} is the manifest of batch {manifest.batch}"
        if manifest.previous_sha256 != (previous.sha256() if previous else None):
            return f"{place} does not follow batch {batch - 1}: one of the two manifests was altered"
        if isinstance(manifest, ProcessedManifest) and self._made_from:
            ingested = self._made_from.read(batch)
            if manifest.ingestion_sha256 != ingested.sha256():
                return f"{place} was made from another ingestion batch {batch}"
        return None

    def _copy_object(self, entry: StoredObject) -> StoredObject | None:
        """Copies an object and reads the copy back; None if it was there already."""
        if self._is_there(entry):
            return None
        copied: StoredObject | None = entry
        try:
            with self.source.store.local([entry]) as [file]:
                self.target.store.put_new(entry.path, file)
        except ObjectExists:
            copied = None  # another backup to the same place was first
        except OSError as error:
            place = self.source.store.location(entry.path)
            raise StoreError(f"copying {place} failed: {redact(str(error))}") from error
        if not self._is_there(entry):
            raise StoreError(f"{self.target.store.location(entry.path)} was written but is not there")
        return copied

    def _is_there(self, entry: StoredObject) -> bool:
        try:
            return self.target.store.check(entry)
        except LakeDamaged as error:
            raise LakeDamaged(
                error.what, hint="A backup never overwrites: remove that object, and back up again"
            ) from error

    def _faults_of_manifest(self, batch: int, copied: M, original: M | None, previous: M | None) -> list[str]:
        if original:
            place = self.target.store.location(manifest_path(batch))
            return [] if copied == original else [f"{place} is not batch {batch} of this lake"]
        if previous is None and batch > 1:
            return []  # the previous one cannot be read, which is a fault already
        try:
            fault = self._out_of_order(self.target, batch, copied, previous)
        except LakeDamaged as error:
            return [error.what]
        return [fault] if fault else []

    def _faults_of_object(self, entry: StoredObject) -> list[str]:
        try:
            there = self.target.store.check(entry)
        except LakeDamaged as error:
            return [error.what]
        return [] if there else [f"{self.target.store.location(entry.path)} is missing"]

    def _finish(self, manifest: M, copies: Sequence[Future[StoredObject | None]], last: int) -> None:
        """Waits for a batch's objects, then commits it with its manifest."""
        for number, copy in enumerate(copies):
            entry = copy.result()
            if entry:
                self._done.objects += 1
                self._done.bytes += entry.bytes
            else:
                self._done.already_there += 1
            batches = manifest.batch - self._first + (number + 1) / len(copies)
            copied = f"copying the {self._name} lake, {size(self._done.bytes)}"
            report(copied, batches, last - self._first + 1, "batches")
        try:
            self.target.commit(manifest)
        except BatchConflict as error:
            raise _another_lake(self.target, manifest.batch) from error
        path = manifest_path(manifest.batch)
        if self.target.store.read(path) != manifest.content():
            raise StoreError(f"{self.target.store.location(path)} is not what was written")
        self._done.batches += 1
        self._done.batch = manifest.batch


@contextmanager
def _threads() -> Iterator[ThreadPoolExecutor]:
    """A thread pool that starts no more work once the context has failed."""
    threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="backup")
    try:
        yield threads
    finally:
        threads.shutdown(cancel_futures=True)


def _readable(journal: Journal[M], batch: int, faults: list[str]) -> M | None:
    try:
        return journal.read(batch)
    except LakeDamaged as error:
        faults.append(error.what)
        return None


def _another_lake(target: Journal[M], batch: int) -> BackupRefused:
    return BackupRefused(
        f"{target.store.location(manifest_path(batch))} is not batch {batch} of this lake",
        hint="That place holds a backup of another lake, or of this one with another history: name another place",
    )
