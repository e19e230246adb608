"""A small batch from the log, in a process that runs already: the changes that `small-batch` has, by the size of the source."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psycopg

from benchmarks.cycles import Cycles
from benchmarks.loading import WAREHOUSES, Loaded, check_star, loaded
from benchmarks.measurement import Aim, Measurement
from benchmarks.small_batch import (
    CHANGED,
    DELETES,
    EARLY,
    IDLE,
    ORDERS_MIN,
    WARM_UP,
    Series,
    change,
    checked,
    delete,
    elapsed,
    line_of,
)
from benchmarks.workbench import Source, Workbench
from totes.terrifictotes import demo_source
from totes.terrifictotes.server import LocalServer

SECTION = "log"
_SETTINGS = {"wal_level": "logical"}


def measure(bench: Workbench) -> list[Measurement]:
    """The same changes go into both kinds of warehouses, each with its own lake and slot."""
    with LocalServer.start(settings=_SETTINGS, durable=True) as server:
        small = max(bench.orders // 100, ORDERS_MIN)
        few, many = (_run(bench, server, orders) for orders in (small, bench.orders))
    return [line for kind in WAREHOUSES for line in _lines(kind, bench.orders, small, many[kind], few[kind])]


def _lines(kind: str, orders: int, small: int, many: Series, few: Series) -> Iterator[Measurement]:
    what = f"{CHANGED:,} orders and a department from the log,"
    yield line_of(f"{what} of {orders:,}, into {kind}", many.early, Aim("at most", 0.5, "seconds"))
    yield line_of("… beside the same in a small source", many.early, Aim("at most", 1.1, "time"),
                  elapsed(few.early), f"{small:,} orders")  # fmt: skip
    yield line_of(f"idle, {orders:,} orders, {kind}", many.idle, Aim("at most", 0.05, "seconds"))
    yield line_of(f"one order deleted of {orders:,}, {kind}", many.deletes, Aim("at most", 0.5, "seconds"))


def _run(bench: Workbench, server: LocalServer, orders: int) -> dict[str, Series]:
    source = make_source(bench, server, orders)
    found = {kind: Series() for kind in WAREHOUSES}
    with ExitStack() as opened:
        bench.say(f"{SECTION}: loading {orders:,} orders into {' and '.join(WAREHOUSES)}")
        pipelines = {kind: opened.enter_context(running(bench, source, kind)) for kind in WAREHOUSES}
        bench.say(f"{SECTION}: {WARM_UP + EARLY} batches over {orders:,} orders")
        for number in range(WARM_UP + EARLY):
            change(source, number)
            for kind, (_, cycles) in pipelines.items():
                found[kind].batches.append(checked(cycles.run(), CHANGED))
        for kind, (_, cycles) in pipelines.items():
            found[kind].idle = [checked(cycles.run(), 0) for _ in range(IDLE)]
        for number in range(DELETES):
            delete(source, number)
            for kind, (_, cycles) in pipelines.items():
                found[kind].deletes.append(cycles.run())
        for load, _ in pipelines.values():
            check_star(source, load.folder, load.warehouse_url, facts_only=True)
    return found


def make_source(bench: Workbench, server: LocalServer, orders: int) -> Source:
    """TerrificTotes with so many sales orders, on a server whose log can be captured."""
    database, role = f"logged_{orders}", f"reader_of_logged_{orders}"
    bench.say(f"{SECTION}: creating {orders:,} sales orders")
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {database}".encode())
    demo_source.create(server.url(database), orders)
    demo_source.create_reader(server.url(), database, role, "benchmark")
    with psycopg.connect(server.url(database), autocommit=True) as connection:
        connection.execute(f"ALTER ROLE {role} REPLICATION".encode())
        connection.execute(
            b"CREATE PUBLICATION totes FOR TABLES IN SCHEMA public WITH (publish_via_partition_root = true)"
        )
    source = Source(
        server.url(database, role, "benchmark"), server.url(database), database, None, changes=True
    )
    bench.finish_source(source)
    return source


@contextmanager
def running(bench: Workbench, source: Source, kind: str) -> Iterator[tuple[Loaded, Cycles]]:
    """A pipeline that captures a source from the log, and a process that runs its cycles."""
    with (
        loaded(bench, source, kind, capture_settings(source, kind)) as load,
        Cycles(load.folder / "totes.toml") as cycles,
    ):
        yield load, cycles


def capture_settings(source: Source, user: str) -> str:
    """The settings of capture from the log, with a slot of its own for a user."""
    return f'capture = "log"\nslot = "{source.database}_{user.lower()}"\n'
