"""Who reads a DuckDB file never waits for a load, nor a load for a reader; one program at a time may write it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.conftest import Command, Database, run_cleanly
from totes.errors import CommandFailed
from totes.monitoring.rows import RowsWanted, read_rows
from totes.pipeline import Pipeline
from totes.warehouse import duckdb_file, duckdb_shadow

READS = (
    ("status", "--json"),
    ("history", "fact_order", "1"),
    ("quarantine", "list"),
)


@pytest.fixture
def pipeline(into_duckdb: Pipeline) -> Pipeline:
    return into_duckdb


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
    pipeline: Pipeline,
    database: Database,
    run: Callable[..., Command],
    tmp_path: Path,
    arguments: tuple[str, ...],
) -> None:
    run_cleanly(pipeline)
    database.execute("UPDATE customer SET city = 'Bath'")
    pipeline.ingest()
    pipeline.process()
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


def test_who_looks_at_rows_makes_no_folder(
    database: Database, pipeline: Pipeline, make_pipeline: Callable[..., Pipeline], tmp_path: Path
) -> None:
    project = pipeline.settings.project.model_dump()
    elsewhere = make_pipeline(database.url, f"duckdb:///{tmp_path}/new/warehouse.duckdb", project=project)
    elsewhere.ingest()
    elsewhere.process()
    with pytest.raises(CommandFailed, match="the warehouse is empty"):
        read_rows(elsewhere, "fact_order", RowsWanted())
    assert not (tmp_path / "new").exists()


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


def rows_seen(file: Path) -> list[tuple[Any, ...]]:
    with closing(duckdb.connect(file, read_only=True)) as connection:
        return connection.execute("SELECT city FROM dim_customer_current ORDER BY 1").fetchall()


def test_a_reader_that_never_lets_go_sees_its_batch_and_who_opens_the_file_later_the_newest(
    pipeline: Pipeline, database: Database, tmp_path: Path
) -> None:
    run_cleanly(pipeline)
    file, seen = tmp_path / "warehouse.duckdb", []
    with ExitStack() as readers:
        for number in range(4):
            reader = readers.enter_context(reading(file))
            seen.append((reader, reader()))
            database.execute(f"UPDATE customer SET city = 'Bath {number}'")
            run_cleanly(pipeline)
        for reader, then in seen:
            assert reader() == then
        assert len({str(then) for _, then in seen}) == 4
    assert ("Bath 3",) in rows_seen(file)


def test_a_file_can_be_opened_to_read_at_every_step_of_a_load(
    pipeline: Pipeline, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_cleanly(pipeline)
    file, seen = tmp_path / "warehouse.duckdb", []
    for module in (duckdb_file, duckdb_shadow):
        monkeypatch.setattr(module, "reach", lambda point: seen.append((point, read_elsewhere(file))))
    before = read_elsewhere(file)
    database.execute("UPDATE customer SET city = 'Bath'")
    run_cleanly(pipeline)
    after = read_elsewhere(file)
    assert [rows for _, rows in seen] == [before] * (len(seen) - 1) + [after]
    assert [point for point, _ in seen][-2:] == ["duckdb.shadow.closed", "duckdb.shadow.published"]
    assert before != after


def test_what_others_write_into_the_file_stays(
    pipeline: Pipeline, database: Database, tmp_path: Path
) -> None:
    run_cleanly(pipeline)
    file = tmp_path / "warehouse.duckdb"
    for number in range(3):
        with closing(duckdb.connect(file)) as connection:
            connection.execute(f"CREATE TABLE theirs_{number} AS SELECT {number} AS n")
        file.chmod(0o640)
        for again in range(2):
            database.execute(f"UPDATE customer SET city = 'Bath {number} {again}'")
            run_cleanly(pipeline)
    assert file.stat().st_mode & 0o777 == 0o640
    with closing(duckdb.connect(file, read_only=True)) as connection:
        for number in range(3):
            assert connection.execute(f"FROM theirs_{number}").fetchall() == [(number,)]
    run_cleanly(pipeline)


def test_a_program_that_writes_the_file_during_a_load_loses_nothing(
    pipeline: Pipeline, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_cleanly(pipeline)
    file = tmp_path / "warehouse.duckdb"

    def write(point: str) -> None:
        if point == "duckdb.commit.before":
            script = "import duckdb, sys; duckdb.connect(sys.argv[1]).execute('CREATE TABLE theirs AS SELECT 1 AS n')"
            subprocess.run([sys.executable, "-c", script, str(file)], check=True)

    database.execute("UPDATE customer SET city = 'Bath'")
    monkeypatch.setattr(duckdb_file, "reach", write)
    error = pipeline.run().failures["load"]
    assert error.retryable
    assert "wrote" in error.what
    monkeypatch.undo()
    assert run_cleanly(pipeline).loaded.batches == {2: {"dim_customer": 2}}
    with closing(duckdb.connect(file, read_only=True)) as connection:
        assert connection.execute("FROM theirs").fetchall() == [(1,)]


def test_a_shadow_of_another_file_is_not_used(pipeline: Pipeline, database: Database, tmp_path: Path) -> None:
    """A warehouse that was put back or removed is the one that counts."""
    run_cleanly(pipeline)
    file, old = tmp_path / "warehouse.duckdb", tmp_path / "old.duckdb"
    shutil.copyfile(file, old)
    for number in range(3):
        database.execute(f"UPDATE customer SET city = 'Bath {number}'")
        run_cleanly(pipeline)
    newest = rows_seen(file)
    shutil.copyfile(old, file)
    assert sorted(run_cleanly(pipeline).loaded.batches) == [2, 3, 4]
    assert rows_seen(file) == newest
    file.unlink()
    assert sorted(run_cleanly(pipeline).loaded.batches) == [1, 2, 3, 4]
    assert rows_seen(file) == newest


def test_a_killed_load_is_continued_and_one_of_another_lake_is_not(
    pipeline: Pipeline,
    database: Database,
    run: Callable[..., Command],
    totes: Callable[..., Command],
    tmp_path: Path,
) -> None:
    kill = {
        "TOTES_SOURCE__URL": database.url,
        "TOTES_PROJECT__PATH": "project",
        "TOTES_FAILPOINT": "duckdb.commit.after:1",
    }
    file = tmp_path / "warehouse.duckdb"
    assert totes("run", **kill).code == -9
    assert not file.exists()
    left = {path: path.read_bytes() for path in tmp_path.glob(".warehouse.duckdb.*.shadow*")}
    assert left
    database.execute("UPDATE customer SET city = 'Bath'")
    assert list(run_cleanly(pipeline).loaded.batches) == [2]  # the first had been loaded
    assert len(rows_seen(file)) == 2
    assert list(tmp_path.glob(".warehouse.duckdb.*.shadow*")) == []
    for folder in ("lake", ".totes"):
        shutil.rmtree(tmp_path / folder)
    file.unlink()
    for path, content in left.items():
        path.write_bytes(content)
    assert "another lake" in str(pipeline.run().failures["load"])
    assert not file.exists()
    assert list(run_cleanly(pipeline).loaded.batches) == [1]


@contextmanager
def reading(file: Path) -> Iterator[Callable[[], list[list[Any]]]]:
    """Another process has a file open to read as long as the context lasts, and gives what it sees of customers."""
    script = (
        "import duckdb, json, sys; c = duckdb.connect(sys.argv[1], read_only=True)\n"
        "for line in sys.stdin: print(json.dumps(c.execute('SELECT city FROM dim_customer_current ORDER BY 1').fetchall()),"
        " flush=True)"
    )
    command = [sys.executable, "-c", script, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        requests, answers = process.stdin, process.stdout

        def ask() -> list[list[Any]]:
            requests.write("\n")
            requests.flush()
            answer: list[list[Any]] = json.loads(answers.readline())
            return answer

        ask()
        yield ask
        requests.close()


def read_elsewhere(file: Path) -> list[list[Any]]:
    with reading(file) as ask:
        return ask()
