"""A small batch in a process that runs already: by the size of the source, by the number of batches, and idle."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from benchmarks.cycles import Cycles
from benchmarks.loading import STAGES, WAREHOUSES, Loaded, check_star, loaded
from benchmarks.measurement import Aim, BenchmarkFailed, Measurement, median
from benchmarks.workbench import Source, Workbench

SECTION = "small-batch"
CHANGED = 1_000
ORDERS_MIN = 2_000
WARM_UP, EARLY, IDLE, DELETES = 5, 10, 10, 5


@dataclass
class Series:
    """The cycles of one pipeline, each with `elapsed` and the seconds of its stages."""

    batches: list[dict[str, Any]] = field(default_factory=list)
    idle: list[dict[str, Any]] = field(default_factory=list)
    deletes: list[dict[str, Any]] = field(default_factory=list)

    @property
    def early(self) -> list[dict[str, Any]]:
        """The first batches after the first few."""
        return self.batches[WARM_UP : WARM_UP + EARLY]

    @property
    def late(self) -> list[dict[str, Any]]:
        """As many of the last."""
        return self.batches[-EARLY:]


def measure(bench: Workbench) -> list[Measurement]:
    """The same changes go into both kinds of warehouses, each with its own lake."""
    small = max(bench.orders // 100, ORDERS_MIN)
    few = _run(bench, small, WARM_UP + EARLY)
    many = _run(bench, bench.orders, max(bench.batches, WARM_UP + EARLY))
    return [line for kind in WAREHOUSES for line in _lines(kind, bench.orders, small, many[kind], few[kind])]


def _lines(kind: str, orders: int, small: int, many: Series, few: Series) -> Iterator[Measurement]:
    count = len(many.batches)
    what = f"{CHANGED:,} orders and a department,"
    early, baseline = elapsed(many.early), elapsed(few.early)
    yield line_of(f"{what} of {orders:,}, into {kind}", many.early, Aim("at most", 0.5, "seconds"))
    yield line_of(
        "… beside the same in a small source",
        many.early,
        Aim("at most", 1.5, "time"),
        baseline,
        f"{small:,} orders",
    )
    yield line_of(
        f"… after {count:,} batches",
        many.late,
        Aim("at most", 1.3, "time"),
        early,
        f"after {WARM_UP + EARLY}",
    )
    yield line_of(f"idle, {orders:,} orders, {kind}", many.idle, Aim("at most", 0.1, "seconds"))
    yield line_of(
        f"one order deleted of {orders:,}, {kind}",
        many.deletes,
        None,
        elapsed(few.deletes),
        f"{small:,} orders",
    )


def line_of(
    what: str, cycles: list[dict[str, Any]], aim: Aim | None, floor: float | None = None, floor_is: str = ""
) -> Measurement:
    """The measurement of a series: the median of its cycles, and of each stage."""
    return Measurement(
        SECTION, what, elapsed(cycles), floor, floor_is, speed=False, aim=aim,
        details={stage: median(cycle["seconds"][stage] for cycle in cycles) for stage in STAGES},
        samples=tuple(cycle["elapsed"] for cycle in cycles),
    )  # fmt: skip


def elapsed(cycles: list[dict[str, Any]]) -> float:
    """The median of the cycles' seconds."""
    return median(cycle["elapsed"] for cycle in cycles)


def _run(bench: Workbench, orders: int, batches: int) -> dict[str, Series]:
    source = bench.changing_source(orders)
    found = {kind: Series() for kind in WAREHOUSES}
    with ExitStack() as opened:
        bench.say(f"{SECTION}: loading {orders:,} orders into {' and '.join(WAREHOUSES)}")
        pipelines = {kind: opened.enter_context(_running(bench, source, kind)) for kind in WAREHOUSES}
        bench.say(f"{SECTION}: {batches:,} batches over {orders:,} orders")
        for number in range(batches):
            change(source, number)
            for kind, (_, cycles) in pipelines.items():
                found[kind].batches.append(checked(cycles.run(), CHANGED))
            if number == WARM_UP:
                for kind, (_, cycles) in pipelines.items():
                    found[kind].idle = [checked(cycles.run(), 0) for _ in range(IDLE)]
        for load, _ in pipelines.values():
            check_star(source, load.folder, load.warehouse_url)
        for number in range(DELETES):
            delete(source, number)
            for kind, (_, cycles) in pipelines.items():
                found[kind].deletes.append(cycles.run())
        for load, _ in pipelines.values():
            check_star(source, load.folder, load.warehouse_url, facts_only=True)
    return found


@contextmanager
def _running(bench: Workbench, source: Source, kind: str) -> Iterator[tuple[Loaded, Cycles]]:
    with loaded(bench, source, kind) as load, Cycles(load.folder / "totes.toml") as cycles:
        yield load, cycles


def change(source: Source, number: int) -> None:
    """Changes orders all over the table, others in each batch, and moves a department."""
    source.execute(
        "UPDATE sales_order SET units_sold = units_sold + 1, last_updated = greatest(localtimestamp, last_updated)"
        f" FROM (SELECT 1 + (step * (orders / {CHANGED}) + {number * 7}) % orders AS chosen"
        f" FROM (SELECT count(*) AS orders FROM sales_order) AS counted, generate_series(0, {CHANGED - 1}) AS step) AS choice"
        " WHERE sales_order_id = chosen",
        f"UPDATE department SET location = 'Building {number}', last_updated = localtimestamp"
        " WHERE department_id = (SELECT min(department_id) FROM staff)",
    )


def delete(source: Source, number: int) -> None:
    """Deletes one order with what refers to it."""
    order = f"(SELECT {number} + min(sales_order_id) FROM sales_order WHERE sales_order_id > 1000)"
    transaction = f"(SELECT transaction_id FROM transaction WHERE sales_order_id = {order})"
    source.execute(
        f"DELETE FROM payment WHERE transaction_id = {transaction}",
        f"DELETE FROM transaction WHERE sales_order_id = {order}",
        f"DELETE FROM sales_order WHERE sales_order_id = {order}",
    )


def checked(cycle: dict[str, Any], orders: int) -> dict[str, Any]:
    """A cycle that captured and loaded so many changed orders, and nothing that it should not have.

    Raises:
        BenchmarkFailed: it did something else.
    """
    captured = cycle["ingested"].get("sales_order", {}).get("upserts", 0)
    written = cycle["loaded"].get("fact_sales_order", 0)
    if (captured, written) != (orders, orders):
        raise BenchmarkFailed(f"{orders} orders changed, {captured} were captured and {written} loaded")
    return cycle
