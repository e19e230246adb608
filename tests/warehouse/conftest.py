"""A place for warehouses that are compared with the one that is tested."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conftest import Database


@pytest.fixture(scope="session")
def beside(new_database: Callable[..., Database]) -> Database:
    """A database for warehouses that live for a moment, each in a schema of its own."""
    return new_database()
