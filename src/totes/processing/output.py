"""Writes what a batch changed in warehouse tables as Parquet objects of the processed lake."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from totes import engine
from totes.errors import EngineFault
from totes.lake.document import StoredObject
from totes.lake.layout import new_object_path
from totes.lake.manifest import ModelChanges
from totes.lake.store import Store
from totes.processing.bound.query import BoundQuery
from totes.processing.quarantine import QuarantineChanges
from totes.processing.state import BEGINS, DELETED
from totes.processing.summing import SummedQuarantine, SummedRows
from totes.processing.transform import Transformation
from totes.scratch import temporary_folder
from totes.star.column import Column
from totes.star.model import IS_DELETED, Model

STATE_FOLDER, REMOVED_FOLDER, QUARANTINE_FOLDER, KEYS_FOLDER = "state", "removed", "quarantine", "keys"
GROUP_ROWS, PART_GROUPS_MAX = 122_880, 8
# Version 2 keeps a number as its difference from the one before: half the bytes, and less work at either end. Numbers of 32
# bits whose differences need more are read by DuckDB alone, and not by Arrow: files with such are written in version 1.
_FORMAT = "FORMAT parquet, COMPRESSION zstd, RETURN_STATS"
_VERSIONS = ("v2", "v1")
_APART_MAX = 1 << 31
# Parquet's own intervals count milliseconds; as text they keep PostgreSQL's microseconds.
_AS_TEXT = {"INTERVAL"}


class RowWriter:
    """Writes the objects of one batch."""

    def __init__(self, connection: engine.Engine, store: Store, batch: int, read_at: datetime) -> None:
        self._engine = connection
        self._store = store
        self._batch = batch
        self._read_at = read_at

    def write(
        self,
        part: Transformation | SummedRows,
        quarantine: QuarantineChanges | SummedQuarantine,
        before: ModelChanges,
    ) -> ModelChanges:
        """Writes what the batch changed in a table, whose entry without changes is `before`.

        The result has what entered and left quarantine, but not what is in it.
        """
        model, merged = part.model, part.merged
        key = engine.names(part.query.key)
        # Numbered in this way, rows are sorted, encoded and compressed by all threads.
        number = f"{before.surrogates} + row_number() OVER (ORDER BY {key}, {BEGINS})"
        chosen = columns_of(model, number, f"{self._batch}::BIGINT", part.ends)
        objects = self._write(
            f"SELECT {chosen} FROM {merged} WHERE {part.written}",
            part.count.written,
            model.name,
            table=before,
        )
        removed: tuple[StoredObject, ...] = ()
        if not model.retains_deleted:
            deleted = f"SELECT {key} FROM {merged} WHERE {DELETED}"
            keys = tuple(column for column in before.columns if column.name in before.key)
            keyed = before.model_copy(update={"columns": keys})
            removed = self._write(deleted, part.count.deleted, REMOVED_FOLDER, model.name, table=keyed)
        return before.model_copy(
            update={
                "written": part.count.written,
                "objects": objects,
                "removed": removed,
                "state": self._write_state(part.query, part.merged_rows, part.count.merged),
                "deleted": part.count.deleted,
                "quarantine": self._write(
                    f"SELECT * FROM {quarantine.table}", quarantine.rows, QUARANTINE_FOLDER, model.name
                ),
                "quarantined": quarantine.added,
                "surrogates": before.surrogates + (part.count.written if model.versioned else 0),
                "released": quarantine.released,
            }
        )

    def move(self, written: ModelChanges, model: str, by: int) -> ModelChanges:
        """Writes the objects of an entry again, with surrogates that are higher by a number (or lower)."""
        number = engine.name(str(written.surrogate))
        kind = next(column.type for column in written.columns if column.name == written.surrogate)
        with self._store.local(list(written.objects)) as files:
            rows = f"SELECT * REPLACE (CAST({number} + ({by}) AS {kind}) AS {number}) FROM {engine.parquet(files)}"
            objects = self._write(f"{rows} ORDER BY {number}", written.written, model, table=written)
        return written.model_copy(update={"objects": objects, "surrogates": written.surrogates + by})

    def write_keys(self, keys: str, count: int, model: str) -> StoredObject:
        """Writes keys, which are `count`, for whoever computes the batch's rows of a table; no manifest names them."""
        [stored] = self._write(keys, count, KEYS_FOLDER, model)
        return stored

    def _write_state(self, query: BoundQuery, rows: str, count: int) -> tuple[StoredObject, ...]:
        """Writes the newest rows with the keys of all rows that they came from, where a lost cache needs these."""
        if not query.keeps_lineage:
            return ()
        stored = [_stored(c) for c in query.model.produced if c.type in _AS_TEXT]
        replaced = f" REPLACE ({', '.join(stored)})" if stored else ""
        return self._write(f"SELECT *{replaced} FROM {rows}", count, STATE_FOLDER, query.model.name)

    def _write(
        self, rows: str, count: int, *folders: str, table: ModelChanges | None = None
    ) -> tuple[StoredObject, ...]:
        """Stores a query's rows, which are `count`, in as many objects as it takes.

        Those of a warehouse table can be read by any engine: its columns have their field ids.
        """
        if not count:
            return ()
        objects = []
        with temporary_folder() as scratch:
            parts = f"ROW_GROUP_SIZE {GROUP_ROWS}, ROW_GROUPS_PER_FILE {PART_GROUPS_MAX}"
            ids = _ids(table) if table else ""
            for version in _VERSIONS:
                target = engine.text(f"{scratch}/{version}")
                options = f"{_FORMAT}, PARQUET_VERSION {version}, {parts}{ids}"
                written = self._engine.execute(f"COPY ({rows}) TO {target} ({options})").fetchall()
                if not table or not any(_is_far_apart(table, statistics) for *_, statistics, _, _ in written):
                    break
            files = sorted((len(file), file, rows_here) for file, rows_here, *_ in written)
            total = sum(rows_here for *_, rows_here in files)
            if total != count:
                raise EngineFault(f"the engine wrote {total} rows where there were {count}")
            for part, (_, file, rows_here) in enumerate(files, start=1):
                path = new_object_path(
                    *folders, batch=self._batch, part=part, read_at=self._read_at, ending="parquet"
                )
                objects.append(self._store.put_file(path, Path(file), rows_here))
        return tuple(objects)


def columns_of(model: Model, number: str, batch: str, ends: str = "NULL::TIMESTAMP") -> str:
    """The columns of a warehouse table out of produced ones, `~begins` and `~gone`.

    Args:
        model: the table's model.
        number: SQL of a version's surrogate.
        batch: SQL of the batch that a version came with.
        ends: SQL of when a version ends, as far as its batch shows.
    """
    columns = [
        f"CAST({number} AS {column.type}) AS {engine.name(column.name)}"
        if column.name == model.surrogate
        else _stored(column)
        for column in model.columns
    ]
    if model.versioned:
        columns += [f"{BEGINS} AS valid_from", f"{ends} AS valid_to"]
    if model.retains_deleted:
        columns.append(f"{DELETED} AS {IS_DELETED}")
    if model.versioned:
        columns.append(f"{batch} AS batch_id")
    return ", ".join(columns)


def _ids(entry: ModelChanges) -> str:
    """The option of COPY that gives a table's columns their field ids."""
    return f", FIELD_IDS {{{', '.join(f'{engine.text(c.name)}: {c.field_id}' for c in entry.columns)}}}"


def _is_far_apart(table: ModelChanges, statistics: dict[str, dict[str, str]]) -> bool:
    """Whether differences of a column's numbers may need more than 32 bits, as those of two infinite dates do."""
    whole = {engine.name(column.name) for column in table.columns if column.type == "INTEGER"}
    return any(
        int(found["max"]) - int(found["min"]) >= _APART_MAX
        if column in whole
        else (found["max"], found["min"]) == ("infinity", "-infinity")
        for column, found in statistics.items()
        if "max" in found
    )


def _stored(column: Column) -> str:
    quoted = engine.name(column.name)
    return f"{quoted}::VARCHAR AS {quoted}" if column.type in _AS_TEXT else quoted
