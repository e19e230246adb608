"""A full load by `totes run`, from a cold start, believed only when the warehouse holds what the source holds."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import digest, process
from benchmarks.measurement import BenchmarkFailed
from benchmarks.workbench import Source, Workbench

WAREHOUSES = ("DuckDB", "PostgreSQL")
STAGES = ("ingest", "process", "load")
DUCKDB_FILE = "warehouse.duckdb"


@dataclass(frozen=True)
class Loaded:
    """A pipeline whose first batch is loaded.

    Attributes:
        folder: with `totes.toml`, the lake and a DuckDB warehouse.
        warehouse_url: the warehouse.
        run: the command that did it.
        stages: the seconds that each stage says it took.
        bytes: the size of what was made on disk, by kind.
    """

    folder: Path
    warehouse_url: str
    run: process.Finished
    stages: dict[str, float]
    bytes: dict[str, int] = field(default_factory=dict)


@contextmanager
def loaded(bench: Workbench, source: Source, warehouse: str, capture: str = "") -> Iterator[Loaded]:
    """Loads a source into an empty warehouse of a kind; it is there while the context lasts.

    Args:
        bench: the workbench.
        source: the source.
        warehouse: the kind.
        capture: settings of the source that are not the default.

    Raises:
        BenchmarkFailed: the command failed, or the warehouse does not hold what the source does.
    """
    folder = bench.new_folder()
    url = f"duckdb:///{DUCKDB_FILE}" if warehouse == "DuckDB" else bench.new_warehouse()
    write_settings(folder, source, url, capture)
    bench.settle()
    try:
        finished = process.run([sys.executable, "-m", "totes", "run", "--json"], folder)
        check_star(source, folder, url)
        sizes = {
            part: _bytes(folder / part)
            for part in ("lake/ingestion", "lake/processed", ".totes", DUCKDB_FILE)
        }
        yield Loaded(folder, url, finished, json.loads(finished.out)["seconds"], sizes)
    finally:
        bench.drop_warehouse(url)
        bench.remove(folder)


def write_settings(folder: Path, source: Source, warehouse_url: str, capture: str = "") -> None:
    """Writes the settings of a pipeline: everything but the three places, and the capture, is the default."""
    project = f'[project]\nname = "benchmark"\npath = "{source.project}"\n' if source.project else ""
    (folder / "totes.toml").write_text(
        f'{project}[source]\nurl = "{source.url}"\n{capture}[warehouse]\nurl = "{warehouse_url}"\n',
        encoding="utf-8",
    )


def check_star(source: Source, folder: Path, warehouse_url: str, *, facts_only: bool = False) -> None:
    """Makes sure that the current rows of every warehouse table are those of the source.

    Args:
        source: the source, which nobody changes meanwhile.
        folder: the pipeline's.
        warehouse_url: the warehouse.
        facts_only: leave out latest tables, in which deleted rows stay that history refers to.

    Raises:
        BenchmarkFailed: one of them differs.
    """
    for table, expected in source.star_digests.items():
        if facts_only and not table.endswith("_current"):
            continue
        columns = source.star[table][1]
        if warehouse_url.startswith("duckdb"):
            found = digest.of_duckdb(folder / DUCKDB_FILE, f'"{table}"', columns)
        else:
            found = digest.of_postgresql(warehouse_url, f'"{table}"', columns)
        if found != expected:
            raise BenchmarkFailed(f"{table} has {found} where the source has {expected}")


def _bytes(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())
