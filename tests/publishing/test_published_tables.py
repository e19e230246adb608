"""Published tables, read by two readers that know nothing of totes, have the rows of the warehouse, batch after batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Database, run_cleanly
from tests.faults import kiosk
from tests.publishing.readers import check
from totes.pipeline import Pipeline

pytestmark = pytest.mark.iceberg
ICEBERG = {"iceberg": "sql:sqlite:///lake/iceberg.db"}


def test_batches_with_changes_and_deletes(
    database: Database, make_pipeline: Callable[..., Pipeline], write_project: Any
) -> None:
    pipeline = make_pipeline(database.url, project=write_project(kiosk.MODELS), publish=ICEBERG)
    for state in kiosk.STATES:
        database.execute(state)
        assert run_cleanly(pipeline).published == pipeline.processed_journal.last()
        check(pipeline)
    assert check(pipeline) == {"dim_region": 2, "dim_customer": 4, "fact_sale": len(kiosk.HISTORY)}
