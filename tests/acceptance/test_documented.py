"""What the docs show is pasted into a shell, page by page, over a shop's database: it works as it is there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb
import pytest

from tests.conftest import Database
from tests.on_path import totes_on_path
from totes.config import Settings
from totes.star.project import load_project
from totes.warehouse import ddl
from totes.warehouse.table import warehouse_tables

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "docs/start.md", *sorted((ROOT / "docs").glob("[hc]o*/*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# The database that the pages speak of.
SHOP = (
    "CREATE TABLE region (region_id integer PRIMARY KEY, name text NOT NULL)",
    "CREATE TABLE customer (customer_id integer PRIMARY KEY, name text NOT NULL, region_id integer REFERENCES region)",
    """CREATE TABLE invoice (invoice_id bigint PRIMARY KEY, customer_id integer NOT NULL REFERENCES customer,
        issued_on date NOT NULL, total numeric(12, 2) NOT NULL)""",
    "INSERT INTO region VALUES (1, 'North')", "INSERT INTO customer VALUES (1, 'Ada', 1), (2, 'Bo', NULL)",
    """INSERT INTO invoice SELECT i, 1 + i % 2, date '2026-11-01' + i, 10 * i FROM generate_series(1, 20) i""",
)  # fmt: skip
URL = "postgresql://you@localhost:5432/shop"
# Lines that are not pasted here, by what they have, with where they are run or why not.
ELSEWHERE = {
    "make ": "a clean clone", "git ": "a clean clone", "sudo ": "tests/test_docs.py", "pip install": "tests/test_wheel.py",
    ".venv/bin/activate": "tests/test_wheel.py", "s3://": "tests/lake/test_backup.py", "totes ui\n": "tests/ui",
    "--every": "tests/acceptance/test_run_loop.py", "psql": "tests/warehouse/test_ddl.py", "zstd ": "it is a command of its own",
    "dim_staff": "tests/acceptance/test_demo.py", "totes_loader@": "tests/warehouse/test_replay.py",
    "--to 2880": "tests/warehouse/test_replay.py", "superset import": "tests/dashboards/test_superset.py",
}  # fmt: skip
PROJECTS = ("README", "own-database")  # these begin with a project
NOT_HERE = ("deploy",)  # tests/aws/deployed does what this page says


def parts(page: Path, kind: str) -> list[str]:
    """The blocks of a kind in a page."""
    return [text for found, text in BLOCK.findall(page.read_text("utf-8")) if found == kind]


def script(page: Path) -> str:
    """What the page has one paste, without what is shown to work elsewhere."""
    lines = [line for block in parts(page, "sh") for line in block.splitlines(keepends=True)]
    return "".join(line for line in lines if not any(mark in line for mark in ELSEWHERE))


@pytest.fixture
def paste(database: Database, tmp_path: Path) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Runs what is pasted, as a shell that stops at the first failure, with `totes` and `python` on its path."""
    database.execute(*SHOP)
    url = urlsplit(database.url)
    shown = f"postgresql://{url.username}@{url.netloc.rpartition('@')[2]}{url.path}"

    def run(text: str, folder: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        text = text.replace(URL, shown).replace("/mnt/backup", str(tmp_path / "backup"))
        environment = {
            **os.environ, "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}", "PGPASSWORD": url.password or "",
            "COLUMNS": "80",
        }  # fmt: skip
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip

    with totes_on_path() as programs:
        yield run


def test_the_first_page_works_when_it_is_pasted(
    paste: Callable[..., Any], database: Database, tmp_path: Path
) -> None:
    page = ROOT / "docs" / "start.md"
    done = paste(script(page))
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "shop"
    assert "Equal" in done.stdout
    assert "fact_invoice 1: 1 version" in done.stdout
    [sql, *models] = parts(page, "sql")
    role = f"reader_of_{database.name}"
    database.execute(
        *sql.replace("totes_reader", role)
        .replace("DATABASE shop", f"DATABASE {database.name}")
        .split(";")[:-1]
    )
    assert database.execute(f"SELECT has_table_privilege('{role}', 'invoice', 'SELECT')") == [(True,)]
    [settings] = parts(page, "toml")
    Settings.model_validate(tomllib.loads(settings))
    for text in models:
        [name] = re.findall(r"CREATE TABLE (\w+)", text)
        (folder / "models" / f"{name}.sql").write_text(text, "utf-8")
    done = paste("totes plan && totes apply --yes && totes verify && totes history fact_invoice 1", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fact_invoice 1: 1 version" in done.stdout


def test_what_the_other_pages_show_works(
    paste: Callable[..., Any], database: Database, tmp_path: Path
) -> None:
    done = paste(f"totes init {URL} shop && cd shop && totes run")
    assert done.returncode == 0, done.stderr
    for page in PAGES:
        if "totes " in script(page) and page.stem not in (*PROJECTS, "start", *NOT_HERE):
            database.execute("UPDATE invoice SET total = total + 1 WHERE invoice_id = 1")
            done = paste(script(page), tmp_path / "shop")
            assert done.returncode == 0, (page, done.stdout, done.stderr)


def test_a_project_is_made_as_two_pages_show(paste: Callable[..., Any]) -> None:
    shown, again = (
        script(ROOT / page).replace(" && ", "\n").split("\n")
        for page in ("README.md", "docs/how-to/own-database.md")
    )
    assert [line for line in shown if line] == [line for line in again if line]
    done = paste("\n".join(shown))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Equal" in done.stdout


def test_statements_are_run(database: Database) -> None:
    models = load_project("terrifictotes", None).models
    star = warehouse_tables(models, {model.name: ("batch_id",) for model in models if model.versioned})
    with duckdb.connect() as warehouse:
        for statement in ddl.statements(star, "main", "duckdb"):
            warehouse.execute(statement)
        queries = [text for page in PAGES for text in parts(page, "sql") if text.startswith("SELECT")]
        assert len(queries) > 2
        for query in queries:
            warehouse.execute(query)
    for name in ("warehouse-in-postgresql", "dashboards"):  # the one's role is named by the other
        roles = [
            text for text in parts(ROOT / f"docs/how-to/{name}.md", "sql") if text.startswith("CREATE ROLE")
        ]
        assert len(roles) == 1
        for role in ("totes_loader", "analyst"):
            roles[0] = roles[0].replace(role, f"{role}_{database.name}")
        database.execute(*roles[0].replace("DATABASE analytics", f"DATABASE {database.name}").split(";")[:-1])


def test_what_is_shown_elsewhere_is_still_in_the_docs() -> None:
    everything = "".join(block for page in PAGES for block in parts(page, "sh"))
    assert [mark for mark in ELSEWHERE if mark not in everything] == []
    assert [
        where for where in ELSEWHERE.values() if where.startswith("tests/") and not (ROOT / where).exists()
    ] == []
