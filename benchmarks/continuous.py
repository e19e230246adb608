"""A pipeline that keeps up with a source from its log: `totes run --every 1s` while rows change, and a backlog of a million."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from statistics import quantiles
from threading import Event, Thread

import duckdb
import psycopg

from benchmarks.cycles import Cycles
from benchmarks.from_log import capture_settings, make_source, running
from benchmarks.loading import DUCKDB_FILE, WAREHOUSES, Loaded, check_star, loaded
from benchmarks.measurement import Aim, BenchmarkFailed, Measurement, median
from benchmarks.process import PeakMemory
from benchmarks.workbench import Source, Workbench
from totes.terrifictotes.server import LocalServer

SECTION = "continuous"
ORDERS = 100_000
# A second's transactions, and the rows that each of them changes.
TRANSACTIONS, ROWS = 100, 10
BACKLOG, BACKLOG_ROWS = 1_000_000, 1_000
RATES = {"DuckDB": 60_000, "PostgreSQL": 30_000}
_LOOK_SECONDS, _PATIENCE_SECONDS = 0.02, 60.0
_CHANGE = (
    "UPDATE sales_order SET units_sold = %s, last_updated = greatest(localtimestamp, last_updated)"
    " WHERE sales_order_id = ANY (SELECT 1 + (%s::bigint * %s + step * 7919) %% %s FROM generate_series(1, %s) AS step)"
)


def measure(bench: Workbench) -> list[Measurement]:
    """Each kind of warehouse on its own, beside the same source."""
    with LocalServer.start(settings={"wal_level": "logical"}, durable=True) as server:
        source = make_source(bench, server, ORDERS)
        return [line for kind in WAREHOUSES for line in _lines(bench, source, kind)]


def _lines(bench: Workbench, source: Source, kind: str) -> Iterator[Measurement]:
    yield from _backlog(bench, source, kind)
    yield from _every_second(bench, source, kind)


def _backlog(bench: Workbench, source: Source, kind: str) -> Iterator[Measurement]:
    bench.say(f"{SECTION}: {BACKLOG:,} changes at once, into {kind}")
    with running(bench, source, kind) as (load, cycles), closing(_Server(source)) as server:
        for number in range(BACKLOG // BACKLOG_ROWS):
            server.change(number, BACKLOG_ROWS)
        floor = server.seconds_to_decode()
        stages, changed = _until_idle(cycles)
        if changed < BACKLOG:
            raise BenchmarkFailed(f"{changed:,} changes were captured of {BACKLOG:,}")
        check_star(source, load.folder, load.warehouse_url, facts_only=True)
    lake, aim = stages["ingest"] + stages["process"], Aim("at most", BACKLOG / 100_000, "seconds")
    what, decoding = f"{BACKLOG:,} changes in the log,", "the server to decode them"
    yield Measurement(SECTION, f"{what} into the processed lake", lake, floor, decoding, aim=aim, rows=BACKLOG,
                      details=stages)  # fmt: skip
    aim = Aim("at most", BACKLOG / RATES[kind], "seconds")
    yield Measurement(SECTION, f"… and into {kind}", stages["load"], floor, decoding, aim=aim, rows=BACKLOG)


def _until_idle(cycles: Cycles) -> tuple[dict[str, float], int]:
    """The seconds of each stage until there is nothing new, and how many changes were captured."""
    stages, changed = {"ingest": 0.0, "process": 0.0, "load": 0.0}, 0
    while True:
        cycle = cycles.run()
        upserts = sum(table["upserts"] for table in cycle["ingested"].values())
        if not upserts:
            return stages, changed
        changed += upserts
        for stage in stages:
            stages[stage] += cycle["seconds"][stage]


def _every_second(bench: Workbench, source: Source, kind: str) -> Iterator[Measurement]:
    rate = TRANSACTIONS * ROWS
    bench.say(f"{SECTION}: {rate:,} changes a second for {bench.seconds} seconds, into {kind}")
    with (
        loaded(bench, source, kind, capture_settings(source, f"{kind}_every")) as load,
        ExitStack() as opened,
    ):
        process = opened.enter_context(_running_every_second(load.folder))
        memory = opened.enter_context(PeakMemory(process.pid))
        delays = _delays(source, load, bench.seconds)
        if process.poll() is not None:
            raise BenchmarkFailed(f"totes run ended with {process.returncode}: {_said(load.folder)}")
        half = len(delays) // 2
    percentiles = quantiles(delays, n=100)
    what = f"{rate:,} changes a second, commit to {kind},"
    details = {"first half": median(delays[:half]), "second half": median(delays[half:])}
    yield Measurement(SECTION, f"{what} median", percentiles[49], aim=Aim("at most", 1, "seconds"), speed=False,
                      peak_bytes=memory.peak_bytes, details=details)  # fmt: skip
    yield Measurement(
        SECTION, f"{what} 99 of 100", percentiles[98], aim=Aim("at most", 2, "seconds"), speed=False
    )


@contextmanager
def _running_every_second(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "every.log").open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "totes", "run", "--every", "1s"], cwd=folder, stdin=subprocess.DEVNULL,
            stdout=said, stderr=said,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


def _said(folder: Path) -> str:
    return re.sub(r"\s+", " ", (folder / "every.log").read_text(errors="replace")[-2000:])


def _delays(source: Source, load: Loaded, seconds: int) -> list[float]:
    """The seconds from each transaction's commit until the warehouse shows it, in the order of the commits."""
    committed: list[float] = []
    ended = Event()

    def write() -> None:
        with closing(_Server(source)) as server:
            began = time.monotonic()
            while not ended.is_set() and len(committed) < seconds * TRANSACTIONS:
                time.sleep(max(0.0, began + len(committed) / TRANSACTIONS - time.monotonic()))
                server.change(len(committed), ROWS)
                committed.append(time.monotonic())

    writer, shown, delays = Thread(target=write), 0, list[float]()
    look = _looks_into_file(load) if load.warehouse_url.startswith("duckdb") else _looks_into_database(load)
    writer.start()
    try:
        writes = True
        while writes or shown < len(committed):
            writes, number, now = writer.is_alive(), next(look), time.monotonic()
            delays += [now - at for at in committed[shown : number + 1]]
            shown = max(shown, number + 1)
            if not writes and now - committed[-1] > _PATIENCE_SECONDS:
                raise BenchmarkFailed(
                    f"{len(committed) - shown:,} transactions are not shown: {_said(load.folder)}"
                )
    finally:
        ended.set()
        writer.join()
    return delays


_NEWEST = "SELECT max(units_sold) FROM fact_sales_order WHERE batch_id > 1"


def _looks_into_file(load: Loaded) -> Iterator[int]:
    """The newest transaction that a DuckDB file shows, which is opened when another file has its name."""
    file, seen, newest = load.folder / DUCKDB_FILE, (0, 0), -1
    while True:
        time.sleep(_LOOK_SECONDS)
        found = file.stat()
        if (found.st_ino, found.st_mtime_ns) != seen:
            with duckdb.connect(str(file), read_only=True) as connection:
                [shown] = connection.execute(_NEWEST).fetchall()[0]
            seen, newest = (found.st_ino, found.st_mtime_ns), -1 if shown is None else shown
        yield newest


def _looks_into_database(load: Loaded) -> Iterator[int]:
    """The newest transaction that a PostgreSQL database shows."""
    with psycopg.connect(load.warehouse_url, autocommit=True) as connection:
        batch, newest = 1, -1
        while True:
            time.sleep(_LOOK_SECONDS)
            [last] = connection.execute("SELECT max(batch_id) FROM totes_batches").fetchall()[0]
            if last != batch:
                [shown] = connection.execute(_NEWEST.encode()).fetchall()[0]
                batch, newest = last, newest if shown is None else shown
            yield newest


class _Server:
    """Changes a source's orders, and decodes its log."""

    def __init__(self, source: Source) -> None:
        self._connection = psycopg.connect(source.admin_url, autocommit=True)
        self._slot = f"{source.database}_floor"
        self._execute(f"SELECT pg_create_logical_replication_slot('{self._slot}', 'pgoutput')")

    def close(self) -> None:
        """Drops the slot."""
        self._execute(f"SELECT pg_drop_replication_slot('{self._slot}')")
        self._connection.close()

    def change(self, number: int, rows: int) -> None:
        """A transaction that changes orders spread over the table; each shows the transaction's number."""
        self._connection.execute(_CHANGE.encode(), [number, number, rows, ORDERS, rows])

    def seconds_to_decode(self) -> float:
        """How long the server takes to decode all that was changed."""
        began = time.perf_counter()
        options = "'proto_version', '1', 'publication_names', 'totes'"
        self._execute(
            f"SELECT count(*) FROM pg_logical_slot_peek_binary_changes('{self._slot}', NULL, NULL, {options})"
        )
        return time.perf_counter() - began

    def _execute(self, statement: str) -> None:
        self._connection.execute(statement.encode())
