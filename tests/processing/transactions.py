"""Batches of a lake taken together as batches from the log have them: each of the old ones is a transaction of a new one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from totes.lake.document import StoredObject
from totes.lake.journal import ingestion_journal
from totes.lake.layout import new_object_path
from totes.lake.manifest import IngestionManifest, TableChanges
from totes.lake.store import Store


def take_together(source: Store, target: Store, ends: Sequence[int], scratch: Path) -> None:
    """Writes the lake: the first batch as it was, then one for the transactions up to each of `ends`, by their old numbers.

    Batches that it has already are left as they are.
    """
    old, new = ingestion_journal(source), ingestion_journal(target)
    begin = 1
    for number, end in enumerate([1, *ends], start=1):
        if number <= new.last():
            begin = end + 1
            continue
        manifests = [old.read(batch) for batch in range(begin, end + 1)]
        previous = new.read(number - 1) if number > 1 else None
        last = manifests[-1]
        from_log = number > 1
        tables = {}
        for name, entry in last.tables.items():
            lines = [
                line
                for manifest in manifests
                if name in manifest.tables
                for line in _lines(source, manifest, name, from_log)
            ]
            objects = _written(target, name, number, last.position.read_at, lines, scratch)
            tables[name] = entry.model_copy(
                update={
                    "upserts": sum(line["_op"] == "upsert" for line in lines),
                    "deletes": sum(line["_op"] == "delete" for line in lines),
                    "objects": objects,
                    "marks": (),
                    "changed_at": "last_updated" if from_log and _has_time(entry) else None,
                }
            )
        position = last.position.model_copy(update={"log_lsn": f"0/{end:X}" if from_log else None})
        new.commit(
            IngestionManifest(
                batch=number,
                previous_sha256=previous.sha256() if previous else None,
                started_at=last.started_at,
                finished_at=last.finished_at,
                schema_name=last.schema_name,
                compression="none",
                position=position,
                tables=tables,
            )
        )
        begin = end + 1


def _has_time(entry: TableChanges) -> bool:
    return any(column.name == "last_updated" for column in entry.columns)


def _lines(store: Store, manifest: IngestionManifest, table: str, from_log: bool) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    with store.local(list(manifest.tables[table].objects)) as files:
        for file in files:
            found += [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    if from_log:
        committed = manifest.position.read_at.isoformat(timespec="microseconds")
        found = [
            line | {"_at": committed, "_lsn": f"0/{manifest.batch:X}", "_seq": number}
            for number, line in enumerate(found)
        ]
    return found


def _written(
    store: Store, table: str, batch: int, read_at: datetime, lines: list[dict[str, Any]], scratch: Path
) -> tuple[StoredObject, ...]:
    if not lines:
        return ()
    file = scratch / "part"
    file.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines), "utf-8")
    path = new_object_path(table, batch=batch, part=1, read_at=read_at, ending="jsonl")
    return (store.put_file(path, file, len(lines)),)
