"""What is known of a warehouse that is a file: the state in which a load found everything in it as it should be.

A warehouse that is still in that state need not be opened. This is in a file of the cache's folder, which can be deleted at
any time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from totes import __version__
from totes.permissions import make_folders, replace
from totes.star.model import Model

_FILE = "loaded.json"


class Settled(NamedTuple):
    """A warehouse in which everything is as it should be.

    Attributes:
        expected: identifies what it should be like, by `expected_of`.
        state: what changes with every write to it.
        batch: the batch that it is at.
        manifest_sha256: that batch's manifest.
    """

    expected: str
    state: str
    batch: int
    manifest_sha256: str


def expected_of(url: str, schema: str, models: Iterable[Model]) -> str:
    """Identifies what a load makes of a warehouse, besides the batches: its place, its schema and its models."""
    parts = [__version__, url, schema, *(model.definition for model in models)]
    return sha256(json.dumps(parts).encode()).hexdigest()


def settled(folder: Path) -> Settled | None:
    """What is known, if anything is."""
    try:
        return Settled(*json.loads((folder / _FILE).read_bytes()))
    except (OSError, ValueError, TypeError):  # there is none, or it was not written to its end
        return None


def note(folder: Path, found: Settled) -> None:
    """Records what is known from now on."""
    with suppress(OSError):  # then the next load looks for itself
        make_folders(folder)
        replace(folder / _FILE, json.dumps(found).encode(), durable=False)
