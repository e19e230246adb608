"""Reports what a call of a stage did: as its result, which the execution history shows, and as metrics for CloudWatch."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools.metrics import EphemeralMetrics

# The state of Step Functions has 256 KiB at most, for the results of all stages together.
TABLES_MAX = 200
TEXT_CHARACTERS_MAX = 8_000
Counts = dict[str, int]


@dataclass(frozen=True)
class Report:
    """What a call did.

    `batch` is the newest batch that it committed, None if there was none, and `batches` how many it committed. `tables` has
    the changes by table. `rows` is how many rows it wrote for the next stage, `newest` the newest batch, whoever committed it,
    and `captured_at` when the source was read, in UTC. `quarantined` is None for stages without quarantine.
    """

    batch: int | None
    batches: int
    tables: Mapping[str, int | Counts] = field(default_factory=dict)
    rows: int = 0
    more: bool = False
    newest: int | None = None
    captured_at: datetime | None = None
    quarantined: int | None = None

    def as_json(self, seconds: float) -> dict[str, Any]:
        """The result of the function, with at most TABLES_MAX tables, those with the most rows."""
        biggest = sorted(self.tables, key=lambda name: (-_size(self.tables[name]), name))[:TABLES_MAX]
        document: dict[str, Any] = {
            "batch": self.batch,
            "tables": {name: self.tables[name] for name in sorted(biggest)},
            "more": self.more,
            "seconds": round(seconds, 3),
        }
        if len(self.tables) > TABLES_MAX:
            document["tables_not_named"] = len(self.tables) - TABLES_MAX
        if self.captured_at:
            document["captured_at"] = in_utc(self.captured_at).isoformat()
        if self.newest is not None:
            document["newest"] = self.newest
        if self.quarantined is not None:
            document["quarantined"] = self.quarantined
        return document

    def measure(self, stage: str, seconds: float) -> None:
        """Writes the metrics of a call, with the stage as their only dimension."""
        metrics = _metrics(stage)
        metrics.add_metric("Batches", "Count", self.batches)
        metrics.add_metric("Rows", "Count", self.rows)
        metrics.add_metric("DurationSeconds", "Seconds", round(seconds, 3))
        if self.quarantined is not None:
            metrics.add_metric("Quarantined", "Count", self.quarantined)
        metrics.flush_metrics()


def measure_freshness(fresh_as_of: datetime) -> None:
    """Writes the metric of the warehouse's freshness: it has everything that the source had at a time in UTC."""
    metrics = _metrics("watch")
    # The source's clock may be a little ahead of this one.
    lag = max(0.0, (datetime.now(UTC) - fresh_as_of).total_seconds())
    metrics.add_metric("FreshnessSeconds", "Seconds", round(lag, 3))
    metrics.flush_metrics()


def _metrics(stage: str) -> EphemeralMetrics:
    # Without a service, which Powertools would add as a dimension: an alarm has to name all dimensions.
    namespace = os.environ.get("POWERTOOLS_METRICS_NAMESPACE") or "totes"
    metrics = EphemeralMetrics(namespace=namespace, service="")
    metrics.add_dimension("stage", stage)
    return metrics


def added_up(batches: Iterable[Mapping[str, Mapping[str, int]]]) -> dict[str, Counts]:
    """The sums of the counts of several batches, by table, without zeros."""
    totals: dict[str, Counter[str]] = {}
    for tables in batches:
        for name, counts in tables.items():
            totals.setdefault(name, Counter()).update(counts)
    counted = {name: dict(+counts) for name, counts in totals.items()}
    return {name: counts for name, counts in counted.items() if counts}


def in_utc(moment: datetime) -> datetime:
    """A time in UTC; one without a time zone is assumed to be UTC."""
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _size(entry: int | Counts) -> int:
    return entry if isinstance(entry, int) else sum(entry.values())
