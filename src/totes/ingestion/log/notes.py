"""Notes in the lake: how far a slot was advanced though no batch followed, since the log had nothing that is captured.

A note is written before the slot is advanced. A slot that is further than the newest batch and all notes was advanced by
somebody else, and changes may be missing.
"""

from __future__ import annotations

import json
from contextlib import suppress

from totes.ingestion.identity import lsn_number
from totes.lake.store import ObjectExists, Store

# Notes are rare: a slot may keep so much of the log without need.
_BYTES_MIN = 16 << 20


def is_due(since: str, until: str) -> bool:
    """Whether a slot should be advanced between two positions although nothing was captured."""
    return lsn_number(until) - lsn_number(since) >= _BYTES_MIN


def write_note(store: Store, slot: str, batch: int, lsn: str) -> None:
    """Notes that everything up to a position is captured with a batch, which is the newest."""
    path = _path(slot, lsn_number(lsn))
    content = json.dumps({"batch": batch, "lsn": lsn}).encode()
    with suppress(ObjectExists):
        store.put_new(path, content)
    store.settle([path])


def newest_note(store: Store, slot: str, batch: int, since: str) -> str | None:
    """The last position that was noted after a batch, if any was at `since` or later."""
    for path in sorted(store.list(_folder(slot), _path(slot, lsn_number(since) - 1)), reverse=True):
        note = json.loads(store.read(path) or b"{}")
        if note.get("batch") == batch:
            return str(note["lsn"])
    return None


def _path(slot: str, position: int) -> str:
    return f"{_folder(slot)}{position:016x}.json"


def _folder(slot: str) -> str:
    return f"log/{slot}/"
