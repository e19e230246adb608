"""What width and the number of tables cost: one changed row of a wide table, one changed table of many, and many at first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import psycopg

from benchmarks.cycles import Cycles
from benchmarks.loading import write_settings
from benchmarks.measurement import Aim, BenchmarkFailed, Measurement
from benchmarks.workbench import Source, Workbench
from totes.terrifictotes import demo_source
from totes.terrifictotes.server import LocalServer

SECTION = "breadth"
ROWS, WARM_UP, TIMES, TABLES = 1_000, 3, 9, 200
# How wide, and how many times as long as ten columns at most.
WIDTHS = ((500, 2.0), (1_600, 4.0))
_KINDS = (
    ("integer", "INTEGER", "number % 1000 + {n}"),
    ("numeric(12,2)", "DECIMAL(12,2)", "CASE WHEN {n} % 8 = 1 THEN number % 99 * 0.5 END"),
    ("text", "VARCHAR", "'w' || number % 89"),
    ("boolean", "BOOLEAN", "number % 3 = 0"),
)


@dataclass
class Taken:
    """The first batch of a pipeline, and batches in each of which one row has changed; each cycle with `elapsed` and `cpu`."""

    first: dict[str, Any] = field(default_factory=dict)
    small: list[dict[str, Any]] = field(default_factory=list)

    def seconds(self, of: str = "elapsed") -> float:
        """The median of the small batches."""
        return float(median(cycle[of] for cycle in self.small))


def measure(bench: Workbench) -> list[Measurement]:
    """Each shape in a database and a pipeline of its own, by query and from the log."""
    with LocalServer.start(settings={"wal_level": "logical"}, durable=True) as server:
        return [line for capture in ("query", "log") for line in _lines(bench, server, capture)]


def _lines(bench: Workbench, server: LocalServer, capture: str) -> Iterator[Measurement]:
    narrow = _run(bench, server, capture, "narrow", 1, 10)
    for columns, times in WIDTHS:
        wide = _run(bench, server, capture, f"wide_{columns}", 1, columns)
        yield _line(f"one row of {columns:,} columns, by {capture}", wide, narrow, times, "of 10 columns")
    many = _run(bench, server, capture, "many", TABLES, 10)
    yield _line(f"one row in one of {TABLES} tables, by {capture}", many, narrow, 1.3, "of one table")
    yield Measurement(
        SECTION, f"first batch of {TABLES} tables, by {capture}", many.first["elapsed"], speed=False,
        aim=Aim("at most", 3, "seconds"), details={"cpu": many.first["cpu"]},
    )  # fmt: skip


def _line(what: str, taken: Taken, floor: Taken, times: float, floor_is: str) -> Measurement:
    return Measurement(
        SECTION, what, taken.seconds(), floor.seconds(), floor_is, speed=False, aim=Aim("at most", times, "time"),
        details={"cpu": taken.seconds("cpu"), "cpu of the other": floor.seconds("cpu")},
        samples=tuple(cycle["elapsed"] for cycle in taken.small),
    )  # fmt: skip


def _run(bench: Workbench, server: LocalServer, capture: str, name: str, tables: int, columns: int) -> Taken:
    bench.say(f"{SECTION}: {tables} tables of {columns} columns, by {capture}")
    taken, folder = Taken(), bench.new_folder()
    source = _source(server, f"{name}_{capture}", folder / "project", tables, columns)
    write_settings(
        folder, source, "duckdb:///warehouse.duckdb", f'capture = "{capture}"\nslot = "{source.database}"\n'
    )
    with ExitStack() as opened:
        cycles = opened.enter_context(Cycles(folder / "totes.toml"))
        taken.first = _checked(cycles.run(), ROWS * tables)
        _checked(cycles.run(), 0)  # of the log, what was written meanwhile
        for number in range(WARM_UP + TIMES):
            source.execute(f"UPDATE table_0 SET c0 = c0 + 1 WHERE id = {number + 1}")
            taken.small.append(_checked(cycles.run(), 1))
    del taken.small[:WARM_UP]
    bench.remove(folder)
    return taken


def _checked(cycle: dict[str, Any], rows: int) -> dict[str, Any]:
    if (loaded := sum(cycle["loaded"].values())) != rows:
        raise BenchmarkFailed(f"{rows} rows were to be loaded, and {loaded} were")
    return cycle


def _source(server: LocalServer, database: str, project: Path, tables: int, columns: int) -> Source:
    """A database of equal tables, each of an id and other columns, with a model of each that keeps every version."""
    role, kinds = f"reader_of_{database}", [(n, *_KINDS[n % len(_KINDS)]) for n in range(columns - 1)]
    (project / "models").mkdir(parents=True)
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {database}".encode())
    demo_source.create_reader(server.url(), database, role, "benchmark")
    source = Source(
        server.url(database, role, "benchmark"), server.url(database), database, project, changes=True
    )
    declared = ",\n".join(f"    c{n} {kind}" for n, _, kind, _ in kinds)
    for number in range(tables):
        table = f"table_{number}"
        (project / "models" / f"fact_{number}.sql").write_text(
            f"-- Rows.\nCREATE TABLE fact_{number} (\n    record_id BIGINT PRIMARY KEY,\n    id INTEGER NOT NULL,\n"
            f"{declared}\n) AS\nSELECT {', '.join(f'{table}.{one}' for one in ['id', *(f'c{n}' for n, *_ in kinds)])}\n"
            f"FROM {table}\n",
            encoding="utf-8",
        )
        values = ", ".join(value.format(n=n) for n, _, _, value in kinds)
        source.execute(
            f"CREATE TABLE {table} (id integer PRIMARY KEY, {', '.join(f'c{n} {kind}' for n, kind, _, _ in kinds)})",
            f"INSERT INTO {table} SELECT number, {values} FROM generate_series(1, {ROWS}) AS number",
        )
    with psycopg.connect(source.admin_url, autocommit=True) as connection:
        connection.execute(f"ALTER ROLE {role} REPLICATION".encode())
        connection.execute(
            b"CREATE PUBLICATION totes FOR TABLES IN SCHEMA public WITH (publish_via_partition_root = true)"
        )
        connection.execute(b"VACUUM ANALYZE")
    return source
