"""`totes query` asks a warehouse of either kind: every value exact, nothing written, and every end a clean one."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import processes
from tests.conftest import Database
from tests.processes import Command

SOURCE = (
    "CREATE TABLE thing (id int PRIMARY KEY, name text, amount numeric, seen timestamp, ok boolean, ratio float8, raw bytea)",
    "INSERT INTO thing VALUES (1, '', 12345678901234567890.10, '0044-03-15 10:00 BC', true, 0.1, '\\x00ff'),"
    " (2, NULL, 0.00, 'infinity', false, 'NaN', NULL), (3, E'two\\nlines, \"日本\"', -1.5, '2024-11-26 10:00:00.000001', NULL, 1e300, '')",
)
MODEL = """-- Things.
CREATE TABLE dim_thing (
    id INTEGER PRIMARY KEY, name VARCHAR, amount DECIMAL(30, 2), seen TIMESTAMP, ok BOOLEAN, ratio DOUBLE, raw BLOB
) AS SELECT id, name, amount, seen, ok, ratio, raw FROM thing
"""
ALL = "SELECT * FROM dim_thing ORDER BY id"
ONLY_READS = "Only what reads the warehouse is run"
SLOW = {
    # Several threads compute it: their time shows that it is under way.
    "duckdb": "WITH many AS MATERIALIZED (SELECT i FROM range(1000000) AS t(i))"
    " SELECT count(*) FROM many AS a, many AS b WHERE hash(a.i, b.i) % 7 = 3",
    "postgresql": "SELECT pg_sleep(600)",
}
Query = Callable[..., Command]


@pytest.fixture(scope="module", params=["duckdb", "postgresql"])
def folder(
    request: pytest.FixtureRequest,
    new_database: Callable[..., Database],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A pipeline that has run, with a warehouse of each kind; its name is the kind."""
    place = tmp_path_factory.mktemp("query") / request.param
    (place / "models").mkdir(parents=True)
    (place / "models" / "dim_thing.sql").write_text(MODEL, "utf-8")
    source = new_database()
    source.execute(*SOURCE)
    warehouse = "duckdb:///warehouse.duckdb" if request.param == "duckdb" else new_database().url
    (place / "totes.toml").write_text(
        f'[project]\nname = "things"\npath = "."\n[source]\nurl = "{source.url}"\n[warehouse]\nurl = "{warehouse}"\n'
    )
    done = processes.command(["run"], place, dict(os.environ), 60)
    assert done.code == 0, done.err
    return place


@pytest.fixture
def query(folder: Path) -> Query:
    """Asks the warehouse."""

    def ask(*arguments: str, terminal: int | None = None) -> Command:
        if terminal:
            return processes.on_terminal(["query", *arguments], folder, os.environ, terminal)
        return processes.command(["query", *arguments], folder, dict(os.environ), 60)

    return ask


def test_json_has_every_value_exactly(query: Query) -> None:
    answer = json.loads(query(ALL, "--json").out)
    era, infinity = ("0044-03-15 10:00:00 BC", "infinity")
    assert [column["name"] for column in answer["columns"]] == [
        "id",
        "name",
        "amount",
        "seen",
        "ok",
        "ratio",
        "raw",
    ]
    assert {column["type"].lower() for column in answer["columns"]} & {"numeric(30,2)", "decimal(30,2)"}
    rows = [[str(value).replace("0044-03-15 (BC) 10:00:00", era) if number == 3 else value for number, value in enumerate(row)] for row in answer["rows"]]  # fmt: skip
    assert rows == [
        [1, "", "12345678901234567890.10", era, True, 0.1, "\\x00ff"],
        [2, None, "0.00", infinity, False, "NaN", None],
        [3, 'two\nlines, "日本"', "-1.50", "2024-11-26 10:00:00.000001", None, 1e300, "\\x"],
    ]


def test_csv_distinguishes_null_from_empty_text(query: Query) -> None:
    out = query("SELECT id, name, amount FROM dim_thing ORDER BY id", "--csv").out
    assert out == ('id,name,amount\n1,"",12345678901234567890.10\n2,,0.00\n3,"two\nlines, ""日本""",-1.50\n')
    assert list(csv.reader(out.splitlines(keepends=True)))[3] == ["3", 'two\nlines, "日本"', "-1.50"]


def test_a_table_shows_null_and_escapes_what_moves_a_terminal(query: Query) -> None:
    out = query("SELECT name, chr(27) || '[2J' AS evil FROM dim_thing ORDER BY id", terminal=80).out
    assert "NULL" in out
    assert "\\x1b[2J" in out
    assert "two\\nlines" in out
    assert "3 rows." in out


def test_columns_of_one_name_stay_columns(query: Query) -> None:
    answer = json.loads(query("SELECT 1 AS a, 2 AS a, 'x' AS \"a b\"", "--json").out)
    assert [column["name"] for column in answer["columns"]] == ["a", "a", "a b"]
    assert answer["rows"] == [[1, 2, "x"]]


def test_rows_are_in_the_order_that_was_asked_for(query: Query, folder: Path) -> None:
    many = "range(200000)" if folder.name == "duckdb" else "generate_series(0, 199999)"
    sql = f"SELECT i, CAST(i AS VARCHAR) AS t FROM {many} AS t(i) ORDER BY 2 DESC"
    rows = [row for _, row in json.loads(query(sql, "--json").out)["rows"]]
    assert rows == sorted(map(str, range(200_000)), reverse=True)


WRITING = (
    "DELETE FROM dim_thing", "DELETE FROM dim_thing RETURNING *", "INSERT INTO dim_thing (id) VALUES (9)", "DROP TABLE dim_thing",
    "CREATE TEMP TABLE t AS SELECT 1", "COPY dim_thing TO '/tmp/never-written.csv'", "SET TIME ZONE 'UTC'", "BEGIN", "COMMIT",
    "WITH gone AS (DELETE FROM dim_thing RETURNING *) SELECT * FROM gone", "EXPLAIN ANALYZE DELETE FROM dim_thing",
)  # fmt: skip


def test_nothing_is_written(query: Query) -> None:
    before = query(ALL, "--json")
    for writing in WRITING:
        done = query(writing, "--json")
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), (writing, done)
    assert query(ALL, "--json") == before
    assert len(json.loads(before.out)["rows"]) == 3
    assert not Path("/tmp/never-written.csv").exists()


def test_a_read_only_transaction_stays_one(query: Query, folder: Path) -> None:
    if folder.name == "postgresql":
        done = query("SELECT set_config('transaction_read_only', 'off', true)")
        assert (done.code, "read-write" in done.err) == (3, True)


def test_what_is_wrong_is_said_in_one_line_with_the_place(query: Query) -> None:
    done = query("SELECT id,\n  nothing FROM dim_thing;")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert done.err.endswith("(line 2, column 3)\n")
    assert "nothing" in done.err
    long = f"SELECT {'id, ' * 100}nothing FROM dim_thing"
    assert f"(line 1, column {long.index('nothing') + 1})" in query(long).err
    assert "syntax error" in query("SELEC 1").err
    done = query("SELECT CAST(name AS INTEGER) FROM dim_thing", "--csv")
    assert (done.code, done.out, done.err.count("\n")) == (3, "", 1)


@pytest.mark.parametrize(
    ("sql", "problem"),
    [("SELECT 1; SELECT 2", "2 statements"), ("", "0 statements"), ("/* nothing */", "0 statements"), ("SELECT 'x", "does not end")],
)  # fmt: skip
def test_one_statement_is_asked(query: Query, sql: str, problem: str) -> None:
    done = query(sql)
    assert (done.code, problem in done.err) == (2, True), done.err


def test_a_semicolon_may_be_anywhere_but_between_statements(query: Query) -> None:
    for sql in (
        "SELECT ';' AS v; -- a; comment",
        "SELECT ';' AS v /* ; /* ; */ */ ;;",
        "SELECT $$;$$ AS v",
        "SELECT ';' AS \"v;\"",
    ):
        assert json.loads(query(sql, "--json").out)["rows"] == [[";"]], sql


def test_the_statement_may_come_from_standard_input(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "totes", "query", "-", "--csv"],
        cwd=folder, input="SELECT id\nFROM dim_thing ORDER BY 1;\n", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "id\n1\n2\n3\n"


def test_a_pipe_that_nobody_reads_is_no_error(folder: Path) -> None:
    many = "range(300000)" if folder.name == "duckdb" else "generate_series(1, 300000)"
    with subprocess.Popen(
        [sys.executable, "-m", "totes", "query", f"SELECT * FROM {many} AS t(i)", "--csv"],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"i\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


def test_memory_does_not_grow_with_the_rows(folder: Path) -> None:
    many = "range({n})" if folder.name == "duckdb" else "generate_series(1, {n})"
    sql = f"SELECT i, repeat('x', 200) AS t FROM {many} AS t(i)"
    measured = "import resource, sys; from totes.__main__ import main\ntry: main()\nfinally: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    peaks = []
    for rows in (1000, 400_000):
        done = subprocess.run(
            [sys.executable, "-c", measured, "query", sql.format(n=rows), "--csv"],
            cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        peaks.append(int(done.stderr))
    assert peaks[1] - peaks[0] < 40_000  # kB, of 80 MB of rows


def test_an_interrupt_ends_the_query(folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "totes", "query", SLOW[folder.name]],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not _is_asking(process.pid, folder):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (130, "", "stopped\n")


def _is_asking(number: int, folder: Path) -> bool:
    """Whether the process's query is under way: the server waits for it, or threads of the engine compute."""
    url = tomllib.loads((folder / "totes.toml").read_text("utf-8"))["warehouse"]["url"]
    if folder.name == "postgresql":
        asked = (
            "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
        )
        return bool(Database(url, "").execute(asked))
    for thread in Path(f"/proc/{number}/task").iterdir():
        user = int((thread / "stat").read_text().rpartition(")")[2].split()[11]) / os.sysconf("SC_CLK_TCK")
        if int(thread.name) != number and user > 0.2:  # the first thread is Python's own
            return True
    return False


def test_a_table_says_that_there_is_more(query: Query) -> None:
    out = query(ALL.replace("*", "id"), "--limit", "2", terminal=80).out
    assert "The first 2 rows; there are more." in out
