"""From query to log and back, and over whatever happens to a slot: nothing is lost, and nothing is captured twice."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import Database
from tests.ingestion.log.conftest import PUBLICATION, ROLE, TABLE, Lake
from totes.errors import LakeOfAnotherSource, SourceRefused
from totes.terrifictotes.server import LocalServer

CONFIRMED = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots"
OTHERS_WAL = (
    "SELECT count(pg_logical_emit_message(true, 'x', repeat('x', 1000000))) FROM generate_series(1, 20)"
)


def history(lake: Lake, table: str = "t") -> list[list[tuple[Any, ...]]]:
    """All lines of a table, batch by batch; those of a batch by query are in no order."""
    return [
        lake.steps(batch, table) if manifest["position"]["log_lsn"] else sorted(lake.steps(batch, table))
        for batch, manifest in enumerate(lake.manifests(), start=1)
        if table in manifest["tables"]
    ]


def test_from_query_to_log(source: Database, new_lake: Callable[..., Lake]) -> None:
    source.execute("INSERT INTO t VALUES (1, 'a')")
    new_lake(source, "query").ingest()
    lake = new_lake(source, lock_timeout="1s")
    with source.connect() as early:
        early.execute("INSERT INTO t VALUES (2, 'open')")
        source.execute("INSERT INTO t VALUES (3, 'b')")
        lake.ingest()  # the slot has to wait for the transaction
        source.execute("UPDATE t SET v = 'c' WHERE id = 3")
    lake.ingest()
    source.execute("UPDATE t SET v = 'd' WHERE id = 3", "UPDATE t SET v = 'e' WHERE id = 3")
    lake.ingest()
    assert history(lake) == [
        [("upsert", 1, "a")], [("upsert", 3, "b")], [("upsert", 2, "open"), ("upsert", 3, "c")],
        [("upsert", 3, "d"), ("upsert", 3, "e")],
    ]  # fmt: skip
    assert lake.ingest().batch is None


def test_from_log_to_query_and_back(source: Database, lake: Lake, new_lake: Callable[..., Lake]) -> None:
    source.execute("INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')", "UPDATE t SET v = 'd' WHERE id = 1")
    lake.ingest()
    by_query = new_lake(source, "query")
    source.execute(
        "UPDATE t SET v = 'e' WHERE id = 2", "DELETE FROM t WHERE id = 3", "INSERT INTO t VALUES (4, 'f')"
    )
    by_query.ingest()
    source.execute("UPDATE t SET v = 'g' WHERE id = 4")
    by_query.ingest()
    with source.connect() as early, source.connect() as late:
        early.execute("INSERT INTO t VALUES (5, 'before')")
        lake.ingest()  # reads by query as long as a transaction may be missing from the log
        assert lake.ingest().batch is None
        source.execute("INSERT INTO t VALUES (6, 'between')")
        lake.ingest()
        early.commit()
        late.execute("INSERT INTO t VALUES (7, 'over the seam')")
        late.execute("SAVEPOINT s")
        late.execute("INSERT INTO t VALUES (8, 'over the seam')")
        lake.ingest()
        source.execute("DELETE FROM t WHERE id = 1")
        lake.ingest()
    lake.ingest()
    assert lake.ingest().batch is None
    assert history(lake) == [
        [],
        [("upsert", 1, "a"), ("upsert", 2, "b"), ("upsert", 3, "c"), ("upsert", 1, "d")],
        [("delete", 3), ("upsert", 2, "e"), ("upsert", 4, "f")],
        [("upsert", 4, "g")],
        [],
        [("upsert", 6, "between")],
        [("upsert", 5, "before")],
        [("delete", 1)],
        [("upsert", 7, "over the seam"), ("upsert", 8, "over the seam")],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("lose", "said"),
    [
        (("SELECT pg_drop_replication_slot('totes')",), "the slot totes is gone"),
        (
            ("SELECT pg_drop_replication_slot('totes')", "SELECT pg_create_logical_replication_slot('totes', 'pgoutput')"),
            "somebody else",
        ),
        (("SELECT pg_replication_slot_advance('totes', pg_current_wal_lsn())",), "somebody else"),
    ],
)  # fmt: skip
def test_a_lost_slot_costs_the_steps_between(
    lose: tuple[str, ...], said: str, source: Database, lake: Lake, capfd: pytest.CaptureFixture[str]
) -> None:
    source.execute("INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    lake.ingest()
    source.execute(
        "UPDATE t SET v = 'never seen' WHERE id = 1",
        "UPDATE t SET v = 'd' WHERE id = 1",
        "DELETE FROM t WHERE id = 2",
    )
    source.execute(*lose)
    capfd.readouterr()
    lake.ingest()
    assert said in capfd.readouterr().err
    source.execute("UPDATE t SET v = 'e' WHERE id = 1", "UPDATE t SET v = 'f' WHERE id = 1")
    lake.ingest()
    assert history(lake)[2:] == [
        [("delete", 2), ("upsert", 1, "d")],
        [("upsert", 1, "e"), ("upsert", 1, "f")],
    ]
    assert lake.ingest().batch is None


def test_a_publication_that_is_made_again(source: Database, lake: Lake) -> None:
    source.execute("INSERT INTO t VALUES (1, 'a')", "UPDATE t SET v = 'b'")
    source.execute(
        "DROP PUBLICATION totes", "UPDATE t SET v = 'c'", "UPDATE t SET v = 'd'", "INSERT INTO t VALUES (2, 'x')",
        "CREATE PUBLICATION totes FOR ALL TABLES WITH (publish_via_partition_root = true)",
        "UPDATE t SET v = 'y' WHERE id = 2",
    )  # fmt: skip
    lake.ingest()
    source.execute("UPDATE t SET v = 'e' WHERE id = 1")
    lake.ingest()
    steps = [step for batch in history(lake) for step in batch]
    assert steps[-1] == ("upsert", 1, "e")
    assert [step for step in steps if step[2] == "d"] == [("upsert", 1, "d")]
    assert [step for step in steps if step[1] == 2] == [("upsert", 2, "y")]
    assert lake.ingest().batch is None


def test_an_idle_source_keeps_no_log_back(source: Database, lake: Lake) -> None:
    [(before,)] = source.execute(CONFIRMED)
    source.execute(OTHERS_WAL)
    assert lake.ingest().batch is None
    [(after,)] = source.execute(CONFIRMED)
    assert after != before
    assert lake.ingest().batch is None
    assert source.execute(CONFIRMED) == [(after,)]
    source.execute("INSERT INTO t VALUES (1, 'a')")
    assert lake.ingest().batch == 2
    assert history(lake) == [[], [("upsert", 1, "a")]]
    assert len(list(lake.pipeline.ingestion_store.list("log/totes/"))) == 1


def test_a_snapshot_is_inspected_once_all_that_it_sees_is_captured(source: Database, lake: Lake) -> None:
    seen: list[int] = []

    def inspect(snapshot: Any) -> None:
        source.execute("INSERT INTO t VALUES (4, 'after')")
        seen.append(snapshot.count(snapshot.tables[0]))

    source.execute("INSERT INTO t VALUES (1, 'a')")
    with source.connect() as session:
        session.execute("INSERT INTO t VALUES (2, 'open')")
        source.execute("INSERT INTO t VALUES (3, 'b')")
        lake.pipeline.ingest(inspect)
        assert seen == [sum(len(batch) for batch in history(lake))] == [2]
    lake.ingest()
    assert sorted(step for batch in history(lake)[2:] for step in batch) == [
        ("upsert", 2, "open"),
        ("upsert", 4, "after"),
    ]


def test_a_batch_that_is_wanted_in_any_case(source: Database, lake: Lake) -> None:
    assert lake.pipeline.ingest(always=True).batch == 2
    source.execute("INSERT INTO t VALUES (1, 'a')")
    lake.ingest()
    assert history(lake) == [[], [], [("upsert", 1, "a")]]


def test_a_source_that_is_not_the_lakes_gets_no_slot(
    source: Database, lake: Lake, log_server: LocalServer, new_lake: Callable[..., Lake]
) -> None:
    with psycopg.connect(log_server.url(), autocommit=True) as admin:
        admin.execute("CREATE DATABASE another")
    another = Database(log_server.url("another"), "another")
    try:
        another.execute(*ROLE[1:], TABLE, PUBLICATION)
        before = source.execute("SELECT slot_name, database FROM pg_replication_slots")
        with pytest.raises(LakeOfAnotherSource):
            new_lake(another, source={"slot": "another"}).pipeline.ingest()
        assert source.execute("SELECT slot_name, database FROM pg_replication_slots") == before
        with pytest.raises(SourceRefused, match="the slot totes is of the database"):
            new_lake(another, folder=Path(lake.folder) / "../../other").pipeline.ingest()
    finally:
        with psycopg.connect(log_server.url(), autocommit=True) as admin:
            admin.execute("DROP DATABASE another WITH (FORCE)")


def test_a_slot_whose_log_the_server_has_removed(
    source: Database, lake: Lake, log_server: LocalServer, capfd: pytest.CaptureFixture[str]
) -> None:
    source.execute("INSERT INTO t VALUES (1, 'a')", "UPDATE t SET v = 'b'")
    source.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'", "SELECT pg_reload_conf()")
    try:
        while source.execute("SELECT wal_status FROM pg_replication_slots") != [("lost",)]:
            source.execute(OTHERS_WAL, "SELECT pg_switch_wal()", "CHECKPOINT")
        capfd.readouterr()
        lake.ingest()
        assert "has removed log" in capfd.readouterr().err
    finally:
        source.execute("ALTER SYSTEM RESET max_slot_wal_keep_size", "SELECT pg_reload_conf()")
    source.execute("UPDATE t SET v = 'c'", "UPDATE t SET v = 'd'")
    lake.ingest()
    assert history(lake) == [[], [("upsert", 1, "b")], [("upsert", 1, "c"), ("upsert", 1, "d")]]


def test_a_commit_that_others_do_not_see_yet_is_left_to_a_later_batch(source: Database, lake: Lake) -> None:
    source.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()")
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    with ThreadPoolExecutor(1) as pool:
        try:
            begun = pool.submit(source.execute, "INSERT INTO t VALUES (1, 'waits')")
            while source.execute(waiting) != [(1,)]:
                pass
            assert source.execute("SELECT count(*) FROM t") == [(0,)]
            assert lake.ingest().batch is None
        finally:
            source.execute("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
        begun.result()
    lake.ingest()
    assert history(lake) == [[], [("upsert", 1, "waits")]]


def test_a_commit_before_the_slot_that_a_snapshot_does_not_see(
    source: Database, lake: Lake, new_lake: Callable[..., Lake]
) -> None:
    source.execute("INSERT INTO t VALUES (1, 'a')")
    new_lake(source, "query").ingest()
    source.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()")
    with ThreadPoolExecutor(1) as pool:
        try:
            begun = pool.submit(source.execute, "INSERT INTO t VALUES (2, 'waits')")
            while source.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") != [
                (1,)
            ]:
                pass
            source.execute("SELECT pg_replication_slot_advance('totes', pg_current_wal_flush_lsn())")
            lake.ingest()
        finally:
            source.execute("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
        begun.result()
    lake.ingest()
    source.execute("INSERT INTO t VALUES (3, 'b')")
    lake.ingest()
    steps = [step for batch in history(lake) for step in batch]
    assert steps == [("upsert", 1, "a"), ("upsert", 2, "waits"), ("upsert", 3, "b")]


@pytest.fixture
def two_tables(source: Database, new_lake: Callable[..., Lake]) -> Lake:
    """A pipeline whose publication has one of two tables."""
    source.execute(
        "DROP PUBLICATION totes",
        "CREATE TABLE u (id int PRIMARY KEY, v text)",
        "CREATE PUBLICATION totes FOR TABLE t",
    )
    lake = new_lake(source)
    lake.ingest()
    return lake


def test_a_transaction_that_is_open_while_its_table_is_published(source: Database, two_tables: Lake) -> None:
    lake = two_tables
    with source.connect() as early, source.connect() as other:
        early.execute("INSERT INTO u VALUES (1, 'before')")
        other.execute("INSERT INTO u VALUES (2, 'before')")
        source.execute("ALTER PUBLICATION totes ADD TABLE u", "INSERT INTO u VALUES (3, 'a')")
        early.execute("INSERT INTO u VALUES (4, 'after')")
        lake.ingest()
        source.execute("UPDATE u SET v = 'b' WHERE id = 3", "UPDATE u SET v = 'c' WHERE id = 3")
        lake.ingest()
        assert lake.ingest().batch is None
        early.commit()
        lake.ingest()
        assert lake.ingest().batch is None
        assert ("upsert", 1, "before") in [step for batch in history(lake, "u") for step in batch]
    lake.ingest()
    assert lake.ingest().batch is None
    source.execute("UPDATE u SET v = 'd' WHERE id = 2", "UPDATE u SET v = 'e' WHERE id = 2")
    lake.ingest()
    steps = [step for batch in history(lake, "u") for step in batch]
    assert steps == [
        ("upsert", 3, "a"), ("upsert", 3, "b"), ("upsert", 3, "c"), ("upsert", 4, "after"), ("upsert", 1, "before"),
        ("upsert", 2, "before"), ("upsert", 2, "d"), ("upsert", 2, "e"),
    ]  # fmt: skip


def test_a_commit_that_others_do_not_see_yet_while_its_table_is_published(
    source: Database, two_tables: Lake
) -> None:
    lake = two_tables
    source.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()")
    with ThreadPoolExecutor(1) as pool:
        try:
            begun = pool.submit(source.execute, "INSERT INTO u VALUES (1, 'waits')")
            while source.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") != [
                (1,)
            ]:
                pass
            source.execute(
                "SET synchronous_commit = local",
                "ALTER PUBLICATION totes ADD TABLE u",
                "INSERT INTO u VALUES (2, 'a')",
            )
            lake.ingest()
        finally:
            source.execute("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
        begun.result()
    lake.ingest()
    assert history(lake, "u") == [[("upsert", 2, "a")], [("upsert", 1, "waits")]]


def test_a_table_that_is_published_while_the_slot_waits(
    source: Database, two_tables: Lake, new_lake: Callable[..., Lake]
) -> None:
    lake = two_tables
    source.execute("INSERT INTO t VALUES (2, 'a')")
    new_lake(source, "query", source={"tables": ["t"]}).ingest()
    with source.connect() as early, source.connect() as late:
        early.execute("INSERT INTO t VALUES (1, 'before the slot')")
        lake.ingest()  # by query, since that may be missing from the log
        late.execute("INSERT INTO u VALUES (1, 'before')")
        source.execute("ALTER PUBLICATION totes ADD TABLE u")
        early.commit()
        lake.ingest()
        lake.ingest()
        late.commit()
        while lake.ingest().batch is not None:
            continue
    source.execute("UPDATE t SET v = 'c' WHERE id = 1", "UPDATE t SET v = 'd' WHERE id = 1")
    lake.ingest()
    assert [step for batch in history(lake, "u") for step in batch] == [("upsert", 1, "before")]
    assert history(lake)[-1] == [("upsert", 1, "c"), ("upsert", 1, "d")]
