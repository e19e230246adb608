"""Whether the manifests of the lake are those that were written: by the digests that chain them, and by when S3 received them.

The newest batch that was seen is known by its digest: later ones have to follow it. An earlier one that was replaced is
younger than its successor, which a listing shows; those are read, and compared with what their successors record.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TypeAlias

from pydantic import BaseModel, ConfigDict

from totes.deadline import Deadline
from totes.errors import LakeDamaged
from totes.lake.journal import Journal, ingestion_journal, processed_journal
from totes.lake.layout import MANIFESTS, manifest_batch, manifest_path
from totes.lake.manifest import Manifest
from totes.pipeline import Pipeline

_HINT = "Restore it: docs/how-to/deploy.md describes how; what was made from it is in the warehouse already"
_SEARCH_EVERY = timedelta(days=1)


class Head(BaseModel):
    """The newest batch of a store, and the digest of its manifest."""

    model_config = ConfigDict(frozen=True)

    batch: int
    sha256: str


Heads: TypeAlias = dict[str, Head]


def is_due(searched_at: datetime | None, now: datetime) -> bool:
    """Whether all manifests are to be looked at, and not only those since the last execution."""
    return searched_at is None or now - searched_at >= _SEARCH_EVERY


def check(
    pipeline: Pipeline, heads: Heads, *, search: bool, deadline: Deadline
) -> tuple[Heads, LakeDamaged | None]:
    """Checks the manifests of both stores since those that are known, with `search` all of them.

    Returns the newest batches now, as far as the time was enough, and what is wrong, if anything is.
    """
    found: Heads = dict(heads)
    faults: list[LakeDamaged] = []
    journals: dict[str, Journal[Manifest]] = {
        "ingestion": ingestion_journal(pipeline.ingestion_store),  # type: ignore[dict-item]
        "processed": processed_journal(pipeline.processed_store),  # type: ignore[dict-item]
    }
    for name, journal in journals.items():
        try:
            if search:
                _search(journal)
            if head := _followed(journal, heads.get(name), deadline):
                found[name] = head
        except LakeDamaged as error:
            faults.append(error)
    if not faults:
        return found, None
    hints = dict.fromkeys(error.hint for error in faults if error.hint)
    return found, LakeDamaged("; ".join(error.what for error in faults), hint="; ".join(hints))


def _followed(journal: Journal[Manifest], head: Head | None, deadline: Deadline) -> Head | None:
    """The newest batch, each since the known one checked to follow the one before it."""
    if head is None:
        newest = journal.newest()
        return Head(batch=newest.batch, sha256=newest.sha256()) if newest else None
    if journal.read(head.batch).sha256() != head.sha256:
        raise _replaced(journal, head.batch)
    while not deadline.half_over() and journal.store.read(manifest_path(head.batch + 1)) is not None:
        following = journal.read(head.batch + 1)
        if following.previous_sha256 != head.sha256:
            raise _replaced(journal, following.batch)
        head = Head(batch=following.batch, sha256=following.sha256())
    return head


def _search(journal: Journal[Manifest]) -> None:
    """Reads the manifests that are younger than their successors, and compares them with these."""
    written = _written(journal.store.url) if journal.store.url.startswith("s3://") else {}
    for batch in range(1, max(written, default=0)):
        if batch not in written:
            raise LakeDamaged(
                f"{journal.store.location(manifest_path(batch))} is missing, though later batches are there",
                hint=_HINT,
            )
        # A successor may be listed that was written after the listing began; one that is not listed has no time.
        if written[batch] <= written.get(batch + 1, written[batch]):
            continue
        if journal.read(batch + 1).previous_sha256 != journal.read(batch).sha256():
            raise _replaced(journal, batch)


def _written(url: str) -> dict[int, datetime]:
    """When S3 received each manifest, by batch."""
    import boto3

    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    start = f"{prefix}/" if prefix else ""
    pages = (
        boto3.client("s3")
        .get_paginator("list_objects_v2")
        .paginate(Bucket=bucket, Prefix=f"{start}{MANIFESTS}/")
    )
    entries = (entry for page in pages for entry in page.get("Contents", ()))
    times = ((manifest_batch(entry["Key"].removeprefix(start)), entry["LastModified"]) for entry in entries)
    return {batch: modified for batch, modified in times if batch}


def _replaced(journal: Journal[Manifest], batch: int) -> LakeDamaged:
    place = journal.store.location(manifest_path(batch))
    return LakeDamaged(f"{place} is not the manifest that was written as batch {batch}", hint=_HINT)
