"""Which rows of each table a batch reads, by what earlier batches captured and what PostgreSQL shows of the table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from totes.errors import SourceRefused
from totes.ingestion.capture import check_shape, may_be_new
from totes.ingestion.catalog import SourceTable
from totes.ingestion.identity import Standing
from totes.ingestion.known import KnownRows
from totes.ingestion.source import Snapshot, Survey
from totes.lake.manifest import IngestionManifest, ResumePoint
from totes.log import logger

_log = logger(stage="ingest")
# From this many recently written rows on, they are read in pieces, so that a batch can leave some to the next one.
MANY_ROWS = 1_000_000
# Tables are looked through together up to this size, with conditions of up to this length.
_TOGETHER_BYTES_MAX, _TOGETHER_LENGTH_MAX = 64 << 20, 1 << 18


class CapturePlan(NamedTuple):
    """Which rows of a table a batch reads.

    `recent` is the SQL condition of recently written rows, None if there are none. `resume` is where the part of the table
    begins that no batch has read yet, and `added` are the positions of new columns. `rows` is how many rows the table has,
    None if they were not counted.
    """

    recent: str | None = None
    resume: ResumePoint | None = None
    added: tuple[int, ...] = ()
    rows: int | None = None


class Planning:
    """The plans of a batch: all rows of a table, where what was captured does not show which are new.

    Args:
        snapshot: the source.
        known: the captured rows.
        previous: the batch before.
        standing: how the source stands to what was captured.
        in_parts: whether the batch may leave rows to the next one for lack of time.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        known: KnownRows,
        previous: IngestionManifest | None,
        standing: Standing,
        *,
        in_parts: bool,
    ) -> None:
        self._snapshot = snapshot
        self._known = known
        self._previous = previous
        self._standing = standing
        self._in_parts = in_parts

    def plans(
        self, tables: Iterable[SourceTable]
    ) -> Iterator[tuple[SourceTable, CapturePlan | SourceRefused]]:
        """The plan of each table in turn, or why it cannot be captured."""
        together: list[tuple[SourceTable, CapturePlan]] = []
        size = length = 0
        for table in tables:
            plan = self._plan(table)
            if isinstance(plan, SourceRefused) or plan.resume or not plan.recent:
                yield from self._surveyed(together)
                yield table, plan
                together, size, length = [], 0, 0
                continue
            size += self._snapshot.size_bytes(table)
            length += len(plan.recent)
            if size > _TOGETHER_BYTES_MAX or length > _TOGETHER_LENGTH_MAX:
                yield from self._surveyed(together)
                together, size, length = [], self._snapshot.size_bytes(table), len(plan.recent)
            together.append((table, plan))
        yield from self._surveyed(together)

    def _plan(self, table: SourceTable) -> CapturePlan | SourceRefused:
        previous = self._previous
        before = previous.last_seen(table.name) if previous else None
        if previous is None or before is None:
            return CapturePlan(resume=ResumePoint())
        try:
            added, renewed = check_shape(before, table)
        except SourceRefused as error:
            return error
        if renewed:
            _log.warning(f"{renewed}; all its rows are compared with what was captured", table=table.name)
        marked = table.has_transaction_ids
        # A table that was left out is compared by content: a restore, for instance, may have happened meanwhile.
        if renewed or (marked and (self._standing.why_compared or table.name not in previous.tables)):
            return CapturePlan(resume=ResumePoint(compared=True, by_content=True), added=added)
        if not marked:
            return CapturePlan(resume=ResumePoint(compared=True), added=added)
        since = self._snapshot.changed_since(self._standing.since or previous.position)
        recent, resume = may_be_new(since, before, table, added), before.rest
        if resume and resume.file != self._snapshot.file(table):
            # The table was rewritten: its rows may be in other blocks now.
            resume = ResumePoint(compared=True, by_content=resume.by_content)
        if resume and recent:
            recent = f"({recent}) AND ctid < '({resume.block},0)'" if resume.block else None
        rows = self._known.rows(table) if not (recent or resume) else None
        return CapturePlan(recent, resume, added, rows)

    def _surveyed(
        self, plans: list[tuple[SourceTable, CapturePlan]]
    ) -> Iterator[tuple[SourceTable, CapturePlan | SourceRefused]]:
        """Plans for recently written rows, narrowed to the blocks that have them."""
        asked = [(table, str(plan.recent)) for table, plan in plans]
        surveys = self._snapshot.surveys(asked, counted=self._in_parts)
        for (table, plan), found in zip(plans, surveys, strict=True):
            yield table, self._narrowed(table, plan, found) if isinstance(found, Survey) else found

    def _narrowed(self, table: SourceTable, plan: CapturePlan, survey: Survey) -> CapturePlan:
        rows, met, first = survey
        if first is None:
            return plan._replace(recent=None, rows=rows)
        if not self._snapshot.has_block_ranges(table):
            return plan._replace(rows=rows)
        if self._in_parts and met >= MANY_ROWS:
            assert self._previous is not None
            block = int(first.strip("()").partition(",")[0])
            since = self._standing.since or self._previous.position
            resume = ResumePoint(block=block, since=since, compared=True)
            return plan._replace(recent=None, resume=resume, rows=rows)
        return plan._replace(recent=f"({plan.recent}) AND ctid >= '{first}'", rows=rows)
