"""The shop, with one batch loaded."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Database, run_cleanly
from tests.drift.shop import Shop


@pytest.fixture
def shop(database: Database, make_pipeline: Any, write_project: Any) -> Shop:
    made = Shop(database, lambda models: make_pipeline(database.url, project=write_project(models)))
    run_cleanly(made.pipeline)
    made.check()
    return made
