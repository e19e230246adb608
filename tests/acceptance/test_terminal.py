"""On a terminal no name, value, file or argument does anything but be read: every command, in good days and bad."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import processes
from tests.conftest import Database
from tests.processes import Command
from totes import engine
from totes.display import escaped

TITLE, CLEAR, COLOUR = "\x1b]0;owned\x07", "\x1b[2J", "\x9b31m"
EVIL = f"{TITLE}{CLEAR}{COLOUR}\x7f\x08\r\u202e\u2066\u200b\u2028[red]:boom:\nerror: forged"
# What Rich may write: colours, the cursor off and on, a line cleared and gone back to.
RICH = re.compile(r"\x1b\[[0-9;]*m|\x1b\[\?25[lh]|\x1b\[2K|\x1b\[1A|\r")
TABLE, COLUMN, STAR = f"t{TITLE}", f"v{CLEAR}{COLOUR}\u202e[red]", f"dim_{CLEAR}"
quoted = engine.name

OnTerminal = Callable[..., Command]


@pytest.fixture
def evil(database: Database, tmp_path: Path) -> dict[str, str]:
    """A pipeline of which every name and value is full of escapes; gives its environment."""
    database.execute(
        f"CREATE TABLE {quoted(TABLE)} (id text PRIMARY KEY, {quoted(COLUMN)} text, n text)",
        f"CREATE TABLE {quoted(f'keyless{CLEAR}')} (n text)",
        f"INSERT INTO {quoted(TABLE)} VALUES ({engine.text(EVIL)}, {engine.text(EVIL)}, '1'), ('bad', 'x', {engine.text(EVIL)})",
    )
    folder = tmp_path / f"project{CLEAR}"
    (folder / "models").mkdir(parents=True)
    (folder / "models" / f"{STAR}.sql").write_text(
        f"-- {TITLE}{COLOUR}\nCREATE TABLE {quoted(STAR)} (id VARCHAR PRIMARY KEY, {quoted(COLUMN)} VARCHAR, n INTEGER) AS "
        f"SELECT id, {quoted(COLUMN)}, n FROM {quoted(TABLE)}"
    )
    return {
        "TOTES_SOURCE__URL": database.url, "TOTES_PROJECT__PATH": str(folder), "TOTES_PROJECT__NAME": EVIL,
        "TOTES_LAKE__INGESTION": f"lake{CLEAR}/i", "TOTES_LAKE__PROCESSED": f"lake{CLEAR}/p", "TOTES_LAKE__CACHE": f"cache{CLEAR}",
    }  # fmt: skip


@pytest.fixture
def terminal(evil: dict[str, str], tmp_path: Path) -> OnTerminal:
    """Runs a command on a terminal, and looks for what it would have done there."""

    def run(*arguments: str, columns: int = 80, **environment: str) -> Command:
        done = processes.on_terminal(arguments, tmp_path, {**os.environ, **evil, **environment}, columns)
        seen = RICH.sub("", done.out)
        assert escaped(seen) == seen
        assert "--debug" in arguments or "\nerror: forged" not in seen.replace("\r", "")
        return done

    return run


def test_every_command_in_good_days(terminal: OnTerminal) -> None:
    for arguments in (
        ("doctor",), ("--debug", "run"), ("run",), ("ingest",), ("process",), ("load",), ("status",), ("verify",),
        ("history", STAR, EVIL), ("history", TABLE, EVIL), ("query", f"SELECT * FROM {quoted(STAR)}"),
        ("query", f"SELECT * FROM {quoted(STAR)}", "--csv"), ("query", f"SELECT {engine.text(EVIL)} AS {quoted(EVIL)}"), ("quarantine", "list"), ("quarantine", "retry"),
        ("backup", f"backup{CLEAR}"), ("replay", "--warehouse", f"duckdb:///other{CLEAR}.duckdb"), ("warehouse", "sql"),
    ):  # fmt: skip
        assert terminal(*arguments).code == 0, arguments
    done = terminal("--json", "history", STAR, EVIL)
    [version] = json.loads(done.out)["versions"]
    assert (version["id"], version[COLUMN]) == (EVIL, EVIL)
    terminal("quarantine", "list", columns=40)


def test_every_command_in_bad_days(terminal: OnTerminal, evil: dict[str, str], tmp_path: Path) -> None:
    assert terminal("run").code == 0
    Path(evil["TOTES_PROJECT__PATH"], "models", f"bad{CLEAR}.sql").write_text(
        f"CREATE TABLE x{CLEAR} nonsense {EVIL}"
    )
    for command in ("run", "doctor", "verify"):
        assert terminal("--debug", command).code in (1, 2), command
    for bad in Path(evil["TOTES_PROJECT__PATH"], "models").glob("bad*"):
        bad.unlink()
    nowhere = f"postgresql://who{'%1B%5B2J'}@127.0.0.1:1/db%1B%5B2J"
    for command in ("run", "doctor", "verify"):
        assert terminal("--debug", command, TOTES_SOURCE__URL=nowhere).code in (1, 3), command
    terminal("status", TOTES_SOURCE__URL=nowhere)
    for arguments, code in {
        ("history", TABLE, f"no{EVIL}"): 1, ("history", f"no{EVIL}", "1"): 2, ("verify", "--table", EVIL): 2,
        ("quarantine", "list", "--table", EVIL): 2, ("warehouse", "sql", "--dialect", EVIL): 2, ("run", "--every", EVIL): 2,
        ("query", EVIL): 2, (EVIL,): 2, ("run", EVIL): 2, (f"--{EVIL}",): 2, ("--config", f"{CLEAR}.toml", "run"): 2, ("replay", "--warehouse", EVIL): 2,
        ("replay", "--warehouse", f"duckdb:////dev/null/{CLEAR}.duckdb"): 3, ("replay", "--warehouse", "w", "--to", EVIL): 2,
        ("backup", f"s3://{EVIL}"): 2, ("quarantine", EVIL): 2, ("demo", "--orders", EVIL): 2,
    }.items():  # fmt: skip
        assert terminal(*arguments).code == code, arguments
        assert terminal("--debug", *arguments).code == code, arguments
    for variable, value in {
        f"TOTES_{CLEAR}__X": "1", f"TOTES_SOURCE__{CLEAR}": "1", "TOTES_SOURCE": EVIL.replace("\0", ""), "TOTES_LAKE__MEMORY": EVIL,
        "TOTES_WAREHOUSE__URL": f"duckdb:///{CLEAR}?x={EVIL}", "TOTES_LAKE__INGESTION": f"s3://{EVIL}",
    }.items():  # fmt: skip
        assert terminal("run", **{variable: value}).code in (2, 3), variable
    (tmp_path / "totes.toml").write_text(
        f'["{CLEAR.encode("unicode_escape").decode().replace("x1b", "u001b")}"]\nx = 1\n'
    )
    assert terminal("run").code == 2
    (tmp_path / "totes.toml").write_text(f"[source\n{EVIL}")
    assert terminal("run").code == 2
