"""The sequence of a store's manifests: gapless from 1, each written once, by whichever runner is first."""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import ValidationError

from totes.errors import BatchConflict, LakeDamaged, SourceRefused
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
        self._digests: dict[int, tuple[str, str | None]] = {}  # of a manifest, and its previous_sha256

    def last(self) -> int:
        """The number of the newest committed batch, 0 before the first.

        The first call lists the manifests; later calls only look for the next number.
        """
        if self._last == 0:
            listed = {batch for path in self.store.list("batches/") if (batch := manifest_batch(path))}
            missing = set(range(1, max(listed, default=0) + 1)) - listed
            # A listing may miss a manifest that is written at the same time.
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
            LakeDamaged: it is missing, or is not a manifest of this store.
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
        self._digests[batch] = manifest.sha256(), manifest.previous_sha256
        return manifest

    def confirmed(self, batch: int) -> M:
        """The manifest of a committed batch, checked against its neighbours by the digests that chain them.

        The next manifest is read too, if there is one; the previous one is checked if it was read earlier.

        Raises:
            LakeDamaged: as `read`, for the manifest and the next one; or one of the chain was replaced.
        """
        number, manifest = self._ahead or (0, None)
        if manifest is None or number != batch:
            manifest = self.read(batch)
        self._ahead = (batch + 1, self.read(batch + 1)) if batch < self._last else None
        for earlier in (batch - 1, batch):
            before, after = self._digests.get(earlier), self._digests.get(earlier + 1)
            if before and after and after[1] != before[0]:
                raise LakeDamaged(
                    f"{self.store.location(manifest_path(earlier))} is not the manifest that batch {earlier + 1}"
                    " follows: one of the two was replaced",
                    hint="Restore both from a backup; their batches were not used",
                )
        return manifest

    def newest(self) -> M | None:
        """The newest manifest, or None before the first batch."""
        last = self.last()
        return self.read(last) if last else None

    def commit(self, manifest: M) -> None:
        """Writes a manifest, which commits its batch.

        Raises:
            BatchConflict: another runner has committed this number; the objects of this one are not data.
        """
        path = manifest_path(manifest.batch)
        if len(manifest.content()) > DOCUMENT_BYTES_MAX:
            raise SourceRefused(
                f"the manifest of batch {manifest.batch} would have {len(manifest.content())} bytes, more than can be read",
                hint="Spread the source's tables over several lakes with source.tables",
            )
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
