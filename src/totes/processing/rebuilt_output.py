"""Writes the whole history of a rebuilt warehouse table, as Parquet objects of the processed lake."""

from __future__ import annotations

from contextlib import ExitStack

from totes import engine
from totes.lake.manifest import ModelChanges
from totes.processing.bound.query import BoundQuery
from totes.processing.output import QUARANTINE_FOLDER, RowWriter, columns_of
from totes.processing.rebuild import Rebuild
from totes.processing.state import BEGINS, StarState


class HistoryWriter(RowWriter):
    """Writes the objects of one batch, for tables that begin with it."""

    def write_history(
        self,
        rebuild: Rebuild,
        model: str,
        entry: ModelChanges,
        previous: list[ModelChanges],
        state: StarState,
    ) -> ModelChanges:
        """Writes all rows that a rebuilt table has ever had; versions that were there keep their surrogates.

        Args:
            rebuild: the rebuild, which stands at this batch.
            model: the table.
            entry: the table's entry, without changes.
            previous: the entries since the table last began, oldest first.
            state: what is known of the table as it was.
        """
        query, given_out, rows = rebuild.query(model), entry.surrogates, rebuild.rows(model)
        count, fresh = rebuild.count(rows, model), 0
        with ExitStack() as opened:
            if query.model.versioned:
                known = self._known_versions(query, previous, opened)
                rows = f"(SELECT rows.*, known.surrogate FROM {rows} AS rows LEFT JOIN {known} AS known ON"
                rows += f" {engine.same('rows', 'known', (*query.key, BEGINS.strip(chr(34))))})"
                if count:
                    fresh = int(
                        engine.scalar(self._engine, f"SELECT count(*) - count(surrogate) FROM {rows}")
                    )
            order = f"PARTITION BY surrogate IS NULL ORDER BY batch_id, {engine.names(query.key)}"
            number = f"coalesce(surrogate, {given_out} + row_number() OVER ({order}))"
            chosen = f"{columns_of(query.model, number, 'batch_id')} FROM {rows}"
            objects = self._write(f"SELECT {chosen}", count, model, table=entry)
        newest = rebuild.newest(model)
        quarantined, kinds = rebuild.quarantined(model)
        quarantine = f"SELECT * FROM {rebuild.quarantine(model)}"
        added, released = rebuild.compare_quarantine(model, state)
        rows_quarantined = int(engine.scalar(self._engine, f"SELECT count(*) FROM ({quarantine})"))
        return entry.model_copy(
            update={
                "written": count,
                "objects": objects,
                "state": self._write_state(query, newest, rebuild.count(newest, model)),
                "quarantine": self._write(quarantine, rows_quarantined, QUARANTINE_FOLDER, model),
                "quarantined": added,
                "surrogates": given_out + fresh,
                "quarantine_open": quarantined,
                "quarantine_kinds": kinds,
                "released": released,
            }
        )

    def _known_versions(self, query: BoundQuery, previous: list[ModelChanges], opened: ExitStack) -> str:
        """A relation with the surrogates of versions that were there, by the columns of the key and the version's beginning."""
        types = {column.name: column.type for column in query.model.produced}
        parts = []
        for entry in previous:
            if not entry.objects or not entry.surrogate or len(entry.key) != len(query.key):
                continue
            files = opened.enter_context(self._store.local(list(entry.objects)))
            keys = ", ".join(
                f"TRY_CAST({engine.name(then)} AS {types[now]}) AS {engine.name(now)}"
                for then, now in zip(entry.key, query.key, strict=True)
            )
            parts.append(
                f"SELECT {keys}, valid_from AS {BEGINS}, {engine.name(entry.surrogate)} AS surrogate FROM {engine.parquet(files)}"
            )
        if not parts:
            keys = ", ".join(f"NULL::{types[name]} AS {engine.name(name)}" for name in query.key)
            parts = [f"SELECT {keys}, NULL::TIMESTAMP AS {BEGINS}, NULL::BIGINT AS surrogate WHERE false"]
        return f"({' UNION ALL '.join(parts)})"
