"""A batch is the source at one instant: on every connection, whatever is written, emptied or rewritten meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import Database
from tests.plain_lake import objects_of, rows_of_lake
from tests.processes import Runner
from totes import engine
from totes.config import SourceSettings
from totes.ingestion.source import Snapshot, open_snapshot

MODELS = {
    name: f"CREATE TABLE dim_{name} (id INTEGER PRIMARY KEY, n INTEGER) AS SELECT id, n FROM {name}"
    for name in ("a", "b")
}


@pytest.fixture
def tables(database: Database) -> Database:
    """Two tables of a hundred rows."""
    for name in MODELS:
        database.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, n int)",
                         f"INSERT INTO {name} SELECT i, 0 FROM generate_series(1, 100) i")  # fmt: skip
    return database


def settings(database: Database) -> SourceSettings:
    return SourceSettings(url=database.url)  # type: ignore[arg-type]


def read(snapshot: Snapshot, sql: str) -> list[tuple[Any, ...]]:
    with snapshot.stream(sql) as stream, engine.connect(None, memory="1GB") as connection:
        connection.register("incoming", stream)
        return connection.execute("SELECT * FROM incoming").fetchall()


def test_every_connection_sees_the_instant_at_which_the_source_was_opened(tables: Database) -> None:
    sums = "SELECT (SELECT sum(n)::int8 FROM public.a), (SELECT count(*) FROM public.b)"
    with open_snapshot(tables.url, settings(tables), frozenset()) as snapshot:
        tables.execute("UPDATE a SET n = 1", "DELETE FROM b")
        # The first read opens a connection, the second while the first is still at it opens another.
        with snapshot.stream(sums) as first:
            assert read(snapshot, sums) == [(0, 100)]
            with engine.connect(None, memory="1GB") as connection:
                connection.register("incoming", first)
                assert connection.execute("SELECT * FROM incoming").fetchall() == [(0, 100)]
        assert read(snapshot, sums) == [(0, 100)]
        assert snapshot.count(snapshot.tables[1]) == 100


def test_nothing_can_be_written_at_the_source_by_a_batch(tables: Database) -> None:
    with (
        open_snapshot(tables.url, settings(tables), frozenset()) as snapshot,
        pytest.raises(Exception, match="read-only"),
    ):
        read(snapshot, "WITH gone AS (DELETE FROM public.a RETURNING id) SELECT count(*) FROM gone")


@pytest.mark.parametrize("change", ["TRUNCATE {0}", "ALTER TABLE {0} ALTER n TYPE bigint"])
def test_no_table_is_emptied_or_rewritten_between_the_opening_and_the_reading(
    change: str, tables: Database, write_project: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    write_project(MODELS)
    (tmp_path / "totes.toml").write_text(
        f'[project]\nname = "two"\npath = "project"\n[source]\nurl = "{tables.url}"\n[lake]\ncompression = "gzip"\n',
        encoding="utf-8",
    )
    runner = Runner(tmp_path, "ingest", failpoint="ingest.opened=stop")
    try:
        assert runner.wait_until_stopped()
        for name in MODELS:
            with tables.connect() as session:
                session.execute("SET lock_timeout = '100ms'")
                with pytest.raises(psycopg.errors.LockNotAvailable):
                    session.execute(change.format(name).encode())
        runner.wake()
        outcome = runner.wait()
    finally:
        runner.end()
    assert (outcome.code, outcome.failures) == (0, {})
    captured = rows_of_lake(objects_of(str(tmp_path / "lake" / "ingestion")))
    assert {name: len(rows) for name, rows in captured.items()} == {"a": 100, "b": 100}
