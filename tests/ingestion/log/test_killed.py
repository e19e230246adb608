"""A runner that is killed anywhere leaves nothing lost and nothing captured twice."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from psycopg.pq import ExecStatus

from tests.conftest import Database
from tests.ingestion.log.conftest import Lake
from tests.ingestion.log.test_seams import CONFIRMED, OTHERS_WAL, history
from tests.processes import KILLED, Runner


@pytest.fixture
def folder(lake: Lake, tmp_path: Path) -> Path:
    """The folder of a lake that has captured what was there before, with its settings in a file."""
    settings = lake.pipeline.settings
    (tmp_path / "totes.toml").write_text(
        f'[project]\nname = "p"\npath = "{settings.project.path}"\n'
        f'[source]\nurl = "{settings.source.url.get_secret_value()}"\ncapture = "log"\n[lake]\ncompression = "gzip"\n'
    )
    return tmp_path


@pytest.mark.parametrize(
    "point", ["ingest.log.opened", "ingest.log.read", "store.put.before:2", "journal.commit.before", "journal.commit.after",
              "ingest.log.committed"]
)  # fmt: skip
def test_killed_with_changes_in_the_log(point: str, source: Database, lake: Lake, folder: Path) -> None:
    source.execute(
        "INSERT INTO t VALUES (1, 'a'), (2, 'b')",
        "UPDATE t SET v = 'c' WHERE id = 1",
        "DELETE FROM t WHERE id = 2",
    )
    assert Runner(folder, "ingest", failpoint=point).wait().code == KILLED
    source.execute("UPDATE t SET v = 'd'")
    assert Runner(folder, "ingest").wait().failures == {}
    assert Runner(folder, "ingest").wait().cycle["batch"] is None
    steps = [step for batch in history(lake) for step in batch]
    assert steps == [
        ("upsert", 1, "a"),
        ("upsert", 2, "b"),
        ("upsert", 1, "c"),
        ("delete", 2),
        ("upsert", 1, "d"),
    ]
    [(confirmed,)] = source.execute(CONFIRMED)
    assert confirmed == lake.manifests()[-1]["position"]["log_lsn"]


def test_killed_before_an_idle_slot_is_advanced(source: Database, lake: Lake, folder: Path) -> None:
    [(before,)] = source.execute(CONFIRMED)
    source.execute(OTHERS_WAL)
    assert Runner(folder, "ingest", failpoint="ingest.log.noted").wait().code == KILLED
    assert source.execute(CONFIRMED) == [(before,)]
    assert Runner(folder, "ingest").wait().cycle["batch"] is None
    source.execute("INSERT INTO t VALUES (1, 'a')")
    assert Runner(folder, "ingest").wait().cycle["batch"] == 2
    assert history(lake) == [[], [("upsert", 1, "a")]]


def test_killed_after_the_slot_is_created(source: Database, lake: Lake, folder: Path) -> None:
    source.execute("INSERT INTO t VALUES (1, 'a')", "SELECT pg_drop_replication_slot('totes')")
    assert Runner(folder, "ingest", failpoint="ingest.log.created").wait().code == KILLED
    source.execute("UPDATE t SET v = 'b'")
    assert Runner(folder, "ingest").wait().cycle["batch"] == 2
    source.execute("UPDATE t SET v = 'c'", "UPDATE t SET v = 'd'")
    assert Runner(folder, "ingest").wait().cycle["batch"] == 3
    assert history(lake) == [[], [("upsert", 1, "b")], [("upsert", 1, "c"), ("upsert", 1, "d")]]


def test_a_slot_that_somebody_else_reads(source: Database, lake: Lake) -> None:
    source.execute("INSERT INTO t VALUES (1, 'a')")
    with psycopg.connect(source.url, autocommit=True, replication="database") as reader:  # type: ignore[call-arg]
        reader.pgconn.send_query(
            b"START_REPLICATION SLOT totes LOGICAL 0/0 (proto_version '1', publication_names 'totes')"
        )
        result = reader.pgconn.get_result()
        assert result is not None
        assert result.status == ExecStatus.COPY_BOTH
        assert lake.ingest().batch is None
        reader.pgconn.finish()
    while source.execute("SELECT 1 FROM pg_replication_slots WHERE active"):
        pass
    assert lake.ingest().batch == 2
