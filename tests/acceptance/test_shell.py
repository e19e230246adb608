"""`totes shell`: a person types statements at a prompt, or a pipe has them; always read only."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import processes
from tests.conftest import Database
from tests.terminals import Terminal

MODEL = """-- What there is.
CREATE TABLE dim_thing (
    id INTEGER PRIMARY KEY, -- Its number.
    name VARCHAR
) AS SELECT id, name FROM thing
"""
SLOW = {
    "duckdb": "SELECT count(*) FROM range(100000000000) AS t(i) WHERE hash(i) % 7 = 3;\n",
    "postgresql": "SELECT pg_sleep(600);\n",
}
PROMPT = "totes> "


class Place:
    """A pipeline that has run, with a warehouse of one kind."""

    def __init__(self, folder: Path, kind: str, source: Database) -> None:
        self.folder, self.kind, self.source = folder, kind, source

    def run(self) -> None:
        """Runs a cycle."""
        done = processes.command(["run"], self.folder, dict(os.environ), 60)
        assert done.code == 0, done.err

    def open(self, columns: int = 80) -> Terminal:
        """A shell on a terminal."""
        shell = Terminal(["shell"], self.folder, columns, {"XDG_STATE_HOME": str(self.folder / "state")})
        shell.wait_for(PROMPT)
        return shell

    def pipe(self, text: str, *options: str) -> subprocess.CompletedProcess[str]:
        """A shell that reads from a pipe."""
        return subprocess.run(
            [sys.executable, "-m", "totes", "shell", *options],
            cwd=self.folder, input=text, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip


@pytest.fixture(params=["duckdb", "postgresql"])
def place(request: pytest.FixtureRequest, new_database: Callable[..., Database], tmp_path: Path) -> Place:
    """A pipeline with a warehouse of each kind."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "dim_thing.sql").write_text(MODEL, "utf-8")
    source = new_database()
    source.execute(
        "CREATE TABLE thing (id int PRIMARY KEY, name text)", "INSERT INTO thing VALUES (1, 'first')"
    )
    warehouse = "duckdb:///warehouse.duckdb" if request.param == "duckdb" else new_database().url
    (tmp_path / "totes.toml").write_text(
        f'[project]\nname = "things"\npath = "."\n[source]\nurl = "{source.url}"\n[warehouse]\nurl = "{warehouse}"\n'
    )
    made = Place(tmp_path, request.param, source)
    made.run()
    return made


def test_a_person_asks_and_sees_every_new_batch(place: Place) -> None:
    with place.open() as shell:
        shell.type("SELECT name\nFROM dim_thing ORDER BY id;\n")
        shell.wait_for("│ first │")
        place.source.execute("INSERT INTO thing VALUES (2, 'second; of them')")
        place.run()
        shell.type("SELECT name FROM dim_thing WHERE name = 'second; of them';SELECT 3 AS three;\n")
        shell.wait_for("│ second; of them │")
        shell.wait_for("│     3 │")
        shell.wait_for(PROMPT, 3)
        shell.type("\x04")
        assert shell.wait() == 0


def test_an_interrupt_ends_a_query_or_forgets_what_was_typed_and_no_more(place: Place) -> None:
    with place.open() as shell:
        shell.type(SLOW[place.kind])
        shell.wait_for(f"{SLOW[place.kind].strip()}\r\n")
        shell.type("\x03")
        shell.wait_for("ended")
        shell.type("SELECT nothing\n")
        shell.wait_for("  ...> ")
        shell.type("\x03")
        shell.wait_for(PROMPT, 3)
        shell.type("SELECT 40 + 2 AS answer;\n")
        shell.wait_for("│     42 │")
        shell.type("\\q\n")
        assert shell.wait() == 0


def test_an_error_or_a_statement_that_writes_ends_nothing_but_itself(place: Place) -> None:
    with place.open() as shell:
        shell.type(
            "SELECT nothing;\nDELETE FROM dim_thing;\n\\nothing\nSELECT count(*) AS many FROM dim_thing;\n"
        )
        shell.wait_for("│    1 │")
        shell.type("exit\n")
        assert shell.wait() == 0
        assert [line.partition(":")[0] for line in shell.screen].count("error") == 3


def test_tables_and_columns_are_shown_with_what_they_are(place: Place) -> None:
    with place.open() as shell:
        shell.type("\\d\n\\d dim_thing\n\\d dim_thing_current\n\\?\n\\q\n")
        assert shell.wait() == 0
        seen = "\n".join(shell.screen)
        assert "What there is." in seen
        assert seen.count("Its number.") == 2
        assert "Tab completes" in seen


def test_names_are_completed(place: Place) -> None:
    with place.open() as shell:
        shell.type("SELECT na\t FROM dim_thi\t\t")
        shell.wait_for("SELECT name")
        shell.type("_current;\n")
        shell.wait_for("│ first │")


def test_what_was_typed_is_remembered_for_its_owner_alone(place: Place) -> None:
    with place.open() as shell:
        shell.type("SELECT 41 + 1 AS again;\n")
        shell.wait_for("│    42 │")
        shell.wait_for(PROMPT, 2)
        shell.type("\x04")
        assert shell.wait() == 0
    file = place.folder / "state" / "totes" / "history"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "SELECT 41 + 1 AS again;" in file.read_text("utf-8")
    with place.open() as shell:
        shell.type("\x1b[A\n")
        shell.wait_for("│    42 │")


def test_a_pipe_runs_one_statement_after_the_other(place: Place) -> None:
    done = place.pipe("SELECT 1 AS a; -- one\nSELECT name\nFROM dim_thing", "--json")
    rows = [document["rows"] for document in objects(done.stdout)]
    assert (done.returncode, done.stderr, rows) == (0, "", [[[1]], [["first"]]])


def objects(text: str) -> list[dict[str, object]]:
    """The JSON objects in a text, one after the other."""
    decoder, found, place = json.JSONDecoder(), [], 0
    while place < len(text):
        document, place = decoder.raw_decode(text, place)
        found.append(document)
        place += len(text[place:]) - len(text[place:].lstrip())
    return found


def test_a_pipe_ends_at_the_first_statement_that_fails(place: Place) -> None:
    done = place.pipe("SELECT 1 AS a;\nSELECT nothing;\nSELECT 2 AS b;\n", "--json")
    assert done.returncode == 2
    assert [document["rows"] for document in objects(done.stdout)] == [[[1]]]
    assert done.stderr.count("\n") == 1
    done = place.pipe("SELECT 'never ends")
    assert (done.returncode, "quote" in done.stderr) == (2, True)
