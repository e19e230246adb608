"""One pass through the stages: what it did, how long that took, and what failed."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from totes.errors import LakeOfAnotherSource, LakesApart, TotesError

if TYPE_CHECKING:
    from totes.ingestion.stage import Ingested
    from totes.processing.stage import Processed
    from totes.warehouse.stage import Loaded

STAGES = ("ingest", "process", "load")
PUBLISH = "publish"  # follows the load where publish.iceberg names a catalog


@dataclass
class Cycle:
    """The result of one pass through the stages, started `at`. A failed stage has an error in `failures` and no result.

    `published` is the newest batch in the Iceberg catalog, if there is one.
    """

    ingested: Ingested | None = None
    processed: Processed | None = None
    loaded: Loaded | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    failures: dict[str, TotesError] = field(default_factory=dict)
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    published: int | None = None

    @property
    def loaded_rows(self) -> dict[str, int]:
        """How many rows were loaded into each table, in all batches of the cycle."""
        return self.loaded.rows if self.loaded else {}

    @property
    def is_of_another(self) -> bool:
        """Whether the lake belongs to another source, or the processed lake to another ingestion lake."""
        return any(isinstance(error, LakeOfAnotherSource | LakesApart) for error in self.failures.values())

    @property
    def quarantined(self) -> int:
        """How many rows went to quarantine in this cycle."""
        batches = self.processed.batches.values() if self.processed else ()
        return sum(changes.quarantined for batch in batches for changes in batch.values())

    @property
    def pending(self) -> tuple[str, ...]:
        """The models whose change waits for `totes apply`."""
        return tuple(self.processed.pending) if self.processed else ()

    @property
    def goes_on(self) -> bool:
        """Whether another cycle should follow at once, since the source has more than this batch could read."""
        more = self.ingested and self.ingested.more and self.ingested.batch
        return bool(more) and self.failures.keys() <= {"ingest", PUBLISH}

    def as_json(self) -> dict[str, object]:
        """The object that `totes run --json` prints."""
        ingested = self.ingested.changes if self.ingested else {}
        report: dict[str, object] = {
            "at": self.at.isoformat(),
            "batch": self.ingested.batch if self.ingested else None,
            "ingested": {t: {"upserts": c.upserts, "deletes": c.deletes} for t, c in ingested.items()},
            "loaded": self.loaded_rows,
            "quarantined": self.quarantined,
            "seconds": self.seconds,
        }
        if self.published is not None:
            report["published"] = self.published
        if self.pending:
            report["pending"] = list(self.pending)
        if self.failures:
            report["failures"] = {stage: str(error) for stage, error in self.failures.items()}
        return report
