"""Lists quarantined rows, from the lake alone, and retries them once the cause is fixed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from totes import engine
from totes.cycle import Cycle
from totes.errors import ConfigurationError
from totes.lake.journal import Journal
from totes.lake.manifest import ProblemKind, ProcessedManifest
from totes.pipeline import Pipeline

_ENTRIES = (
    "model VARCHAR, row_key VARCHAR, reason VARCHAR, source_row VARCHAR, batch BIGINT,"
    ' problems STRUCT("column" VARCHAR, kind VARCHAR, "value" VARCHAR)[]'
)


@dataclass(frozen=True)
class Problem:
    """What is wrong with a row: in which column (None: the row as a whole), in which way, and the source's value."""

    column: str | None
    kind: str
    value: str | None


@dataclass(frozen=True)
class QuarantinedRow:
    """A row in quarantine.

    `key` is the key of the row of the model's first table, and `row` that row as captured. `batch` put it into quarantine, at
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
    """The quarantine after a batch: how many rows of each table, with which problems, and the newest rows.

    A row of the model's first table counts once for every different reason.
    """

    batch: int
    tables: dict[str, int] = field(default_factory=dict)
    kinds: dict[str, tuple[ProblemKind, ...]] = field(default_factory=dict)
    rows: list[QuarantinedRow] = field(default_factory=list)

    @property
    def total(self) -> int:
        """The total number of rows."""
        return sum(self.tables.values())


@dataclass(frozen=True)
class Retried:
    """The result of retrying a table's quarantined rows.

    `tried` were in quarantine before, `fit` are valid now and have left it for the table, `remain` are in it now, for `kinds`.
    """

    tried: int
    fit: int
    remain: int
    kinds: tuple[ProblemKind, ...]


@dataclass(frozen=True)
class Retry:
    """The result of a retry. `cycle` is None if nothing was in quarantine, and then there was no batch."""

    cycle: Cycle | None
    tables: dict[str, Retried] = field(default_factory=dict)
    loaded: bool = False


def read_quarantine(
    pipeline: Pipeline,
    tables: tuple[str, ...] = (),
    rows_max: int | None = None,
    key: tuple[str, ...] | None = None,
) -> Quarantine:
    """The quarantine after the newest processed batch.

    It is read from the lake, without a lock or cache, so other runners may be at work. Batches are read from the newest one
    backwards, until all rows that the newest one counts are found.

    Args:
        pipeline: the pipeline.
        tables: the warehouse tables; all if empty.
        rows_max: how many rows to return, the newest first; all if None.
        key: the key of the only row to return, as text in the order of its columns.

    Raises:
        ConfigurationError: there is no such table.
        StoreError: the lake cannot be read.
        LakeDamaged: a manifest or object is missing or wrong.
    """
    _check(pipeline, tables)
    journal = pipeline.processed_journal
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
        for manifest in (
            journal.newest_first(newest.batch, counted, quarantine=True, skip=True) if wanted else ()
        ):
            times[manifest.batch] = manifest.finished_at
            if _take_in(connection, journal, manifest, counted) >= wanted:
                break

        def finished_at(batch: int) -> datetime:
            if batch not in times:  # of a table that was rebuilt since
                times[batch] = journal.read(batch).finished_at
            return times[batch]

        return Quarantine(newest.batch, counted, kinds, _rows(connection, finished_at, wanted, key))


def retry(pipeline: Pipeline, tables: tuple[str, ...] = ()) -> Retry:
    """Retries the quarantined rows now, with a batch that is committed even if nothing is new at the source.

    A batch always retries the whole quarantine. `tables` decides whether there is anything to retry, and which tables are
    reported.

    Raises:
        ConfigurationError: there is no such table.
        StoreError: the lake cannot be read.
        LakeDamaged: a manifest is missing or wrong.
    """
    _check(pipeline, tables)
    journal = pipeline.processed_journal
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


def _take_in(
    connection: engine.Engine,
    journal: Journal[ProcessedManifest],
    manifest: ProcessedManifest,
    tables: dict[str, int],
) -> int:
    """Adds a batch's quarantine entries of rows without a later entry; returns how many rows are known to be in quarantine."""
    objects = [
        entry for name, changes in manifest.models.items() if name in tables for entry in changes.quarantine
    ]
    if objects:
        with journal.store.local(objects) as files:
            connection.execute(
                f"INSERT INTO entries BY NAME SELECT * FROM {engine.parquet(files)} AS new"
                " ANTI JOIN entries USING (model, row_key)"
            )
    return int(engine.scalar(connection, "SELECT count(*) FROM entries WHERE reason IS NOT NULL"))


def _rows(
    connection: engine.Engine,
    finished_at: Callable[[int], datetime],
    rows_max: int,
    key: tuple[str, ...] | None,
) -> list[QuarantinedRow]:
    chosen = "reason IS NOT NULL"
    if key is not None:
        chosen += f" AND json_extract_string(row_key, '$.*') = [{', '.join(map(engine.text, key))}]"
    result = connection.execute(
        "SELECT model, row_key, reason, problems, batch, source_row FROM entries"
        f" WHERE {chosen} ORDER BY batch DESC, model, row_key, reason LIMIT {rows_max}"
    )
    return [
        QuarantinedRow(
            table,
            json.loads(key),
            reason,
            tuple(Problem(**problem) for problem in problems or ()),
            batch,
            finished_at(batch),
            json.loads(row) if row else None,
        )
        for table, key, reason, problems, batch, row in result.fetchall()
    ]
