"""Each supported version of PostgreSQL as a source, beside the 18 of all other tests: what its owner runs, and what follows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import readers
from tests.conftest import Database
from tests.ingestion.log import test_three_ways as three_ways
from tests.ingestion.log.conftest import Lake
from tests.processes import Command
from tests.spread import in_sweep
from tests.versions.conftest import BY_QUERY, server_of

MODELS = {
    "fact_stock": """CREATE TABLE fact_stock (record BIGINT PRIMARY KEY, id INTEGER NOT NULL, n INTEGER, note VARCHAR, place VARCHAR) AS
        SELECT stock.id, n, note, name AS place FROM stock LEFT JOIN place USING (place_id)""",
    "fact_part": """CREATE TABLE fact_part (record BIGINT PRIMARY KEY, id INTEGER NOT NULL, day DATE NOT NULL, price DECIMAL(9, 2)) AS
        SELECT id, day, price FROM part""",
}  # fmt: skip
TABLES = (
    "CREATE TABLE place (place_id int PRIMARY KEY, name text)",
    "CREATE TABLE stock (id int PRIMARY KEY, n int, note text, place_id int)",
    "ALTER TABLE stock ALTER note SET STORAGE EXTERNAL",
    "CREATE TABLE part (id int, day date, price numeric(9, 2), PRIMARY KEY (id, day)) PARTITION BY RANGE (day)",
    "CREATE TABLE part_23 PARTITION OF part FOR VALUES FROM ('2023-01-01') TO ('2024-01-01')",
    "CREATE TABLE part_24 PARTITION OF part FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')",
    "INSERT INTO place VALUES (1, 'north'), (2, 'south')",
    "INSERT INTO stock SELECT i, i, repeat(md5(i::text), 200), 1 + i % 2 FROM generate_series(1, 20) AS i",
    "INSERT INTO part SELECT i, '2023-12-29'::date + i, i / 8.0 FROM generate_series(1, 6) AS i",
)
STEPS = "SELECT n, length(note), place, is_deleted FROM fact_stock WHERE id = 1 ORDER BY valid_from"


@pytest.fixture
def command(tmp_path: Path, write_project: Any, totes: Any) -> Callable[..., Any]:
    """Runs a command over a source, as a role that may replicate and read, and gives what it printed."""
    project = write_project(MODELS)["path"]

    def run(source: Database, capture: str, *arguments: str) -> dict[str, Any]:
        url = source.url.replace(source.url.partition("//")[2].partition("@")[0], "reader:reads-only")
        (tmp_path / "totes.toml").write_text(
            f'[project]\nname = "p"\npath = "{project}"\n'
            f'[source]\nurl = "{url}"\ncapture = "{capture}"\n[warehouse]\nurl = "duckdb:///w.duckdb"\n'
        )
        done: Command = totes(*arguments, "--json")
        assert done.code == 0 or arguments == ("doctor",), done.err
        printed: dict[str, Any] = json.loads(done.out)
        return printed

    return run


def errors(printed: dict[str, Any]) -> list[str]:
    """What `totes doctor` found wrong with the source."""
    return [
        check["name"]
        for check in printed["checks"]
        if check["severity"] == "error" or (check["name"] == "version" and check["severity"] != "ok")
    ]


def test_from_what_its_owner_runs_to_equal_tables(
    source: Database, command: Callable[..., Any], tmp_path: Path
) -> None:
    source.execute("DROP PUBLICATION totes", *TABLES)
    source.execute(*command(source, "log", "source", "sql")["statements"])
    assert errors(command(source, "log", "doctor")) == []
    assert command(source, "log", "run")["batch"] == 1
    source.execute(
        "UPDATE stock SET n = 100 WHERE id = 1", "UPDATE stock SET place_id = 1 WHERE id = 1",
        "UPDATE place SET name = 'North' WHERE place_id = 1", "UPDATE stock SET id = 21 WHERE id = 2",
        "BEGIN; INSERT INTO stock VALUES (30, 0, '', 1); SAVEPOINT s; DELETE FROM stock; ROLLBACK TO s; COMMIT",
        "UPDATE part SET day = '2024-12-31' WHERE id = 1", "TRUNCATE part_23", "INSERT INTO part VALUES (9, '2023-02-03', 1)",
        "CREATE TABLE part_25 (id int, day date, price numeric(9, 2), PRIMARY KEY (id, day))",
        "INSERT INTO part_25 VALUES (10, '2025-01-01', 2)",
        "ALTER TABLE part ATTACH PARTITION part_25 FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')",
    )  # fmt: skip
    while command(source, "log", "run")["batch"] is not None:
        continue
    assert readers.rows(tmp_path / "w.duckdb", STEPS) == [
        (1, 6400, "south", False), (100, 6400, "south", False), (100, 6400, "north", False), (100, 6400, "North", False),
    ]  # fmt: skip
    assert command(source, "log", "verify")["equal"] is True
    source.execute(
        "UPDATE stock SET n = n + 1", "DELETE FROM stock WHERE id = 1", "DELETE FROM part WHERE id = 10"
    )
    assert command(source, "query", "run")["batch"] is not None
    assert command(source, "query", "verify")["equal"] is True
    source.execute(
        "UPDATE stock SET n = n + 1",
        "ALTER TABLE place ADD w text DEFAULT 'new'",
        "ALTER TABLE part DETACH PARTITION part_24",
    )
    command(source, "log", "run")
    source.execute("TRUNCATE stock", "INSERT INTO stock VALUES (1, 7, 'again', 2)")
    while command(source, "log", "run")["batch"] is not None:
        continue
    assert readers.rows(tmp_path / "w.duckdb", f"{STEPS} DESC LIMIT 2")[::-1] == [
        (100, 6400, "North", True), (7, 5, "south", False),
    ]  # fmt: skip
    assert command(source, "log", "verify")["equal"] is True


@pytest.mark.parametrize("seed", [in_sweep(seed) for seed in range(3)])
def test_random_transactions(
    source: Database, new_lake: Callable[..., Lake], write_project: Any, tmp_path: Path, seed: int
) -> None:
    three_ways.test_random_transactions(source, new_lake, write_project, tmp_path, seed)


@pytest.mark.parametrize("version", [13, *(in_sweep(version) for version in BY_QUERY[1:])])
def test_by_query(version: int, command: Callable[..., Any], totes: Any) -> None:
    with server_of(version) as server:
        source = Database(server.url(), "postgres")
        source.execute(*TABLES)
        source.execute(*command(source, "query", "source", "sql")["statements"])
        assert errors(command(source, "query", "doctor")) == []
        assert command(source, "query", "run")["batch"] == 1
        source.execute(
            "UPDATE stock SET n = n + 1 WHERE id < 5", "DELETE FROM stock WHERE id = 7", "TRUNCATE part_23",
            "UPDATE place SET name = 'North' WHERE place_id = 1",
        )  # fmt: skip
        done = command(source, "query", "run")
        assert done["ingested"]["stock"] == {"upserts": 4, "deletes": 1}
        assert command(source, "query", "run")["batch"] is None
        assert command(source, "query", "verify")["equal"] is True
        if version == 13:
            refused: Command = totes("ingest", TOTES_SOURCE__CAPTURE="log")
            assert refused.code == 3
            assert "PostgreSQL 14 or later" in refused.err
