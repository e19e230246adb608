"""`totes run --every`: one process for all cycles, that survives failing ones and stops at once; and the exit codes."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import Command, Database
from tests.contracts.shop import MODELS, SCHEMA
from tests.processes import Started
from totes.cli.run import pause_seconds
from totes.terrifictotes.server import LocalServer

NOWHERE = "postgresql://reader:geheim-8@127.0.0.1:1/shop"
STOPPED = "stopped; the next run continues from here"


class Loop:
    """A running `totes run --every …`, and what it has said so far."""

    def __init__(self, process: Started | subprocess.Popen[str]) -> None:
        self.process = process
        self.out: list[str] = []
        self.err: list[str] = []
        self._new: queue.Queue[str] = queue.Queue()
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stdout, self.out)),
            threading.Thread(target=self._read, args=(self.process.stderr, self.err)),
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: Any, lines: list[str]) -> None:
        for line in stream:
            lines.append(line)
            if lines is self.out:
                self._new.put(line)
        stream.close()

    def cycle(self, seconds: float = 30) -> dict[str, Any]:
        """The next cycle's object."""
        document = json.loads(self._new.get(timeout=seconds))
        assert isinstance(document, dict)
        return document

    def until(self, found: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The next cycle that is one of these."""
        while not found(document := self.cycle()):
            pass
        return document

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Waits for something that the running cycle does."""
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, self.err
            time.sleep(0.02)

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        """Asks the process to stop; gives its exit code and how many seconds that took."""
        began = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(30)
        seconds = time.monotonic() - began
        for reader in self._readers:
            reader.join()
        return code, seconds

    @property
    def errors(self) -> list[str]:
        """What standard error has beside logs."""
        return [line.strip() for line in self.err if not line.startswith("{")]


@pytest.fixture
def folder(tmp_path: Path, write_project: Callable[..., dict[str, Any]]) -> Path:
    """A folder with a shop's project and settings, all but the source's URL."""
    write_project(MODELS)
    (tmp_path / "totes.toml").write_text('[project]\nname = "shop"\npath = "project"\n', encoding="utf-8")
    return tmp_path


@pytest.fixture
def loops() -> Iterator[list[Loop]]:
    """Loops that were started; those that a failed test has left are ended."""
    started: list[Loop] = []
    yield started
    for loop in started:
        if loop.process.poll() is None:
            loop.process.kill()
            loop.stop(signal.SIGKILL)


@pytest.fixture
def start(folder: Path, loops: list[Loop]) -> Callable[..., Loop]:
    """Starts a loop in a process that costs no start-up."""

    def start(*arguments: str, **environment: str) -> Loop:
        loops.append(Loop(Started(("run", *arguments), folder, {**os.environ, **environment})))
        return loops[-1]

    return start


@pytest.fixture
def start_python(folder: Path, loops: list[Loop]) -> Callable[..., Loop]:
    """Starts a loop as a user does, in a Python of its own."""

    def start(*arguments: str, **environment: str) -> Loop:
        process = subprocess.Popen(
            [sys.executable, "-m", "totes", "run", *arguments], cwd=folder, env={**os.environ, **environment},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        loops.append(Loop(process))
        return loops[-1]

    return start


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that the server's account can enter, where tests are run by root."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made) / "server"


@pytest.fixture
def shop(database: Database) -> Database:
    """A shop's database."""
    database.execute(*SCHEMA)
    return database


def test_one_process_runs_cycle_after_cycle_and_prints_an_object_a_line(
    shop: Database, start_python: Callable[..., Loop]
) -> None:
    loop = start_python("--every", "1s", "--json", TOTES_SOURCE__URL=shop.url)
    first = loop.cycle()
    assert first == {
        "at": first["at"], "batch": 1, "ingested": {"customer": {"upserts": 2, "deletes": 0}, "order": {"upserts": 3, "deletes": 0}},
        "loaded": {"dim_customer": 2, "fact_order": 3}, "quarantined": 0, "seconds": first["seconds"],
    }  # fmt: skip
    assert set(first["seconds"]) == {"ingest", "process", "load"}
    assert abs(datetime.now(UTC) - datetime.fromisoformat(first["at"])) < timedelta(minutes=1)
    began = time.monotonic()
    second = loop.cycle()
    assert time.monotonic() - began < 5
    assert (second["batch"], second["ingested"], second["loaded"]) == (None, {}, {})
    shop.execute('UPDATE "order" SET quantity = 5, last_updated = now() WHERE order_id = 1')
    assert loop.until(lambda cycle: cycle["batch"] is not None)["loaded"] == {"fact_order": 1}
    assert loop.stop()[0] == 0
    assert all(set(json.loads(line)) == set(first) for line in loop.out)


def test_cycles_that_fail_are_survived_and_what_was_missed_is_caught_up(
    place: Path, start: Callable[..., Loop], monkeypatch: pytest.MonkeyPatch
) -> None:
    with LocalServer.start(place) as server:
        Database(server.url(), "").execute(*SCHEMA)
        loop = start("--every", "1s", "--json", TOTES_SOURCE__URL=server.url())
        assert loop.cycle()["batch"] == 1
    failed = loop.until(lambda cycle: "failures" in cycle)
    assert (failed["batch"], list(failed["failures"]), set(failed["seconds"])) == (
        None,
        ["ingest"],
        {"ingest", "process", "load"},
    )
    loop.until(lambda cycle: "failures" in cycle)
    monkeypatch.setattr("totes.terrifictotes.server._free_port", lambda: server.port)
    with LocalServer.start(place) as again:
        assert again.url() == server.url()
        Database(again.url(), "").execute("INSERT INTO customer VALUES (12, 'Cy', 'Bath', now())")
        found = loop.until(lambda cycle: cycle["batch"] is not None)
        assert (found["batch"], found["loaded"], "failures" in found) == (2, {"dim_customer": 1}, False)
        assert loop.stop()[0] == 0
    said = [json.loads(line) for line in loop.err if '"level": "error"' in line]
    assert [(entry["stage"], entry["times"]) for entry in said[:2]] == [("ingest", 1), ("ingest", 2)]
    assert not any("Traceback" in line for line in loop.err)


def test_a_failing_cycle_is_tried_again_soon_and_then_less_and_less_often() -> None:
    quarter = timedelta(minutes=15)
    assert [pause_seconds(quarter, failures) for failures in range(9)] == [
        900,
        5,
        10,
        20,
        40,
        80,
        160,
        320,
        640,
    ]
    assert [pause_seconds(quarter, failures) for failures in (9, 10, 1000)] == [900, 900, 900]
    assert [pause_seconds(timedelta(seconds=2), failures) for failures in (0, 1, 2)] == [2, 2, 2]


def test_the_first_failure_is_followed_by_a_cycle_after_five_seconds(start: Callable[..., Loop]) -> None:
    loop = start("--every", "1h", "--json", TOTES_SOURCE__URL=NOWHERE)
    loop.cycle()
    began = time.monotonic()
    loop.cycle()
    assert 2 < time.monotonic() - began < 10  # five from the start of one to the start of the next
    assert loop.stop()[0] == 0
    assert "geheim-8" not in "".join(loop.out + loop.err)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_loop_that_waits_stops_at_once(shop: Database, start: Callable[..., Loop], number: int) -> None:
    loop = start("--every", "1h", "--json", TOTES_SOURCE__URL=shop.url)
    loop.cycle()
    code, seconds = loop.stop(number)
    assert code == 0
    assert seconds < 3
    assert loop.errors == [STOPPED]


def hold_source(shop: Database, _star: Database) -> psycopg.Connection:
    """Keeps a batch waiting before it reads: psycopg waits for a lock."""
    held = shop.connect()
    held.execute('LOCK TABLE "order" IN ACCESS EXCLUSIVE MODE')
    return held


def hold_warehouse(_shop: Database, star: Database) -> psycopg.Connection:
    """Keeps a batch waiting while it is loaded: ADBC waits for a lock, in a call of its own."""
    star.execute("CREATE TABLE totes_batches (batch_id bigint)")
    held = star.connect()
    held.execute("LOCK TABLE totes_batches IN ACCESS EXCLUSIVE MODE")
    return held


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("hold", [hold_source, hold_warehouse])
def test_a_cycle_that_waits_for_a_server_stops_at_once(
    shop: Database, new_database: Callable[..., Database], start: Callable[..., Loop], folder: Path,
    hold: Callable[[Database, Database], psycopg.Connection], number: int,
) -> None:  # fmt: skip
    star = new_database()
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = ANY(%s)"
    with hold(shop, star) as held, psycopg.connect(shop.url, autocommit=True) as watch:
        loop = start("--every", "1s", "--json", TOTES_SOURCE__URL=shop.url, TOTES_WAREHOUSE__URL=star.url)
        loop.wait_for(lambda: watch.execute(waiting, [[shop.name, star.name]]).fetchone() == (1,))
        code, seconds = loop.stop(number)
        held.rollback()
    assert code == 0
    assert seconds < 3
    assert loop.out == []
    assert no_incident(folder)


def test_a_cycle_that_computes_stops_at_once_and_is_no_failure(
    database: Database, start: Callable[..., Loop], folder: Path, write_project: Callable[..., dict[str, Any]]
) -> None:
    database.execute(
        "CREATE TABLE t (id integer PRIMARY KEY)", "INSERT INTO t SELECT generate_series(1, 40000)"
    )
    write_project({"dim_t": "CREATE TABLE dim_t (id INTEGER PRIMARY KEY) AS SELECT a.id FROM t AS a JOIN t AS b ON sin(a.id + b.id) > 2"},
                  name="slow")  # fmt: skip
    loop = start("--every", "1s", "--json", TOTES_SOURCE__URL=database.url, TOTES_PROJECT__PATH="slow")
    loop.wait_for((folder / "lake/ingestion/batches/000000000001.json").exists)
    time.sleep(0.5)
    code, seconds = loop.stop()
    assert code == 0
    assert seconds < 3
    assert loop.out == []
    assert no_incident(folder)


def test_a_run_that_is_stopped_takes_up_where_it_was(
    shop: Database, start_python: Callable[..., Loop], totes: Callable[..., Command]
) -> None:
    with hold_source(shop, shop) as held, psycopg.connect(shop.url, autocommit=True) as watch:
        loop = start_python("--json", TOTES_SOURCE__URL=shop.url)
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = %s"
        loop.wait_for(lambda: watch.execute(waiting, [shop.name]).fetchone() == (1,))
        assert loop.stop(signal.SIGINT)[0] == 128 + signal.SIGINT  # it would have ended by itself
        held.rollback()
    assert loop.errors[-1] == STOPPED
    assert json.loads(totes("run", "--json", TOTES_SOURCE__URL=shop.url).out)["loaded"] == {
        "dim_customer": 2,
        "fact_order": 3,
    }


def no_incident(folder: Path) -> bool:
    """Whether nothing was taken for a failure."""
    files = (folder / ".totes").glob("health-*.json")
    return all(json.loads(file.read_text())["incidents"] == {} for file in files)


def errors_of(done: Command) -> list[str]:
    """What standard error has beside logs."""
    return [line for line in done.err.splitlines() if not line.startswith("{")]


def test_a_cycle_that_works_ends_with_0(shop: Database, folder: Path, totes: Callable[..., Command]) -> None:
    done = totes("run", TOTES_SOURCE__URL=shop.url)
    assert (done.code, errors_of(done)) == (0, [])
    assert "Batch 1: captured from the source" in done.out
    again = totes("run", TOTES_SOURCE__URL=shop.url)
    assert (again.code, again.out.strip()) == (0, "Nothing new.")


def test_stages_run_alone(shop: Database, folder: Path, totes: Callable[..., Command]) -> None:
    done = [totes(stage, "--json", TOTES_SOURCE__URL=shop.url) for stage in ("ingest", "process", "load")]
    documents = [json.loads(one.out) for one in done]
    assert [list(document["seconds"]) for document in documents] == [["ingest"], ["process"], ["load"]]
    assert (documents[0]["batch"], documents[2]["loaded"]) == (1, {"dim_customer": 2, "fact_order": 3})


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (("run",), {}, "error: totes.toml: source is missing"),
        (("run", "--config", "nowhere.toml"), {}, "error: there is no nowhere.toml. Check the path of --config"),
        (("run", "--config", "bad.toml"), {}, "error: bad.toml is not valid TOML: "),
        (("run", "--config", "unknown.toml"), {}, "error: unknown.toml: source.shema is not a setting"),
        (("run", "--every", "often"), {"TOTES_SOURCE__URL": NOWHERE}, "error: --every often: write a duration"),
        (("load",), {"TOTES_SOURCE__URL": NOWHERE, "TOTES_LAKE__COMPRESSION": "zip"},
         "error: TOTES_LAKE__COMPRESSION: lake.compression: Input should be 'zstd', 'gzip' or 'none'"),
        (("run",), {"TOTES_SOURCE__URL": NOWHERE, "TOTES_PROJECT__PATH": "no-such-folder"}, "error: "),
        (("status",), {"TOTES_SOURCE__URL": "mysql://u:geheim-8@h/d"}, "error: TOTES_SOURCE__URL: source.url: it must begin"),
    ],
)  # fmt: skip
def test_wrong_settings_end_with_2_and_one_line_that_names_the_key(
    folder: Path,
    totes: Callable[..., Command],
    arguments: tuple[str, ...],
    environment: dict[str, str],
    said: str,
) -> None:
    (folder / "bad.toml").write_text("[source\n")
    (folder / "unknown.toml").write_text('[source]\nurl = "postgresql://u:geheim-8@h/d"\nshema = "x"\n')
    done = totes(*arguments, **environment)
    assert (done.code, done.out) == (2, "")
    [line] = errors_of(done)
    assert line.startswith(said)
    assert "geheim-8" not in line


@pytest.mark.parametrize("arguments", [("no-such-command",), ("run", "--no-such-option"), ("history",)])
def test_wrong_use_ends_with_2(
    folder: Path, totes: Callable[..., Command], arguments: tuple[str, ...]
) -> None:
    assert totes(*arguments).code == 2


def test_stages_that_fail_end_with_3_and_a_line_each(
    shop: Database, folder: Path, totes: Callable[..., Command]
) -> None:
    done = totes("run", "--json", TOTES_SOURCE__URL=NOWHERE, TOTES_WAREHOUSE__URL=NOWHERE)
    assert (done.code, set(json.loads(done.out)["failures"])) == (3, {"ingest", "load"})
    ingest, load = errors_of(done)
    assert ingest.startswith("error: ingest: connecting to the source failed")
    assert ingest.endswith("check host and port in source.url, and that the server is up")
    assert load.startswith("error: load: connecting to the warehouse failed")
    assert load.endswith("check host and port in warehouse.url, and that the server is up")
    assert "geheim-8" not in done.out + done.err


def test_debug_adds_the_traceback_and_no_secret(folder: Path, totes: Callable[..., Command]) -> None:
    for arguments, error in (
        (("ingest", "--debug"), "error: ingest: connecting to the source failed"),
        (("--debug", "run", "--every", "often"), "error: --every often"),
    ):
        done = totes(*arguments, TOTES_SOURCE__URL=NOWHERE)
        assert "Traceback (most recent call last)" in done.err
        assert done.err.splitlines()[-1].startswith(error)
        assert "geheim-8" not in done.out + done.err
