"""A time is believed only where what was made is what it should be, and all of the memory was seen."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import duckdb
import pytest

from benchmarks import aged_lake, digest, process
from benchmarks.loading import check_star
from benchmarks.measurement import Aim, BenchmarkFailed, Measurement
from benchmarks.workbench import Source
from tests.conftest import Database
from totes.monitoring.verification import verify
from totes.pipeline import Pipeline
from totes.terrifictotes import demo_source

ROOT = Path(__file__).parents[1]
ROWS = """
    (1, 12.30, true, TIMESTAMP '2024-02-29 23:59:59.000001', DATE '2024-02-29', TIME '08:00:00.5', 'naïve "quoted", 木'),
    (2, -0.000001, false, TIMESTAMP '1969-12-31 00:00:00', DATE '0044-03-15', TIME '00:00:00', ''),
    (3, NULL, NULL, NULL, NULL, NULL, NULL)
"""
COLUMNS = tuple(
    digest.Column(name, digest.kind_of(kind))
    for name, kind in {
        "a": "integer", "b": "numeric", "c": "boolean", "d": "timestamp without time zone", "e": "date",
        "f": "time without time zone", "g": "character varying",
    }.items()
)  # fmt: skip


def in_duckdb(folder: Path, rows: str) -> digest.Digest:
    file = folder / f"{len(list(folder.iterdir()))}.duckdb"
    with duckdb.connect(str(file)) as connection:
        connection.execute(
            f"CREATE TABLE t AS SELECT a, b::DECIMAL(18, 6) AS b, c, d, e, f, g FROM (VALUES {rows}) AS v (a, b, c, d, e, f, g)"
        )
    return digest.of_duckdb(file, "t", COLUMNS)


def test_a_digest_is_the_same_in_both_databases(database: Database, tmp_path: Path) -> None:
    found = digest.of_postgresql(
        database.url, f"(SELECT * FROM (VALUES {ROWS}) AS v (a, b, c, d, e, f, g))", COLUMNS
    )
    assert found.rows == 3
    assert found == in_duckdb(tmp_path, ROWS)


@pytest.mark.parametrize(
    ("old", "new"),
    [("12.30", "12.31"), ("true", "false"), ("59.000001", "59.000002"), ("08:00", "08:01"), ("(3, NULL", "(3, 0"), ("''", "NULL")],
)  # fmt: skip
def test_a_digest_tells_one_value_from_another(tmp_path: Path, old: str, new: str) -> None:
    assert in_duckdb(tmp_path, ROWS).checksum != in_duckdb(tmp_path, ROWS.replace(old, new, 1)).checksum


def test_a_warehouse_that_differs_is_not_believed(
    totesys: Database, tmp_path: Path, make_pipeline: Callable[..., Pipeline]
) -> None:
    damages = (
        "UPDATE fact_sales_order SET units_sold = units_sold + 1 WHERE sales_order_id = 7",
        "DELETE FROM fact_payment WHERE payment_id = 7",
        "UPDATE dim_staff SET location = 'Nowhere' WHERE staff_id = 1",
    )
    source, url = Source(totesys.url, totesys.url, totesys.name), "duckdb:///warehouse.duckdb"
    source.add_references()
    assert not make_pipeline(totesys.url, url).run().failures
    check_star(source, tmp_path, url)

    for number, damage in enumerate(damages):
        folder = tmp_path / str(number)
        folder.mkdir()
        file = shutil.copy(tmp_path / "warehouse.duckdb", folder)
        with duckdb.connect(str(file)) as connection:
            connection.execute(damage)
        with pytest.raises(BenchmarkFailed, match=damage.split()[1 if damage.startswith("UPDATE") else 2]):
            check_star(source, folder, url)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_the_memory_of_descendants_counts() -> None:
    holder = "import sys; block = b'x' * (200 << 20); print('held', flush=True); sys.stdin.read()"
    parent = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    with subprocess.Popen(
        [sys.executable, "-c", parent, holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        with process.PeakMemory(running.pid) as memory:
            assert running.stdout.readline() == b"held\n"
            deadline = time.monotonic() + 30
            while (memory.peak_bytes or 0) < 200 << 20 and time.monotonic() < deadline:
                time.sleep(0.01)
        running.communicate()
    assert memory.peak_bytes is not None
    assert 200 << 20 <= memory.peak_bytes < 300 << 20


def test_a_command_that_fails_is_not_timed(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkFailed, match=r"ended with 3: .*no such thing"):
        process.run(
            [sys.executable, "-c", "import sys; print('no such thing', file=sys.stderr); sys.exit(3)"],
            tmp_path,
        )


def test_an_aim_is_of_speed_or_of_time() -> None:
    load = Measurement("full-load", "into DuckDB", ours=10.0, floor=5.0, aim=Aim("at least", 0.7, "speed"))
    assert (load.ratio, load.reached) == (0.5, False)
    query = Measurement(
        "queries", "totals", ours=1.2, floor=1.0, speed=False, aim=Aim("at most", 1.5, "time")
    )
    assert (query.ratio, query.reached) == (1.2, True)
    memory = Measurement("memory", "all", ours=1.0, aim=Aim("at most", 1 << 30, "bytes"))
    assert (memory.ratio, memory.reached) == (None, None)


def test_a_full_load_is_measured_from_end_to_end(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "benchmarks.run",
        "--orders",
        "5000",
        "--repeat",
        "1",
        "--only",
        "full-load",
    ]
    done = subprocess.run(
        [*command, "--no-peers", "--output", str(tmp_path)], cwd=ROOT, env=os.environ, capture_output=True, text=True,
        stdin=subprocess.DEVNULL, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "COPY | COPY" in done.stdout
    found = json.loads((tmp_path / "5000-full-load.json").read_text("utf-8"))
    assert found["settings"]["durability"]["fsync"] == "on"
    lines = {line["what"]: line for line in found["measurements"]}
    assert set(lines) == {"into DuckDB", "into PostgreSQL"}
    for line in lines.values():
        assert line["rows"] > 15_000
        assert line["ratio"] == pytest.approx(line["floor"] / line["ours"])
        assert line["ours"] > sum(line["details"][stage] for stage in ("ingest", "process", "load")) * 0.9
    ElementTree.fromstring((tmp_path / "5000-full-load.svg").read_text("utf-8"))


def test_an_aged_lake_is_a_true_one(new_database: Callable[..., Database], tmp_path: Path) -> None:
    database = new_database()
    demo_source.create(database.url, aged_lake.ORDERS)
    settings = aged_lake.write(tmp_path, Source(database.url, database.url, database.name), 40)
    verdict = verify(Pipeline(settings), (), 1.0, lambda _: None)
    assert (verdict.batch, verdict.equal) == (40, True)
    assert Pipeline(settings).replay(f"duckdb:///{tmp_path}/replayed.duckdb").batch == 40
