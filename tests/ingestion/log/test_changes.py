"""Every change of a row is a line, in the order of commits, with the commit's time and place."""

from __future__ import annotations

from datetime import UTC, datetime

import psycopg
import pytest

from tests.conftest import Database
from tests.ingestion.log.conftest import Lake, number


def test_each_change_is_a_line_with_its_place_and_time(source: Database, lake: Lake) -> None:
    before = datetime.now(UTC).replace(tzinfo=None)
    source.execute("INSERT INTO t VALUES (1, 'a'), (2, NULL)")
    source.execute(
        "UPDATE t SET v = 'b' WHERE id = 1", "UPDATE t SET v = 'c' WHERE id = 1", "DELETE FROM t WHERE id = 2"
    )
    done = lake.ingest()
    assert {name: (found.upserts, found.deletes) for name, found in done.changes.items()} == {"t": (4, 1)}
    assert lake.steps(2) == [
        ("upsert", 1, "a"), ("upsert", 2, None), ("upsert", 1, "b"), ("upsert", 1, "c"), ("delete", 2),
    ]  # fmt: skip
    lines = lake.lines(2)
    assert len({line["_lsn"] for line in lines}) == 4  # one for each transaction
    assert lines[0]["_lsn"] == lines[1]["_lsn"]
    assert lines[0]["_seq"] < lines[1]["_seq"]
    after = datetime.now(UTC).replace(tzinfo=None)
    assert all(before < datetime.fromisoformat(line["_at"]) < after for line in lines)
    manifest = lake.manifests()[1]
    assert (manifest["tables"]["t"]["rows"], manifest["tables"]["t"]["changed_at"]) == (1, None)
    assert number(manifest["position"]["log_lsn"]) >= number(lines[-1]["_lsn"])


def test_what_is_captured_is_not_captured_again(source: Database, lake: Lake) -> None:
    source.execute("INSERT INTO t VALUES (1, 'a')")
    assert lake.ingest().batch == 2
    assert lake.ingest().batch is None
    source.execute("INSERT INTO t VALUES (2, 'b')")
    assert lake.ingest().batch == 3
    assert lake.steps(3) == [("upsert", 2, "b")]


def test_a_row_that_came_and_went_is_two_lines(source: Database, lake: Lake) -> None:
    source.execute(
        "INSERT INTO t VALUES (1, 'a')", "DELETE FROM t", "INSERT INTO t VALUES (1, 'b')", "DELETE FROM t"
    )
    lake.ingest()
    assert lake.steps(2) == [("upsert", 1, "a"), ("delete", 1), ("upsert", 1, "b"), ("delete", 1)]
    assert lake.manifests()[1]["tables"]["t"]["rows"] == 0


def test_a_changed_key_is_a_delete_and_an_upsert(source: Database, lake: Lake) -> None:
    source.execute("INSERT INTO t VALUES (1, 'a')", "UPDATE t SET id = 2, v = 'b'")
    lake.ingest()
    assert lake.steps(2) == [("upsert", 1, "a"), ("delete", 1), ("upsert", 2, "b")]
    assert lake.manifests()[1]["tables"]["t"]["rows"] == 1


def test_savepoints_and_rollbacks(source: Database, lake: Lake) -> None:
    with source.connect() as session:
        session.execute("INSERT INTO t VALUES (1, 'a')")
        session.execute("SAVEPOINT s")
        session.execute("INSERT INTO t VALUES (2, 'never')")
        session.execute("ROLLBACK TO s")
        session.execute("SAVEPOINT s2")
        session.execute("UPDATE t SET v = 'b'")
        session.execute("RELEASE s2")
    with source.connect() as session:
        session.execute("INSERT INTO t VALUES (3, 'never')")
        session.rollback()
    lake.ingest()
    assert lake.steps(2) == [("upsert", 1, "a"), ("upsert", 1, "b")]


def test_transactions_are_in_the_order_of_their_commits(source: Database, lake: Lake) -> None:
    with source.connect() as session:
        session.execute("INSERT INTO t VALUES (1, 'began first')")
        source.execute("INSERT INTO t VALUES (2, 'between')")
        assert lake.ingest().batch == 2
    lake.ingest()
    assert [lake.steps(batch) for batch in (2, 3)] == [
        [("upsert", 2, "between")],
        [("upsert", 1, "began first")],
    ]


def test_a_prepared_transaction_counts_from_its_commit(source: Database, lake: Lake) -> None:
    with psycopg.connect(source.url, autocommit=True) as session:
        session.execute("BEGIN")
        session.execute("INSERT INTO t VALUES (1, 'prepared')")
        session.execute("PREPARE TRANSACTION 'p'")
        assert lake.ingest().batch is None
        session.execute("INSERT INTO t VALUES (2, 'between')")
        session.execute("COMMIT PREPARED 'p'")
    lake.ingest()
    assert lake.steps(2) == [("upsert", 2, "between"), ("upsert", 1, "prepared")]


def test_copied_rows(source: Database, lake: Lake) -> None:
    with source.connect() as session, session.cursor().copy("COPY t FROM STDIN") as copy:
        for row in range(3000):
            copy.write_row((row, f"ä{row}"))
    lake.ingest()
    assert lake.steps(2) == [("upsert", row, f"ä{row}") for row in range(3000)]


def test_truncate_deletes_each_row_that_was_there(source: Database, lake: Lake) -> None:
    source.execute(
        "CREATE TABLE u (id int PRIMARY KEY)",
        "INSERT INTO u VALUES (1)",
        "INSERT INTO t VALUES (1, 'a'), (2, 'b')",
    )
    lake.ingest()
    source.execute(
        "INSERT INTO t VALUES (3, 'c')", "DELETE FROM t WHERE id = 1", "UPDATE t SET id = 4 WHERE id = 2"
    )
    with source.connect() as session:
        session.execute("INSERT INTO t VALUES (5, 'd')")
        session.execute("TRUNCATE t, u")
        session.execute("INSERT INTO t VALUES (5, 'e')")
    source.execute("INSERT INTO t VALUES (3, 'f')", "TRUNCATE t", "INSERT INTO t VALUES (6, 'g')")
    done = lake.ingest()
    batch = done.batch or 0
    steps = lake.steps(batch)
    assert steps[:5] == [
        ("upsert", 3, "c"),
        ("delete", 1),
        ("delete", 2),
        ("upsert", 4, "b"),
        ("upsert", 5, "d"),
    ]
    assert sorted(steps[5:8]) == [("delete", 3), ("delete", 4), ("delete", 5)]
    assert steps[8:10] == [("upsert", 5, "e"), ("upsert", 3, "f")]
    assert sorted(steps[10:12]) == [("delete", 3), ("delete", 5)]
    assert steps[12:] == [("upsert", 6, "g")]
    assert lake.steps(batch, "u") == [("delete", 1)]
    assert {name: table["rows"] for name, table in lake.manifests()[-1]["tables"].items()} == {"t": 1, "u": 0}


def test_many_changes_of_one_row(source: Database, lake: Lake) -> None:
    source.execute(
        "INSERT INTO t VALUES (1, '')",
        "DO $$ BEGIN FOR n IN 1..10000 LOOP UPDATE t SET v = n; IF n % 100 = 0 THEN COMMIT; END IF; END LOOP; END $$",
    )
    lake.ingest()
    assert lake.steps(2) == [("upsert", 1, ""), *(("upsert", 1, str(n)) for n in range(1, 10001))]


def test_partitions_are_one_table(source: Database, lake: Lake) -> None:
    source.execute(
        "CREATE TABLE p (id int, at date, v text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)",
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')",
        "CREATE TABLE p2 PARTITION OF p FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')",
    )
    lake.ingest()
    source.execute(
        "INSERT INTO p VALUES (1, '2024-05-01', 'a')", "UPDATE p SET at = '2025-05-01'", "UPDATE p SET v = 'b'", "TRUNCATE p",
    )  # fmt: skip
    batch = lake.ingest().batch or 0
    assert lake.steps(batch, "p") == []  # compared, since a TRUNCATE of one partition is not in the log
    assert lake.steps(batch - 1, "p") == [
        ("upsert", 1, "2024-05-01", "a"), ("delete", 1, "2024-05-01"), ("upsert", 1, "2025-05-01", "a"),
        ("upsert", 1, "2025-05-01", "b"), ("delete", 1, "2025-05-01"),
    ]  # fmt: skip


@pytest.mark.parametrize("limit", ["capture.WINDOW_BYTES", "batch.CHANGES_MAX"])
def test_a_long_log_is_read_in_parts(
    limit: str, source: Database, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"totes.ingestion.log.{limit}", 600 if "BYTES" in limit else 10)
    source.execute(
        *(
            f"INSERT INTO t SELECT n, {part} FROM generate_series({part} * 10, {part} * 10 + 2) AS n"
            for part in range(9)
        )
    )
    batches = []
    while True:
        done = lake.ingest()
        batches += [done.batch] if done.batch else []
        if not done.more:
            break
    assert len(batches) > 2
    steps = [step for batch in batches for step in lake.steps(batch or 0)]
    assert steps == [("upsert", part * 10 + n, str(part)) for part in range(9) for n in range(3)]
    times = [manifest["position"]["read_at"] for manifest in lake.manifests()]
    assert times == sorted(set(times))
    assert times[1] < max(line["_at"] for line in lake.lines(batches[-1] or 0))
