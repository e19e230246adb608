"""Lakes to be backed up."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Database
from tests.lake import lakes


@pytest.fixture(scope="session")
def _lake_of_shop(new_database: Callable[..., Database], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    lakes.make_shop(new_database(), folder)
    return folder / "lake"


@pytest.fixture
def lake(_lake_of_shop: Path, tmp_path: Path) -> Path:
    """A lake of three batches with objects of every kind, of the test's own."""
    return Path(shutil.copytree(_lake_of_shop, tmp_path / "lake"))
