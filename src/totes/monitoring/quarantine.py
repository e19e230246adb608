"""What is in quarantine, out of the lake alone, and trying it again once the cause is mended."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from totes import engine
from totes.errors import ConfigurationError
from totes.lake.journal import Journal, processed_journal
from totes.lake.manifest import ProblemKind, ProcessedManifest
from totes.pipeline import Cycle, Pipeline

_READ_AHEAD = 16
_ENTRIES = (
    "model VARCHAR, row_key VARCHAR, reason VARCHAR, source_row VARCHAR, batch BIGINT,"
    ' problems STRUCT("column" VARCHAR, kind VARCHAR, "value" VARCHAR)[]'
)


@dataclass(frozen=True)
class Problem:
    """What is wrong: of which column (None: of the row as a whole), in which way, and the value as the source has it."""

    column: str | None
    kind: str
    value: str | None


@dataclass(frozen=True)
class SetAside:
    """A row in quarantine.

    `key` is that of the row of the model's first table, and `row` that row as it was captured. `batch` set it aside, at
    the time `at` (UTC).
    """

    table: str
    key: dict[str, Any]
    reason: str
    problems: tuple[Problem, ...]
    batch: int
    at: datetime
    row: dict[str, Any] | None


@dataclass(frozen=True)
class Quarantine:
    """What is in quarantine after a batch: how many rows of each table, for what, and the newest of them.

    A row of the model's first table counts once for every different reason that its rows have.
    """

    batch: int
    tables: dict[str, int] = field(default_factory=dict)
    kinds: dict[str, tuple[ProblemKind, ...]] = field(default_factory=dict)
    rows: list[SetAside] = field(default_factory=list)

    @property
    def total(self) -> int:
        """How many rows there are in all."""
        return sum(self.tables.values())


@dataclass(frozen=True)
class Retried:
    """A table's rows that were tried again.

    `tried` were in quarantine before, `fit` have left it for the table, and `remain` are in it now, for `kinds`.
    """

    tried: int
    fit: int
    remain: int
    kinds: tuple[ProblemKind, ...]


@dataclass(frozen=True)
class Retry:
    """What trying again did. `cycle` is None when nothing was in quarantine, and then no batch was made."""

    cycle: Cycle | None
    tables: dict[str, Retried] = field(default_factory=dict)
    loaded: bool = False


def read_quarantine(
    pipeline: Pipeline, tables: tuple[str, ...] = (), rows_max: int | None = None
) -> Quarantine:
    """What is in quarantine after the newest processed batch.

    It is read from the lake and nothing is locked: another runner may be at work, and no cache is needed. Batches are
    read from the newest one back, until all rows are found that the newest one counts.

    Args:
        pipeline: the pipeline.
        tables: the warehouse tables; all if empty.
        rows_max: how many rows to give, the newest first; all if None.

    Raises:
        ConfigurationError: there is no such table.
        StoreError, LakeDamaged: as they say.
    """
    _check(pipeline, tables)
    journal = processed_journal(pipeline.processed_store)
    newest = journal.newest()
    if newest is None:
        return Quarantine(0)
    counted = _open(newest, tables)
    kinds = {name: newest.models[name].quarantine_kinds for name in counted}
    wanted = sum(counted.values()) if rows_max is None else min(rows_max, sum(counted.values()))
    memory, reads = pipeline.settings.lake.memory, pipeline.processed_store.folders
    with engine.connect(None, memory=memory, reads=reads) as connection:
        connection.execute(f"CREATE TABLE entries ({_ENTRIES})")
        times: dict[int, datetime] = {}
        found = 0
        for manifest in _backwards(journal, newest) if wanted else ():
            times[manifest.batch] = manifest.finished_at
            found += _take_in(connection, journal, manifest, counted)
            if found >= wanted:
                break
        return Quarantine(newest.batch, counted, kinds, _rows(connection, times, wanted))


def retry(pipeline: Pipeline, tables: tuple[str, ...] = ()) -> Retry:
    """Tries what is in quarantine again, now: with a batch that is made also when nothing is new at the source.

    A batch tries all that is in quarantine, whichever tables are named; these are the ones that it is done for, and
    that are told of.

    Raises:
        ConfigurationError: there is no such table.
        StoreError, LakeDamaged: as they say.
    """
    _check(pipeline, tables)
    journal = processed_journal(pipeline.processed_store)
    before = journal.newest()
    tried = _open(before, tables) if before else {}
    if before is None or not tried:
        return Retry(None)
    cycle = pipeline.run(always=True)
    after = journal.newest() or before
    released = dict.fromkeys(tried, 0)
    for batch in range(before.batch + 1, after.batch + 1):
        for name, changes in journal.read(batch).models.items():
            if name in released:
                released[name] += changes.released
    remain = _open(after, tables)
    done = {
        name: Retried(
            tried.get(name, 0),
            released.get(name, 0),
            remain.get(name, 0),
            after.models[name].quarantine_kinds,
        )
        for name in {**tried, **remain}
    }
    return Retry(cycle, done, cycle.loaded is not None and cycle.loaded.batch >= after.batch)


def _check(pipeline: Pipeline, tables: tuple[str, ...]) -> None:
    names = [model.name for model in pipeline.project.models]
    for unknown in (name for name in tables if name not in names):
        raise ConfigurationError(f"there is no table {unknown}", hint=f"The tables are {', '.join(names)}")


def _open(manifest: ProcessedManifest, tables: tuple[str, ...]) -> dict[str, int]:
    return {
        name: changes.quarantine_open
        for name, changes in manifest.models.items()
        if changes.quarantine_open and (not tables or name in tables)
    }


def _backwards(journal: Journal[ProcessedManifest], newest: ProcessedManifest) -> Iterator[ProcessedManifest]:
    """All manifests from the newest one back; some are read ahead, since a far store takes its time for each."""
    yield newest
    with ThreadPoolExecutor(_READ_AHEAD) as readers:
        for last in range(newest.batch - 1, 0, -_READ_AHEAD):
            yield from readers.map(journal.read, range(last, max(last - _READ_AHEAD, 0), -1))


def _take_in(
    connection: engine.Engine,
    journal: Journal[ProcessedManifest],
    manifest: ProcessedManifest,
    tables: dict[str, int],
) -> int:
    """Takes in what a batch says of rows of which no later one says anything; gives how many it set aside."""
    objects = [
        entry for name, changes in manifest.models.items() if name in tables for entry in changes.quarantine
    ]
    if not objects:
        return 0
    with journal.store.local(objects) as files:
        connection.execute(
            f"INSERT INTO entries BY NAME SELECT * FROM {engine.parquet(files)} AS new"
            " ANTI JOIN entries USING (model, row_key)"
        )
    return int(
        engine.scalar(
            connection,
            f"SELECT count(*) FROM entries WHERE batch = {manifest.batch} AND reason IS NOT NULL",
        )
    )


def _rows(connection: engine.Engine, times: dict[int, datetime], rows_max: int) -> list[SetAside]:
    result = connection.execute(
        "SELECT model, row_key, reason, problems, batch, source_row FROM entries WHERE reason IS NOT NULL"
        f" ORDER BY batch DESC, model, row_key, reason LIMIT {rows_max}"
    )
    return [
        SetAside(
            table,
            json.loads(key),
            reason,
            tuple(Problem(**problem) for problem in problems or ()),
            batch,
            times[batch],
            json.loads(row) if row else None,
        )
        for table, key, reason, problems, batch, row in result.fetchall()
    ]
