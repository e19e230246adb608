"""Where output goes does not decide what a command did: a reader that is gone, a full disk, a closed stream, an old encoding."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Database
from tests.contracts.shop import MODELS, SCHEMA

NOWHERE = "postgresql://reader@127.0.0.1:1/shop"
Shell = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def shell(database: Database, write_project: Any, tmp_path: Path) -> Shell:
    """Runs a line of bash in which `totes` is the command."""
    database.execute(*SCHEMA)
    write_project(MODELS)

    def run(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
        settings = {
            "TOTES_SOURCE__URL": database.url,
            "TOTES_PROJECT__PATH": "project",
            "PYTHON": sys.executable,
            "PYTHONUNBUFFERED": "",  # as users have it
        }
        return subprocess.run(
            ["bash", "-c", f'totes() {{ "$PYTHON" -m totes "$@"; }}; {line}'],
            cwd=tmp_path, env={**os.environ, **settings, **environment}, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run


def test_a_reader_that_went_away_is_no_fault(shell: Shell) -> None:
    shown = shell('totes warehouse sql | true; exit "${PIPESTATUS[0]}"')
    assert (shown.returncode, shown.stderr) == (0, "")


def test_a_stage_that_fails_is_a_failure_whoever_reads(shell: Shell) -> None:
    done = shell('totes run | true; exit "${PIPESTATUS[0]}"', TOTES_SOURCE__URL=NOWHERE)
    assert (done.returncode, done.stderr.count("error: ingest: ")) == (3, 1)
    assert (
        shell('totes --json run | true; exit "${PIPESTATUS[0]}"', TOTES_SOURCE__URL=NOWHERE).returncode == 3
    )


def test_a_cycle_is_a_line_with_its_time_its_rows_and_how_long_each_stage_took(
    shell: Shell, database: Database
) -> None:
    loop = '"$PYTHON" -m totes run --every 1s | head -n 2'
    first = shell(loop).stdout.splitlines()
    database.execute('DELETE FROM "order" WHERE order_id = 1')
    lines = [*first, *shell(loop).stdout.splitlines()]
    seconds = r"\(ingest \d+\.\d\d s, process \d+\.\d\d s, load \d+\.\d\d s\)"
    for line, done in zip(lines, (
        "batch 1, 5 rows ingested, 0 deleted, 5 loaded", "nothing new", "batch 2, 0 rows ingested, 1 deleted, 1 loaded", "nothing new",
    ), strict=True):  # fmt: skip
        assert re.fullmatch(rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC  {done}  {seconds}", line), line


def test_a_loop_ends_when_nobody_reads_it_any_more(shell: Shell) -> None:
    done = shell('timeout 60 "$PYTHON" -m totes run --every 1s --json | head -n 1; exit "${PIPESTATUS[0]}"')
    assert (done.returncode, done.stdout.count("\n")) == (0, 1)


def test_output_that_cannot_be_written_is_said(shell: Shell) -> None:
    for command in ("status", "--json status", "run", "--version", "--help", "run --help"):
        done = shell(f"totes {command} > /dev/full")
        assert done.returncode == 3
        assert done.stderr.splitlines()[-1] == (
            "error: the result could not be written: No space left on device. Check where standard output goes"
        )
    assert shell("totes --config none.toml status 2> /dev/full").returncode == 2


def test_closed_streams_and_old_encodings_are_no_fault(shell: Shell) -> None:
    assert shell("totes run >&-").returncode == 0
    assert shell("totes status 2>&-").returncode == 0
    assert shell("totes status <&-").returncode == 0
    done = shell("totes history dim_customer 10", PYTHONIOENCODING="ascii", TOTES_PROJECT__NAME="Täschchen")
    assert (done.returncode, "Ada" in done.stdout) == (0, True)
    done = shell("totes status", PYTHONIOENCODING="ascii", TOTES_PROJECT__NAME="Täschchen")
    assert (done.returncode, "Project T\\xe4schchen" in done.stdout) == (0, True)


def test_an_interrupt_ends_a_command_without_a_traceback(tmp_path: Path) -> None:
    for module, code, said in (
        ("totes.cli.app", -signal.SIGINT, ""),
        ("totes.monitoring.status", 130, "stopped\n"),
    ):
        program = (
            "import os, signal, sys\n"
            "class Interrupt:\n"
            "    def find_spec(self, name, *_):\n"
            f"        if name == {module!r}: os.kill(os.getpid(), signal.SIGINT)\n"
            "sys.meta_path.insert(0, Interrupt())\n"
            "from totes.__main__ import main\n"
            "main()"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, "status"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (code, said)
