"""The history of one row: every version, with the lake objects that it came from."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from totes import engine
from totes.errors import CommandFailed, ConfigurationError
from totes.lake.journal import Journal, ingestion_journal, processed_journal
from totes.lake.manifest import IngestionManifest, OutputColumn, ProcessedManifest
from totes.lake.packets import TURN_OF_LSN, PacketReader
from totes.monitoring.origin import Origin, find_rows, matches
from totes.pipeline import Pipeline
from totes.processing.bound.relation import source_relation
from totes.star.column import Column
from totes.star.model import HISTORY_COLUMNS, IS_DELETED, Model
from totes.warehouse.connection import schema_of

_TEXT_IS_EXACT = {"DATE", "TIMESTAMP", "TIMESTAMPTZ", "INTERVAL"}


@dataclass(frozen=True)
class Version:
    """One version: its values by column, the batch that added it, and the objects of both lakes that contain it."""

    batch: int
    values: dict[str, Any]
    objects: tuple[str, ...]


def read_history(pipeline: Pipeline, table: str, key: list[str]) -> list[Version]:
    """All versions of a row, newest last.

    Args:
        pipeline: the pipeline.
        table: a warehouse table with versions (read from the warehouse), another warehouse table, or a source table
            (both read from the lake, which has every change).
        key: the row's key, one value per key column.

    Raises:
        ConfigurationError: there is no such table, or its key has another number of columns.
        CommandFailed: there is no such row.
    """
    model = pipeline.project.model(table)
    processed = processed_journal(pipeline.processed_store)
    ingested = ingestion_journal(pipeline.ingestion_store)
    newest = ingested.newest()
    if model is None and (newest is None or table not in newest.tables):
        names = [m.name for m in pipeline.project.models] + list(newest.tables if newest else ())
        near = difflib.get_close_matches(table, names, n=1)
        raise ConfigurationError(
            f"there is no table {table}",
            hint=f"Did you mean {near[0]}?" if near else f"The tables are {', '.join(names)}",
        )
    if newest is None or (model is not None and not processed.last()):
        raise CommandFailed("nothing has been captured and processed yet", hint="Run `totes run` first")
    if model is None:
        versions = _from_ingestion(ingested, newest, table, key)
    else:
        columns = processed.read(processed.last()).models[model.name].key
        _check_key(table, columns, key)
        versions = (
            _from_warehouse(pipeline, model, columns, key)
            if model.versioned
            else _from_processed(processed, columns, model.name, key)
        )
        origin = Origin(pipeline, model, processed, ingested, dict(zip(columns, key, strict=True)))
        versions = [replace(version, objects=origin.objects(version.batch)) for version in versions]
    if not versions:
        raise CommandFailed(f"{table} has no row {', '.join(key)} and never had one")
    return versions


def _check_key(table: str, columns: tuple[str, ...], key: list[str]) -> None:
    if len(columns) != len(key):
        raise ConfigurationError(
            f"a row of {table} is identified by {', '.join(columns)}; {len(key)} values were given",
            hint=f"totes history {table} {' '.join(column.upper() for column in columns)}",
        )


def _from_warehouse(
    pipeline: Pipeline, model: Model, columns: tuple[str, ...], key: list[str]
) -> list[Version]:
    schema = schema_of(pipeline.settings.warehouse_url(), pipeline.settings.warehouse.schema_)
    # An untyped literal has the column's type, so that the index on the key can be used.
    condition = " AND ".join(
        f"{engine.name(column)} = {engine.text(value)}" for column, value in zip(columns, key, strict=True)
    )
    with pipeline.warehouse(read_only=True) as warehouse:
        if warehouse.newest() is None:
            raise CommandFailed("the warehouse is empty", hint="Run `totes load` first")
        if not _may_be_keys(model, columns, key):
            return []
        names, rows = warehouse.query(
            f"SELECT {_exactly(model.columns)}, {', '.join(HISTORY_COLUMNS)} FROM {engine.name(schema, model.name)}"
            f" WHERE {condition} ORDER BY valid_from"
        )
    return [_version(names, row) for row in rows]


def _may_be_keys(model: Model, columns: tuple[str, ...], key: list[str]) -> bool:
    """Whether the values can be of the key's types; otherwise a warehouse would raise an error."""
    types = {column.name: column.type for column in model.columns}
    casts = [
        f"TRY_CAST({engine.text(value)} AS {types[c]}) IS NOT NULL"
        for c, value in zip(columns, key, strict=True)
    ]
    return bool(engine.scalar(engine.connect(None, memory="1GB"), f"SELECT {' AND '.join(casts)}"))


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


def _from_processed(
    journal: Journal[ProcessedManifest], columns: tuple[str, ...], name: str, key: list[str]
) -> list[Version]:
    """All states of a row of a latest table, each with the columns that the table had then."""
    versions: list[Version] = []
    for batch in range(1, journal.last() + 1):
        changes = journal.read(batch).models.get(name)
        if changes is None or not set(columns) <= {column.name for column in changes.columns}:
            continue
        produced = [
            column for column in changes.columns if column.name != IS_DELETED or not changes.soft_deletes
        ]
        written = f"{_exactly(produced)}, {IS_DELETED if changes.soft_deletes else f'false AS {IS_DELETED}'}"
        for objects, select in ((changes.objects, written), (changes.removed, f"*, true AS {IS_DELETED}")):
            for values in find_rows(journal.store, objects, matches(columns, key), select):
                if changes.since != batch or not versions or versions[-1].values != values:
                    versions.append(Version(batch, values, ()))
    return versions


def _from_ingestion(
    journal: Journal[IngestionManifest], newest: IngestionManifest, table: str, key: list[str]
) -> list[Version]:
    _check_key(table, newest.tables[table].key, key)
    versions, connection = [], engine.connect(None, memory="1GB", reads=journal.store.folders)
    wanted = matches(newest.tables[table].key, key)

    def chosen(rows: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        result = connection.execute(f"SELECT * FROM ({rows}) WHERE {wanted} ORDER BY {TURN_OF_LSN}, _seq")
        return [column[0] for column in result.description or []], result.fetchall()

    for batch in range(1, journal.last() + 1):
        manifest = journal.read(batch)
        changes = manifest.tables.get(table)
        for entry in changes.objects if changes else ():
            assert changes is not None
            relation = source_relation(table, changes)
            with journal.store.local([entry]) as files:
                names, rows = PacketReader(connection).read(relation, files, manifest.compression, chosen)
            for row in rows:
                values = dict(zip(names, row, strict=True))
                if manifest.position.log_lsn is None:
                    del values["_lsn"], values["_seq"]
                versions.append(Version(batch, values, (journal.store.location(entry.path),)))
    return versions
