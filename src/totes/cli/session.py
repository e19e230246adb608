"""The session of a command: common options, output, and how errors become lines and exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, TextIO

import typer

from totes.cli.masking import UNWRITTEN, UNWRITTEN_HINT, discard
from totes.display import escaped, json_line, one_line
from totes.errors import TotesError
from totes.messages import message, traceback_text
from totes.redaction import redact

if TYPE_CHECKING:
    from totes.console import Console
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
    """One invocation of a command; `unread` becomes true once nobody reads its output any more."""

    config: Path | None = None
    json: bool = False
    debug: bool = False
    unread: bool = False

    def pipeline(self) -> Pipeline:
        """The pipeline that the settings describe."""
        from totes import permissions
        from totes.config import load_settings
        from totes.pipeline import Pipeline

        settings = load_settings(self.config)
        os.umask(permissions.umask(settings.base))
        return Pipeline(settings)

    def show(self, document: object, render: Callable[[Console], None]) -> None:
        """Prints a result: the document with --json, otherwise what `render` writes for a person."""
        with self.writing():
            if self.json:
                typer.echo(json_line(document))
            else:
                render(console())

    def say(self, document: object, line: str) -> None:
        """Prints a result that is one line for a person; what draws tables takes as long to import as much else."""
        with self.writing() as out:
            out.write(f"{json_line(document) if self.json else one_line(line)}\n")

    @contextmanager
    def writing(self) -> Iterator[TextIO]:
        """Standard output, to write a result to."""
        try:
            yield sys.stdout
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader has closed the pipe. The command ends as if it were still open.
            self.unread = True
            discard(sys.stdout)
        except OSError as error:
            discard(sys.stdout)
            raise TotesError(f"{UNWRITTEN}: {error.strerror}", hint=UNWRITTEN_HINT) from error


def console() -> Console:
    """Standard output for a person; plain and unwrapped if it is not a terminal."""
    from totes.console import Console

    terminal = sys.stdout.isatty()
    return Console(soft_wrap=not terminal, width=None if terminal else 160)


@contextmanager
def session(context: typer.Context, config: Path | None, as_json: bool, debug: bool) -> Iterator[Session]:
    """Sets up logging, and turns errors into one line on standard error and the exit code of the contract."""
    from totes import log

    outer: Session = context.obj or Session()
    current = Session(config or outer.config, as_json or outer.json, debug or outer.debug)
    log.configure(verbose=current.debug, brief=not (current.json or current.debug) and sys.stderr.isatty())
    try:
        yield current
    except TotesError as error:
        fail(str(error), error, debug=current.debug)
    except (typer.Exit, typer.Abort, KeyboardInterrupt):
        raise
    except Exception as error:
        fail(
            f"{type(error).__name__}: {message(error)}. This is a fault of totes itself; --debug shows where",
            error,
            debug=current.debug,
        )


@contextmanager
def waiting(current: Session) -> Iterator[Callable[..., None]]:
    """Shows progress while the context lasts: only on a terminal, and not with --json; gives what it is reported to."""
    from totes import progress

    if current.json or not sys.stderr.isatty():
        yield progress.report
        return
    with progress.shown_on(sys.stderr):
        yield progress.report


def fail(message: str, error: Exception, *, debug: bool = False) -> NoReturn:
    """Prints an error and ends the command."""
    report(message, error, debug=debug)
    raise typer.Exit(error.exit_code if isinstance(error, TotesError) else TotesError.exit_code)


def report(message: str, error: Exception, *, debug: bool = False) -> None:
    """Prints an error as one line, with --debug after its traceback; known secrets are masked in both."""
    with suppress(OSError):  # if standard error cannot be written, the exit code alone has to report it
        if debug:
            typer.echo(escaped(traceback_text(error)), err=True)
        typer.echo(one_line(redact(f"error: {' '.join(message.split())}")), err=True)
