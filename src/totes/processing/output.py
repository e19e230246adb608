"""Writes what a batch changed in one warehouse table as Parquet objects of the processed lake."""

from __future__ import annotations

import tempfile
from datetime import datetime
from pathlib import Path

from totes import engine
from totes.lake.layout import new_object_path
from totes.lake.manifest import StoredObject
from totes.lake.store import Store
from totes.processing.state import BEGINS, GONE
from totes.processing.transform import CHANGED, Transformation

PART_ROWS_MAX = 1_000_000
STATE_FOLDER, REMOVED_FOLDER, QUARANTINE_FOLDER = "state", "removed", "quarantine"
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
            number = f"{surrogates} + row_number() OVER (ORDER BY {engine.names(part.query.key)})"
            columns = [
                f"CAST({number} AS {c.type}) AS {engine.name(c.name)}"
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
        return self._write(rows, model.name)

    def write_removed(self, part: Transformation) -> tuple[StoredObject, ...]:
        """Writes the keys of rows that left a latest table."""
        if part.model.versioned:
            return ()
        rows = f"SELECT {engine.names(part.query.key)} FROM {part.merged} WHERE {GONE}"
        return self._write(rows, REMOVED_FOLDER, part.model.name)

    def write_state(self, part: Transformation) -> tuple[StoredObject, ...]:
        """Writes the recomputed rows with the keys of all rows that they came from, where a lost cache needs these."""
        if not part.query.keeps_lineage:
            return ()
        stored = [_stored(c.name, c.type) for c in part.model.produced if c.type in _AS_TEXT]
        replaced = f" REPLACE ({', '.join(stored)})" if stored else ""
        rows = f'SELECT * EXCLUDE ("{CHANGED}"){replaced} FROM {part.merged}'
        return self._write(rows, STATE_FOLDER, part.model.name)

    def write_quarantine(self, part: Transformation) -> tuple[StoredObject, ...]:
        """Writes what went into quarantine, and, without a reason, what left it."""
        return self._write(f"SELECT * FROM {part.quarantine}", QUARANTINE_FOLDER, part.model.name)

    def _write(self, rows: str, *folders: str) -> tuple[StoredObject, ...]:
        # Not the engine's own row ids: a column that is called rowid would hide them.
        self._engine.execute(
            f'CREATE OR REPLACE TEMP TABLE output_rows AS SELECT *, row_number() OVER () AS "~row" FROM ({rows})'
        )
        count = int(engine.scalar(self._engine, "SELECT count(*) FROM output_rows"))
        objects = []
        for part, first in enumerate(range(0, count, PART_ROWS_MAX), start=1):
            path = new_object_path(
                *folders, batch=self._batch, part=part, read_at=self._read_at, ending="parquet"
            )
            with tempfile.TemporaryDirectory(prefix="totes-") as scratch:
                file = Path(scratch) / "part"
                rows_here = min(PART_ROWS_MAX, count - first)
                engine.copy_out(
                    self._engine,
                    f'COPY (SELECT * EXCLUDE ("~row") FROM output_rows'
                    f' WHERE "~row" BETWEEN {first + 1} AND {first + rows_here})'
                    f" TO {engine.text(str(file))} (FORMAT parquet, COMPRESSION zstd)",
                    rows_here,
                )
                objects.append(self._store.put_file(path, file, rows_here))
        self._engine.execute("DROP TABLE output_rows")
        return tuple(objects)


def _stored(name: str, kind: str) -> str:
    quoted = engine.name(name)
    return f"{quoted}::VARCHAR AS {quoted}" if kind in _AS_TEXT else quoted
