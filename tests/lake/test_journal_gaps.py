"""A manifest that is missing among others is noticed wherever it is missing."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from totes.errors import LakeDamaged
from totes.lake.journal import Journal
from totes.lake.layout import manifest_path
from totes.lake.manifest import Manifest
from totes.lake.store import Store

NOON = datetime(2024, 11, 26, 12, tzinfo=UTC)


@pytest.mark.parametrize("gone", [1, 2, 3, 4])
def test_the_first_gap_is_named(gone: int, tmp_path: Path) -> None:
    journal = Journal(Store.open("lake", tmp_path), Manifest)
    previous = None
    for batch in range(1, 6):
        made = Manifest(batch=batch, previous_sha256=previous, started_at=NOON, finished_at=NOON)
        journal.commit(made)
        previous = made.sha256()
    (tmp_path / "lake" / manifest_path(gone)).unlink()
    with pytest.raises(
        LakeDamaged, match=rf"00000000000{gone}\.json is missing, though later batches are there"
    ):
        Journal(Store.open("lake", tmp_path), Manifest).last()
