"""Runs the benchmarks: `make bench`, or `python -m benchmarks.run --help` for all that can be chosen."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import psycopg
from rich.console import Console

from benchmarks import (
    breadth,
    continuous,
    from_log,
    full_load,
    memory,
    queries,
    report,
    shapes,
    small_batch,
    startup,
    steps,
)
from benchmarks.measurement import BenchmarkFailed, Measurement
from benchmarks.workbench import Workbench
from totes.errors import TotesError

RESULTS = Path(__file__).with_name("results")
ORDERS, ORDERS_MIN, FULL_ORDERS = 200_000, 5_000, 1_000_000
BATCHES, FULL_BATCHES = 100, 1_000
SECTIONS: dict[str, Callable[[Workbench], list[Measurement]]] = {
    module.SECTION: module.measure
    for module in (
        full_load,
        steps,
        memory,
        small_batch,
        from_log,
        queries,
        startup,
        breadth,
        shapes,
        continuous,
    )
}
# Only where they are asked for: three more full loads, of narrow, wide and text-heavy tables, and half an hour of changes.
DEFAULT = tuple(name for name in SECTIONS if name not in (shapes.SECTION, continuous.SECTION))
SECONDS = 600


def main() -> int:
    """Measures what is asked for, prints the table and keeps it; gives the exit code."""
    options = _options().parse_args()
    names = options.only.split(",") if options.only else list(DEFAULT)
    for name in names:
        if name not in SECTIONS:
            print(f"there is no section {name}: choose of {', '.join(SECTIONS)}", file=sys.stderr)
            return 2
    batches = options.batches or (FULL_BATCHES if options.orders >= FULL_ORDERS else BATCHES)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stopped either way, the servers are too
    about, began, found = report.machine(), time.monotonic(), list[Measurement]()
    if not about["quiet"]:
        print(f"The load average is {about['load_average']}: figures are preliminary.", file=sys.stderr)
    failed: dict[str, str] = {}
    with Workbench(
        options.orders, options.repeat, batches, options.seconds, peers=not options.no_peers
    ) as bench:
        durability = bench.durability()
        for name in names:
            try:
                found += SECTIONS[name](bench)
            except (BenchmarkFailed, TotesError, psycopg.Error, duckdb.Error, OSError) as error:
                failed[name] = f"{type(error).__name__}: {error}"
            except KeyboardInterrupt:  # what has been measured is kept
                failed[name] = "stopped here"
                break
    settings = {
        "command": shlex.join(["python", "-m", "benchmarks.run", *sys.argv[1:]]),
        "orders": options.orders, "repeat": options.repeat, "batches": batches, "sections": names,
        "durability": durability, "failed": failed,
    }  # fmt: skip
    document = report.document(found, about, settings, began)
    if found:
        report.show(found, document, Console(width=None if sys.stdout.isatty() else 170, highlight=False))
        title = f"{options.orders}" if names == list(DEFAULT) else f"{options.orders}-{'-'.join(names)}"
        files = report.keep(found, document, options.output, title)
        print(f"Kept in {', '.join(os.path.relpath(file) for file in files)}, after {document['seconds']} s.")
    for name, reason in failed.items():
        print(f"error: {name}: {reason}", file=sys.stderr)
    return 1 if failed else 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--orders", type=_orders, default=ORDERS, help=f"sales orders; by default {ORDERS:,}")
    parser.add_argument(
        "--repeat", type=int, default=3, help="how often each full load is timed; medians are given"
    )
    parser.add_argument("--only", help=f"sections, with commas between them: {', '.join(SECTIONS)}")
    parser.add_argument(
        "--batches",
        type=int,
        help=f"small batches in a row; by default {BATCHES}, and {FULL_BATCHES:,} from {FULL_ORDERS:,} orders on",
    )
    parser.add_argument(
        "--seconds", type=int, default=SECONDS, help=f"how long rows change, for {continuous.SECTION}"
    )
    parser.add_argument(
        "--no-peers", action="store_true", help="leave the peers out, also where they are installed"
    )
    parser.add_argument(
        "--output", type=Path, default=RESULTS, help="where the JSON document and the chart go"
    )
    return parser


def _orders(value: str) -> int:
    orders = int(value.replace(",", "").replace("_", ""))
    if orders < ORDERS_MIN:
        raise argparse.ArgumentTypeError(f"{ORDERS_MIN:,} at the least")
    return orders


if __name__ == "__main__":
    sys.exit(main())
