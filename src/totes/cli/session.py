"""What all commands share: their options, where their output goes, and how errors become lines and exit codes."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from totes.errors import TotesError
from totes.redaction import redact

if TYPE_CHECKING:
    from rich.console import Console

    from totes.pipeline import Pipeline

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="The settings file; totes.toml in the working directory by default."),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else.")
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Log more, and show the traceback of an error.")]


@dataclass
class Session:
    """One invocation of a command."""

    config: Path | None = None
    json: bool = False
    debug: bool = False

    def pipeline(self) -> Pipeline:
        """The pipeline that the settings describe."""
        from totes.config import load_settings
        from totes.pipeline import Pipeline

        return Pipeline(load_settings(self.config))

    def show(self, document: object, render: Callable[[Console], None]) -> None:
        """Prints a result: the document with --json, and otherwise what `render` writes for a person."""
        if self.json:
            typer.echo(json.dumps(document, default=str))
        else:
            render(console())


def console() -> Console:
    """Standard output for a person; plain and unwrapped when it is no terminal. Text is shown as it is, without markup."""
    from rich.console import Console

    terminal = sys.stdout.isatty()
    width = None if terminal else 160
    return Console(markup=False, emoji=False, highlight=False, soft_wrap=not terminal, width=width)


@contextmanager
def session(context: typer.Context, config: Path | None, as_json: bool, debug: bool) -> Iterator[Session]:
    """Sets up logging, and turns errors into one line on standard error and the exit code of the contract."""
    from totes import log

    outer: Session = context.obj or Session()
    current = Session(config or outer.config, as_json or outer.json, debug or outer.debug)
    log.configure(verbose=current.debug)
    try:
        yield current
    except TotesError as error:
        fail(str(error), error, debug=current.debug)
    except (typer.Exit, typer.Abort, KeyboardInterrupt):
        raise
    except BrokenPipeError:
        # Whoever read the output has seen enough; Python would complain of it once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except Exception as error:
        fail(
            f"{type(error).__name__}: {error}. This is a fault of totes itself; --debug shows where",
            error,
            debug=current.debug,
        )


@contextmanager
def waiting(current: Session) -> Iterator[Callable[[str], None]]:
    """Shows what is being done while it lasts: on a terminal, and not with --json."""
    if current.json or not sys.stderr.isatty():
        yield lambda _doing: None
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status("starting") as shown:
        yield lambda doing: shown.update(Text(doing))


def fail(message: str, error: Exception, *, debug: bool = False) -> NoReturn:
    """Prints an error and ends the command."""
    report(message, error, debug=debug)
    raise typer.Exit(error.exit_code if isinstance(error, TotesError) else TotesError.exit_code)


def report(message: str, error: Exception, *, debug: bool = False) -> None:
    """Prints an error as one line, with --debug after its traceback; no secret that is known is in either."""
    if debug:
        typer.echo(redact("".join(traceback.format_exception(error))), err=True)
    typer.echo(redact(f"error: {' '.join(message.split())}"), err=True)
