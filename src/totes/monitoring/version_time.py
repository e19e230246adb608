"""Where a version's time comes from: a column of the source, the commit of a transaction, or the read time of a batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from totes.lake.manifest import IngestionManifest

COMMIT, READ, PUSHED = "commit", "read", "after the previous version"
_SHORTEST_VERSION = timedelta(microseconds=1)


@dataclass(frozen=True)
class RowTime:
    """When a source row was changed, as a batch's packets have it: `at` of its line, and `own`, the value of its own column.

    `own` is only looked at in batches from the log; by query, `at` is that value.
    """

    table: str
    at: datetime
    own: datetime | None = None


def time_of_line(manifest: IngestionManifest, table: str, at: datetime, changed_at: str) -> str:
    """Where the `_at` of a line of a batch comes from. `changed_at` is the setting, which batches by query do not record."""
    if manifest.position.log_lsn is not None:
        return COMMIT
    return READ if at == read_time(manifest) else source_column(manifest, table, changed_at)


def time_of_version(
    begins: datetime,
    previous: datetime | None,
    manifest: IngestionManifest,
    base: str,
    times: Iterable[RowTime],
    changed_at: str,
) -> str | None:
    """Where the beginning of a warehouse row's version comes from; None if the lake does not show it. No I/O.

    Args:
        begins: when the version begins.
        previous: when the one before it began.
        manifest: a batch with changes of the row's source rows.
        base: the model's first table, whose own time a version has.
        times: the changes.
        changed_at: the setting.
    """
    from_log = manifest.position.log_lsn is not None
    for time in times:
        if from_log and time.table == base and time.own == begins:
            return source_column(manifest, base, changed_at)
        if time.at == begins and (from_log or time.table == base):
            return time_of_line(manifest, time.table, time.at, changed_at)
    if begins == read_time(manifest):
        return READ
    return PUSHED if previous is not None and begins == previous + _SHORTEST_VERSION else None


def read_time(manifest: IngestionManifest) -> datetime:
    """A batch's read time as lines have it: in UTC, without a zone."""
    return manifest.position.read_at.astimezone(UTC).replace(tzinfo=None)


def source_column(manifest: IngestionManifest, table: str, changed_at: str) -> str:
    """The name of the column with the source's own time of a change, as far as it is known."""
    entry = manifest.tables[table]
    name = entry.changed_at or (changed_at if changed_at in entry.plain else None)
    return f"source column {name}" if name else "source column"
