"""Finds the objects of both lakes that the versions of a row came from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from totes import engine
from totes.errors import ModelFailed
from totes.lake.document import StoredObject
from totes.lake.journal import Journal
from totes.lake.manifest import IngestionManifest, ModelChanges, ProcessedManifest
from totes.lake.packets import PacketReader
from totes.lake.store import Store
from totes.monitoring.version_time import RowTime, time_of_version
from totes.pipeline import Pipeline
from totes.processing.bound.binding import bind_models, relations_at
from totes.processing.bound.query import BoundQuery
from totes.processing.bound.relation import source_relation
from totes.processing.source_rows import own_time
from totes.star.model import Model

_OBJECTS_AT_ONCE = 1000


class Origin:
    """Where a row of a warehouse table came from, version by version: `objects`, and then `time`, in the order of versions."""

    def __init__(
        self,
        pipeline: Pipeline,
        model: Model,
        processed: Journal[ProcessedManifest],
        ingested: Journal[IngestionManifest],
        row: dict[str, str],
    ) -> None:
        """Prepares the search.

        Args:
            pipeline: the pipeline.
            model: the table's model.
            processed: the processed lake's manifests.
            ingested: the ingestion lake's manifests.
            row: the row's key, as text by column.
        """
        self._pipeline = pipeline
        self._model = model
        self._processed = processed
        self._ingested = ingested
        self._row = row
        self._chosen = matches(tuple(row), list(row.values()))
        self._before: dict[str, set[tuple[str, ...]]] = {}
        self._times: list[RowTime] = []
        self._begun: datetime | None = None
        self._base, self._base_keys = "", set[tuple[str, ...]]()
        newest = processed.newest()
        self._since = newest.models[model.name].since if newest and model.versioned else 0

    def objects(self, batch: int) -> tuple[str, ...]:
        """The packets of a batch with the source rows of the row, and the Parquet object with the row itself.

        Source rows are those that the row was joined from in this batch and in the batch of the previous call, since one of
        the latter may have been deleted. If the lake does not have them, all packets of the batch that the model reads.
        """
        # If the table was rebuilt since, its rows are in the objects of the batch that rebuilt it.
        changes = self._processed.read(max(batch, self._since)).models[self._model.name]
        manifest = self._ingested.read(batch)
        rows = self._source_rows(changes, manifest)
        self._times = []
        read = {relation.lower() for relation in self._model.relations}
        packets = [
            self._ingested.store.location(entry.path)
            for name, table in manifest.tables.items()
            if name.lower() in read
            for entry in table.objects
            if rows is None or self._holds(entry, manifest, name, rows.get(name, set()))
        ]
        parts = (*changes.objects, *changes.removed)
        held = [
            self._processed.store.location(entry.path)
            for entry in parts
            if len(parts) == 1 or find_rows(self._processed.store, (entry,), self._chosen)
        ]
        return (*packets, *held)

    def time(self, batch: int, begins: datetime | None) -> str | None:
        """Where the time comes from at which a version begins, after `objects` of its batch; None if that is not known.

        A row that was captured earlier and could not be joined until now begins at the time that it had then. Where the lake has
        no lineage of a version, its row of the first table is looked at.
        """
        previous, self._begun = self._begun, begins
        manifest, base = self._ingested.read(batch), self._base
        if begins is None or base not in manifest.tables:
            return None
        own = self._pipeline.settings.source.changed_at
        found = time_of_version(begins, previous, manifest, base, self._times, own)
        keys = self._before.get(base, set()) | self._base_keys
        for earlier in range(batch, 0, -1) if found is None and keys else ():
            manifest = self._ingested.read(earlier)
            self._times = []
            for entry in manifest.tables[base].objects if base in manifest.tables else ():
                self._holds(entry, manifest, base, keys)
            if self._times:
                return time_of_version(begins, previous, manifest, base, self._times, own)
        return found

    def _holds(
        self, entry: StoredObject, manifest: IngestionManifest, table: str, keys: set[tuple[str, ...]]
    ) -> bool:
        """Whether a packet has a change of one of the rows with these keys; remembers the times of these changes."""
        if not keys:
            return False
        store, relation = self._ingested.store, source_relation(table, manifest.tables[table])
        wanted = " OR ".join(f"({matches(relation.key, key)})" for key in sorted(keys))
        column = manifest.tables[table].changed_at
        times = f"_at, {own_time(relation, column) if column else 'NULL::TIMESTAMP'}"
        with store.local([entry]) as files:
            connection = engine.connect(None, memory="1GB", reads=store.folders)
            found = PacketReader(connection).read(
                relation,
                files,
                manifest.compression,
                lambda rows: connection.execute(f"SELECT {times} FROM ({rows}) WHERE {wanted}").fetchall(),
            )
        self._times += [RowTime(table, at, own) for at, own in found]
        return bool(found)

    def _source_rows(
        self, changes: ModelChanges, manifest: IngestionManifest
    ) -> dict[str, set[tuple[str, ...]]] | None:
        """By table, the keys of the source rows; None if they are not known."""
        project = self._pipeline.project
        try:
            [query] = bind_models((self._model,), relations_at(project, manifest))
        except ModelFailed:
            return None
        self._base = query.base.relation.name
        self._base_keys = self._by_key(query).get(self._base, set())
        if changes.query_sha256 != self._model.query_sha256(project.reference_content()):
            return None  # the model has been changed since then
        if query.keeps_lineage and manifest.batch < self._since:
            return None  # for a rebuilt table, the lake has only the lineage of the newest rows
        found = self._by_lineage(query, changes) if query.keeps_lineage else self._by_key(query)
        known, self._before = (
            {name: found.get(name, set()) | keys for name, keys in self._before.items()},
            found,
        )
        return (found | known) or None

    def _by_key(self, query: BoundQuery) -> dict[str, set[tuple[str, ...]]]:
        key = tuple(self._row[carrier] for carrier in query.key_of_base if carrier in self._row)
        base = query.base.relation
        return {base.name: {key}} if len(key) == len(base.key) > 0 else {}

    def _by_lineage(self, query: BoundQuery, changes: ModelChanges) -> dict[str, set[tuple[str, ...]]]:
        """The row's lineage in the batch's state: the key of each leaf's row, NULL if a join found none."""
        leaves = [leaf for leaf in query.leaves if leaf.relation.is_source]
        hidden = [part for leaf in leaves for part in leaf.key]
        select = ", ".join(f"CAST({engine.name(part)} AS VARCHAR) AS {engine.name(part)}" for part in hidden)
        found: dict[str, set[tuple[str, ...]]] = {}
        for values in find_rows(self._processed.store, changes.state, self._chosen, select):
            for leaf in leaves:
                key = tuple(values[part] for part in leaf.key)
                found.setdefault(leaf.relation.name, set()).update([key] if None not in key else [])
        return found


def find_rows(
    store: Store, objects: tuple[StoredObject, ...], condition: str, select: str = "*"
) -> list[dict[str, Any]]:
    """The rows of Parquet objects that meet a condition, each by column."""
    if not objects:
        return []
    connection = engine.connect(None, memory="1GB", reads=store.folders)
    with store.local(list(objects)) as files:
        result = connection.execute(f"SELECT {select} FROM {engine.parquet(files)} WHERE {condition}")
        names = [column[0] for column in result.description or []]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def objects_with(
    store: Store, objects: Sequence[StoredObject], has: Callable[[Sequence[Path]], bool]
) -> set[str]:
    """The paths of those objects for which `has` is true; it is asked about many files at once, and then about halves."""
    found: set[str] = set()
    for start in range(0, len(objects), _OBJECTS_AT_ONCE):
        chunk = objects[start : start + _OBJECTS_AT_ONCE]
        with store.local(chunk) as files:
            parts = [range(len(chunk))]
            while parts:
                part = parts.pop()
                if has(files[part.start : part.stop]):
                    middle = len(part) // 2
                    found |= set() if middle else {chunk[part.start].path}
                    parts += [part[:middle], part[middle:]] if middle else []
    return found


def matches(columns: tuple[str, ...], key: Iterable[str]) -> str:
    """The SQL condition that columns have these values, as text."""
    return " AND ".join(
        f"CAST({engine.name(column)} AS VARCHAR) = {engine.text(value)}"
        for column, value in zip(columns, key, strict=True)
    )
