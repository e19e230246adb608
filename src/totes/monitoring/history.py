"""The history of one row: every version, with the lake objects that it came from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from totes import engine
from totes.errors import CommandFailed
from totes.lake.journal import Journal
from totes.lake.manifest import IngestionManifest, OutputColumn, ProcessedManifest
from totes.lake.packets import LSN, SEQ, TURN_OF_LSN, PacketReader, joined
from totes.monitoring.origin import Origin, find_rows, matches, objects_with
from totes.monitoring.quarantine import QuarantinedRow, read_quarantine
from totes.monitoring.row_key import RowKey, find_row, source_of
from totes.monitoring.version_time import time_of_line
from totes.pipeline import Pipeline
from totes.processing.bound.relation import Relation, source_relation
from totes.scratch import temporary_folder
from totes.star.column import Column
from totes.star.model import HISTORY_COLUMNS, IS_DELETED, Model
from totes.warehouse.connection import schema_of

_TEXT_IS_EXACT = {"DATE", "TIMESTAMP", "TIMESTAMPTZ", "INTERVAL"}


class NoSuchRow(CommandFailed):
    """No version of a row was ever captured or loaded."""


@dataclass(frozen=True)
class Version:
    """One version: its values by column, the batch that added it, and the objects of both lakes that contain it.

    `time` is where its time comes from: `source column …`, `commit`, `read` or `after the previous version`. It is None if the
    lake does not show that, and for tables that have no time of a version.
    """

    batch: int
    values: dict[str, Any]
    objects: tuple[str, ...]
    time: str | None = None


def read_history(pipeline: Pipeline, table: str, key: list[str]) -> list[Version]:
    """All versions of a row, newest last.

    Args:
        pipeline: the pipeline.
        table: a warehouse table with versions (read from the warehouse), another warehouse table, or a source table
            (both read from the lake, which has every change).
        key: the row's key, one value per key column, or `column=value` each.

    Raises:
        ConfigurationError: there is no such table, or this cannot be a key of it.
        CommandFailed: nothing is captured, processed or loaded yet.
        NoSuchRow: there is no such row.
    """
    row = find_row(pipeline, table, key)
    processed = pipeline.processed_journal
    ingested = pipeline.ingestion_journal
    model = pipeline.project.model(table)
    if model is None:
        versions = _from_ingestion(pipeline, ingested, table, row)
    else:
        versions = (
            _from_warehouse(pipeline, model, row)
            if model.versioned
            else _from_processed(processed, row, model.name)
        )
        origin = Origin(pipeline, model, processed, ingested, dict(zip(row.columns, row.values, strict=True)))
        versions = [_with_origin(version, origin) for version in versions]
    if not versions:
        raise NoSuchRow(f"{table} has no row {', '.join(key)} and never had one")
    return versions


def read_quarantined_row(pipeline: Pipeline, table: str, key: list[str]) -> list[QuarantinedRow]:
    """What is in quarantine of one row, of a warehouse table, or of all tables that begin with a source table.

    Args and errors are those of `read_history`.
    """
    row = find_row(pipeline, table, key)
    newest = pipeline.processed_journal.newest()
    captured = pipeline.ingestion_journal.newest()
    if newest is None or captured is None or not row.source_values:
        return []
    tables = [
        model.name
        for model in pipeline.project.models
        if (found := newest.models.get(model.name)) and found.quarantine_open
        if table == model.name or table == source_of(pipeline, model, captured)
    ]
    return read_quarantine(pipeline, tuple(tables), key=row.source_values).rows if tables else []


def _with_origin(version: Version, origin: Origin) -> Version:
    """A version with its objects, and where its time comes from; called in the order of versions."""
    objects = origin.objects(version.batch)
    return replace(
        version, objects=objects, time=origin.time(version.batch, version.values.get("valid_from"))
    )


def _from_warehouse(pipeline: Pipeline, model: Model, row: RowKey) -> list[Version]:
    schema = schema_of(pipeline.settings.warehouse_url(), pipeline.settings.warehouse.schema_)
    # An untyped literal has the column's type, so that the index on the key can be used.
    condition = " AND ".join(
        f"{engine.name(column)} = {engine.text(value)}"
        for column, value in zip(row.columns, row.values, strict=True)
    )
    with pipeline.warehouse(read_only=True) as warehouse:
        if warehouse.newest() is None:
            raise CommandFailed("the warehouse is empty", hint="Run `totes load` first")
        names, rows = warehouse.query(
            f"SELECT {_exactly(model.columns)}, {', '.join(HISTORY_COLUMNS)} FROM {engine.name(schema, model.name)}"
            f" WHERE {condition} ORDER BY valid_from"
        )
    return [_version(names, row) for row in rows]


def _exactly(columns: Iterable[Column | OutputColumn]) -> str:
    """SQL for the columns, as text for types whose values a driver would alter: infinities, years BC, an interval's months."""
    return ", ".join(
        f"{engine.name(c.name)}::VARCHAR AS {engine.name(c.name)}"
        if c.type in _TEXT_IS_EXACT
        else engine.name(c.name)
        for c in columns
    )


def _version(names: list[str], row: tuple[Any, ...]) -> Version:
    values = dict(zip(names, row, strict=True))
    return Version(int(values.pop("batch_id")), values, ())


def _from_processed(journal: Journal[ProcessedManifest], row: RowKey, name: str) -> list[Version]:
    """All states of a row of a latest table, each with the columns that the table had then."""
    wanted = matches(row.columns, row.values)
    changed = [
        (manifest.batch, manifest.models[name])
        for manifest in reversed(list(journal.newest_first(journal.last(), [name], skip=True)))
        if set(row.columns) <= {column.name for column in manifest.models[name].columns}
    ]
    holding: set[str] = set()
    with closing(engine.connect(None, memory="1GB", reads=journal.store.folders)) as connection:

        def has(files: Sequence[Path]) -> bool:
            rows = f"SELECT count(*) FROM {engine.parquet(files, alike=False)} WHERE {wanted}"
            return bool(engine.scalar(connection, rows))

        for kind in ("objects", "removed"):
            listed = [entry for _, changes in changed for entry in getattr(changes, kind)]
            holding |= objects_with(journal.store, listed, has)
    versions: list[Version] = []
    for batch, changes in changed:
        produced = [
            column for column in changes.columns if column.name != IS_DELETED or not changes.soft_deletes
        ]
        written = f"{_exactly(produced)}, {IS_DELETED if changes.soft_deletes else f'false AS {IS_DELETED}'}"
        for objects, select in ((changes.objects, written), (changes.removed, f"*, true AS {IS_DELETED}")):
            with_it = tuple(entry for entry in objects if entry.path in holding)
            for values in find_rows(journal.store, with_it, wanted, select):
                if changes.since != batch or not versions or versions[-1].values != values:
                    versions.append(Version(batch, values, ()))
    return versions


def _from_ingestion(
    pipeline: Pipeline, journal: Journal[IngestionManifest], table: str, row: RowKey
) -> list[Version]:
    versions: list[Version] = []
    wanted, changed_at = matches(row.columns, row.values), pipeline.settings.source.changed_at
    changed = reversed(list(journal.newest_first(journal.last(), [table], skip=True)))
    with closing(engine.connect(None, memory="1GB", reads=journal.store.folders)) as connection:
        reader = PacketReader(connection)

        def chosen(rows: str) -> tuple[list[str], list[tuple[Any, ...]]]:
            places = f"coalesce({TURN_OF_LSN}, 0), coalesce({SEQ}, 0)"
            result = connection.execute(f"SELECT {places}, * FROM ({rows}) WHERE {wanted}")
            return [column[0] for column in result.description or []], result.fetchall()

        def count(rows: str) -> int:
            return int(engine.scalar(connection, f"SELECT count(*) FROM ({rows}) WHERE {wanted}"))

        alike = groupby(changed, lambda one: (source_relation(table, one.tables[table]), one.compression))
        for (relation, compression), group in alike:
            manifests = list(group)

            def has(files: Sequence[Path], relation: Relation = relation, kind: str = compression) -> bool:
                with temporary_folder() as folder:
                    return bool(reader.read(relation, joined(files, folder), kind, count))

            listed = [entry for manifest in manifests for entry in manifest.tables[table].objects]
            holding = objects_with(journal.store, listed, has)
            for manifest in manifests:
                found = []
                for entry in (one for one in manifest.tables[table].objects if one.path in holding):
                    with journal.store.local([entry]) as files:
                        names, rows = reader.read(relation, files, compression, chosen)
                    for *place, values in (
                        (turn, seq, dict(zip(names[2:], each, strict=True))) for turn, seq, *each in rows
                    ):
                        lsn, seq = (values.pop(name.strip('"')) for name in (LSN, SEQ))
                        if manifest.position.log_lsn is not None:
                            values |= {"_lsn": lsn, "_seq": seq}
                        time = time_of_line(manifest, table, values["_at"], changed_at)
                        places = (journal.store.location(entry.path),)
                        found.append((place, Version(manifest.batch, values, places, time)))
                # Upserts and deletes are in objects of their own.
                versions += [version for _, version in sorted(found, key=lambda each: each[0])]
    return versions
