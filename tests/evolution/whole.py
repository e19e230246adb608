"""The star as its processed lake says it is: every row of every table, whatever batch it stands in."""

from __future__ import annotations

from typing import Any

from totes import engine
from totes.lake.journal import processed_journal
from totes.lake.manifest import ModelChanges
from totes.pipeline import Pipeline

Rows = list[tuple[Any, ...]]


def star_in_lake(pipeline: Pipeline, *, surrogates: bool = False) -> dict[str, Rows]:
    """All versions of versioned tables, all rows of the others; without what numbers them, unless that is asked for.

    Of a latest table a later row replaces an earlier one of its key, and removed keys go.
    """
    journal = processed_journal(pipeline.processed_store)
    newest = journal.newest()
    found: dict[str, Rows] = {}
    for name, last in (newest.models if newest else {}).items():
        connection = engine.connect(None, memory="1GB", reads=pipeline.lake_folders)
        entries = [
            (batch, entry)
            for batch in range(max(last.since, 1), journal.last() + 1)
            if (entry := journal.read(batch).models.get(name))
        ]
        found[name] = sorted(_rows(pipeline, connection, last, entries, surrogates=surrogates), key=str)
        connection.close()
    return found


def _rows(
    pipeline: Pipeline,
    connection: engine.Engine,
    last: ModelChanges,
    entries: list[tuple[int, ModelChanges]],
    *,
    surrogates: bool,
) -> Rows:
    columns = [c.name for c in last.columns if surrogates or c.name != last.surrogate]
    if last.kind == "versioned":
        columns.remove("valid_to")
    chosen, keys = engine.names(columns), engine.names(last.key)
    state: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    versions: Rows = []
    for _, entry in entries:
        for objects, gone in ((entry.removed, True), (entry.objects, False)):
            if not objects:
                continue
            with pipeline.processed_store.local(list(objects)) as files:
                sql = f"FROM {engine.parquet(files)}"
                rows = connection.execute(f"SELECT {keys if gone else chosen} {sql}").fetchall()
                marks = connection.execute(f"SELECT {keys} {sql}").fetchall()
            for key, row in zip(marks, rows, strict=True):
                if gone:
                    state.pop(key)
                else:
                    state[key] = row
                    versions.append(row)
    return versions if last.kind == "versioned" else list(state.values())


def quarantine_in_lake(pipeline: Pipeline) -> dict[str, list[str]]:
    """Which source rows of which table are in quarantine, and for what."""
    newest = processed_journal(pipeline.processed_store).newest()
    assert newest
    return {
        name: sorted(f"{kind.column}: {kind.kind} ({kind.rows})" for kind in entry.quarantine_kinds)
        for name, entry in newest.models.items()
        if entry.quarantine_open
    }
