"""What a person sees while `totes run` works: one line that is written over, then nothing of it; others get the log."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import processes
from tests.conftest import Database
from tests.terminals import Terminal
from totes.progress import width

WAITING = "connecting to the source"


@pytest.fixture
def folder(totesys: Database, tmp_path: Path) -> Path:
    """A pipeline over TerrificTotes' data."""
    (tmp_path / "totes.toml").write_text(
        f'[source]\nurl = "{totesys.url}"\nlock_timeout = "60s"\n', encoding="utf-8"
    )
    return tmp_path


@contextmanager
def held(database: Database) -> Iterator[Callable[[], None]]:
    """Has a table locked, so that the work takes as long as a test needs; gives what lets it go on."""
    with database.connect() as session:
        session.execute("LOCK TABLE sales_order IN ACCESS EXCLUSIVE MODE")
        yield session.rollback


def test_a_line_shows_what_is_done_and_is_gone_afterwards(folder: Path, totesys: Database) -> None:
    with held(totesys) as release, Terminal(["run"], folder) as terminal:
        terminal.wait_for(WAITING, 3)
        assert re.fullmatch(rf"{WAITING}  \d+ s", terminal.screen[0])
        release()
        assert terminal.wait() == 0
        assert WAITING not in "\n".join(terminal.screen)
        assert terminal.screen[0] == "Batch 1: captured from the source"
        assert "captured  " not in terminal.received  # a line of the log


def test_an_interrupt_leaves_a_clean_line(folder: Path, totesys: Database) -> None:
    with held(totesys), Terminal(["run"], folder) as terminal:
        terminal.wait_for(WAITING, 2)
        terminal.type("\x03")
        assert terminal.wait() == 130
        # The terminal itself shows ^C, and the line is cleared with it.
        assert [line.removeprefix("^C") for line in terminal.screen] == [
            "stopped; the next run continues from here",
            "",
        ]


def test_an_error_has_a_line_of_its_own(folder: Path) -> None:
    place = folder / "totes.toml"
    place.write_text(place.read_text("utf-8").replace('"60s"', '"1s"'), encoding="utf-8")
    url = "postgresql://x:y@127.0.0.1:1/x"
    with Terminal(["run"], folder, environment={"TOTES_SOURCE__URL": url}) as terminal:
        assert terminal.wait() == 3
        assert any(line.startswith("error: ingest: connecting to the source") for line in terminal.screen)


def test_a_warning_is_above_the_line(folder: Path, totesys: Database) -> None:
    totesys.execute("CREATE TABLE keyless (n int)")
    with Terminal(["run"], folder) as terminal:
        assert terminal.wait() == 0
        [warning] = [line for line in terminal.screen if line.startswith("warning: the table is left out")]
        assert "keyless" in warning


@pytest.mark.parametrize("columns", [20, 40, 80])
def test_no_line_is_wider_than_the_terminal(folder: Path, totesys: Database, columns: int) -> None:
    with held(totesys) as release, Terminal(["run"], folder, columns) as terminal:
        terminal.wait_for("connecting to the")
        release()
        assert terminal.wait() == 0
        written = re.split(r"\r\x1b\[2K|\n", terminal.received)
        assert all(width(re.sub(r"\x1b\[[0-9;]*m", "", line.rstrip("\r"))) <= columns for line in written)


def test_a_dumb_terminal_gets_no_control_characters(folder: Path, totesys: Database) -> None:
    with held(totesys) as release, Terminal(["run"], folder, environment={"TERM": "dumb"}) as terminal:
        terminal.wait_for(WAITING)
        release()
        assert terminal.wait() == 0
        assert "\x1b" not in terminal.received


def test_a_program_gets_the_log(folder: Path) -> None:
    done = processes.command(["run"], folder, dict(os.environ), 60)
    events = [json.loads(line)["event"] for line in done.err.splitlines()]
    assert {"captured", "processed", "loaded"} <= set(events)
    assert "\r" not in done.out + done.err


def test_json_on_a_terminal_comes_with_the_log(folder: Path) -> None:
    done = processes.on_terminal(["run", "--json"], folder, os.environ)
    assert "captured" in done.out
    assert "\x1b[2K" not in done.out
    assert json.loads(done.out.splitlines()[-1])["batch"] == 1


def test_what_is_quickly_done_shows_no_line(folder: Path) -> None:
    assert processes.command(["run"], folder, dict(os.environ), 60).code == 0
    done = processes.on_terminal(["load"], folder, os.environ)
    assert done.out == "Nothing new.\r\n"
