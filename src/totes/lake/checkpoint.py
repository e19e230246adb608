"""Copies of a stage's cache in its store, for runners whose own folder does not last, such as Lambda.

A checkpoint is no data, and nothing depends on one: without it the cache is made again from all batches. Its document
`checkpoints/<stage>/<batch>-<random>.json` is written last and names the file, with the batch that the cache then stood at.
Each has a name of its own: one that cannot be used, of another version for instance, keeps no other from its place.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from totes import __version__
from totes.errors import LakeDamaged
from totes.failpoint import reach
from totes.lake.layout import checkpoint_batch, checkpoint_paths, checkpoints_folder
from totes.lake.manifest import Document, StoredObject
from totes.lake.store import Store
from totes.log import logger

_log = logger()


class Checkpoint(Document):
    """A cache that was stored: of which version of totes, after which batch, and in which object."""

    totes: str = __version__
    stage: str
    batch: int
    manifest_sha256: str
    file: StoredObject


def save_checkpoint(store: Store, stage: str, batch: int, manifest_sha256: str, file: Path) -> None:
    """Stores a closed cache file. Of several runners at the same batch, each stores its own.

    Raises:
        StoreError: as it says.
    """
    file_path, document_path = checkpoint_paths(stage, batch)
    entry = store.put_file(file_path, file, 0)
    reach("checkpoint.file")
    document = Checkpoint(stage=stage, batch=batch, manifest_sha256=manifest_sha256, file=entry)
    store.put_new(document_path, document.model_dump_json(indent=1).encode())
    _log.info("checkpoint", cache=stage, batch=batch, bytes=entry.bytes)


def restore_checkpoint(store: Store, stage: str, target: Path) -> None:
    """Lays the stage's newest checkpoint that can be used at `target`, where there is no file; if there is one.

    Raises:
        StoreError: the store cannot be read.
    """
    found = [
        (batch, path)
        for path in store.list(f"{checkpoints_folder(stage)}/")
        if (batch := checkpoint_batch(path))
    ]
    for batch, path in sorted(found, reverse=True):
        content = store.read(path)
        try:
            document = Checkpoint.model_validate_json(content) if content else None
        except ValidationError:
            document = None  # a later version's
        if document is None or document.totes != __version__:
            continue
        try:
            store.copy(document.file, target)
        except LakeDamaged as error:
            _log.warning(f"a checkpoint cannot be used: {error.what}", cache=stage, batch=batch)
            continue
        _log.info(
            "the cache was restored from a checkpoint", cache=stage, batch=batch, bytes=document.file.bytes
        )
        return
