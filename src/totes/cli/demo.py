"""`totes demo`: the whole pipeline on a PostgreSQL of its own, which is removed when the command ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from totes.cli.session import DebugOption, JsonOption, session

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def demo(
    context: typer.Context,
    folder: Annotated[
        Path,
        typer.Option("--dir", help="The folder to create; that of an earlier demo is cleared first."),
    ] = Path("demo"),
    orders: Annotated[int, typer.Option("--orders", help="How many sales orders there are.")] = 20_000,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Try it all: a PostgreSQL with TerrificTotes' data, two batches with a day of trade in between, and history."""
    with session(context, None, as_json, debug) as current, _Stoppable() as stoppable:
        from totes.demo.document import as_document
        from totes.demo.screen import Screen
        from totes.demo.show import introduce, show_story
        from totes.demo.story import check_arguments, run_demo

        if not current.debug:
            _silence_logs()
        _forget_environment()
        _keep_signals()
        screen = Screen(as_json=current.json)
        check_arguments(folder, orders)
        introduce(screen)
        story = run_demo(folder, orders, screen.show_step)
        stoppable.check()
        current.show(as_document(story), lambda _: show_story(screen, story))


class _Stoppable:
    """Ends the command on SIGINT and SIGTERM, once the server has been stopped, with the exit code of the signal.

    The first signal interrupts; further ones do not prevent the server from being stopped.
    """

    def __init__(self) -> None:
        self._number: int | None = None
        self._before: dict[signal.Signals, Any] = {}

    def check(self) -> None:
        """Interrupts if a signal came and its exception was lost: DuckDB turns an exception in its calls into its own."""
        if self._number is not None:
            raise KeyboardInterrupt

    def __enter__(self) -> _Stoppable:
        self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        for number, handler in self._before.items():
            # Once stopped, only the exit remains, and a second signal must not change the exit code.
            signal.signal(number, handler if self._number is None else signal.SIG_IGN)
        if self._number is not None and error is not None:
            typer.echo("stopped", err=True)
            raise typer.Exit(128 + self._number) from None

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._number is None:
            self._number = number
            raise KeyboardInterrupt


def _silence_logs() -> None:
    """Hides log lines below warnings: the steps and tables show everything."""
    import logging

    from totes.log import NAME

    logging.getLogger(NAME).setLevel(logging.WARNING)


def _forget_environment() -> None:
    """Removes settings for another pipeline or PostgreSQL from the environment."""
    for name in [name for name in os.environ if name.upper().startswith(("TOTES_", "PG"))]:
        del os.environ[name]


def _keep_signals() -> None:
    """Prevents ADBC from handling SIGINT during its calls: a signal would be lost if the call ended just then."""
    from adbc_driver_manager import dbapi

    def call(function: Callable[..., Any], positional: Any, named: Any, _cancel: object) -> Any:
        return function(*positional, **named)

    vars(dbapi)["_blocking_call"] = call
