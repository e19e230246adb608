"""What tests run against: a real PostgreSQL, a fresh database each, pipelines over them, and the real command."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from totes import log
from totes.config import Settings
from totes.pipeline import Pipeline
from totes.terrifictotes import demo_source
from totes.terrifictotes.server import LocalServer

ORDERS = 200
_numbers = itertools.count(1)


@dataclass
class Database:
    """A database of the test's own."""

    url: str
    name: str

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        """Runs statements, each committed at once, and gives the rows of the last."""
        rows: list[tuple[Any, ...]] = []
        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
                rows = cursor.fetchall() if cursor.description else []
        return rows

    def connect(self) -> psycopg.Connection:
        """A session that commits when it is told to."""
        return psycopg.connect(self.url)


@dataclass
class Command:
    """What a run of `totes` gave."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session", autouse=True)
def _quiet_logs() -> None:
    log.configure(terminal=False)


@pytest.fixture(scope="session")
def server() -> Iterator[LocalServer]:
    """One PostgreSQL for the whole run."""
    with LocalServer.start() as running:
        yield running


@pytest.fixture(scope="session")
def new_database(server: LocalServer) -> Callable[..., Database]:
    """Makes a database: empty, or a copy of another."""

    def make(template: str = "template0") -> Database:
        name = f"test_{next(_numbers)}"
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy".encode())
        return Database(server.url(name), name)

    return make


@pytest.fixture
def database(new_database: Callable[..., Database]) -> Database:
    """An empty database."""
    return new_database()


@pytest.fixture(scope="session")
def _totesys_template(new_database: Callable[..., Database]) -> Database:
    template = new_database()
    demo_source.create(template.url, ORDERS)
    return template


@pytest.fixture
def totesys(new_database: Callable[..., Database], _totesys_template: Database) -> Database:
    """A `totesys` with 200 sales orders."""
    return new_database(_totesys_template.name)


@pytest.fixture(params=["duckdb", "postgresql"])
def warehouse_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty warehouse of each kind."""
    if request.param == "duckdb":
        return f"duckdb:///{tmp_path}/warehouse.duckdb"
    made: Database = request.getfixturevalue("new_database")()
    return made.url


@pytest.fixture
def make_pipeline(tmp_path: Path) -> Callable[..., Pipeline]:
    """Makes a pipeline with its lake in the test's folder.

    Keyword arguments are sections of the settings: `source={"schema": "shop"}`; `folder` is another place for the lake.
    """

    def make(source_url: str, warehouse_url: str | None = None, folder: Path | None = None, **sections: Any) -> Pipeline:
        base = folder or tmp_path
        source = {"url": source_url} | sections.pop("source", {})
        warehouse = {"url": warehouse_url or "duckdb:///warehouse.duckdb"} | sections.pop("warehouse", {})
        return Pipeline(Settings(source=source, warehouse=warehouse, base=base, **sections))

    return make


@pytest.fixture
def write_project(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Writes a project: `models={"dim_x": "CREATE TABLE …"}` and reference files; gives its section of the settings."""

    def write(models: dict[str, str], references: dict[str, str] | None = None, name: str = "project") -> dict[str, Any]:
        folder = tmp_path / name
        for kind, ending, files in (("models", "sql", models), ("reference", "csv", references or {})):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            for file, text in files.items():
                (folder / kind / f"{file}.{ending}").write_text(text, encoding="utf-8")
        return {"name": name, "path": folder}

    return write


@pytest.fixture
def totes(tmp_path: Path) -> Callable[..., Command]:
    """Runs the command as a user does, in the test's folder."""

    def run(*arguments: str, cwd: Path | None = None, timeout: float = 120, **environment: str) -> Command:
        done = subprocess.run(
            [sys.executable, "-m", "totes", *arguments], cwd=cwd or tmp_path, env={**os.environ, **environment},
            capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        return Command(done.returncode, done.stdout, done.stderr)

    return run


def rows_of(pipeline: Pipeline, sql: str) -> list[tuple[Any, ...]]:
    """The rows of a query over the pipeline's warehouse."""
    with pipeline.warehouse() as warehouse:
        return warehouse.query(sql)[1]


def run_cleanly(pipeline: Pipeline) -> Any:
    """Runs one cycle, and raises what a stage raised."""
    cycle = pipeline.run()
    for error in cycle.failures.values():
        raise error
    return cycle
