"""`totes run`, and each stage alone: `totes ingest`, `totes process`, `totes load`."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from totes.cli.session import ConfigOption, DebugOption, JsonOption, Session, report, session
from totes.cli.stopping import Stopped, StopSignal

if TYPE_CHECKING:
    from rich.console import Console

    from totes.pipeline import Cycle, Pipeline

_BACK_OFF_SECONDS = 5.0
EveryOption = Annotated[
    str | None,
    typer.Option(
        "--every",
        metavar="15m",
        help="Run again and again at this interval, until stopped; `schedule` takes schedule.every of the settings.",
    ),
]


def run(
    context: typer.Context,
    every: EveryOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Ingest, process and load what is new; with --every, until stopped."""
    with session(context, config, as_json, debug) as current, _Stopping(repeated=every is not None) as stop:
        pipeline = current.pipeline()
        interval = pipeline.settings.schedule.every if every == "schedule" else _interval(every)
        if interval is None:
            _end(current, _cycle(current, pipeline, stop))
        else:
            _repeat(current, pipeline, interval, stop)


def ingest(
    context: typer.Context,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Capture what is new at the source as one batch of the ingestion lake."""
    _one_stage("ingest", context, config, as_json, debug)


def process(
    context: typer.Context,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Turn ingested batches into rows of the star schema in the processed lake."""
    _one_stage("process", context, config, as_json, debug)


def load(
    context: typer.Context,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Load processed batches into the warehouse."""
    _one_stage("load", context, config, as_json, debug)


def _one_stage(stage: str, context: typer.Context, config: ConfigOption, as_json: bool, debug: bool) -> None:
    with session(context, config, as_json, debug) as current, _Stopping(repeated=False) as stop:
        _end(current, _cycle(current, current.pipeline(), stop, only=stage))


def _cycle(current: Session, pipeline: Pipeline, stop: StopSignal, only: str | None = None) -> Cycle:
    from totes.monitoring.alerts import watch

    cycle = pipeline.run(only)
    stop.check()
    watch(pipeline.settings, cycle)
    current.show(cycle.as_json(), lambda out: show_cycle(out, cycle))
    return cycle


def _end(current: Session, cycle: Cycle) -> None:
    """Says what failed, a line each, and ends the command with the worst exit code."""
    for stage, error in cycle.failures.items():
        report(f"{stage}: {error}", error, debug=current.debug)
    if cycle.failures:
        raise typer.Exit(max(error.exit_code for error in cycle.failures.values()))


def _repeat(current: Session, pipeline: Pipeline, interval: timedelta, stop: StopSignal) -> None:
    """Cycles until stopped; after a failure the next one comes sooner, and less and less so while it goes on."""
    from totes.log import logger

    log, failures = logger(), 0
    while True:
        began = time.monotonic()
        cycle = _cycle(current, pipeline, stop)
        failures = failures + 1 if cycle.failures else 0
        for stage, error in cycle.failures.items():
            log.error("the stage failed; it is tried again", stage=stage, error=str(error), times=failures)
        stop.wait(max(0.0, began + pause_seconds(interval, failures) - time.monotonic()))


def pause_seconds(interval: timedelta, failures: int) -> float:
    """The time from one cycle's start to the next one's, after so many cycles in a row that failed."""
    pause = interval.total_seconds()
    return min(pause, _BACK_OFF_SECONDS * 2 ** min(failures - 1, 16)) if failures else pause


def _interval(every: str | None) -> timedelta | None:
    from totes.config import duration
    from totes.errors import ConfigurationError

    if every is None:
        return None
    try:
        return duration(every)
    except ValueError as error:
        raise ConfigurationError(f"--every {every}: {error}") from error


class _Stopping:
    """Ends the command cleanly when a signal comes: with 0 if it would have gone on for ever, else as signals do."""

    def __init__(self, *, repeated: bool) -> None:
        self._signal = StopSignal(endless=repeated)

    def __enter__(self) -> StopSignal:
        self._signal.install()
        return self._signal

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        # DuckDB turns an exception raised by a signal handler into one of its own.
        if isinstance(error, Stopped) or (error is not None and self._signal.asked):
            typer.echo("stopped; the next run takes up where this one was", err=True)
            raise typer.Exit(self._signal.exit_code) from None


def show_cycle(out: Console, cycle: Cycle) -> None:
    """Says what a cycle did."""
    from rich.table import Table

    report = cycle.as_json()
    if cycle.ingested and cycle.ingested.batch is None and not report["loaded"]:
        if not cycle.failures:
            out.print("Nothing new.")
        return
    ingested = cycle.ingested.changes if cycle.ingested else {}
    if ingested:
        assert cycle.ingested is not None
        table = Table(title=f"Batch {cycle.ingested.batch}: captured from the source", title_justify="left")
        table.add_column("table")
        table.add_column("new or changed", justify="right")
        table.add_column("deleted", justify="right")
        table.add_column("rows now", justify="right")
        for name, changes in ingested.items():
            table.add_row(name, f"{changes.upserts:,}", f"{changes.deletes:,}", f"{changes.rows:,}")
        out.print(table)
    for batch, rows in cycle.loaded.batches.items() if cycle.loaded else ():
        table = Table(title=f"Batch {batch}: loaded into the warehouse", title_justify="left")
        table.add_column("table")
        table.add_column("rows", justify="right")
        for name, count in rows.items():
            table.add_row(name, f"{count:,}")
        out.print(table)
    if cycle.quarantined:
        out.print(f"{cycle.quarantined:,} rows were set aside: see totes quarantine list")
    out.print("  ".join(f"{stage} {seconds:.2f} s" for stage, seconds in cycle.seconds.items()))
