"""The sequence of a store's manifests: gapless from 1, each written once, by whoever comes first."""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import ValidationError

from totes.errors import BatchTaken, LakeDamaged, SourceRefused
from totes.failpoint import reach
from totes.lake.layout import manifest_batch, manifest_path
from totes.lake.manifest import IngestionManifest, Manifest, ModelChanges, ProcessedManifest
from totes.lake.store import DOCUMENT_BYTES_MAX, ObjectExists, Store

M = TypeVar("M", bound=Manifest)


class Journal(Generic[M]):
    """The manifests of one store."""

    def __init__(self, store: Store, kind: type[M]) -> None:
        self.store = store
        self._kind = kind
        self._last = 0
        self._ahead: tuple[int, M] | None = None
        self._digests: dict[int, tuple[str, str | None]] = {}  # of a manifest, and of the one before it

    def last(self) -> int:
        """The number of the newest committed batch, 0 before the first.

        The first call lists the manifests; later ones ask for the next number only.
        """
        if self._last == 0:
            listed = {batch for path in self.store.list("batches/") if (batch := manifest_batch(path))}
            missing = set(range(1, max(listed, default=0) + 1)) - listed
            # A listing may pass by a manifest that is written meanwhile.
            for path in (
                path for batch in sorted(missing) if self.store.read(path := manifest_path(batch)) is None
            ):
                place = self.store.location(path)
                raise LakeDamaged(
                    f"{place} is missing, though later batches are there", hint="Restore it from a backup"
                )
            self._last = max(listed, default=0)
        while self.store.read(manifest_path(self._last + 1)) is not None:
            self._last += 1
        return self._last

    def read(self, batch: int) -> M:
        """The manifest of a committed batch.

        Raises:
            LakeDamaged: it is not there, or is no manifest of this store.
        """
        place = self.store.location(manifest_path(batch))
        content = self.store.read(manifest_path(batch))
        if content is None:
            raise LakeDamaged(
                f"{place} is missing, though later batches are there", hint="Restore it from a backup"
            )
        if not content.strip(b"\0") and self.store.read(manifest_path(batch + 1)) is None:
            raise LakeDamaged(
                f"{place} is empty: the machine stopped before its content was on the disk",
                hint="Remove that file: its batch was never there, and the next run makes it again",
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
                f"{place} is not what was written: its content does not have the digest that stands in it",
                hint="Restore it from a backup; nothing was taken from its batch",
            )
        self._digests[batch] = manifest.sha256(), manifest.previous_sha256
        return manifest

    def confirmed(self, batch: int) -> M:
        """The manifest of a committed batch that its neighbours confirm: that it names, and that names it, as the one before.

        The one that follows is read first, where there is one; the one before counts if it was read earlier.

        Raises:
            LakeDamaged: as `read`, for both; or one of them was replaced.
        """
        number, manifest = self._ahead or (0, None)
        if manifest is None or number != batch:
            manifest = self.read(batch)
        self._ahead = (batch + 1, self.read(batch + 1)) if batch < self._last else None
        for earlier in (batch - 1, batch):
            before, after = self._digests.get(earlier), self._digests.get(earlier + 1)
            if before and after and after[1] != before[0]:
                raise LakeDamaged(
                    f"{self.store.location(manifest_path(earlier))} is not the manifest that batch {earlier + 1} was"
                    " written after: one of the two was replaced",
                    hint="Restore both from a backup; nothing was taken from them",
                )
        return manifest

    def newest(self) -> M | None:
        """The newest manifest, or None before the first batch."""
        last = self.last()
        return self.read(last) if last else None

    def commit(self, manifest: M) -> None:
        """Writes a manifest: this is the moment at which the batch exists.

        Raises:
            BatchTaken: another runner has committed this number; what was prepared is not data.
        """
        path = manifest_path(manifest.batch)
        if len(manifest.content()) > DOCUMENT_BYTES_MAX:
            raise SourceRefused(
                f"the manifest of batch {manifest.batch} would have {len(manifest.content())} bytes, more than can be read",
                hint="Divide the source's tables among several lakes, by source.tables",
            )
        self.store.settle(entry.path for entry in manifest.named_objects())
        reach("journal.commit.before")
        try:
            self.store.put_new(path, manifest.content())
        except ObjectExists as error:
            # A put whose answer was lost is sent again by the storage client and then meets its own object.
            if self.store.read(path) != manifest.content():
                raise BatchTaken(f"batch {manifest.batch} was committed by another runner") from error
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
    """What the batches up to one that has a table say of it, each with its number, from the one on at which it began."""
    since = journal.read(last).models[table].since or 1
    found = ((batch, journal.read(batch).models.get(table)) for batch in range(since, last + 1))
    return [(batch, changes) for batch, changes in found if changes]
