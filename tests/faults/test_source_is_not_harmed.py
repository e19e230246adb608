"""Promise 14 at the source: who uses it waits for reading at most, and for one runner alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import Database, rows_of, run_cleanly
from tests.plain_lake import manifests_of, objects_of
from tests.processes import Runner
from totes import engine
from totes.config import SourceSettings
from totes.ingestion import reading
from totes.ingestion.source import open_snapshot
from totes.lake.store import Store
from totes.pipeline import Pipeline
from totes.terrifictotes.server import LocalServer

TABLE = (
    "CREATE TABLE t (id int PRIMARY KEY, v text)",
    "INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 2000) i",
)
MODEL = {"dim_t": "CREATE TABLE dim_t (id INTEGER PRIMARY KEY, v VARCHAR) AS SELECT id, v FROM t"}
# What others of the server's sessions hold.
HELD = """
    SELECT (SELECT count(*) FROM pg_locks WHERE locktype = 'relation' AND pid <> pg_backend_pid()
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())),
           (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
                AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL))
"""


@pytest.fixture
def pipeline(database: Database, make_pipeline: Any, write_project: Any) -> Pipeline:
    database.execute(*TABLE)
    made: Pipeline = make_pipeline(database.url, project=write_project(MODEL))
    return made


def test_a_schema_change_waits_for_reading_and_not_for_the_store(
    database: Database, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PIECE_BYTES", 20_000)
    put, asked, goes_on = Store.put_new, threading.Event(), threading.Event()

    def slow(self: Store, *what: Any) -> None:
        asked.set()
        assert goes_on.wait(120)
        put(self, *what)

    monkeypatch.setattr(Store, "put_new", slow)
    for number, change in enumerate(("ADD COLUMN w int", "DROP COLUMN w"), start=1):
        done: list[Any] = []
        run = threading.Thread(target=lambda done=done: done.append(pipeline.ingest()))
        run.start()
        assert asked.wait(60)
        # Nothing can be written, so all that is left is what reading holds, and that ends by itself.
        database.execute("SET lock_timeout = '60s'", f"ALTER TABLE t {change}")
        _wait_until_nothing_is_held(database)
        assert not done
        goes_on.set()
        run.join()
        assert done[0].batch == number
        asked.clear()
        goes_on.clear()
        database.execute("UPDATE t SET v = 'new' WHERE id = 7")


def _wait_until_nothing_is_held(database: Database) -> None:
    deadline = time.monotonic() + 30
    while (held := database.execute(HELD)) != [(0, 0)] and time.monotonic() < deadline:
        time.sleep(0.01)  # a runner that asks whether it still has its turn has a snapshot for that
    assert held == [(0, 0)]


@pytest.fixture
def start(pipeline: Pipeline, tmp_path: Path) -> Iterator[Callable[..., Runner]]:
    """Starts runners with a cache of their own each over one lake."""
    url = pipeline.settings.source_url()
    (tmp_path / "totes.toml").write_text(
        f'[project]\npath = "project"\n[source]\nurl = "{url}"\n[lake]\ncompression = "gzip"\n'
    )
    runners: list[Runner] = []

    def start(failpoint: str = "") -> Runner:
        own = {"TOTES_LAKE__CACHE": f"cache-{len(runners)}"}
        runners.append(Runner(tmp_path, "ingest", failpoint=failpoint, environment=own))
        return runners[-1]

    yield start
    for runner in runners:
        if runner.process.is_alive():
            runner.end()


@pytest.mark.parametrize("point", ["ingest.opened:1", "store.put.before:1", "journal.commit.before:1"])
def test_a_runner_that_finds_another_at_work_reads_nothing_and_leaves_nothing(
    start: Callable[..., Runner], tmp_path: Path, point: str
) -> None:
    first = start(f"{point}=stop")
    assert first.wait_until_stopped()
    second = start().wait()
    assert (second.code, second.failures, second.cycle["batch"]) == (0, {}, None)
    first.wake()
    assert first.wait().cycle["batch"] == 1
    stored = objects_of(str(tmp_path / "lake" / "ingestion"))
    [manifest] = manifests_of(stored)
    named = {
        entry["path"]
        for table in manifest["tables"].values()
        for kind in ("objects", "marks")
        for entry in table[kind]
    }
    assert set(stored) == named | {"batches/000000000001.json"}


def test_a_runner_that_is_killed_holds_up_nobody(start: Callable[..., Runner]) -> None:
    first = start("ingest.read:1=stop")
    assert first.wait_until_stopped()
    first.end()
    assert start().wait().cycle["batch"] == 1


def test_all_connections_of_a_batch_go_to_one_of_the_hosts_that_a_url_names(server: LocalServer) -> None:
    with LocalServer.start() as other:
        for each in (server, other):
            with psycopg.connect(each.url(), autocommit=True) as connection:
                connection.execute("DROP ROLE IF EXISTS balanced")
                connection.execute("CREATE ROLE balanced LOGIN SUPERUSER PASSWORD 'geheim-6'")
                connection.execute("CREATE TABLE IF NOT EXISTS anything (id int PRIMARY KEY)")
        hosts = f"127.0.0.1:{server.port},127.0.0.1:{other.port}"
        url = f"postgresql://balanced:geheim-6@{hosts}/postgres?load_balance_hosts=random"
        reached = set()
        for _ in range(12):
            settings = SourceSettings.model_validate({"url": url})
            with (
                open_snapshot(url, settings, frozenset()) as snapshot,
                engine.connect(None, memory="1GB") as local,
            ):
                for _ in range(2):
                    with snapshot.stream("SELECT system_identifier::text FROM pg_control_system()") as rows:
                        local.register("incoming", rows)
                        assert local.execute("SELECT * FROM incoming").fetchall() == [
                            (snapshot.position.system_identifier,)
                        ]
                reached.add(snapshot.position.system_identifier)
        assert len(reached) == 2
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("DROP TABLE anything")
        connection.execute("DROP ROLE balanced")


def test_settings_of_a_database_change_nothing(database: Database, pipeline: Pipeline) -> None:
    for setting, value in {
        "default_transaction_isolation": "serializable", "default_transaction_deferrable": "on",
        "statement_timeout": "5s", "idle_in_transaction_session_timeout": "5s",
        "lock_timeout": "1ms", "search_path": "pg_catalog", "session_replication_role": "replica",
        "TimeZone": "Asia/Kathmandu", "DateStyle": "German", "IntervalStyle": "iso_8601", "bytea_output": "escape",
        "extra_float_digits": "0", "quote_all_identifiers": "on", "xmlbinary": "hex", "client_encoding": "LATIN1",
        "standard_conforming_strings": "off", "array_nulls": "off", "transform_null_equals": "on", "default_transaction_read_only": "on",
    }.items():  # fmt: skip
        database.execute(f"ALTER DATABASE {database.name} SET {setting} = '{value}'")
    with psycopg.connect(
        database.url, options="-c default_transaction_read_only=off", autocommit=True
    ) as writer:
        run_cleanly(pipeline)
        writer.execute("UPDATE public.t SET v = 'grün' WHERE id = 3")
        run_cleanly(pipeline)
    assert rows_of(pipeline, "SELECT count(*), count(*) FILTER (v = 'grün') FROM dim_t") == [(2000, 1)]
