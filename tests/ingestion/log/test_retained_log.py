"""How much log the source retains is shown, and reported when it is half of what it may be, once at the beginning and once at the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import Command, Database, Mailbox
from tests.ingestion.log.conftest import Lake
from tests.ingestion.log.test_deadline import call_function, write_log
from tests.spread import in_sweep
from totes.lake.journal import ingestion_journal
from totes.lake.manifest import Position
from totes.monitoring.alerts import watch
from totes.monitoring.retained_log import Rate, RetainedLog, rate_between, read_retained_log
from totes.monitoring.status import read_status
from totes.terrifictotes.server import LocalServer

# What Apprise imports on Python 3.11 and 3.12.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
LIMIT = 64 << 20


@pytest.fixture
def limited(log_server: LocalServer, source: Database) -> Iterator[Database]:
    """The source, whose server retains at most 64 MB of its log for a slot."""
    _set(log_server, "ALTER SYSTEM SET max_slot_wal_keep_size = '64MB'", "64MB")
    yield source
    _set(log_server, "ALTER SYSTEM RESET max_slot_wal_keep_size", "-1")


def _set(server: LocalServer, statement: str, shown: str) -> None:
    with psycopg.connect(server.url(), autocommit=True) as session:
        session.execute(statement.encode())
        session.execute("SELECT pg_reload_conf()")
    found = None
    while found != shown:  # a new session reads what the server has by then
        with psycopg.connect(server.url()) as session:
            found = session.execute("SHOW max_slot_wal_keep_size").fetchall()[0][0]


@pytest.fixture
def settled(lake: Lake, tmp_path: Path) -> Lake:
    """The lake, with a settings file that describes it to the command."""
    settings = lake.pipeline.settings
    (tmp_path / "totes.toml").write_text(
        f'[project]\nname = "p"\npath = "{settings.project.path}"\n'
        f'[source]\nurl = "{settings.source_url()}"\ncapture = "log"\n[lake]\ncompression = "gzip"\n'
    )
    return lake


@pytest.mark.parametrize("steps", [4, in_sweep(20)])
def test_a_night_of_another_database_keeps_no_log_back(
    steps: int, limited: Database, lake: Lake, log_server: LocalServer, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each step writes half of what the slot may keep, as rows of another database; then ours looks, and has nothing new."""
    other = Database(log_server.url(), "postgres")
    other.execute("CREATE TABLE others (v text)")
    try:
        for _ in range(steps):
            other.execute(
                "INSERT INTO others SELECT repeat('x', 1000) FROM generate_series(1, 25000)", "CHECKPOINT"
            )
            assert lake.ingest().batch is None
            other.execute("TRUNCATE others", "CHECKPOINT")  # of its own a server does this every five minutes
            lake.ingest()
            [(retained, status)] = limited.execute(
                "SELECT pg_current_wal_insert_lsn() - restart_lsn, wal_status FROM pg_replication_slots"
            )
            assert retained < 32 << 20
            assert status == "reserved"
        limited.execute("INSERT INTO t VALUES (1, 'a')")
        assert lake.ingest().batch == 2
        assert lake.steps(2) == [("upsert", 1, "a")]
        assert "the steps between" not in capfd.readouterr().err
        assert len(list(lake.pipeline.ingestion_store.list("log/totes/"))) <= steps
    finally:
        other.execute("DROP TABLE others")


def log_of(totes: Callable[..., Command], **variables: str) -> dict[str, Any]:
    """What `totes status --json` shows of the log."""
    done = totes("status", "--json", **variables)
    assert done.code == 0, done.err
    found: dict[str, Any] = json.loads(done.out)["log"]
    return found


def test_status_shows_how_much_is_retained_and_how_long_the_rest_lasts(
    limited: Database, settled: Lake, totes: Callable[..., Command], tmp_path: Path
) -> None:
    before = log_of(totes)
    write_log(limited, 20)
    found = log_of(totes)
    assert found["bytes"] - before["bytes"] >= 20 << 20
    assert found["limit_bytes"] == LIMIT
    # The server removes whole segments of 16 MB.
    assert LIMIT <= found["bytes"] + found["room_bytes"] <= LIMIT + (32 << 20)
    rate = found["rate"]
    assert rate["bytes_per_second"] * rate["over_seconds"] >= 20 << 20
    assert found["lasts_seconds"] == pytest.approx(found["room_bytes"] / rate["bytes_per_second"])
    assert (found["lost"], found["nears_limit"], found["unreachable"]) == (False, False, None)
    text = " ".join(totes("status").out.split())
    assert "for the slot totes, of 64.0 MB at most (max_slot_wal_keep_size). It wrote" in text
    assert "at that rate, the rest lasts" in text
    assert totes("ui", "--export", "pages").code == 0
    assert "Log: the source retains" in (tmp_path / "pages" / "index.html").read_text(encoding="utf-8")
    checks = {check["name"]: check for check in json.loads(totes("doctor", "--json").out)["checks"]}
    assert checks["slot"]["severity"] == "ok"
    assert "at that rate, the rest lasts" in checks["slot"]["found"]


def test_status_without_a_limit_names_the_disk(settled: Lake, totes: Callable[..., Command]) -> None:
    found = log_of(totes)
    assert (found["limit_bytes"], found["room_bytes"], found["lasts_seconds"]) == (None, None, None)
    assert found["rate"] is not None
    assert "nothing but its disk limits that" in " ".join(totes("status").out.split())


def test_status_works_while_the_source_is_away(settled: Lake, totes: Callable[..., Command]) -> None:
    away = "postgresql://reader:geheim-7@127.0.0.1:1/shop"
    found = log_of(totes, TOTES_SOURCE__URL=away)
    assert found["unreachable"].startswith("connecting to the source failed")
    done = totes("status", TOTES_SOURCE__URL=away)
    assert "Log: not known: connecting to the source failed" in " ".join(done.out.split())
    assert "geheim-7" not in done.out
    assert read_status(settled.pipeline).stages["ingest"].batch == 1


def test_status_before_there_is_a_slot(
    source: Database, new_lake: Callable[..., Lake], totes: Callable[..., Command]
) -> None:
    found = read_retained_log(new_lake(source).pipeline.settings)
    assert found.sentence() == "there is no slot totes yet; the next batch creates it."


def test_half_of_the_limit_is_reported_once_and_its_end_once(
    limited: Database, new_lake: Callable[..., Lake], smtp: Mailbox
) -> None:
    pipeline = new_lake(limited, alerts={"urls": [smtp.url]}).pipeline

    def run() -> list[str]:
        watch(pipeline.settings, pipeline.run())
        return smtp.subjects

    assert run() == []
    with (
        limited.connect() as late
    ):  # its changes are in no batch yet, so the log since its beginning is needed
        late.execute("INSERT INTO t VALUES (1, 'late')")
        write_log(limited, 40)
        assert run() == ["[totes] project: the source retains too much log"]
        assert run() == ["[totes] project: the source retains too much log"]
        status = read_status(pipeline)
        assert status.log_failing is not None
        assert "half or more of the 64.0 MB that max_slot_wal_keep_size allows" in status.log_failing.what
        assert not status.healthy
    limited.execute("CHECKPOINT")  # from here, the slot needs no log of that transaction
    run()
    run()
    assert smtp.subjects == [
        "[totes] project: the source retains too much log",
        "[totes] project: the source retains less log again",
    ]
    assert read_status(pipeline).healthy


def test_half_of_the_limit_is_reported_while_ingestion_fails(
    limited: Database, new_lake: Callable[..., Lake], smtp: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = new_lake(limited, alerts={"urls": [smtp.url]}).pipeline
    watch(pipeline.settings, pipeline.run())
    limited.execute("DROP PUBLICATION totes")
    write_log(limited, 40)
    watch(pipeline.settings, pipeline.run())
    assert smtp.subjects == [
        "[totes] project: ingest fails",
        "[totes] project: the source retains too much log",
    ]
    away = new_lake(Database("postgresql://postgres:x@127.0.0.1:1/shop", "shop"), alerts={"urls": [smtp.url]})
    watch(away.pipeline.settings, away.pipeline.run())  # nothing is known of the log then: it is not over
    assert len(smtp.subjects) == 2


def test_a_lost_slot_is_shown(limited: Database, settled: Lake, totes: Callable[..., Command]) -> None:
    for _ in range(3):
        write_log(limited, 60)
        limited.execute("CHECKPOINT")
    found = log_of(totes)
    assert (found["lost"], found["nears_limit"]) == (True, True)
    assert "the next batch compares all rows" in " ".join(totes("status").out.split())


def test_the_function_returns_what_its_watch_reports(
    limited: Database, lake: Lake, tmp_path_factory: pytest.TempPathFactory
) -> None:
    temporary = tmp_path_factory.mktemp("function")
    with limited.connect() as late:
        late.execute("INSERT INTO t VALUES (1, 'late')")
        write_log(limited, 20)
        assert call_function(lake, temporary)["log"] is None
        write_log(limited, 20)
        assert "half or more of the 64.0 MB" in call_function(lake, temporary)["log"][0]


def test_the_rate_is_of_the_batch_that_is_ten_minutes_old(
    source: Database, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        source.execute(f"INSERT INTO t VALUES ({number}, 'x')")
        lake.ingest()
    journal = ingestion_journal(lake.pipeline.ingestion_store)
    first = journal.read(1).position.read_at
    found = read_retained_log(lake.pipeline.settings)
    assert found.rate is not None  # there is none that old: since the first
    monkeypatch.setattr("totes.monitoring.retained_log._RATE_SECONDS_MIN", 0.0)
    newest = read_retained_log(lake.pipeline.settings)
    assert newest.rate is not None
    age = (journal.read(6).position.read_at - first).total_seconds()
    assert found.rate.over_seconds >= age
    assert found.rate.over_seconds - newest.rate.over_seconds < age + 60
    assert newest.rate.over_seconds < found.rate.over_seconds


def test_a_rate_needs_two_positions_of_one_server(lake: Lake) -> None:
    now = ingestion_journal(lake.pipeline.ingestion_store).read(1).position
    then = now.model_copy(update={"read_at": now.read_at - timedelta(seconds=10), "lsn": "0/100"})
    now = now.model_copy(update={"lsn": "0/1100"})
    assert rate_between(then, now) == Rate(409.6, 10.0)

    def without(**values: Any) -> Position:
        return then.model_copy(update=values)

    others = [
        without(system_identifier="7"),
        without(lsn=None),
        without(lsn="1/0"),
        without(read_at=now.read_at),
    ]
    assert [rate_between(other, now) for other in others] == [None] * 4
    idle = RetainedLog("totes", 10, 100, 90, rate=Rate(0.0, 10.0))
    assert idle.lasts_seconds is None
    assert "the rest lasts" not in idle.sentence()
