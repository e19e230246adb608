"""Where objects are in a store. All paths of the lake are built here and nowhere else."""

from __future__ import annotations

import re
from datetime import datetime
from uuid import uuid4

BATCH_DIGITS = 12
MANIFESTS = "batches"
CHECKPOINTS = "checkpoints"
HEALTH = "health"  # a pipeline's health, where its runners share no folder; not data
CHAPTERS = "chapters"
CHAPTER_BATCHES = 1000
PROBE = ".doctor/put-if-absent"  # not data; no table's folder begins with a dot
_UNSAFE = re.compile(r'[\x00-\x1f/\\%*?\[\]"<>|:#]|^\.')


def folder_name(table: str) -> str:
    """A table's name as one path segment; characters with a meaning in paths or globs are escaped."""
    return _UNSAFE.sub(lambda match: "".join(f"%{byte:02X}" for byte in match.group().encode()), table)


def manifest_path(batch: int) -> str:
    """`batches/000000000007.json`."""
    return f"{MANIFESTS}/{batch:0{BATCH_DIGITS}d}.json"


def manifest_batch(path: str) -> int | None:
    """The batch whose manifest is at `path`, or None if no manifest is."""
    match = re.fullmatch(rf"{MANIFESTS}/(\d{{{BATCH_DIGITS}}})\.json", path)
    return int(match.group(1)) if match else None


def health_path(number: int) -> str:
    """`health/000000000007.json`: the seventh record of a pipeline's health."""
    return f"{HEALTH}/{number:0{BATCH_DIGITS}d}.json"


def chapter_path(last: int) -> str:
    """`chapters/000000001000.json`: the chapter that ends with a batch. Packets of a table with this name are in date folders."""
    return f"{CHAPTERS}/{last:0{BATCH_DIGITS}d}.json"


def chapter_batch(path: str) -> int | None:
    """The last batch of the chapter at `path`, or None if none is."""
    match = re.fullmatch(rf"{CHAPTERS}/(\d{{{BATCH_DIGITS}}})\.json", path)
    return int(match.group(1)) if match else None


def bundle_path(path: str) -> str | None:
    """`chapters/000000001000/<folders>.zip`: the bundle that has an object of a batch, if any has; None of other objects."""
    match = re.fullmatch(rf"(.+)/date=[^/]+/(\d{{{BATCH_DIGITS}}})-[^/]+", path)
    if not match:
        return None
    last = -(-int(match.group(2)) // CHAPTER_BATCHES) * CHAPTER_BATCHES
    return f"{CHAPTERS}/{last:0{BATCH_DIGITS}d}/{match.group(1)}.zip"


def checkpoints_folder(stage: str) -> str:
    """Where a stage's checkpoints are. Packets of a table with this name do not mix with them: those are in date folders."""
    return f"{CHECKPOINTS}/{stage}"


def checkpoint_place(stage: str, batch: int) -> str:
    """`checkpoints/processing/000000000007-<random>`: the folder with the tables, and with `.json` added the document."""
    return f"{checkpoints_folder(stage)}/{batch:0{BATCH_DIGITS}d}-{uuid4().hex[:8]}"


def checkpoint_batch(path: str) -> int | None:
    """The batch of the checkpoint whose document is at `path`, or None if it is not such a document."""
    match = re.search(rf"/(\d{{{BATCH_DIGITS}}})(-[0-9a-f]{{8}})?\.json$", path)
    return int(match.group(1)) if match else None


def new_object_path(*folders: str, batch: int, part: int, read_at: datetime, ending: str) -> str:
    """A path that no other runner uses: `<folders>/date=YYYY-MM-DD/<batch>-<part>-<random>.<ending>`."""
    place = "/".join(folder_name(folder) for folder in folders)
    return f"{place}/date={read_at:%Y-%m-%d}/{batch:0{BATCH_DIGITS}d}-{part:04d}-{uuid4().hex[:8]}.{ending}"
