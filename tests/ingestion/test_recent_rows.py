"""The condition that finds what was written since: asked of PostgreSQL itself, for ids around every edge there is."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.conftest import Database
from totes.ingestion import capture
from totes.ingestion.capture import changed_since
from totes.lake.manifest import Position

EPOCH = 1 << 32
FIRST = 3  # ids below it are PostgreSQL's own marks, such as that of a frozen row
NOON = datetime(2024, 11, 26, 12, tzinfo=UTC)
LISTED_MAX = capture._LISTED_MAX
# Where the batch before stood, and how many transactions have begun since.
EDGES = [
    (1_000, 1), (1_000, 2), (1_000, 7), (1_000, LISTED_MAX), (1_000, LISTED_MAX + 1), (5 * EPOCH + 1_000, 12_000),
    (EPOCH - 4, 4), (EPOCH - 4, 5), (EPOCH - 4, 9), (EPOCH - 4, 20_000), (EPOCH, 5), (3 * EPOCH - 15_000, 30_000),
    (1_000, EPOCH - 10),
]  # fmt: skip


def position(horizon: int, next_transaction: int) -> Position:
    return Position(
        system_identifier="1", timeline=1, database="d", horizon=horizon, next_transaction=next_transaction, read_at=NOON
    )  # fmt: skip


@pytest.mark.parametrize("listed", [True, False])
def test_exactly_the_rows_of_transactions_since_the_horizon_are_found(
    database: Database, listed: bool
) -> None:
    for horizon, transactions in EDGES:
        end = horizon + transactions
        condition = changed_since(position(horizon, horizon + 1), position(end - 1, end), listed=listed)
        assert condition is not None
        near = {edge + step for edge in (horizon, end, (end // EPOCH) * EPOCH) for step in range(-6, 7)}
        asked = sorted({number % EPOCH for number in near if number >= 0} - {0, 1, 2})
        listing = ",".join(map(str, asked))
        rows = database.execute(
            f"SELECT xmin::text::int8 FROM (SELECT unnest('{{{listing}}}'::xid[]) AS xmin) AS t WHERE {condition}"
        )
        since = {number % EPOCH for number in near if horizon <= number < end} - {0, 1, 2}
        assert {row[0] for row in rows} == since, (horizon, transactions)


def test_where_no_transaction_has_begun_no_row_can_be_new() -> None:
    for horizon in (3, 1_000, EPOCH):
        assert changed_since(position(horizon, horizon), position(horizon, horizon), listed=True) is None
        assert changed_since(position(horizon, horizon), position(horizon, horizon), listed=False) is None


def test_a_transaction_that_ran_at_the_batch_before_is_looked_at_again() -> None:
    # Nothing has begun since, but one that had begun before may have ended.
    assert changed_since(position(999, 1_000), position(1_000, 1_000), listed=True) is not None
