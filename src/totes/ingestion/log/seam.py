"""The seam between a batch by query and the log: what the batch reads, and what its manifest records for the log to continue."""

from __future__ import annotations

from totes.ingestion.batch import Capture
from totes.ingestion.log.capture import Captured
from totes.ingestion.log.continuation import may_be_missing
from totes.ingestion.source import Snapshot
from totes.lake.manifest import IngestionManifest, Seam, TableChanges


class SeamOfLog:
    """A batch by query from which capture from the log continues."""

    def __init__(self, log: Captured, slot: str) -> None:
        assert log.comparison is not None
        self._log, self._comparison, self._slot = log, log.comparison, slot

    def limit(self, snapshot: Snapshot, previous: IngestionManifest | None) -> dict[str, TableChanges]:
        """Limits a snapshot to the tables that are compared; returns the others, as the previous batch left them."""
        compared = self._comparison.tables
        present = {table.name for table in snapshot.tables}
        snapshot.restrict(present if compared is None else compared, self._log.refused)
        if compared is None or previous is None:
            return {}
        return {
            name: table.without_changes()
            for name, table in previous.tables.items()
            if name not in compared and name in present
        }

    def is_news(self, capture: Capture, snapshot: Snapshot, previous: IngestionManifest | None) -> bool:
        """Whether the manifest records something new for the log, even if no row has changed."""
        if self._continues(snapshot):
            return any(table.name not in capture.left_out for table in snapshot.tables)
        waits_for = self._comparison.waits_for
        return waits_for is not None and (previous is None or previous.position.log_waits_for != waits_for)

    def recorded(self, manifest: IngestionManifest, snapshot: Snapshot) -> IngestionManifest:
        """The manifest with what the log needs to continue from it."""
        continues, compared = self._continues(snapshot), self._comparison.tables
        seam = Seam(snapshot=snapshot.seen, lsn=snapshot.position.lsn or "0/0") if continues else None
        waits_for = self._comparison.waits_for if self._may_be_missing(snapshot) and continues else None
        tables = dict(manifest.tables)
        for name, table in manifest.tables.items():
            if compared is None or name in compared:
                published = self._log.publication.tables.get(name)
                update = {
                    "seam": seam,
                    "published": published and published.version,
                    "waits_for": waits_for,
                }
                tables[name] = table.model_copy(update=update)
        position = manifest.position.model_copy(
            update={
                "log_from": self._log.log_from if continues else None,
                "log_slot": self._slot,
                "log_waits_for": None if continues else self._comparison.waits_for,
            }
        )
        return manifest.model_copy(update={"position": position, "tables": tables})

    def _continues(self, snapshot: Snapshot) -> bool:
        """Whether the log can be read on: that of some tables, or each transaction is either in it or seen by the snapshot."""
        if self._log.log_from is None:
            return False
        return self._comparison.tables is not None or not self._may_be_missing(snapshot)

    def _may_be_missing(self, snapshot: Snapshot) -> bool:
        return may_be_missing(self._comparison.waits_for, snapshot.seen)
