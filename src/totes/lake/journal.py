"""The sequence of a store's manifests: gapless from 1, each written once, by whichever runner is first."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from itertools import pairwise
from threading import Lock
from typing import Generic, TypeVar

from pydantic import ValidationError

from totes.errors import BatchConflict, LakeDamaged, SourceRefused
from totes.failpoint import reach
from totes.lake.layout import MANIFESTS, manifest_batch, manifest_path
from totes.lake.manifest import IngestionManifest, Manifest, ModelChanges, ProcessedManifest
from totes.lake.store import DOCUMENT_BYTES_MAX, ObjectExists, Store

M = TypeVar("M", bound=Manifest)

# How many manifests stay in memory: the newest, the one before, and those in which tables began.
_RECENT_MAX = 8


class Journal(Generic[M]):
    """The manifests of one store, for as long as a process works with it; any number of threads may read."""

    def __init__(self, store: Store, kind: type[M]) -> None:
        self.store = store
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

    def _listed(self) -> int:
        listed = {batch for path in self.store.list(f"{MANIFESTS}/") if (batch := manifest_batch(path))}
        missing = set(range(1, max(listed, default=0) + 1)) - listed
        # A listing may miss a manifest that is written at the same time.
        for batch in (batch for batch in sorted(missing) if not self._is_there(batch)):
            raise self._missing(batch)
        return max(listed, default=0)

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
        manifest = self._stored(batch)
        with self._turn:
            self._recent[batch] = manifest
            while len(self._recent) > _RECENT_MAX:
                self._recent.popitem(last=False)
        return manifest

    def _stored(self, batch: int) -> M:
        place = self.store.location(manifest_path(batch))
        content = self.store.read(manifest_path(batch))
        if content is None:
            raise self._missing(batch)
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
    """A table's entries in the manifests from the batch at which it began up to `last`, which has one; each with its batch."""
    since = journal.read(last).models[table].since or 1
    found = ((batch, journal.read(batch).models.get(table)) for batch in range(since, last + 1))
    return [(batch, changes) for batch, changes in found if changes]
