"""A backup: both stores copied to another place, each checksum verified. It has the layout of a lake, and can be used as one.

Objects are copied before the manifest that names them, and manifests in order, byte for byte. So whenever a run is
interrupted, the copy is a valid lake with the first batches, and the next run adds the remaining ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from totes.errors import BackupRefused, ConfigurationError, LakeDamaged, StoreError
from totes.lake.journal import ingestion_journal, processed_journal
from totes.lake.manifest import IngestionManifest, ProcessedManifest
from totes.lake.store import Store
from totes.lake.store_copy import Copied, StoreCopy


@dataclass
class Backup:
    """The result of a run; `faults` has one line for each thing that is missing or wrong."""

    ingestion: Copied = field(default_factory=Copied)
    processed: Copied = field(default_factory=Copied)
    faults: list[str] = field(default_factory=list)


def back_up(
    ingestion: Store,
    processed: Store,
    destination: str,
    base: Path,
    *,
    check: bool = False,
) -> Backup:
    """Copies the batches that are not at the destination yet, into its stores `ingestion` and `processed`.

    Any number of runners may call it at once, and it may be killed at any moment. Memory use does not depend on the size
    of objects. The processed copy is never ahead of the ingestion copy.

    Args:
        ingestion: the ingestion lake.
        processed: the processed lake.
        destination: a folder, or `s3://bucket/prefix`.
        base: the folder that a relative destination starts from.
        check: reads the whole backup before anything is added to it. What is missing or wrong, there or in the
            lake, is then listed in `faults` and not raised.

    Raises:
        ConfigurationError: the destination is not a store, or one of it and the lake is inside the other.
        BackupRefused: the destination holds another lake, or is ahead of this one.
        LakeDamaged: an object is missing or does not match its manifest; earlier batches are copied.
        StoreError: a store failed.
    """
    _check_apart(destination, base, (ingestion, processed))
    done = Backup()
    captured = StoreCopy(
        "ingestion",
        ingestion_journal(ingestion),
        ingestion_journal(Store.open(_below(destination, "ingestion"), base)),
        done.ingestion,
    )
    made = StoreCopy(
        "processed",
        processed_journal(processed),
        processed_journal(Store.open(_below(destination, "processed"), base)),
        done.processed,
        made_from=captured.target,
    )
    try:
        if check:
            captured.check(done.faults)
            made.check(done.faults)
        _copy_both(captured, made)
    except (LakeDamaged, BackupRefused, StoreError) as error:
        if not check or (isinstance(error, StoreError) and not done.faults):
            raise
        done.faults.append(error.what)
    done.faults = list(dict.fromkeys(done.faults))
    return done


def _copy_both(captured: StoreCopy[IngestionManifest], made: StoreCopy[ProcessedManifest]) -> None:
    damage: LakeDamaged | None = None
    try:
        captured.copy(captured.source.last())
    except LakeDamaged as error:
        damage = error  # the processed batches before it are still worth copying
    last = made.source.last()
    if last > captured.source.last():
        raise LakeDamaged(
            f"the processed lake is at batch {last}, the ingestion lake only at {captured.source.last()}",
            hint="Point lake.processed at the place that belongs to lake.ingestion",
        )
    made.copy(min(last, captured.target.last()))
    if damage:
        raise damage


def _below(destination: str, name: str) -> str:
    return f"{destination.rstrip('/')}/{name}"


def _check_apart(destination: str, base: Path, stores: Sequence[Store]) -> None:
    """Refuses a destination inside the lake, or around it: whoever loses one would lose both."""
    if destination.rstrip("/") in ("", "s3:"):
        raise ConfigurationError(
            f"{destination!r} names no place for a backup", hint="Name a folder, or s3://bucket/prefix"
        )
    for store in stores:
        if _holds(store.url, destination, base) or _holds(destination, store.url, base):
            raise ConfigurationError(
                f"one of {destination} and the lake's {store.url} is inside the other",
                hint="Give the backup a place of its own",
            )


def _holds(outer: str, inner: str, base: Path) -> bool:
    """Whether `inner` is the same place as `outer`, or inside it."""
    if "://" in outer or "://" in inner:
        outside, inside = ([part for part in place.split("/") if part] for place in (outer, inner))
        return inside[: len(outside)] == outside
    folder, place = ((base / Path(given).expanduser()).resolve() for given in (outer, inner))
    # Compared as files, since on a case-insensitive file system a name can be written in several ways.
    return folder.exists() and any(
        parent.exists() and parent.samefile(folder) for parent in (place, *place.parents)
    )
