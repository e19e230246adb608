"""A full load of all tables: `totes run` beside the floor, and beside peers that keep no lake."""

from __future__ import annotations

from benchmarks import peers
from benchmarks.floor import FLOOR, copy_pipe
from benchmarks.loading import STAGES, WAREHOUSES, Loaded, loaded
from benchmarks.measurement import Aim, Measurement, median, median_bytes
from benchmarks.process import Finished
from benchmarks.workbench import Source, Workbench

SECTION = "full-load"
_AIMS = {"DuckDB": Aim("at least", 0.7, "speed"), "PostgreSQL": Aim("at least", 0.4, "speed")}


def measure(bench: Workbench) -> list[Measurement]:
    """Everything included: read, both lakes, keys, indexes and history columns."""
    return measure_source(bench, bench.source(bench.orders), SECTION, "", _AIMS)


def measure_source(
    bench: Workbench, source: Source, section: str, prefix: str, aims: dict[str, Aim]
) -> list[Measurement]:
    """Loads a source by every way there is, in turn, as often as wanted."""
    rows = source.rows
    floors: list[float] = []
    ours: dict[str, list[Loaded]] = {kind: [] for kind in WAREHOUSES}
    theirs: dict[str, dict[str, list[Finished]]] = {kind: {} for kind in WAREHOUSES}
    for number in range(bench.repeat):
        bench.say(f"{section}: {prefix}{rows:,} rows, run {number + 1} of {bench.repeat}")
        floors.append(copy_pipe(bench, source))
        for kind in WAREHOUSES:
            with loaded(bench, source, kind) as done:
                ours[kind].append(done)
            for peer in peers.of(bench, kind):
                finished = peers.load(bench, source, peer)
                if finished:
                    theirs[kind].setdefault(peer.name, []).append(finished)
    return [
        Measurement(
            section,
            f"{prefix}into {kind}",
            ours=median(done.run.seconds for done in ours[kind]),
            floor=median(floors),
            floor_is=FLOOR,
            aim=aims.get(kind),
            rows=rows,
            peak_bytes=median_bytes(done.run.peak_bytes for done in ours[kind]),
            peers={name: median(run.seconds for run in runs) for name, runs in theirs[kind].items()},
            peers_bytes={
                name: median_bytes(run.peak_bytes for run in runs) for name, runs in theirs[kind].items()
            },
            details={stage: median(done.stages[stage] for done in ours[kind]) for stage in STAGES}
            | {f"bytes of {part}": size for part, size in ours[kind][-1].bytes.items() if size},
            samples=tuple(done.run.seconds for done in ours[kind]),
        )
        for kind in WAREHOUSES
    ]
