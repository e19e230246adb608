"""How long a command takes that does next to nothing: `totes --help`, `totes status` on many batches, an idle or small run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import process
from benchmarks.cycles import Cycles
from benchmarks.loading import write_settings
from benchmarks.measurement import Aim, BenchmarkFailed, Measurement, median
from benchmarks.workbench import Source, Workbench

SECTION = "start-up"
_TIMES_MIN = 9
_MODEL = """\
-- A table as small as tables get.
CREATE TABLE dim_tick (
    tick_id  INTEGER PRIMARY KEY,
    note     VARCHAR NOT NULL
) AS
SELECT tick.tick_id, tick.note
FROM tick
"""


def measure(bench: Workbench) -> list[Measurement]:
    """Each command beside an interpreter that does nothing."""
    folder = bench.new_folder()
    totes = Path(sys.executable).with_name("totes")
    bench.say(f"{SECTION}: totes --help")
    nothing, help_ = _in_turn(bench, folder, [sys.executable, "-c", "pass"], [totes, "--help"])
    source, running = _make_batches(bench, folder, bench.batches)
    nothing_again, status, idle = _in_turn(
        bench, folder, [sys.executable, "-c", "pass"], [totes, "status"], [totes, "run"]
    )
    cold = []
    for number in range(len(running)):
        source.execute(f"INSERT INTO tick VALUES ({-1 - number}, 'note')")
        cold.append(process.run([totes, "run"], folder).seconds)
    bench.remove(folder)
    return [
        Measurement(
            SECTION, "totes --help", median(help_), median(nothing), "python -c pass", speed=False,
            aim=Aim("at most", 10, "time"), samples=tuple(help_),
        ),
        Measurement(
            SECTION, f"totes status, {bench.batches:,} batches", median(status), median(nothing_again), "python -c pass",
            speed=False, aim=Aim("at most", 1, "seconds"), samples=tuple(status),
        ),
        Measurement(
            SECTION, "totes run, nothing new", median(idle), median(nothing_again), "python -c pass", speed=False,
            aim=Aim("at most", 0.6, "seconds"), samples=tuple(idle),
        ),
        Measurement(
            SECTION, "totes run, one row: more than in a running process", median(cold) - median(running), speed=False,
            aim=Aim("at most", 0.4, "seconds"), details={"cold": median(cold), "running": median(running)},
        ),
    ]  # fmt: skip


def _in_turn(bench: Workbench, folder: Path, *commands: Sequence[str | Path]) -> list[list[float]]:
    rounds = [
        [process.run(command, folder).seconds for command in commands]
        for _ in range(max(_TIMES_MIN, bench.repeat))
    ]
    return [list(times) for times in zip(*rounds, strict=True)]


def _make_batches(bench: Workbench, folder: Path, batches: int) -> tuple[Source, list[float]]:
    """Makes a lake of so many real batches, of one row each; gives its source, and the seconds of the last batches.

    Raises:
        BenchmarkFailed: there are not as many.
    """
    bench.say(f"{SECTION}: making {batches:,} batches")
    (folder / "project" / "models").mkdir(parents=True)
    (folder / "project" / "models" / "dim_tick.sql").write_text(_MODEL, encoding="utf-8")
    source = bench.new_source("ticks", project=folder / "project")
    source.execute("CREATE TABLE tick (tick_id integer PRIMARY KEY, note text NOT NULL)")
    bench.finish_source(source)
    write_settings(folder, source, "duckdb:///warehouse.duckdb")
    seconds = []
    with Cycles(folder / "totes.toml") as cycles:
        for number in range(1, batches + 1):
            source.execute(f"INSERT INTO tick VALUES ({number}, 'note')")
            made = cycles.run()
            if made["batch"] != number:
                raise BenchmarkFailed(f"batch {number} was to be made, and {made['batch']} was")
            seconds.append(made["elapsed"])
    return source, seconds[-_TIMES_MIN:]
