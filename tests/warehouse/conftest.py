"""A shop's pipeline into a PostgreSQL warehouse, and a place for warehouses that others are compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Database
from tests.contracts.shop import MODELS, SCHEMA
from totes.pipeline import Pipeline


@pytest.fixture(scope="session")
def beside(new_database: Callable[..., Database]) -> Database:
    """A database for warehouses that live for a moment, each in a schema of its own."""
    return new_database()


@pytest.fixture
def star(new_database: Callable[..., Database]) -> Database:
    """An empty warehouse."""
    return new_database()


@pytest.fixture
def pipeline(
    database: Database,
    star: Database,
    make_pipeline: Callable[..., Pipeline],
    write_project: Callable[..., dict[str, Any]],
) -> Pipeline:
    """A shop's pipeline into that warehouse."""
    database.execute(*SCHEMA)
    return make_pipeline(database.url, star.url, project=write_project(MODELS))


@pytest.fixture
def into_duckdb(
    database: Database, make_pipeline: Callable[..., Pipeline], write_project: Callable[..., dict[str, Any]]
) -> Pipeline:
    """The same shop's pipeline into a DuckDB file."""
    database.execute(*SCHEMA)
    return make_pipeline(database.url, project=write_project(MODELS))
