"""`totes run`, and each stage on its own: `totes ingest`, `totes process`, `totes load`."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from totes.cli.session import ConfigOption, DebugOption, JsonOption, Session, report, session, waiting
from totes.cli.stopping import STOPPED, Stopped, StopSignal
from totes.display import count

if TYPE_CHECKING:
    from totes.console import Console
    from totes.cycle import Cycle
    from totes.pipeline import Pipeline

_BACK_OFF_SECONDS = 5.0
EveryOption = Annotated[
    str | None,
    typer.Option(
        "--every",
        metavar="15m",
        help="Run at this interval until stopped; `schedule` uses schedule.every of the settings.",
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
            _end(current, _cycles(current, pipeline, stop))
        else:
            with pipeline.kept_open():
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
        _end(current, _cycles(current, current.pipeline(), stop, stage))


def _cycles(current: Session, pipeline: Pipeline, stop: StopSignal, only: str | None = None) -> Cycle:
    """Runs a cycle, and further ones while the source has more than one batch may read; returns the last."""
    cycle = _cycle(current, pipeline, stop, only)
    while cycle.goes_on:
        cycle = _cycle(current, pipeline, stop, only)
    return cycle


def _cycle(
    current: Session,
    pipeline: Pipeline,
    stop: StopSignal,
    only: str | None = None,
    show: Callable[[Console, Cycle], None] | None = None,
) -> Cycle:
    from totes.monitoring.alerts import watch

    with waiting(current):
        cycle = pipeline.run(only)
    stop.check()
    watch(pipeline.settings, cycle)
    if show is None and _is_idle(cycle) and not cycle.failures and not cycle.pending:
        current.say(cycle.as_json(), "Nothing new.")
    else:
        current.show(cycle.as_json(), lambda out: (show or show_cycle)(out, cycle))
    return cycle


def _end(current: Session, cycle: Cycle) -> None:
    """Prints a line for each failure, and ends the command with the worst exit code."""
    for stage, error in cycle.failures.items():
        report(f"{stage}: {error}", error, debug=current.debug)
    if cycle.failures:
        raise typer.Exit(max(error.exit_code for error in cycle.failures.values()))


def _repeat(current: Session, pipeline: Pipeline, interval: timedelta, stop: StopSignal) -> None:
    """Runs cycles until stopped; after a failure the next one starts sooner, with exponential back-off."""
    from totes.log import logger

    log, failures = logger(), 0
    while True:
        began = time.monotonic()
        cycle = _cycle(current, pipeline, stop, show=_show_line)
        failures = failures + 1 if cycle.failures else 0
        for stage, error in cycle.failures.items():
            log.error("the stage failed; it is tried again", stage=stage, error=str(error), times=failures)
        if current.unread:
            return
        if cycle.goes_on:
            continue
        stop.wait(max(0.0, began + pause_seconds(interval, failures) - time.monotonic()))


def pause_seconds(interval: timedelta, failures: int) -> float:
    """The time from one cycle's start to the next one's, after a number of failed cycles in a row."""
    pause = interval.total_seconds()
    return min(pause, _BACK_OFF_SECONDS * 2 ** min(failures - 1, 16)) if failures else pause


def _interval(every: str | None) -> timedelta | None:
    from totes.errors import ConfigurationError
    from totes.setting_types import duration

    if every is None:
        return None
    try:
        return duration(every)
    except ValueError as error:
        raise ConfigurationError(f"--every {every}: {error}") from error


class _Stopping:
    """Ends the command cleanly on a signal: with exit code 0 if it was to run until stopped, else with the signal's."""

    def __init__(self, *, repeated: bool) -> None:
        self._signal = StopSignal(endless=repeated)

    def __enter__(self) -> StopSignal:
        self._signal.install()
        return self._signal

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        # DuckDB turns an exception raised by a signal handler into one of its own.
        if isinstance(error, Stopped) or (error is not None and self._signal.asked):
            typer.echo(STOPPED, err=True)
            raise typer.Exit(self._signal.exit_code) from None


def _show_line(out: Console, cycle: Cycle) -> None:
    """Prints one line per cycle, for a long-running runner: the time, the batch, rows, and how long each stage took."""
    done = []
    changes = list(cycle.ingested.changes.values()) if cycle.ingested else []
    if cycle.ingested and cycle.ingested.batch is not None:
        upserts, deletes = sum(one.upserts for one in changes), sum(one.deletes for one in changes)
        done += [f"batch {cycle.ingested.batch}", f"{count(upserts, 'row')} ingested", f"{deletes:,} deleted"]
    if loaded := sum(cycle.loaded_rows.values()):
        done.append(f"{loaded:,} loaded")
    if cycle.quarantined:
        done.append(f"{cycle.quarantined:,} to quarantine")
    if cycle.pending:
        done.append(f"{count(len(cycle.pending), 'change')} of models pending")
    done += [f"{stage} failed" for stage in cycle.failures]
    out.print(
        f"{cycle.at:%Y-%m-%d %H:%M:%S} UTC  {', '.join(done) or 'nothing new'}  ({_seconds(cycle)})",
        soft_wrap=True,
    )


def _seconds(cycle: Cycle) -> str:
    return ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in cycle.seconds.items())


def _is_idle(cycle: Cycle) -> bool:
    captured = cycle.ingested and cycle.ingested.batch
    done = (cycle.processed and cycle.processed.batches) or (cycle.loaded and cycle.loaded.batches)
    return not captured and not done


def show_cycle(out: Console, cycle: Cycle) -> None:
    """Prints what a cycle did."""
    from totes.console import table_of

    ingested = cycle.ingested.changes if cycle.ingested else {}
    processed = cycle.processed.batches if cycle.processed else {}
    loaded = cycle.loaded.batches if cycle.loaded else {}
    if _is_idle(cycle):
        _show_pending(out, cycle)
        return
    if ingested:
        assert cycle.ingested is not None
        numbers = ("new or changed", "deleted", "rows now")
        table = table_of("table", *numbers, right=numbers)
        for name, changes in ingested.items():
            table.add_row(name, f"{changes.upserts:,}", f"{changes.deletes:,}", f"{changes.rows:,}")
        out.print(f"Batch {cycle.ingested.batch}: captured from the source", style="italic")
        out.print(table)
    if processed and not loaded:
        rows = sum(changes.written for batch in processed.values() for changes in batch.values())
        out.print(f"{_batches(processed)}: processed into {count(rows, 'row')} of the star")
    if loaded:
        table = table_of("table", "rows", right=("rows",))
        for name, number in cycle.loaded_rows.items():
            table.add_row(name, f"{number:,}")
        out.print(f"{_batches(loaded)}: loaded into the warehouse", style="italic")
        if cycle.loaded_rows:
            out.print(table)
    if cycle.quarantined:
        out.print(f"In quarantine: {count(cycle.quarantined, 'row')} more; see totes quarantine list")
    _show_pending(out, cycle)
    out.print(_seconds(cycle))


def _batches(done: Collection[int]) -> str:
    return f"Batch {min(done)}" if len(done) == 1 else f"Batches {min(done)} to {max(done)}"


def _show_pending(out: Console, cycle: Cycle) -> None:
    if cycle.pending:
        out.print(f"Pending: {', '.join(cycle.pending)} changed; see totes plan, then totes apply")
