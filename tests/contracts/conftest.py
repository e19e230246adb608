"""Stores of each kind, for the contracts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Bucket
from totes.lake.store import Store


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a store is."""
    if request.param == "folder":
        return str(tmp_path / "store")
    bucket: Bucket = request.getfixturevalue("s3")
    return bucket.url("store")


@pytest.fixture
def store(place: str, tmp_path: Path) -> Store:
    """An empty store."""
    return Store.open(place, tmp_path)
