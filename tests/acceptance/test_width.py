"""On a terminal of 80 columns no command writes a wider line, whatever the names are: tables, lists and histories."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import processes
from tests.conftest import Database
from totes.progress import width

LONG = "a_table_whose_name_is_as_long_as_postgresql_allows_in_its_catalog"[:50]
WIDE = "在庫_の_とても長い名前の列_在庫"
SCHEMA = (
    f'CREATE TABLE {LONG} (id int PRIMARY KEY, "{WIDE}" text, one_more_column_with_a_long_name numeric, n text)',
    f"INSERT INTO {LONG} SELECT i, repeat('日本', 30), i, i FROM generate_series(1, 3) AS t(i)",
    f"INSERT INTO {LONG} VALUES (9, 'x', 1.005, repeat('long and bad ', 20))",
)
MODEL = f"""-- {"A description that is long. " * 5}
CREATE TABLE dim_{LONG} (
    id INTEGER PRIMARY KEY, -- {"What it is. " * 10}
    "{WIDE}" VARCHAR,
    one_more_column_with_a_long_name DECIMAL(10, 2),
    n INTEGER
) AS SELECT id, "{WIDE}", one_more_column_with_a_long_name, n FROM {LONG}
"""
COMMANDS = (
    ("run",), ("status",), ("verify",), ("doctor",), ("plan",), ("quarantine", "list"), ("quarantine", "retry"), ("process",),
    ("query", "SELECT * FROM {table}"), ("query", "SELECT * FROM {table}", "--limit", "1"), ("query", "SELECT * FROM totes_batches"),
    ("history", "{table}", "1"), ("history", "{table}", "9"), ("backup", "backup"), ("adopt", "--dry-run"),
    ("replay", "--warehouse", "duckdb:///other.duckdb"),
)  # fmt: skip


@pytest.fixture
def folders(database: Database, totesys: Database, tmp_path: Path) -> dict[str, Path]:
    """Two pipelines: TerrificTotes', and one of which every name is long; by a table of each star."""
    long = tmp_path / f"a-folder-{'with-a-long-name-' * 4}"
    demo = tmp_path / "demo"
    (long / "models").mkdir(parents=True)
    demo.mkdir()
    (long / "models" / f"dim_{LONG}.sql").write_text(MODEL, "utf-8")
    database.execute(*SCHEMA)
    (long / "totes.toml").write_text(
        f'[project]\nname = "long"\npath = "."\n[source]\nurl = "{database.url}"\n'
    )
    (demo / "totes.toml").write_text(f'[source]\nurl = "{totesys.url}"\n')
    return {f"dim_{LONG}": long, "fact_purchase_order": demo}


@pytest.mark.parametrize("columns", [80, 100])
def test_no_line_is_wider_than_the_terminal(
    folders: dict[str, Path], database: Database, columns: int, subtests: pytest.Subtests
) -> None:
    for table, folder in folders.items():
        for command in COMMANDS:
            arguments = [part.format(table=table) for part in command]
            with subtests.test(arguments=arguments):
                done = processes.on_terminal(arguments, folder, os.environ, columns)
                wide = [line for line in lines(done.out) if width(line) > columns]
                assert wide == []
                assert done.code == 0, done.out
        if table != "fact_purchase_order":
            database.execute(f"UPDATE {LONG} SET n = '77', \"{WIDE}\" = repeat('語', 60) WHERE id = 1")


def lines(out: str) -> list[str]:
    """The lines that are written; an error is one line for a program too, which a terminal folds."""
    written = re.split(r"\r\x1b\[2K|\r?\n", out)
    plain = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line).rstrip() for line in written]
    return [line for line in plain if not line.startswith(("error: ", "warning: "))]


def test_a_history_of_many_columns_marks_what_changed(
    folders: dict[str, Path], totesys: Database, totes: Callable[..., processes.Command]
) -> None:
    demo = folders["fact_purchase_order"]
    assert totes("run", cwd=demo).code == 0
    totesys.execute(
        "UPDATE purchase_order SET item_quantity = 12345, last_updated = now() WHERE purchase_order_id = 1"
    )
    assert totes("run", cwd=demo).code == 0
    out = totes("history", "fact_purchase_order", "1", cwd=demo).out
    assert re.search(r"^  item_quantity +\d+ → 12345 *$", out, re.MULTILINE)
    assert len(re.findall("→", out)) == 3  # with the date and the time of the update
