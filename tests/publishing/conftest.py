"""Published tables need PyIceberg and another reader, which `make test-iceberg` installs; without them these tests are skipped."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

import pytest

from tests.publishing.readers import READER


@pytest.fixture(autouse=True)
def _needs_iceberg(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("iceberg"):
        if not (find_spec("pyiceberg") and READER.is_dir()):
            pytest.skip("PyIceberg and DuckDB's Iceberg extension are not installed: make test-iceberg")
        import_module("pyiceberg.catalog")  # which remembers the environment as it is then: not a test's own
