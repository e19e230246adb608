"""Large values that a change did not touch are in its line all the same, though the log does not repeat them."""

from __future__ import annotations

import pytest

from tests.conftest import Database
from tests.ingestion.log.conftest import Lake

# PostgreSQL stores it apart and cannot compress it.
LARGE = "(SELECT string_agg(md5((n * {})::text), '') FROM generate_series(1, 32768) AS n)"
SETUP = ("CREATE TABLE l (id int PRIMARY KEY, small int, v text, w text)",)


def sized(lake: Lake, batch: int) -> list[tuple[object, ...]]:
    """The lines of a batch, with the first and last digits of its large values."""
    return [
        tuple(
            value[:6] + value[-2:] if isinstance(value, str) and len(value) > 99 else value for value in step
        )
        for step in lake.steps(batch, "l")
    ]


def test_the_value_is_that_of_an_earlier_change_or_of_the_lake(source: Database, lake: Lake) -> None:
    source.execute(
        *SETUP, f"INSERT INTO l VALUES (1, 0, {LARGE.format(7)}, 'w'), (2, 0, {LARGE.format(11)}, NULL)"
    )
    [(first, second, third)] = source.execute(
        f"SELECT left(v, 6) || right(v, 2), (SELECT left(v, 6) || right(v, 2) FROM l WHERE id = 2),"
        f" (SELECT left(x, 6) || right(x, 2) FROM {LARGE.format(13)} AS x (x)) FROM l WHERE id = 1"
    )
    lake.ingest()
    source.execute("UPDATE l SET small = 1")  # in the lake, by query
    two = lake.ingest().batch or 0
    assert sized(lake, two) == [("upsert", 1, 1, first, "w"), ("upsert", 2, 1, second, None)]
    source.execute(
        "UPDATE l SET small = 2 WHERE id = 2",  # in the lake, from the log
        f"UPDATE l SET v = {LARGE.format(13)} WHERE id = 1",
        "UPDATE l SET small = 3 WHERE id = 1",  # in the same batch
        "UPDATE l SET id = 3 WHERE id = 1",  # under another key
        "UPDATE l SET id = 4, small = 4 WHERE id = 3",
        "UPDATE l SET id = 1 WHERE id = 2",  # under the key of another row
        "UPDATE l SET small = 5",
        "DELETE FROM l WHERE id = 4",
        "INSERT INTO l VALUES (4, 6, 'v', 'w')",
        "UPDATE l SET small = 7 WHERE id = 4",
    )
    three = lake.ingest().batch or 0
    assert sized(lake, three) == [
        ("upsert", 2, 2, second, None), ("upsert", 1, 1, third, "w"), ("upsert", 1, 3, third, "w"),
        ("delete", 1), ("upsert", 3, 3, third, "w"), ("delete", 3), ("upsert", 4, 4, third, "w"),
        ("delete", 2), ("upsert", 1, 2, second, None),
        ("upsert", 4, 5, third, "w"), ("upsert", 1, 5, second, None),
        ("delete", 4), ("upsert", 4, 6, "v", "w"), ("upsert", 4, 7, "v", "w"),
    ]  # fmt: skip


@pytest.mark.parametrize("identity", ["FULL", "USING INDEX l_small_id"])
def test_with_another_replica_identity(identity: str, source: Database, lake: Lake) -> None:
    source.execute(
        *SETUP, "ALTER TABLE l ALTER small SET NOT NULL", "CREATE UNIQUE INDEX l_small_id ON l (small, id)",
        f"ALTER TABLE l REPLICA IDENTITY {identity}", f"INSERT INTO l VALUES (1, 0, {LARGE.format(7)}, 'w')",
    )  # fmt: skip
    lake.ingest()
    before = lake.steps(lake.manifests()[-1]["batch"], "l")
    source.execute("UPDATE l SET small = 1", "UPDATE l SET id = 2", "DELETE FROM l")
    batch = lake.ingest().batch or 0
    assert lake.steps(batch, "l") == [
        ("upsert", 1, 1, *before[0][3:]), ("delete", 1), ("upsert", 2, 1, *before[0][3:]), ("delete", 2),
    ]  # fmt: skip


def test_a_large_value_in_the_key(source: Database, lake: Lake) -> None:
    short = "(SELECT string_agg(md5(n::text), '') FROM generate_series(1, 80) AS n)"
    source.execute(
        "CREATE TABLE l (k text, n int, PRIMARY KEY (k))", "ALTER TABLE l ALTER k SET STORAGE EXTERNAL",
        f"INSERT INTO l VALUES ({short}, 1)",
    )  # fmt: skip
    lake.ingest()
    source.execute("UPDATE l SET n = 2", "DELETE FROM l")
    [(key,)] = source.execute(f"SELECT {short}")
    batch = lake.ingest().batch or 0
    assert lake.steps(batch, "l") == [("upsert", key, 2), ("delete", key)]
