"""Published tables need PyIceberg and another reader, which `make test-iceberg` installs; without them these tests are skipped."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from tests.publishing.readers import READER


@pytest.fixture(autouse=True)
def _needs_iceberg(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("iceberg") and not (find_spec("pyiceberg") and READER.is_dir()):
        pytest.skip("PyIceberg and DuckDB's Iceberg extension are not installed: make test-iceberg")
