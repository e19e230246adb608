"""`totes demo`, run as its user runs it: what it shows, what it leaves, and that it leaves nothing running."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.on_path import totes_on_path
from tests.processes import Command, Started, command, on_terminal
from tests.spread import in_sweep

ORDERS = "200"
MANY_ORDERS = "5000"  # to make them takes a while
SECTIONS = [
    "What each stage did",
    "An order that changed, with its past: fact_sales_order 196",
    "An order that was deleted, and is still known: fact_sales_order 194",
    "What moved: one row in totesys, every row of the star that shows it",
    "Three questions to the star",
    "Does the warehouse equal totesys?",
    "Where it is",
    "What to type next, now that the server has stopped",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Command]:
    """A demo that was run once: the folder it was run in, and what it printed."""
    place = tmp_path_factory.mktemp("made")
    done = subprocess.run(
        [sys.executable, "-m", "totes", "demo", "--orders", ORDERS],
        cwd=place, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120, check=False,
    )  # fmt: skip
    return place, Command(done.returncode, done.stdout, done.stderr)


def test_it_tells_the_whole_story(made: tuple[Path, Command]) -> None:
    _, done = made

    assert (done.code, done.err) == (0, "")
    heads = [line.partition(" ─")[0] for line in done.out.splitlines() if re.match(r"\S.* ─+$", line)]
    assert heads == SECTIONS
    assert "Checked: all 11 tables, as totes verify does." in " ".join(done.out.split())
    assert "Fiona Strachan, Finance   London            Sheffield" in done.out
    assert re.search(r"is_deleted +no +yes\n", done.out)


def test_what_is_piped_is_plain_and_fits_in_a_hundred_columns(made: tuple[Path, Command]) -> None:
    _, done = made

    assert not re.search(r"[\x00-\x09\x0b-\x1f]", done.out)
    assert [line for line in done.out.splitlines() if line != line.rstrip() or len(line) > 100] == []


def test_it_leaves_settings_lake_and_warehouse(made: tuple[Path, Command]) -> None:
    place, done = made
    folder = place / "demo"
    settings = (folder / "totes.toml").read_text()
    [password] = re.findall(r"totes_reader:(\w+)@127", settings)

    assert sorted(path.name for path in folder.iterdir()) == [
        ".totes",
        ".warehouse.duckdb.lock",
        "lake",
        "totes.toml",
        "warehouse.duckdb",
    ]
    assert (folder / "totes.toml").stat().st_mode & 0o077 == 0
    assert password not in done.out
    for store in ("ingestion", "processed"):
        batches = sorted(path.name for path in (folder / "lake" / store / "batches").iterdir())
        assert batches == ["000000000001.json", "000000000002.json"]
    assert not running_under(settings_port(settings))


def test_every_command_that_it_says_to_type_next_works(made: tuple[Path, Command]) -> None:
    place, done = made
    _, _, said = done.out.partition(SECTIONS[-1])
    commands = [line.strip().split("  ")[0] for line in said.splitlines()[1:]]
    commands = [command for command in commands if not command.startswith(". ")]

    with totes_on_path() as programs:
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        ran = subprocess.run(
            ["sh", "-ec", "\n".join(commands)], cwd=place, env={**os.environ, "PATH": path},
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    assert (ran.returncode, ran.stderr) == (0, "")
    assert [command.split()[0] for command in commands] == [
        "cd",
        "totes",
        "totes",
        "totes",
        "totes",
        "totes",
    ]
    for part in (
        "Project terrifictotes",
        "fact_sales_order 196: 2 versions",
        "dim_staff 14: 2 versions",
        "CREATE TABLE",
    ):
        assert part in ran.stdout


@pytest.fixture(scope="module")
def again(made: tuple[Path, Command], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Command]:
    """A demo that was run with --json where there was one, beside files of others: its folder, and what it printed."""
    folder = tmp_path_factory.mktemp("again") / "else where" / "here"
    shutil.copytree(made[0] / "demo", folder)
    (folder / "lake" / "ingestion" / "batches" / "000000000003.json").write_text("stale")
    (folder / "warehouse.duckdb").write_text("stale")
    (folder / "notes.txt").write_text("mine")
    (folder / "own.duckdb").write_text("mine")
    # Settings for another pipeline are not the demo's.
    others = {
        "TOTES_SOURCE__URL": "postgresql://user:secret@localhost:1/none", "PGSSLMODE": "require",
        "TOTES_WAREHOUSE__URL": "duckdb:///elsewhere.duckdb", "PGOPTIONS": "-c nonsense=1",
    }  # fmt: skip
    arguments = ("demo", "--dir", "else where/here", "--orders", ORDERS, "--json")
    return folder, command(arguments, folder.parents[1], {**os.environ, **others}, 120)


def test_run_again_it_starts_afresh_and_touches_nothing_of_others(again: tuple[Path, Command]) -> None:
    folder, done = again

    assert (done.code, done.err) == (0, "")
    document = json.loads(done.out)
    assert [batch["batch"] for batch in document["batches"]] == [1, 2]
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / "own.duckdb").read_text() == "mine"
    assert len(list((folder / "lake" / "ingestion" / "batches").iterdir())) == 2


def test_with_json_it_prints_one_object_with_the_same_facts(again: tuple[Path, Command]) -> None:
    folder, done = again

    assert (done.code, done.err, done.out.count("\n")) == (0, "", 1)
    document = json.loads(done.out)
    first, second = document["batches"]
    assert first["ingested"]["sales_order"] == {"upserts": 200, "deletes": 0}
    assert second["ingested"]["sales_order"] == {"upserts": 25, "deletes": 1}
    assert second["ingested"]["department"] == {"upserts": 1, "deletes": 0}
    assert set(first["seconds"]) == {"ingest", "process", "load"}
    assert [version["is_deleted"] for version in document["changed_order"]["versions"]] == [False, False]
    assert [version["is_deleted"] for version in document["deleted_order"]["versions"]] == [False, True]
    assert (
        document["traded"]["deleted_order_id"] == document["deleted_order"]["versions"][1]["sales_order_id"]
    )
    assert [len(answer["rows"]) > 0 for answer in document["answers"]] == [True, True, True]
    assert {(table["missing"], table["extra"]) for table in document["checked"]["tables"].values()} == {
        (0, 0)
    }
    assert len(document["checked"]["tables"]) == 11
    assert "cd 'else where/here'" in document["next"]
    for file in document["files"]:
        assert (folder / file["path"]).exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--dir", "mine"], "mine is not empty, and not the folder of a demo"),
        (["--dir", "mine/totes.toml"], "mine/totes.toml is a file"),
        (["--orders", "0"], "the demo cannot run with 0 orders"),
        (["--orders", "19"], "the demo cannot run with 19 orders"),
        (["--orders", "200000000"], "the demo cannot run with 200000000 orders"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_touched(
    arguments: list[str], said: str, tmp_path: Path, totes: Callable[..., Command]
) -> None:
    mine = {"totes.toml": "[source]", "lake": "mine", "warehouse.duckdb": "mine"}
    (tmp_path / "mine").mkdir()
    for name, text in mine.items():
        (tmp_path / "mine" / name).write_text(text)

    done = totes("demo", *arguments)

    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"error: {said}. ")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert {path.name: path.read_text() for path in (tmp_path / "mine").iterdir()} == mine


@pytest.mark.parametrize(
    ("number", "after", "orders"),
    [
        (signal.SIGINT, "TerrificTotes", ORDERS),  # PostgreSQL starts
        (signal.SIGTERM, "a server for this demo", MANY_ORDERS),  # the source is being created
        # The first batch; at its end the demo of `shown` is stopped too.
        in_sweep(signal.SIGINT, "totesys created", MANY_ORDERS),
        (signal.SIGINT, "questions asked", ORDERS),  # PostgreSQL stops
    ],
)
def test_stopped_in_the_middle_it_leaves_no_process_behind(
    number: signal.Signals, after: str, orders: str, tmp_path: Path
) -> None:
    stop(tmp_path, number, after, orders)


def test_killed_it_leaves_no_process_behind_either(tmp_path: Path) -> None:
    with start(tmp_path, ORDERS) as demo:
        for line in demo.stdout:
            if "totesys created" in line:
                break
        children = descendants(demo.pid)
        demo.kill()

    assert any("postgres" in what for what in children.values())
    deadline = time.monotonic() + 30
    while children.keys() & processes().keys() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not children.keys() & processes().keys()


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a demo shows on a terminal of ninety columns, run where one was stopped after its first batch."""
    place = tmp_path_factory.mktemp("stopped")
    stop(place, signal.SIGTERM, "Batch 1", ORDERS)
    assert (place / "demo" / "lake" / "ingestion" / "batches" / "000000000001.json").exists()
    return on_terminal(("demo", "--orders", ORDERS), place, os.environ, columns=90).out


def test_after_it_was_stopped_it_can_be_run_again(shown: str) -> None:
    assert SECTIONS[-1] in shown


def test_on_a_terminal_it_moves_while_it_works_and_fits_the_window(shown: str) -> None:
    assert "\x1b[?25l" in shown
    assert shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l")  # the cursor is there again
    assert re.search(r"Batch 1: all that is there .*0:00:0", shown)
    still = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line.rpartition("\r")[2]) for line in shown.split("\r\n")]
    assert any(re.match(r"✓ totesys created, with 200 sales orders +\d\.\d s$", line) for line in still)
    assert [line for line in still if len(line.rstrip()) > 90] == []
    assert "\x1b[1;33mSheffield" in shown


def stop(place: Path, number: signal.Signals, after: str, orders: str) -> None:
    """Stops a demo after it has said something, and makes sure that nothing of it is left running."""
    with start(place, orders) as demo:
        for line in demo.stdout:
            if after in line:
                break
        time.sleep(0.05)
        children = descendants(demo.pid)
        demo.send_signal(number)
        demo.send_signal(number)
        code = demo.wait(timeout=60)
        said = demo.stderr.read()
    assert (code, said) == (128 + number, "stopped\n")
    assert {process: what for process, what in processes().items() if process in children} == {}
    assert not [folder for what in children.values() for folder in re.findall(r"/\S+/totes-server-\w+", what)
                if Path(folder).exists()]  # fmt: skip


def start(place: Path, orders: str) -> Started:
    """Starts a demo without waiting for it."""
    return Started(("demo", "--orders", orders), place, os.environ)


def processes() -> dict[int, str]:
    """All processes of this machine that are alive: their command by their number."""
    return {number: what for number, (_, what) in _process_table().items()}


def descendants(ancestor: int) -> dict[int, str]:
    """The processes that a process has started, and those that these have."""
    table = _process_table()
    found: dict[int, str] = {}
    parents = {ancestor}
    while parents:
        children = {number: what for number, (parent, what) in table.items() if parent in parents}
        found |= children
        parents = set(children)
    return found


def _process_table() -> dict[int, tuple[int, str]]:
    """Each process with its parent and its command: from /proc where there is one, as small containers have no ps."""
    table = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            command = (folder / "cmdline").read_text(errors="replace").replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        if state != "Z":
            table[int(folder.name)] = (int(parent), command)
    if table:
        return table
    listed = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    )
    # The text of server.sh is an argument of several lines.
    rows = [row for row in (line.split(None, 2) for line in listed.stdout.splitlines()) if len(row) == 3]
    return {int(row[0]): (int(row[1]), row[2]) for row in rows if row[0].isdigit() and row[1].isdigit()}


def running_under(port: str) -> list[str]:
    """The PostgreSQL servers that listen at a port."""
    return [what for what in processes().values() if f"--port={port}" in what]


def settings_port(settings: str) -> str:
    """The port of the demo's server."""
    [port] = re.findall(r"@127\.0\.0\.1:(\d+)/", settings)
    return str(port)
