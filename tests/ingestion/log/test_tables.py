"""Tables that come, go and change, and tables that the log does not have in full, while others go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Database
from tests.ingestion.log.conftest import Lake
from tests.ingestion.log.test_seams import CONFIRMED, history
from totes.errors import SourceRefused


def test_an_altered_table_is_captured_up_to_the_change(source: Database, lake: Lake) -> None:
    source.execute(
        "INSERT INTO t VALUES (1, 'a')", "UPDATE t SET v = 'b'", "ALTER TABLE t ADD w int DEFAULT 7",
        "INSERT INTO t VALUES (2, 'c', 8)", "UPDATE t SET w = 9 WHERE id = 2",
        "CREATE TABLE u (id int PRIMARY KEY)", "INSERT INTO u VALUES (1)",
    )  # fmt: skip
    lake.ingest()
    source.execute("UPDATE t SET w = 10", "INSERT INTO u VALUES (2)")
    lake.ingest()
    assert history(lake) == [
        [], [("upsert", 1, "a"), ("upsert", 1, "b")], [("upsert", 1, "b", 7), ("upsert", 2, "c", 9)],
        [("upsert", 1, "b", 10), ("upsert", 2, "c", 10)],
    ]  # fmt: skip
    assert history(lake, "u") == [[("upsert", 1)], [("upsert", 2)]]


def test_only_an_altered_table_is_compared(source: Database, lake: Lake) -> None:
    source.execute(
        "CREATE TABLE u (id int PRIMARY KEY, v text)",
        "INSERT INTO u VALUES (1, 'a')",
        "INSERT INTO t VALUES (1, 'a')",
    )
    lake.ingest()
    source.execute(
        "ALTER TABLE u RENAME v TO w", "UPDATE t SET v = 'b'", "UPDATE t SET v = 'c'", "UPDATE u SET w = 'x'"
    )
    lake.ingest()
    source.execute("UPDATE u SET w = 'y'", "UPDATE u SET w = 'z'", "DROP TABLE t CASCADE")
    done = lake.pipeline.ingest()
    assert done.failure is not None  # a model needs it
    assert "no table public.t" in lake.manifests()[-1]["left_out"]["t"]["reason"]
    steps = [step for batch in history(lake) for step in batch]
    assert steps == [("upsert", 1, "a"), ("upsert", 1, "b"), ("upsert", 1, "c")]
    steps = [step for batch in history(lake, "u") for step in batch]
    assert steps == [("upsert", 1, "a"), ("upsert", 1, "x"), ("upsert", 1, "y"), ("upsert", 1, "z")]


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        ("CREATE UNLOGGED TABLE u (id int PRIMARY KEY)", "is unlogged"),
        ("CREATE TABLE u (id int PRIMARY KEY, v text); ALTER TABLE u REPLICA IDENTITY NOTHING", "does not identify"),
        ("CREATE TABLE u (id int PRIMARY KEY, v int GENERATED ALWAYS AS (id + 1) STORED)", "generated column v"),
        ("CREATE TABLE u (id int PRIMARY KEY DEFERRABLE)", "only one row for each (id)"),
        ("CREATE TABLE u (id int PRIMARY KEY, _seq int)", "a column _seq"),
        ("CREATE TABLE u (id int PRIMARY KEY); CREATE TABLE w () INHERITS (u)", "inherit"),
    ],
)  # fmt: skip
def test_a_table_that_the_log_does_not_have_in_full_is_left_out(
    made: str, reason: str, source: Database, new_lake: Callable[..., Lake]
) -> None:
    source.execute(*made.split("; "), "INSERT INTO u (id) VALUES (1)", "INSERT INTO t VALUES (1, 'a')")
    lake = new_lake(source)
    lake.ingest()
    source.execute("INSERT INTO t VALUES (2, 'b')", "INSERT INTO u (id) VALUES (2)")
    lake.ingest()
    assert history(lake) == [[("upsert", 1, "a")], [("upsert", 2, "b")]]
    [manifest, *_] = lake.manifests()
    assert reason in manifest["left_out"]["u"]["reason"]
    named = new_lake(source, source={"tables": ["t", "u"]})
    failure = named.pipeline.ingest().failure
    assert failure is not None
    assert reason in str(failure)


def test_a_table_outside_of_the_publication(source: Database, new_lake: Callable[..., Lake]) -> None:
    source.execute(
        "DROP PUBLICATION totes", "CREATE TABLE u (id int PRIMARY KEY)", "CREATE PUBLICATION totes FOR TABLE t",
        "INSERT INTO t VALUES (1, 'a')", "INSERT INTO u VALUES (1)",
    )  # fmt: skip
    lake = new_lake(source)
    lake.ingest()
    assert (
        'ALTER PUBLICATION "totes" ADD TABLE "public"."u"' in lake.manifests()[0]["left_out"]["u"]["reason"]
    )
    source.execute("UPDATE t SET v = 'b'", "INSERT INTO u VALUES (2)", "ALTER PUBLICATION totes ADD TABLE u")
    lake.ingest()
    source.execute("INSERT INTO u VALUES (3)", "ALTER PUBLICATION totes DROP TABLE u", "INSERT INTO u VALUES (4)",
                   "ALTER PUBLICATION totes ADD TABLE u")  # fmt: skip
    lake.ingest()
    assert history(lake) == [[("upsert", 1, "a")], [("upsert", 1, "b")], [], [], []]
    steps = [step for batch in history(lake, "u") for step in batch]
    assert steps == [("upsert", 1), ("upsert", 2), ("upsert", 3), ("upsert", 4)]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ("DROP PUBLICATION totes", "no publication totes"),
        ("ALTER PUBLICATION totes SET (publish = 'insert')", "without all operations"),
    ],
)
def test_what_the_owner_has_to_do_is_said(
    spoil: str, said: str, source: Database, new_lake: Callable[..., Lake]
) -> None:
    source.execute(spoil)
    with pytest.raises(SourceRefused, match=said):
        new_lake(source).pipeline.ingest()
    assert source.execute(CONFIRMED) == []


@pytest.mark.parametrize(
    ("rewrite", "expected"),
    [
        (("ALTER TABLE t ALTER v TYPE text USING upper(v)",), [("upsert", 1, "A"), ("upsert", 2, "B")]),
        (("ALTER TABLE t DROP v", "ALTER TABLE t ADD v text"), [("upsert", 1, None), ("upsert", 2, None)]),
        (("VACUUM FULL t",), []),
    ],
)
def test_rows_that_are_rewritten_outside_of_the_log(
    rewrite: tuple[str, ...], expected: list[Any], source: Database, lake: Lake
) -> None:
    source.execute("INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    lake.ingest()
    source.execute(*rewrite)
    lake.ingest()
    assert [step for batch in history(lake)[2:] for step in batch] == expected
    source.execute("UPDATE t SET v = 'c' WHERE id = 2")
    lake.ingest()
    assert history(lake)[-1] == [("upsert", 2, "c")]


def test_partitions_that_come_go_and_are_truncated(source: Database, lake: Lake) -> None:
    source.execute(
        "CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id)", "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9)",
        "CREATE TABLE p2 (id int PRIMARY KEY)", "INSERT INTO p VALUES (1), (2)", "INSERT INTO p2 VALUES (11), (12)",
    )  # fmt: skip
    lake.ingest()
    for statements in (
        ("ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (10) TO (19)", "DELETE FROM p WHERE id = 11"),
        ("TRUNCATE p1", "INSERT INTO p VALUES (3)"),
        ("ALTER TABLE p DETACH PARTITION p2",),
    ):
        source.execute(*statements)
        lake.ingest()
    source.execute("INSERT INTO p VALUES (4)")
    lake.ingest()
    steps = [step for batch in history(lake, "p") for step in batch]
    assert steps == [
        ("upsert", 1), ("upsert", 2), ("upsert", 12), ("upsert", 3), ("delete", 1), ("delete", 2), ("delete", 12), ("upsert", 4),
    ]  # fmt: skip


def test_a_label_that_is_added_to_an_enum(source: Database, lake: Lake) -> None:
    source.execute("CREATE TYPE mood AS ENUM ('a')", "CREATE TABLE m (id int PRIMARY KEY, v mood)")
    lake.ingest()
    source.execute("ALTER TYPE mood ADD VALUE 'b'", "INSERT INTO m VALUES (1, 'b')", "UPDATE m SET v = 'a'")
    batch = lake.ingest().batch or 0
    assert lake.steps(batch, "m") == [("upsert", 1, "b"), ("upsert", 1, "a")]
    assert lake.manifests()[-1]["tables"]["m"]["columns"][1]["labels"] == ["a", "b"]
