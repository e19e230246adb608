"""How long a command takes that does next to nothing: `totes --help`, and `totes status` on many batches."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import process
from benchmarks.cycles import Cycles
from benchmarks.loading import write_settings
from benchmarks.measurement import Aim, BenchmarkFailed, Measurement, median
from benchmarks.workbench import Workbench

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
    _make_batches(bench, folder, bench.batches)
    nothing_again, status = _in_turn(bench, folder, [sys.executable, "-c", "pass"], [totes, "status"])
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
    ]  # fmt: skip


def _in_turn(bench: Workbench, folder: Path, *commands: Sequence[str | Path]) -> list[list[float]]:
    rounds = [
        [process.run(command, folder).seconds for command in commands]
        for _ in range(max(_TIMES_MIN, bench.repeat))
    ]
    return [list(times) for times in zip(*rounds, strict=True)]


def _make_batches(bench: Workbench, folder: Path, batches: int) -> None:
    """Makes a lake of so many real batches, of one row each.

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
    with Cycles(folder / "totes.toml") as cycles:
        for number in range(1, batches + 1):
            source.execute(f"INSERT INTO tick VALUES ({number}, 'note')")
            made = cycles.run()["batch"]
            if made != number:
                raise BenchmarkFailed(f"batch {number} was to be made, and {made} was")
