"""Writes what a batch changed in one warehouse table as Parquet objects of the processed lake."""

from __future__ import annotations

import tempfile
from datetime import datetime
from pathlib import Path

from totes import engine
from totes.errors import EngineFault
from totes.lake.layout import new_object_path
from totes.lake.manifest import StoredObject
from totes.lake.store import Store
from totes.processing.quarantine import QuarantineChanges
from totes.processing.state import BEGINS, GONE
from totes.processing.transform import CHANGED, Transformation

STATE_FOLDER, REMOVED_FOLDER, QUARANTINE_FOLDER = "state", "removed", "quarantine"
GROUP_ROWS, PART_GROUPS_MAX = 122_880, 8
# Version 2 keeps a number as its difference from the one before: half the bytes, and less work at either end.
_FORMAT = "FORMAT parquet, PARQUET_VERSION v2, COMPRESSION zstd, RETURN_STATS"
# Parquet's own intervals count milliseconds; as text they keep PostgreSQL's microseconds.
_AS_TEXT = {"INTERVAL"}


class RowWriter:
    """Writes the objects of one batch."""

    def __init__(self, connection: engine.Engine, store: Store, batch: int, read_at: datetime) -> None:
        self._engine = connection
        self._store = store
        self._batch = batch
        self._read_at = read_at

    def write_rows(self, part: Transformation, surrogates: int) -> tuple[StoredObject, ...]:
        """Writes rows of the warehouse table that are new or have changed, deleted versions included.

        Args:
            part: the merged transformation.
            surrogates: how many surrogate keys were given out before; the rows get the next ones, in key order.
        """
        model = part.model
        if model.versioned:
            assert model.surrogate is not None
            # Numbered in this way, rows are sorted, encoded and compressed by all threads.
            key = engine.names(part.query.key)
            columns = [
                f"CAST({surrogates} + row_number() OVER (ORDER BY {key}) AS {c.type}) AS {engine.name(c.name)}"
                if c.name == model.surrogate
                else _stored(c.name, c.type)
                for c in model.columns
            ]
            columns += [
                f"{BEGINS} AS valid_from",
                "NULL::TIMESTAMP AS valid_to",
                f"{GONE} AS is_deleted",
                f"{self._batch}::BIGINT AS batch_id",
            ]
            rows = f'SELECT {", ".join(columns)} FROM {part.merged} WHERE "{CHANGED}"'
        else:
            columns = [_stored(c.name, c.type) for c in model.produced]
            rows = f'SELECT {", ".join(columns)} FROM {part.merged} WHERE "{CHANGED}" AND NOT {GONE}'
        return self._write(rows, part.count.written, model.name)

    def write_removed(self, part: Transformation) -> tuple[StoredObject, ...]:
        """Writes the keys of rows that left a latest table."""
        if part.model.versioned:
            return ()
        rows = f"SELECT {engine.names(part.query.key)} FROM {part.merged} WHERE {GONE}"
        return self._write(rows, part.count.gone, REMOVED_FOLDER, part.model.name)

    def write_state(self, part: Transformation) -> tuple[StoredObject, ...]:
        """Writes the recomputed rows with the keys of all rows that they came from, where a lost cache needs these."""
        if not part.query.keeps_lineage:
            return ()
        stored = [_stored(c.name, c.type) for c in part.model.produced if c.type in _AS_TEXT]
        replaced = f" REPLACE ({', '.join(stored)})" if stored else ""
        rows = f'SELECT * EXCLUDE ("{CHANGED}"){replaced} FROM {part.merged}'
        return self._write(rows, part.count.merged, STATE_FOLDER, part.model.name)

    def write_quarantine(self, model: str, changes: QuarantineChanges) -> tuple[StoredObject, ...]:
        """Writes what went into quarantine, and, without a reason, what left it."""
        return self._write(f"SELECT * FROM {changes.table}", changes.rows, QUARANTINE_FOLDER, model)

    def _write(self, rows: str, count: int, *folders: str) -> tuple[StoredObject, ...]:
        """Stores a query's rows, which are `count`, in as many objects as it takes."""
        if not count:
            return ()
        objects = []
        with tempfile.TemporaryDirectory(prefix="totes-") as scratch:
            target = engine.text(f"{scratch}/parts")
            parts = f"ROW_GROUP_SIZE {GROUP_ROWS}, ROW_GROUPS_PER_FILE {PART_GROUPS_MAX}"
            written = self._engine.execute(f"COPY ({rows}) TO {target} ({_FORMAT}, {parts})").fetchall()
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


def _stored(name: str, kind: str) -> str:
    quoted = engine.name(name)
    return f"{quoted}::VARCHAR AS {quoted}" if kind in _AS_TEXT else quoted
