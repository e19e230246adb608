"""What the age of a lake costs: the same commands on lakes of few and of many batches, in seconds and in requests to the storage.

    python -m benchmarks.old_lakes --batches 100,35000

A listing counts as one request for each thousand objects, as S3 answers it.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import aged_lake
from benchmarks.measurement import BenchmarkFailed
from benchmarks.workbench import Source, Workbench
from totes import log
from totes.config import Settings
from totes.lake import folder, store
from totes.lake.backup import back_up
from totes.monitoring.history import read_history
from totes.monitoring.plan import plan
from totes.monitoring.quarantine import read_quarantine
from totes.monitoring.status import read_status
from totes.pipeline import Pipeline
from totes.star.project import load_project

REPEAT = 5
_MODELS = Path(load_project("terrifictotes", None).models[0].path).parent
requests: Counter[str] = Counter()


class CountedFolder(folder.Folder):
    """A folder that counts what S3 would be asked."""

    def put(self, path: str, content: bytes | Path) -> None:
        """See Storage."""
        requests["put"] += 1
        super().put(path, content)

    def read(self, path: str, bytes_max: int) -> bytes:
        """See Storage."""
        requests["get"] += 1
        return super().read(path, bytes_max)

    def list(self, prefix: str, after: str | None) -> list[str]:
        """See Storage."""
        found = super().list(prefix, after)
        requests["list"] += max(1, math.ceil(len(found) / 1000))
        return found

    def present(self, paths: Sequence[str]) -> set[str]:
        """See Storage."""
        requests["list"] += 1
        return super().present(paths)

    def digest(self, path: str) -> tuple[str, int]:
        """See Storage."""
        requests["get"] += 1
        return super().digest(path)

    def fetch(self, path: str, target: Path) -> Path:
        """See Storage."""
        requests["get"] += 1
        return super().fetch(path, target)


def main() -> int:
    """Writes the lakes, measures, and prints a line for each command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.old_lakes", description=__doc__)
    parser.add_argument("--batches", default="100,35000", help="the ages, with commas between them")
    parser.add_argument("--rebuild", action="store_true", help="also a run without caches, and a replay")
    options = parser.parse_args()
    log.configure(terminal=False)
    logging.getLogger("totes").setLevel(logging.ERROR)
    store.Folder = CountedFolder  # type: ignore[attr-defined]
    ages = [int(age) for age in options.batches.split(",")]
    found: dict[int, dict[str, Any]] = {}
    with Workbench(aged_lake.ORDERS, 1, 0, peers=False) as bench:
        for age in ages:
            source = bench.changing_source(aged_lake.ORDERS)
            bench.say(f"writing a lake of {age:,} batches")
            settings = aged_lake.write(bench.new_folder(), source, age)
            bench.say("measuring it")
            found[age] = {}
            for what, figures in _measured(settings, source, rebuild=options.rebuild):
                found[age][what] = figures
                bench.say(f"{what}: {json.dumps(figures)}")
    _show(found)
    return 0


def _measured(settings: Settings, source: Source, *, rebuild: bool) -> Iterable[tuple[str, Any]]:
    changed = _with_a_changed_model(settings)
    backup = str(Path(tempfile.mkdtemp(dir=settings.base)) / "backup")

    def back_up_now() -> None:
        pipeline = Pipeline(settings)
        back_up(pipeline.ingestion_store, pipeline.processed_store, backup, Path())

    running = Pipeline(settings)
    _clean(running)
    yield "idle cycle in a running process", _timed(lambda: _clean(running))
    yield (
        "small batch in a running process",
        _timed(
            lambda: _clean(running),
            lambda: source.execute(
                "UPDATE sales_order SET units_sold = units_sold + 1, last_updated = greatest(localtimestamp,"
                " last_updated + interval '1 second') WHERE sales_order_id = 7"
            ),
        ),
    )
    yield "idle cycle in a new process", _timed(lambda: _clean(Pipeline(settings)))
    yield "status", _timed(lambda: read_status(Pipeline(settings)))
    for what, table, key in (
        ("versions", "fact_sales_order", "9"),
        ("one row a key", "dim_design", "3"),
        ("source", "sales_order", "9"),
    ):
        yield (
            f"history, {what}",
            _timed(lambda table=table, key=key: read_history(Pipeline(settings), table, [key])),  # type: ignore[misc]
        )
    yield "plan with a change", _timed(lambda: plan(Pipeline(changed)))
    yield "first page of quarantine", _timed(lambda: read_quarantine(Pipeline(settings), rows_max=50))
    # A backup has the layout of the lake; to copy 35,000 batches with all checks takes long.
    shutil.copytree(settings.base / "lake", backup, copy_function=os.link)
    yield "second backup", _timed(back_up_now)
    if rebuild:
        yield "run without caches", _timed(lambda: _clean(Pipeline(settings)), lambda: _forget(settings), 1)
        url = f"duckdb:///{settings.base}/replayed.duckdb"
        yield "replay", _timed(lambda: Pipeline(settings).replay(url), repeat=1)


def _timed(
    work: Callable[[], object], before: Callable[[], object] = lambda: None, repeat: int = REPEAT
) -> dict[str, Any]:
    """The median of the seconds, and the requests of the last time; once is enough of what takes long."""
    seconds: list[float] = []
    while len(seconds) < repeat and sum(seconds) < 30:
        before()
        requests.clear()
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return {"seconds": round(median(seconds), 3), **requests}


def _clean(pipeline: Pipeline) -> None:
    for stage, error in pipeline.run().failures.items():
        raise BenchmarkFailed(f"{stage}: {error}")


def _forget(settings: Settings) -> None:
    for file in settings.cache_folder.glob("*.duckdb*"):
        file.unlink()


def _with_a_changed_model(settings: Settings) -> Settings:
    """The settings, with a project in which one model has another query."""
    project = settings.base / "changed"
    shutil.copytree(_MODELS.parent, project, ignore=shutil.ignore_patterns("*.py", "__pycache__", "source"))
    file = project / "models/fact_sales_order.sql"
    text = file.read_text("utf-8")
    file.write_text(
        text.replace("sales_order.units_sold,", "sales_order.units_sold + 1 AS units_sold,"), "utf-8"
    )
    return settings.model_copy(
        update={"project": settings.project.model_copy(update={"path": project, "apply_rows": 0})}
    )


def _show(found: dict[int, dict[str, Any]]) -> None:
    ages = list(found)
    print("".join([f"{'':34}", *(f"{age:>24,} batches" for age in ages)]))
    for what in found[ages[0]]:
        cells = []
        for age in ages:
            one = dict(found[age][what])
            seconds = one.pop("seconds")
            cells.append(
                f"{seconds:9.3f} s {', '.join(f'{count} {kind}' for kind, count in one.items()):>21}"
            )
        print(f"{what:34}{''.join(cells)}")


if __name__ == "__main__":
    sys.exit(main())
