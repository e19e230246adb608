"""Servers to be copied, and a pipeline over any of them with a lake of the test's own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Database
from tests.identity.clusters import ROLE, TABLE, database_of, running
from totes.pipeline import Pipeline
from totes.terrifictotes.server import LocalServer

MODEL = {"dim_t": "CREATE TABLE dim_t (id INTEGER PRIMARY KEY, v VARCHAR) AS SELECT id, v FROM t"}


@pytest.fixture
def lake(tmp_path: Path, make_pipeline: Any, write_project: Any) -> Callable[..., Pipeline]:
    """A pipeline over a source by a role that can only read, whose lake is one of the test's own."""

    def make(source: Database, name: str = "lake") -> Pipeline:
        url = source.url.replace(source.url.partition("//")[2].partition("@")[0], "reader:reads-only")
        return make_pipeline(
            url, folder=tmp_path / name, project=write_project(MODEL), lake={"compression": "gzip"}
        )

    return make


@pytest.fixture(scope="module")
def folder(tmp_path_factory: Any) -> Iterator[Path]:
    """A folder for servers that their account can enter."""
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture(scope="module")
def primary(folder: Path) -> Iterator[LocalServer]:
    with running(folder / "primary") as server:
        database_of(server).execute(*TABLE, *ROLE)
        yield server
