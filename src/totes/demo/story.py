"""Runs the demo, and collects its results. Nothing is printed here."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from totes.config import load_settings
from totes.cycle import Cycle
from totes.demo.folder import Made, check, clear, list_made
from totes.demo.questions import Answer, ask
from totes.errors import CommandFailed, ConfigurationError
from totes.monitoring.alerts import watch
from totes.monitoring.comparison import TableVerdict
from totes.monitoring.history import Version, read_history
from totes.monitoring.verification import verify
from totes.pipeline import Pipeline
from totes.terrifictotes import demo_source
from totes.terrifictotes.demo_source import ORDERS_MIN, TradingDay
from totes.terrifictotes.server import LocalServer

ORDERS_MAX = 100_000_000
_DATABASE, _READER = "totesys", "totes_reader"

# Shows a step while it runs: takes the text to show meanwhile, and a function that returns the text to show afterwards.
ShowStep = Callable[[str, Callable[[], str]], AbstractContextManager[None]]


@dataclass(frozen=True)
class RowHistory:
    """The versions of one row of a warehouse table."""

    table: str
    key: int
    versions: list[Version]


@dataclass(frozen=True)
class Findings:
    """What to show after both batches: rows with a history, and answers."""

    changed: RowHistory
    deleted: RowHistory
    moved: list[RowHistory]
    answers: list[Answer]


@dataclass(frozen=True)
class Story:
    """The results of the demo; `server` is PostgreSQL's version, `seconds` how long each step took."""

    folder: Path
    orders: int
    server: str
    batches: tuple[Cycle, Cycle]
    day: TradingDay
    checked: dict[str, TableVerdict]
    findings: Findings
    files: list[Made]
    seconds: dict[str, float]


def check_arguments(folder: Path, orders: int) -> None:
    """Makes sure that the demo can run with these arguments; changes and starts nothing.

    Raises:
        ConfigurationError: the folder has something other than a demo in it, or there are too few or too many orders.
    """
    if not ORDERS_MIN <= orders <= ORDERS_MAX:
        raise ConfigurationError(
            f"the demo cannot run with {orders} orders",
            hint=f"Give --orders a number from {ORDERS_MIN} to {ORDERS_MAX}",
        )
    check(folder)


def run_demo(folder: Path, orders: int, show_step: ShowStep) -> Story:
    """Runs the demo, and leaves a lake and a warehouse; its server is stopped at the end, whatever happens.

    Args:
        folder: the demo's folder, which has been checked.
        orders: how many sales orders there are at first.
        show_step: shows a step while it runs.

    Raises:
        ConfigurationError: PostgreSQL is not installed, or the folder cannot be written.
        TotesError: a stage failed.
        CommandFailed: the warehouse differs from the source.
    """
    seconds: dict[str, float] = {}

    @contextmanager
    def step(name: str, doing: str, done: Callable[[], str]) -> Iterator[None]:
        began = time.perf_counter()
        with show_step(doing, done):
            yield
            seconds[name] = round(time.perf_counter() - began, 3)

    with ExitStack() as running:
        with step(
            "server", "Starting PostgreSQL", lambda: f"PostgreSQL {version}, a server for this demo alone"
        ):
            server = running.enter_context(LocalServer.start())
            version = (server.data / "PG_VERSION").read_text().strip()
        source_url = server.url(_DATABASE)
        with step(
            "create",
            f"Creating totesys with {orders:,} sales orders",
            lambda: f"totesys created, with {orders:,} sales orders",
        ):
            pipeline = _create(server, folder, orders)
        with step("batch_1", "Batch 1: all that is there", lambda: f"Batch 1: all {_captured(first):,} rows"):
            first = _run(pipeline)
        with step("trade", "A day of trade", lambda: _summary(day)):
            day = demo_source.trade(source_url)
        with step(
            "batch_2", "Batch 2: what changed", lambda: f"Batch 2: the {_captured(second):,} that changed"
        ):
            second = _run(pipeline)
        with step("check", "Comparing the warehouse with totesys", lambda: "Warehouse compared with totesys"):
            checked = _verify(pipeline)
        with step("look", "Asking the warehouse", lambda: "Histories read, and three questions asked"):
            findings = _look(day, source_url, pipeline)
        with step("stop", "Stopping PostgreSQL", lambda: "PostgreSQL stopped, and its data removed"):
            server.stop()
    return Story(folder, orders, version, (first, second), day, checked, findings, list_made(folder), seconds)


def _create(server: LocalServer, folder: Path, orders: int) -> Pipeline:
    """Creates the source, and a pipeline that reads it with a read-only role."""
    with closing(psycopg.connect(server.url(), autocommit=True)) as connection:
        connection.execute(f"CREATE DATABASE {_DATABASE}".encode())
    demo_source.create(server.url(_DATABASE), orders)
    password = secrets.token_hex(16)
    demo_source.create_reader(server.url(), _DATABASE, _READER, password)
    return Pipeline(load_settings(clear(folder, server.url(_DATABASE, _READER, password))))


def _run(pipeline: Pipeline) -> Cycle:
    cycle = pipeline.run()
    watch(pipeline.settings, cycle)
    for error in cycle.failures.values():
        raise error
    return cycle


def _verify(pipeline: Pipeline) -> dict[str, TableVerdict]:
    verdict = verify(pipeline, (), 1.0, lambda _doing: None)
    if not verdict.equal:
        names = ", ".join(name for name, table in verdict.tables.items() if not table.equal)
        raise CommandFailed(f"the warehouse differs from the source in {names}")
    return verdict.tables


def _captured(cycle: Cycle) -> int:
    tables = cycle.ingested.changes.values() if cycle.ingested else ()
    return sum(table.upserts + table.deletes for table in tables)


def _summary(day: TradingDay) -> str:
    return (
        f"{day.day:%-d %B %Y}: {len(day.new_order_ids):,} new orders, {len(day.changed_order_ids):,} changed,"
        " 1 cancelled; two addresses move"
    )


def _look(day: TradingDay, source_url: str, pipeline: Pipeline) -> Findings:
    changed_orders = ", ".join(str(order) for order in day.changed_order_ids)
    with pipeline.warehouse(read_only=True) as warehouse:
        _, [(changed,)] = warehouse.query(
            f"SELECT sales_order_id FROM fact_sales_order WHERE sales_order_id IN ({changed_orders})"
            " GROUP BY ALL ORDER BY count(DISTINCT unit_price) DESC, sales_order_id LIMIT 1"
        )
    with closing(psycopg.connect(source_url)) as source:
        staff = source.execute(
            "SELECT staff_id FROM staff WHERE department_id = %s ORDER BY staff_id", [day.department_id]
        ).fetchall()

    def history(table: str, key: int) -> RowHistory:
        return RowHistory(table, key, read_history(pipeline, table, [str(key)]))

    return Findings(
        changed=history("fact_sales_order", changed),
        deleted=history("fact_sales_order", day.deleted_order_id),
        moved=[
            *(history("dim_staff", key) for (key,) in staff),
            history("dim_counterparty", day.counterparty_id),
        ],
        answers=ask(pipeline, day.day),
    )
