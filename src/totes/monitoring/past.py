"""The star as it was: which batch shows a moment, and the rows that a table then had, out of the processed lake.

A table with one row a key keeps its past in the lake alone. What each batch changed is read from its manifest once in a
process; where there are many, a call reads some of them and says how far it got.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from totes import engine
from totes.errors import CommandFailed, TotesError
from totes.lake.document import StoredObject
from totes.lake.manifest import OutputColumn, ProcessedManifest
from totes.pipeline import Pipeline
from totes.star.recorded import recorded_model
from totes.warehouse.table import TableLoad, WarehouseTable

_FILES_MAX = 2000
_CALL_SECONDS = 3.0


class StillReading(TotesError):
    """Not all manifests are read yet that this needs; the next call goes on from here."""

    retryable = True

    def __init__(self, read: int, wanted: int) -> None:
        super().__init__(f"reading what batches changed: {read:,} of {wanted:,} so far", hint="Ask again")


@dataclass(frozen=True)
class PastTable:
    """A table after a batch: its columns and key then, and a relation with its rows, in an engine of its own."""

    batch: int
    columns: tuple[OutputColumn, ...]
    key: tuple[str, ...]
    relation: str
    connection: engine.Engine

    def ask(self, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """The column names and rows of a query."""
        result = self.connection.execute(sql)
        return [column[0] for column in result.description or []], result.fetchall()


class Past:
    """The past of a pipeline's star; any number of threads may ask at once."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._journal = pipeline.processed_journal
        self._turn = threading.Lock()
        self._read = 0
        self._changes: dict[str, list[tuple[int, tuple[StoredObject, ...], tuple[StoredObject, ...]]]] = {}

    def batch_at(self, moment: datetime) -> ProcessedManifest | None:
        """The newest batch that was read from the source at a moment or before; None where there is none.

        As many manifests are read as the number of batches has binary digits.

        Raises:
            StoreError, LakeDamaged: the lake cannot be read.
        """
        with self._turn:
            found = bisect_right(
                range(1, self._journal.last() + 1),
                _naive(moment),
                key=lambda batch: _naive(self._journal.read(batch).read_at),
            )
            return self._journal.read(found) if found else None

    def first(self) -> datetime | None:
        """When the first batch was read; None before it."""
        with self._turn:
            return self._journal.read(1).read_at if self._journal.last() else None

    @contextmanager
    def table(self, table: str, moment: datetime) -> Iterator[PastTable]:
        """A table as it was after the newest batch at a moment.

        Raises:
            CommandFailed: nothing was there yet, or the table has changed in too many batches.
            StillReading: call again.
            StoreError, LakeDamaged: the lake cannot be read.
        """
        manifest = self.batch_at(moment)
        if manifest is None:
            first = self.first()
            raise CommandFailed(
                "nothing had been captured at that moment",
                hint=f"The first batch was read at {first:%Y-%m-%d %H:%M:%S} UTC"
                if first
                else "Run `totes run`",
            )
        if table not in manifest.models:
            raise CommandFailed(
                f"{table} was not in the star at batch {manifest.batch}", hint="Choose a later moment"
            )
        changes = manifest.models[table]
        with self._turn:
            self._catch_up(manifest.batch)
            entries = [
                one
                for one in self._changes.get(table, [])
                if (changes.since or 1) <= one[0] <= manifest.batch
            ]
        rows = [(entry, batch) for batch, objects, _ in entries for entry in objects]
        removed = [(entry, batch) for batch, _, objects in entries for entry in objects]
        if len(rows) + len(removed) > _FILES_MAX:
            raise CommandFailed(
                f"{table} changed in {len(entries):,} batches up to {manifest.batch}, too many to read for a page",
                hint=f"Replay the lake into an empty warehouse: totes replay --warehouse URL --to {manifest.batch}",
            )
        store, declared = self._pipeline.processed_store, recorded_model(table, changes)
        with (
            store.local([entry for entry, _ in (*rows, *removed)]) as files,
            closing(engine.connect(None, memory="1GB", reads=store.folders)) as connection,
        ):
            batches = dict(zip(files, (batch for _, batch in (*rows, *removed)), strict=True))
            load = TableLoad(
                WarehouseTable(declared, changes.key), list(files[: len(rows)]), list(files[len(rows) :]),
                sum(entry.rows for entry, _ in rows), whole=True, batches=batches,
            )  # fmt: skip
            current = " WHERE NOT is_deleted" if changes.soft_deletes else ""
            relation = f"(SELECT * FROM {load.relation}{current}) AS past"
            yield PastTable(manifest.batch, declared.output, changes.key, relation, connection)

    def _catch_up(self, last: int) -> None:
        """Notes what batches changed, up to one of them, for a while."""
        until = time.monotonic() + _CALL_SECONDS
        for manifest in self._journal.manifests(self._read + 1, last):
            for name, model in manifest.models.items():
                if model.objects or model.removed:
                    self._changes.setdefault(name, []).append((manifest.batch, model.objects, model.removed))
            self._read = manifest.batch
            if time.monotonic() > until and self._read < last:
                raise StillReading(self._read, last)


def _naive(moment: datetime) -> datetime:
    """The moment in UTC, as manifests have it."""
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
