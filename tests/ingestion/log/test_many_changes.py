"""One row that is changed by very many transactions of one batch has as many versions, at a cost that follows their number."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import Database, rows_of, run_cleanly
from tests.ingestion.log.conftest import Lake
from tests.processing.test_transactions import MODELS, TABLES
from tests.spread import in_sweep

SECONDS_MAX = 30  # of a processor; a round for each transaction would take minutes
FILLED = (
    "INSERT INTO region VALUES (1, 'North')", "INSERT INTO customer VALUES (1, 'Ada', 1, '2024-01-01')",
    "INSERT INTO \"order\" VALUES (1, 1, 'first', '2024-01-01')",
)  # fmt: skip
# The row's own time goes back now and then; its item is missing now and then, and then it is deleted and comes back.
UPDATES = """DO $$ BEGIN FOR n IN 1..{} LOOP
    UPDATE "order" SET item = CASE WHEN n % 100 > 0 THEN 'i' || n END,
        last_updated = '2024-01-01'::timestamp + (n - n % 7 * 3) * interval '1 minute';
    IF n % 500 = 0 THEN DELETE FROM "order"; COMMIT; INSERT INTO "order" VALUES (1, 1, 'again', NULL); END IF;
    COMMIT; END LOOP; END $$"""


def versions(updates: int, without: str | None) -> Iterator[tuple[str | None, bool]]:
    """The item of each version, and whether it is a deletion; a missing item is a version if it is not `without`."""
    yield "first", False
    for n in range(1, updates + 1):
        if n % 500 == 0:
            yield f"i{n - 1}", True
            yield "again", False
        elif n % 100 or without is None:
            yield f"i{n}" if n % 100 else None, False


@pytest.mark.parametrize("updates", [2_000, in_sweep(10_000)])
def test_very_many_changes_of_one_row_are_as_many_versions(
    updates: int, source: Database, new_lake: Callable[..., Lake], write_project: Any
) -> None:
    """Of a table that needs an item, so that the row is in quarantine meanwhile, and of one that joins and does not."""
    source.execute(*TABLES)
    pipeline = new_lake(source, project=write_project(MODELS, name="star")).pipeline
    source.execute(*FILLED)
    run_cleanly(pipeline)
    source.execute(UPDATES.format(updates))
    began = time.process_time()
    assert run_cleanly(pipeline).ingested.batch == 2
    assert time.process_time() - began < SECONDS_MAX
    for table, without in (("fact_order", "item"), ("fact_line", None)):
        rows = rows_of(
            pipeline, f"SELECT item, is_deleted, valid_from, valid_to FROM {table} ORDER BY valid_from"
        )
        assert [row[:2] for row in rows] == list(versions(updates, without))
        assert [row[3] for row in rows] == [*(row[2] for row in rows[1:]), None]
        assert len({row[2] for row in rows}) == len(rows)
    assert rows_of(pipeline, "SELECT item FROM fact_order_current") == [("again",)]
