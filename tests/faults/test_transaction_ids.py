"""Transaction ids go round: past 2^32, and in later epochs, nothing is lost and nothing captured twice."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import Database, run_cleanly
from tests.contracts.shop import MODELS
from tests.faults import kiosk
from totes.pipeline import Pipeline
from totes.terrifictotes.binaries import find_binaries, server_account
from totes.terrifictotes.server import LocalServer

WRAP = 1 << 32
LEDGER = "SELECT batch_id FROM totes_batches ORDER BY 1"
ORDERS = (
    """CREATE TABLE "order" (order_id integer PRIMARY KEY, customer_id integer, quantity integer, price numeric)""",
    'INSERT INTO "order" VALUES (1, 1, 1, 1), (2, 1, 1, 1), (3, 1, 1, 1)',
)
VERSIONS = "SELECT order_id, quantity, is_deleted, batch_id FROM fact_order ORDER BY batch_id, order_id"


@dataclass
class Source:
    """A server of the test's own that is started again and again, each time at a later transaction id."""

    place: Path
    make: Callable[[str], Pipeline]

    @contextmanager
    def running(self, following: int | None = None) -> Iterator[Database]:
        """Runs the server, from a transaction id on; it is left without rows that need to know of older ones."""
        if following is not None:
            set_next_transaction(self.place, following)
        with LocalServer.start(self.place) as server:
            database = Database(server.url(), "")
            if following is None:
                database.execute("ALTER DATABASE template0 ALLOW_CONNECTIONS true")
            else:
                assert following <= next_transaction(database) < following + 10
                self._freeze(server)
            yield database
            self._freeze(server)

    def take(self, database: Database, batch: int | None) -> None:
        """Runs a cycle, which makes this batch, or none."""
        assert run_cleanly(self.make(database.url)).ingested.batch == batch

    def _freeze(self, server: LocalServer) -> None:
        for database in ("template0", "template1", "postgres"):
            with psycopg.connect(server.url(database), autocommit=True) as connection:
                connection.execute("VACUUM FREEZE")


def set_next_transaction(place: Path, following: int) -> None:
    """Sets a stopped server's next transaction id, as PostgreSQL's own tool does, with the status file that it needs."""
    epoch, low = divmod(following, WRAP)
    account = server_account()
    as_account: dict[str, Any] = {}
    if account:
        as_account = {"user": account.user_id, "group": account.group_id, "extra_groups": []}
    subprocess.run(
        [
            find_binaries(account) / "pg_resetwal", "--pgdata", place / "data", "--epoch", str(epoch),
            "--next-transaction-id", str(low), "--oldest-transaction-id", str(low - 1000),
        ],
        check=True, capture_output=True, **as_account,
    )  # fmt: skip
    status = place / "data/pg_xact" / f"{low // (32 * 8192 * 4):04X}"
    with status.open("ab") as file:
        file.truncate(32 * 8192)
    if account:
        os.chown(status, account.user_id, account.group_id)


def next_transaction(database: Database) -> int:
    """PostgreSQL's next transaction id, of 64 bits."""
    [(found,)] = database.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::int8")
    return int(found)


@pytest.fixture
def source(
    place: Path, make_pipeline: Callable[..., Pipeline], write_project: Callable[..., dict[str, Any]]
) -> Source:
    """A source of orders alone."""
    project = write_project({"fact_order": MODELS["fact_order"].replace(" REFERENCES dim_customer", "")})
    return Source(place, lambda url: make_pipeline(url, project=project))


def test_nothing_is_lost_or_doubled_where_transaction_ids_go_round(source: Source, tmp_path: Path) -> None:
    with source.running() as database:
        database.execute(*ORDERS)
        source.take(database, 1)
    with source.running(WRAP - 40) as database:
        source.take(database, None)
        database.execute('UPDATE "order" SET quantity = 2 WHERE order_id = 1')
        source.take(database, 2)
        # A transaction and its subtransaction from before the turn, which commit after it and after a batch.
        with database.connect() as late:
            late.execute('INSERT INTO "order" VALUES (4, 1, 2, 1)')
            late.execute("SAVEPOINT part")
            late.execute('UPDATE "order" SET quantity = 2 WHERE order_id = 2')
            database.execute('INSERT INTO "order" VALUES (5, 1, 2, 1)')
            source.take(database, 3)
            assert next_transaction(database) < WRAP
            while next_transaction(database) <= WRAP + 20:
                database.execute("SELECT pg_current_xact_id()")
            database.execute(
                'INSERT INTO "order" VALUES (6, 1, 3, 1)', 'DELETE FROM "order" WHERE order_id = 3'
            )
            source.take(database, 4)
            source.take(database, None)
            late.commit()
        source.take(database, 5)
        source.take(database, None)
    # Epoch 1 and a good way on.
    with source.running(WRAP + WRAP // 4) as database:
        source.take(database, None)
        database.execute('UPDATE "order" SET quantity = 4 WHERE order_id = 6')
        source.take(database, 6)
        source.take(database, None)
    warehouse = f"duckdb:///{tmp_path}/warehouse.duckdb"
    assert kiosk.query(warehouse, LEDGER, VERSIONS) == [
        [(batch,) for batch in range(1, 7)],
        [
            (1, 1, False, 1), (2, 1, False, 1), (3, 1, False, 1), (1, 2, False, 2), (5, 2, False, 3),
            (3, 1, True, 4), (6, 3, False, 4), (2, 2, False, 5), (4, 2, False, 5), (6, 4, False, 6),
        ],
    ]  # fmt: skip


def test_a_history_can_begin_in_a_later_epoch_and_one_that_was_not_read_for_too_long_goes_on_by_content(
    source: Source, tmp_path: Path
) -> None:
    with source.running() as database:
        database.execute(*ORDERS)
    with source.running(7 * WRAP + 100_000) as database:
        source.take(database, 1)
        database.execute('UPDATE "order" SET quantity = 2 WHERE order_id = 1')
        source.take(database, 2)
        source.take(database, None)
    with source.running(8 * WRAP + 200_000) as database:
        source.take(database, None)
        database.execute('UPDATE "order" SET quantity = 3 WHERE order_id = 3')
        source.take(database, 3)
        source.take(database, None)
    assert kiosk.query(f"duckdb:///{tmp_path}/warehouse.duckdb", VERSIONS) == [
        [(1, 1, False, 1), (2, 1, False, 1), (3, 1, False, 1), (1, 2, False, 2), (3, 3, False, 3)]
    ]
