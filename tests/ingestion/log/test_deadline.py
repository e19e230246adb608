"""A call that nears its deadline stops after a commit or a note, says that there is more, and the next call goes on from there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Database
from tests.ingestion.log.conftest import Lake
from totes.deadline import Deadline
from totes.ingestion.stage import Ingested

CALL = """
import json
from totes.aws.handlers import ingest

class Context:
    aws_request_id = "1"

    def get_remaining_time_in_millis(self):
        return 0

print(json.dumps(ingest({}, Context())))
"""


def write_log(source: Database, megabytes: int) -> None:
    """Has the server write log that no table is captured from."""
    source.execute(
        "SELECT count(pg_logical_emit_message(true, 'test', repeat('x', 1048576)))"
        f" FROM generate_series(1, {megabytes})"
    )


def ingest_in_no_time(lake: Lake) -> Ingested:
    return lake.pipeline.ingest(deadline=Deadline.after(0))


def confirmed(source: Database) -> str:
    """How far the slot has been advanced."""
    return str(source.execute("SELECT confirmed_flush_lsn FROM pg_replication_slots")[0][0])


def test_a_long_log_without_changes_takes_several_calls(
    source: Database, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("totes.ingestion.log.capture.WINDOW_BYTES", 17 << 20)
    write_log(source, 60)
    source.execute("INSERT INTO t VALUES (1, 'after it')")
    done, reached = [], [confirmed(source)]
    while not done or done[-1].more:
        done.append(ingest_in_no_time(lake))
        reached.append(confirmed(source))
        assert len(done) < 10
    assert len(done) >= 4
    assert [each.batch for each in done] == [*([None] * (len(done) - 1)), 2]
    assert len(set(reached)) == len(reached)  # each call goes on from where the previous one ended
    assert lake.steps(2) == [("upsert", 1, "after it")]


def test_a_table_that_has_to_be_compared_waits_for_the_next_call(source: Database, lake: Lake) -> None:
    source.execute(
        "INSERT INTO t VALUES (1, 'a')", "CREATE TABLE u (id int PRIMARY KEY)", "INSERT INTO u VALUES (7)"
    )
    first = ingest_in_no_time(lake)
    assert (first.batch, first.more) == (2, True)
    assert (lake.steps(2), lake.manifests()[-1]["tables"].get("u")) == ([("upsert", 1, "a")], None)
    second = ingest_in_no_time(lake)
    assert (second.batch, second.more) == (3, False)
    assert lake.steps(3, "u") == [("upsert", 7)]
    assert lake.ingest().batch is None


def test_altered_columns_wait_for_the_next_call(source: Database, lake: Lake) -> None:
    source.execute(
        "INSERT INTO t VALUES (1, 'a')", "ALTER TABLE t ADD w int", "UPDATE t SET w = 5", "INSERT INTO t VALUES (2, 'b', 6)"
    )  # fmt: skip
    first = ingest_in_no_time(lake)
    assert (first.batch, first.more) == (2, True)
    assert lake.steps(2) == [("upsert", 1, "a")]
    done = ingest_in_no_time(lake)
    assert (done.batch, done.more) == (3, False)
    assert sorted(lake.steps(3)) == [("upsert", 1, "a", 5), ("upsert", 2, "b", 6)]
    source.execute("DELETE FROM t WHERE id = 1")
    lake.ingest()
    assert lake.steps(4) == [("delete", 1)]


def call_function(lake: Lake, temporary: Path) -> dict[str, Any]:
    """Calls the Lambda function of ingestion with no time left; it clears its temporary folder, as in Lambda."""
    settings = lake.pipeline.settings
    variables = {
        "TMPDIR": str(temporary),
        "TOTES_PROJECT__PATH": str(settings.project.path),
        "TOTES_SOURCE__URL": settings.source_url(),
        "TOTES_SOURCE__CAPTURE": "log",
        "TOTES_LAKE__INGESTION": lake.folder,
        "TOTES_LAKE__PROCESSED": str(settings.base / "lake/processed"),
        "TOTES_LAKE__CACHE": str(settings.cache_folder),
        "TOTES_LAKE__COMPRESSION": "gzip",
    }
    done = subprocess.run(
        [sys.executable, "-c", CALL], env=os.environ | variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_function_is_called_again_until_there_is_no_more(
    source: Database, lake: Lake, tmp_path_factory: pytest.TempPathFactory
) -> None:
    temporary = tmp_path_factory.mktemp("function")
    source.execute(
        "INSERT INTO t VALUES (1, 'a')", "CREATE TABLE u (id int PRIMARY KEY)", "INSERT INTO u VALUES (7)"
    )
    results = [call_function(lake, temporary) for _ in range(3)]
    assert [(each["batch"], each["more"]) for each in results] == [(2, True), (3, False), (None, False)]
