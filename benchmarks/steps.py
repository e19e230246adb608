"""Each step of a full load alone, with nothing around it, beside the stage that it is a part of."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

import adbc_driver_postgresql
import duckdb
from adbc_driver_manager import dbapi

from benchmarks.loading import WAREHOUSES, loaded
from benchmarks.measurement import Measurement, median
from benchmarks.workbench import Source, Workbench

SECTION = "steps"


def measure(bench: Workbench) -> list[Measurement]:
    """All tables, a step after the other; the files of one are what the next reads."""
    source = bench.source(bench.orders)
    alone: dict[tuple[str, str], list[float]] = {}
    ours: dict[str, list[float]] = {}
    for number in range(bench.repeat):
        bench.say(f"{SECTION}: {source.rows:,} rows, run {number + 1} of {bench.repeat}")
        for step, seconds in _Steps(bench, source).run().items():
            alone.setdefault(step, []).append(seconds)
        for kind in WAREHOUSES:
            with loaded(bench, source, kind) as done:
                stages = done.stages
                ours.setdefault(f"load into {kind}", []).append(stages["load"])
                for stage in ("ingest", "process"):
                    ours.setdefault(stage, []).append(stages[stage])
    return [
        Measurement(
            SECTION, f"{stage}: {step}", median(ours[stage]), median(times), "alone", rows=source.rows,
            samples=tuple(ours[stage]),
        )
        for (stage, step), times in alone.items()
    ]  # fmt: skip


class _Steps:
    """One run of each step."""

    def __init__(self, bench: Workbench, source: Source) -> None:
        self._bench = bench
        self._source = source
        self._folder = bench.new_folder()
        self._engine = duckdb.connect(
            str(self._folder / "engine.duckdb"),
            config={"preserve_insertion_order": "false", "memory_limit": "4GB"},
        )
        self._engine.execute("SET enable_progress_bar = false")

    def run(self) -> dict[tuple[str, str], float]:
        """The seconds of each step, by stage and step."""
        steps: dict[tuple[str, str], Callable[[], None]] = {
            ("ingest", "binary COPY out"): self._copy_out,
            ("ingest", "ADBC to Arrow"): lambda: self._read("SELECT count(*) FROM incoming"),
            ("ingest", "ADBC to a DuckDB table"): lambda: self._read("CREATE TABLE read_{} AS FROM incoming"),
            ("ingest", "DuckDB to zstd JSON lines"): lambda: self._each(
                "COPY read_{} TO '{}.jsonl.zst' (FORMAT json, COMPRESSION zstd)"
            ),
            ("process", "JSON lines to Parquet"): lambda: self._each(
                "COPY (FROM read_json('{}.jsonl.zst', format = 'newline_delimited', columns = {columns}))"
                " TO '{}.parquet' (FORMAT parquet, COMPRESSION zstd)"
            ),
            ("load into DuckDB", "Parquet to DuckDB, no key"): lambda: self._each(
                "CREATE TABLE plain_{} AS FROM '{}.parquet'"
            ),
            ("load into DuckDB", "Parquet to DuckDB, primary key"): lambda: self._each(
                "INSERT INTO keyed_{} FROM '{}.parquet'"
            ),
            ("load into PostgreSQL", "ADBC from Parquet, no key"): self._write,
        }
        seconds = {}
        for name, step in steps.items():
            if name[1].endswith("primary key"):
                self._create_keyed()
            self._bench.settle()
            began = time.perf_counter()
            step()
            seconds[name] = time.perf_counter() - began
        self._engine.close()
        self._bench.drop_warehouse(self._warehouse)
        self._bench.remove(self._folder)
        return seconds

    def _copy_out(self) -> None:
        psql = self._bench.source_server.binaries / "psql"
        for table in self._source.tables:
            copy = f'--command=COPY "{table}" TO STDOUT (FORMAT binary)'
            subprocess.run(
                [psql, "--no-psqlrc", self._source.url, copy], stdout=subprocess.DEVNULL, check=True
            )

    def _read(self, statement: str) -> None:
        driver = adbc_driver_postgresql._driver_path()
        with dbapi.connect(driver=driver, db_kwargs={"uri": self._source.url}, autocommit=True) as connection:
            for table in self._source.tables:
                with connection.cursor() as cursor:
                    cursor.execute(f'SELECT * FROM "{table}"')
                    self._engine.register("incoming", cursor.fetch_arrow())
                    self._engine.execute(statement.replace("{}", table)).fetchall()
                    self._engine.unregister("incoming")

    def _each(self, statement: str) -> None:
        for table in self._source.tables:
            text = statement.replace("_{}", f"_{table}").replace("{}", str(self._folder / table))
            if "{columns}" in text:
                kinds = self._engine.execute(f"DESCRIBE read_{table}").fetchall()
                columns = ", ".join(f"'{name}': '{kind}'" for name, kind, *_ in kinds)
                text = text.replace("{columns}", f"{{{columns}}}")
            self._engine.execute(text).fetchall()

    def _create_keyed(self) -> None:
        for table, columns in self._source.tables.items():
            self._engine.execute(f"CREATE TABLE keyed_{table} AS FROM plain_{table} LIMIT 0")
            self._engine.execute(f'ALTER TABLE keyed_{table} ADD PRIMARY KEY ("{columns[0].name}")')

    def _write(self) -> None:
        self._warehouse = self._bench.new_warehouse()
        driver = adbc_driver_postgresql._driver_path()
        with dbapi.connect(driver=driver, db_kwargs={"uri": self._warehouse}) as connection:
            for table in self._source.tables:
                with connection.cursor() as cursor:
                    rows = self._engine.sql(f"FROM '{self._folder / table}.parquet'")
                    cursor.adbc_ingest(table, rows, mode="create")
            connection.commit()
