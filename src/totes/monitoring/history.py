"""Every version of one row, with the lake objects that each came from."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

from totes import engine
from totes.errors import CommandFailed, ConfigurationError, ModelFailed
from totes.lake.journal import Journal, ingestion_journal, processed_journal
from totes.lake.manifest import IngestionManifest, ProcessedManifest, StoredObject
from totes.lake.store import Store
from totes.pipeline import Pipeline
from totes.processing.binding import bind_models, relations_at
from totes.processing.packets import read_packets
from totes.processing.relation import Relation, source_relation
from totes.star.model import HISTORY_COLUMNS, Model
from totes.warehouse.connection import schema_of

_TEXT_IS_EXACT = {"DATE", "TIMESTAMP", "TIMESTAMPTZ", "INTERVAL"}


@dataclass(frozen=True)
class Version:
    """One version: its values by column, the batch that brought it, and the objects in both lakes that hold it."""

    batch: int
    values: dict[str, Any]
    objects: tuple[str, ...]


def read_history(pipeline: Pipeline, table: str, key: list[str]) -> list[Version]:
    """All versions of a row, newest last.

    Args:
        pipeline: the pipeline.
        table: a warehouse table that keeps versions (read from the warehouse), another warehouse table, or a source
            table (both read from the lake, which has every change of them).
        key: the row's key, one value a key column.

    Raises:
        ConfigurationError: there is no such table, or the key has another number of columns.
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
            hint=f"Did you mean {near[0]}?" if near else f"There are {', '.join(names)}",
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
            else _from_processed(processed, model, columns, key)
        )
        versions = [
            _with_objects(pipeline, version, model, processed, ingested, columns, key) for version in versions
        ]
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
    # An untyped literal takes the column's type, so that the index on the key serves.
    condition = " AND ".join(
        f"{engine.name(column)} = {engine.text(value)}" for column, value in zip(columns, key, strict=True)
    )
    with pipeline.warehouse() as warehouse:
        if warehouse.newest() is None:
            raise CommandFailed("the warehouse is empty", hint="Run `totes load` first")
        if not _may_be_keys(model, columns, key):
            return []
        names, rows = warehouse.query(
            f"SELECT {_exactly(model)}, {', '.join(HISTORY_COLUMNS)} FROM {engine.name(schema, model.name)}"
            f" WHERE {condition} ORDER BY valid_from"
        )
    return [_version(names, row) for row in rows]


def _may_be_keys(model: Model, columns: tuple[str, ...], key: list[str]) -> bool:
    """Whether the values are of the key's types: a warehouse would make an error of one that is not."""
    types = {column.name: column.type for column in model.columns}
    casts = [
        f"TRY_CAST({engine.text(value)} AS {types[c]}) IS NOT NULL"
        for c, value in zip(columns, key, strict=True)
    ]
    return bool(engine.scalar(engine.connect(None, memory="1GB"), f"SELECT {' AND '.join(casts)}"))


def _exactly(model: Model) -> str:
    """The declared columns, those as text that a driver would bend: an infinity, a year BC, an interval's months."""
    return ", ".join(
        f"{engine.name(c.name)}::VARCHAR AS {engine.name(c.name)}"
        if c.type in _TEXT_IS_EXACT
        else engine.name(c.name)
        for c in model.columns
    )


def _version(names: list[str], row: tuple[Any, ...]) -> Version:
    values = dict(zip(names, row, strict=True))
    return Version(int(values.pop("batch_id")), values, ())


def _from_processed(
    journal: Journal[ProcessedManifest], model: Model, columns: tuple[str, ...], key: list[str]
) -> list[Version]:
    versions = []
    for batch in range(1, journal.last() + 1):
        changes = journal.read(batch).models.get(model.name)
        parts = ((changes.objects, _exactly(model), False), (changes.removed, "*", True)) if changes else ()
        for objects, select, gone in parts:
            for values in _find(journal.store, objects, columns, key, select):
                version = Version(batch, values | {"is_deleted": gone}, ())
                versions.append(version)
    return versions


def _from_ingestion(
    journal: Journal[IngestionManifest], newest: IngestionManifest, table: str, key: list[str]
) -> list[Version]:
    _check_key(table, newest.tables[table].key, key)
    versions, connection = [], engine.connect(None, memory="1GB")
    wanted = _matches(newest.tables[table].key, key)

    def chosen(rows: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        result = connection.execute(f"SELECT * FROM ({rows}) WHERE {wanted}")
        return [column[0] for column in result.description or []], result.fetchall()

    for batch in range(1, journal.last() + 1):
        manifest = journal.read(batch)
        changes = manifest.tables.get(table)
        for entry in changes.objects if changes else ():
            assert changes is not None
            relation = source_relation(table, changes)
            with journal.store.local([entry]) as files:
                names, rows = read_packets(connection, relation, files, manifest.compression, chosen)
                versions += [
                    Version(batch, dict(zip(names, row, strict=True)), (journal.store.location(entry.path),))
                    for row in rows
                ]
    return versions


def _with_objects(
    pipeline: Pipeline,
    version: Version,
    model: Model,
    processed: Journal[ProcessedManifest],
    ingested: Journal[IngestionManifest],
    columns: tuple[str, ...],
    key: list[str],
) -> Version:
    """Adds the objects: the Parquet part that holds the row, and the packets that it came from.

    Of the first table's packets these are the ones with the row's key; of joined tables, all of the batch.
    """
    changes = processed.read(version.batch).models[model.name]
    held = [
        processed.store.location(entry.path)
        for entry in (*changes.objects, *changes.removed)
        if len(changes.objects) + len(changes.removed) == 1 or _find(processed.store, (entry,), columns, key)
    ]
    read = {relation.lower() for relation in model.relations}
    manifest = ingested.read(version.batch)
    base, base_key = _first_table_key(pipeline, manifest, model, dict(zip(columns, key, strict=True)))
    packets = [
        ingested.store.location(entry.path)
        for name, table in manifest.tables.items()
        if name.lower() in read
        for entry in table.objects
        if base is None or name != base.name or _in_packet(ingested.store, entry, manifest, base, base_key)
    ]
    return Version(version.batch, version.values, (*packets, *held))


def _first_table_key(
    pipeline: Pipeline, manifest: IngestionManifest, model: Model, row: dict[str, str]
) -> tuple[Relation | None, list[str]]:
    """The model's first table, and the key of the row in it, as far as the row's own key tells these."""
    try:
        [query] = bind_models((model,), relations_at(pipeline.project, manifest))
    except ModelFailed:
        return None, []  # the model has been changed since then
    key = [row[carrier] for carrier in query.key_of_base() if carrier in row]
    base = query.base.relation
    return (base, key) if len(key) == len(base.key) > 0 else (None, [])


def _in_packet(
    store: Store, entry: StoredObject, manifest: IngestionManifest, relation: Relation, key: list[str]
) -> bool:
    with store.local([entry]) as files:
        connection, wanted = engine.connect(None, memory="1GB"), _matches(relation.key, key)
        return read_packets(
            connection,
            relation,
            files,
            manifest.compression,
            lambda rows: bool(engine.scalar(connection, f"SELECT count(*) FROM ({rows}) WHERE {wanted}")),
        )


def _find(
    store: Store,
    objects: tuple[StoredObject, ...],
    columns: tuple[str, ...],
    key: list[str],
    select: str = "*",
) -> list[dict[str, Any]]:
    if not objects:
        return []
    connection = engine.connect(None, memory="1GB")
    with store.local(list(objects)) as files:
        result = connection.execute(
            f"SELECT {select} FROM {engine.parquet(files)} WHERE {_matches(columns, key)}"
        )
        names = [column[0] for column in result.description or []]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def _matches(columns: tuple[str, ...], key: list[str]) -> str:
    return " AND ".join(
        f"CAST({engine.name(column)} AS VARCHAR) = {engine.text(value)}"
        for column, value in zip(columns, key, strict=True)
    )
