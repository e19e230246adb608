"""Peak memory of a full load, and whether four times as many rows take more of it."""

from __future__ import annotations

from benchmarks.loading import WAREHOUSES, loaded
from benchmarks.measurement import Aim, Measurement
from benchmarks.workbench import Workbench

SECTION = "memory"
_AIM = Aim("at most", 1 << 30, "bytes")
TIMES = 4


def measure(bench: Workbench) -> list[Measurement]:
    """One load of each size into each warehouse."""
    found = []
    for kind in WAREHOUSES:
        for orders in (bench.orders, TIMES * bench.orders):
            source = bench.source(orders)
            bench.say(f"{SECTION}: {source.rows:,} rows into {kind}")
            with loaded(bench, source, kind) as done:
                run = done.run
            found.append(
                Measurement(
                    SECTION,
                    f"{orders:,} orders into {kind}",
                    run.seconds,
                    rows=source.rows,
                    peak_bytes=run.peak_bytes,
                    aim=_AIM,
                    samples=(run.seconds,),
                    details=done.stages,
                )
            )
    return found
