"""A DuckDB file is one process's to write: who only reads it shares it, waits for nobody, and keeps nobody waiting but a load."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command, Database, run_cleanly
from tests.contracts.shop import MODELS, SCHEMA
from totes.pipeline import Pipeline
from totes.warehouse import duckdb_file

READS = (
    ("status", "--json"),
    ("history", "fact_order", "1"),
    ("quarantine", "list"),
)


@pytest.fixture
def pipeline(
    database: Database, make_pipeline: Callable[..., Pipeline], write_project: Callable[..., dict[str, Any]]
) -> Pipeline:
    """A shop's pipeline."""
    database.execute(*SCHEMA)
    return make_pipeline(database.url, project=write_project(MODELS))


@pytest.fixture
def run(totes: Callable[..., Command], database: Database) -> Callable[..., Command]:
    """Runs the command over that pipeline."""

    def run(*arguments: str) -> Command:
        return totes(*arguments, TOTES_SOURCE__URL=database.url, TOTES_PROJECT__PATH="project")

    return run


@contextmanager
def opened(file: Path, *, read_only: bool) -> Iterator[int]:
    """Another process has a DuckDB file open; gives its id."""
    script = (
        "import duckdb, sys; c = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == 'True');"
        " print('open', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(file), str(read_only)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        yield holder.pid
        holder.communicate("")


@pytest.mark.parametrize("arguments", READS, ids=lambda arguments: arguments[0])
def test_what_only_reads_does_so_beside_others_that_read(
    pipeline: Pipeline, run: Callable[..., Command], tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    run_cleanly(pipeline)
    alone = run(*arguments)
    with opened(tmp_path / "warehouse.duckdb", read_only=True):
        beside = run(*arguments)
    assert (alone.code, alone.err) == (beside.code, beside.err) == (0, "")


def test_doctor_and_verify_open_the_file_to_read(
    pipeline: Pipeline, run: Callable[..., Command], tmp_path: Path
) -> None:
    run_cleanly(pipeline)
    with opened(tmp_path / "warehouse.duckdb", read_only=True):
        checks = json.loads(run("doctor", "--json").out)["checks"]
    assert [check["severity"] for check in checks if check["area"] == "warehouse"] == ["ok"] * 3


@pytest.mark.parametrize(
    "arguments", [("history", "fact_order", "1"), ("load",)], ids=lambda arguments: arguments[0]
)
def test_who_writes_the_file_is_named_in_one_line_within_seconds(
    pipeline: Pipeline, run: Callable[..., Command], tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    run_cleanly(pipeline)
    file = tmp_path / "warehouse.duckdb"
    with opened(file, read_only=False) as holder:
        began = time.monotonic()
        done = run(*arguments)
        assert time.monotonic() - began < 40  # a minute and more is what it was
    assert done.code == 3
    [line] = [line for line in done.err.splitlines() if line.startswith("error:")]
    assert f"warehouse.duckdb is in use by process {holder} (" in line
    assert len(line) < 300


def test_status_reports_the_rest_where_the_file_is_being_written(
    pipeline: Pipeline, run: Callable[..., Command], tmp_path: Path
) -> None:
    run_cleanly(pipeline)
    with opened(tmp_path / "warehouse.duckdb", read_only=False) as holder:
        stages = json.loads(run("status", "--json").out)["stages"]
    assert stages["process"]["batch"] == 1
    assert f"is in use by process {holder}" in stages["load"]["unreachable"]


def test_nothing_that_only_reads_makes_a_file(
    pipeline: Pipeline, run: Callable[..., Command], tmp_path: Path
) -> None:
    pipeline.ingest()
    pipeline.process()
    for arguments in READS:
        run(*arguments)
    assert not (tmp_path / "warehouse.duckdb").exists()


def test_what_a_killed_load_committed_is_read(
    pipeline: Pipeline, run: Callable[..., Command], tmp_path: Path
) -> None:
    run_cleanly(pipeline)
    file = tmp_path / "warehouse.duckdb"
    script = (
        "import duckdb, os, sys; c = duckdb.connect(sys.argv[1]);"
        "c.execute('CREATE TABLE later AS SELECT 1 AS one'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(file)], check=False)
    assert file.with_name("warehouse.duckdb.wal").exists()
    with pipeline.warehouse(read_only=True) as warehouse:
        assert warehouse.query("SELECT * FROM later")[1] == [(1,)]
    assert json.loads(run("status", "--json").out)["stages"]["load"]["batch"] == 1


def test_a_load_waits_a_while_for_a_reader(
    pipeline: Pipeline, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_cleanly(pipeline)
    database.execute("UPDATE customer SET city = 'Bath'")
    patience = duckdb_file._PATIENCE_SECONDS
    assert patience[True] < patience[False] <= 15
    monkeypatch.setattr(duckdb_file, "_PATIENCE_SECONDS", {False: 0.2, True: 0.2})
    with opened(tmp_path / "warehouse.duckdb", read_only=True) as holder:
        error = pipeline.run().failures["load"]
        assert error.retryable
        assert f"process {holder}" in error.what
    assert run_cleanly(pipeline).loaded.batches == {2: {"dim_customer": 2}}
