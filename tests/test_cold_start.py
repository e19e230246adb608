"""A command that finds nothing new loads little and opens little, and what it takes for known is looked at where it may differ."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.conftest import Database, rows_of, run_cleanly
from totes.pipeline import Pipeline

MODEL = "CREATE TABLE fact_t (r BIGINT PRIMARY KEY, id INTEGER, v INTEGER) AS SELECT id, v FROM t"
# What only reads a table, draws one, captures from the log or understands a model; and what takes long to load.
UNNEEDED = {"apprise", "boto3", "nanoarrow", "obstore", "rich", "sqlglot"}
HOLD = "import duckdb, sys; connection = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"


@pytest.fixture
def fresh(database: Database, make_pipeline: Any, write_project: Any) -> Callable[[], Pipeline]:
    """Makes pipelines over one lake, of which one batch is loaded, each as a process of its own would."""
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v int)", "INSERT INTO t VALUES (1, 1)")
    project = write_project({"fact_t": MODEL})

    def make() -> Pipeline:
        return make_pipeline(database.url, project=project)

    run_cleanly(make())
    return make


def warehouse(pipeline: Pipeline) -> Path:
    return pipeline.settings.base / "warehouse.duckdb"


@contextmanager
def held(file: Path) -> Iterator[None]:
    """Another program has the file open to write."""
    command = [sys.executable, "-c", HOLD, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout
        program.stdout.readline()
        try:
            yield
        finally:
            program.communicate()


def imported(pipeline: Pipeline, database: Database) -> tuple[str, set[str]]:
    """What `totes run` prints in a process of its own, and the modules that it imports."""
    settings = pipeline.settings
    environment = {
        "TOTES_SOURCE__URL": database.url,
        "TOTES_PROJECT__NAME": settings.project.name,
        "TOTES_PROJECT__PATH": str(settings.project.path),
        "TOTES_WAREHOUSE__URL": f"duckdb:///{warehouse(pipeline)}",
    }
    program = (
        "import atexit, sys; from totes.cli.app import main\n"
        "atexit.register(lambda: print(*sys.modules, file=sys.stderr))\n"
        "sys.argv = ['totes', 'run']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=settings.base, env={**os.environ, **environment}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout, set(done.stderr.split())


def test_an_idle_run_imports_nothing_that_it_does_not_need(
    fresh: Callable[[], Pipeline], database: Database
) -> None:
    printed, modules = imported(fresh(), database)
    assert printed == "Nothing new.\n"
    assert UNNEEDED & modules == set()


def test_a_batch_with_models_that_have_not_changed_needs_no_parser(
    fresh: Callable[[], Pipeline], database: Database
) -> None:
    pipeline = fresh()
    database.execute("UPDATE t SET v = 2")
    printed, modules = imported(pipeline, database)
    assert "Batch 2: captured from the source" in printed
    assert "sqlglot" not in modules
    assert rows_of(pipeline, "SELECT v FROM fact_t ORDER BY v") == [(1,), (2,)]


def test_a_warehouse_that_nobody_has_written_is_not_opened(fresh: Callable[[], Pipeline]) -> None:
    with held(warehouse(fresh())):
        run_cleanly(fresh())


def test_what_somebody_does_to_the_warehouse_is_seen_by_the_next_process(
    fresh: Callable[[], Pipeline],
) -> None:
    with duckdb.connect(str(warehouse(fresh()))) as connection:
        connection.execute("DROP VIEW fact_t_current")
    run_cleanly(fresh())
    assert rows_of(fresh(), "SELECT count(*) FROM fact_t_current") == [(1,)]


def test_a_warehouse_that_is_removed_is_made_anew(fresh: Callable[[], Pipeline]) -> None:
    warehouse(fresh()).unlink()
    run_cleanly(fresh())
    assert rows_of(fresh(), "SELECT count(*) FROM fact_t") == [(1,)]


def test_a_description_that_has_changed_is_brought_into_the_warehouse(
    fresh: Callable[[], Pipeline], write_project: Any
) -> None:
    write_project({"fact_t": f"-- All of them.\n{MODEL}"})
    run_cleanly(fresh())
    described = "SELECT comment FROM duckdb_tables() WHERE table_name = 'fact_t'"
    assert rows_of(fresh(), described) == [("All of them.",)]


@pytest.mark.parametrize("content", [b"", b"[1]", b"null", b'["x", "y", 1, "z"]'])
def test_what_is_known_of_a_warehouse_may_be_lost(fresh: Callable[[], Pipeline], content: bytes) -> None:
    (fresh().settings.cache_folder / "loaded.json").write_bytes(content)
    with duckdb.connect(str(warehouse(fresh()))) as connection:
        connection.execute("DROP VIEW fact_t_current")
    run_cleanly(fresh())
    assert rows_of(fresh(), "SELECT count(*) FROM fact_t_current") == [(1,)]
