"""What the demo does, and the facts that it gathers on the way: nothing is printed here."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from totes.cli.demo_check import Comparison, compare
from totes.cli.demo_folder import Made, clear, list_made, write_settings
from totes.cli.demo_questions import Answer, ask
from totes.config import load_settings
from totes.errors import ConfigurationError
from totes.monitoring.alerts import watch
from totes.monitoring.history import Version, read_history
from totes.pipeline import Cycle, Pipeline
from totes.terrifictotes import demo_source
from totes.terrifictotes.demo_source import ORDERS_MIN, TradingDay
from totes.terrifictotes.server import LocalServer

ORDERS_MAX = 100_000_000
_DATABASE, _READER = "totesys", "totes_reader"

# Shows a step while it runs: gets what it says meanwhile, and a function that gives what it says afterwards.
ShowStep = Callable[[str, Callable[[], str]], AbstractContextManager[None]]


@dataclass(frozen=True)
class RowHistory:
    """The versions of one row of a warehouse table."""

    table: str
    key: int
    versions: list[Version]


@dataclass
class Story:
    """The demo's facts, each in its place once it has happened; `seconds` are those of each step."""

    folder: Path
    orders: int
    server: str = ""
    batches: list[Cycle] = field(default_factory=list)
    day: TradingDay | None = None
    changed: RowHistory | None = None
    deleted: RowHistory | None = None
    moved: list[RowHistory] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    checked: dict[str, Comparison] = field(default_factory=dict)
    files: list[Made] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def source_rows(self) -> int:
        """How many rows the source had at the first batch."""
        ingested = self.batches[0].ingested
        return sum(table.rows for table in ingested.changes.values()) if ingested else 0


def check_orders(orders: int) -> None:
    """Raises ConfigurationError where so many orders cannot be made."""
    if not ORDERS_MIN <= orders <= ORDERS_MAX:
        raise ConfigurationError(
            f"the demo cannot be made with {orders} orders",
            hint=f"Give --orders a number from {ORDERS_MIN} to {ORDERS_MAX}",
        )


def tell(folder: Path, orders: int, show_step: ShowStep) -> Story:
    """Runs the demo and leaves a lake and a warehouse in `folder`; its server is stopped again, whatever happens.

    Raises:
        ConfigurationError: the folder or the number of orders will not do, or PostgreSQL is not there.
        TotesError: a stage failed.
        CommandFailed: the warehouse differs from the source.
    """
    check_orders(orders)
    clear(folder)
    story = Story(folder, orders)

    @contextmanager
    def step(name: str, doing: str, done: Callable[[], str]) -> Iterator[None]:
        began = time.perf_counter()
        with show_step(doing, done):
            yield
            story.seconds[name] = round(time.perf_counter() - began, 3)

    with step("server", "Starting PostgreSQL", lambda: f"PostgreSQL {story.server}, a server for this demo alone"):
        server = LocalServer.start()
        story.server = (server.data / "PG_VERSION").read_text().strip()
    with server:
        with step("create", f"Creating totesys with {orders:,} sales orders",
                  lambda: f"totesys created, with {orders:,} sales orders"):  # fmt: skip
            pipeline = _create(story, server)
        with step("batch_1", "Batch 1: all that is there", lambda: f"Batch 1: all {story.source_rows:,} rows"):
            story.batches.append(_run(pipeline))
        with step("trade", "A day of trade", lambda: _day_of(story)):
            story.day = demo_source.trade(server.url(_DATABASE))
        with step("batch_2", "Batch 2: what changed", lambda: "Batch 2: what changed"):
            story.batches.append(_run(pipeline))
        with step("check", "Comparing the warehouse with totesys", lambda: "Warehouse compared with totesys"):
            story.checked = compare(server.url(_DATABASE), folder / "warehouse.duckdb", pipeline)
        with step("ask", "Asking the warehouse", lambda: "Histories read, and three questions asked"):
            _look(story, story.day, server.url(_DATABASE), pipeline)
        with step("stop", "Stopping PostgreSQL", lambda: "PostgreSQL stopped, and its data removed"):
            server.stop()
    shutil.rmtree(folder / ".totes" / "scratch", ignore_errors=True)
    story.files = list_made(folder)
    return story


def _create(story: Story, server: LocalServer) -> Pipeline:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {_DATABASE}".encode())
    demo_source.create(server.url(_DATABASE), story.orders)
    password = secrets.token_hex(16)
    demo_source.create_reader(server.url(), _DATABASE, _READER, password)
    return Pipeline(load_settings(write_settings(story.folder, server.url(_DATABASE, _READER, password))))


def _run(pipeline: Pipeline) -> Cycle:
    cycle = pipeline.run()
    watch(pipeline.settings, cycle)
    for error in cycle.failures.values():
        raise error
    return cycle


def _day_of(story: Story) -> str:
    day = story.day
    assert day is not None
    return (
        f"{day.day:%-d %B %Y}: {len(day.new_order_ids):,} new orders, {len(day.changed_order_ids):,} changed, 1 cancelled;"
        f" two addresses move"
    )


def _look(story: Story, day: TradingDay, source_url: str, pipeline: Pipeline) -> None:
    """Reads what there is to show."""
    with pipeline.warehouse() as warehouse:
        _, [(changed,)] = warehouse.query(
            "SELECT sales_order_id FROM fact_sales_order"
            f" WHERE sales_order_id IN ({', '.join(map(str, day.changed_order_ids))})"
            " GROUP BY ALL ORDER BY count(DISTINCT unit_price) DESC, sales_order_id LIMIT 1"
        )
    with psycopg.connect(source_url) as source:
        staff = source.execute(
            "SELECT staff_id FROM staff WHERE department_id = %s ORDER BY 1", [day.department_id]
        ).fetchall()

    def history(table: str, key: int) -> RowHistory:
        return RowHistory(table, key, read_history(pipeline, table, [str(key)]))

    story.changed = history("fact_sales_order", changed)
    story.deleted = history("fact_sales_order", day.deleted_order_id)
    story.moved = [history("dim_staff", key) for (key,) in staff]
    story.moved.append(history("dim_counterparty", day.counterparty_id))
    story.answers = ask(pipeline, day.day)
