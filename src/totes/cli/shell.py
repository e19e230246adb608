"""`totes shell`: asks the warehouse at a prompt, read only. Each statement opens the warehouse, and so sees the newest batch."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from totes.cli.query import ROWS_SHOWN, LimitOption, ask
from totes.cli.session import ConfigOption, DebugOption, JsonOption, Session, report, session
from totes.display import one_line
from totes.errors import ConfigurationError, StatementRefused, TotesError

if TYPE_CHECKING:
    from totes.console import Console
    from totes.pipeline import Pipeline
    from totes.warehouse.answer import Answer

_PROMPT, _MORE = "totes> ", "  ...> "
_HISTORY_LINES = 1000
_WORD_ENDS = " \t\n,;()=<>+-*/%'\"."
_WORDS = (
    "SELECT FROM WHERE JOIN LEFT USING GROUP BY ORDER HAVING LIMIT WITH COUNT DISTINCT BETWEEN IS NOT NULL"
)
_HELP = r"""A statement ends with a semicolon. Only what reads the warehouse is run.
\d          the tables, and what they are
\d TABLE    the columns of a table or view
\q          leaves; so does Ctrl-D
Ctrl-C ends a query, or forgets the lines typed so far. Tab completes names of tables and columns."""


def shell(
    context: typer.Context,
    limit: LimitOption = ROWS_SHOWN,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    r"""Ask the warehouse at a prompt, read only: statements end with a semicolon, and \? shows help.

    From a pipe it runs one statement after the other, and ends at the first that fails. --json prints an object a statement.
    """
    from totes.cli.answer import write_json, write_table

    with session(context, config, as_json, debug) as current:
        pipeline = current.pipeline()
        write = write_json if current.json else partial(write_table, rows_max=limit)
        asking = _Shell(current, pipeline, write)
        if sys.stdin.isatty() and sys.stdout.isatty():
            typer.echo(f"The warehouse of {one_line(pipeline.project.name)}. \\? shows help, \\q leaves.")
            with _line_editing(pipeline):
                asking.converse()
        else:
            asking.run_all()


class _Shell:
    """What was typed and is no whole statement yet, and what is done with those that are."""

    def __init__(self, current: Session, pipeline: Pipeline, write: Callable[..., None]) -> None:
        self._current = current
        self._pipeline = pipeline
        self._write = write
        self._typed = ""

    def converse(self) -> None:
        """Reads lines from a person until they leave; an error or an interrupt ends a statement, not the shell."""
        typing = True
        while True:
            try:
                typing = True
                line = input(_MORE if self._typed else _PROMPT)
                typing = False
                if not self._typed and line.strip() in ("\\q", "exit", "quit"):
                    return
                self._take(line)
            except EOFError:
                typer.echo()
                return
            except KeyboardInterrupt:
                self._typed = ""
                typer.echo("" if typing else "ended")
            except TotesError as error:
                report(str(error), error, debug=self._current.debug)

    def run_all(self) -> None:
        """Reads all lines; the last statement needs no semicolon.

        Raises:
            TotesError: what the first statement that fails ends with.
        """
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
        for line in sys.stdin:
            if self._current.unread or (not self._typed and line.strip() == "\\q"):
                return
            self._take(line.rstrip("\r\n"))
        if self._typed:
            self._take(";")
        if self._typed:
            raise StatementRefused(
                "a quote or a comment does not end", hint="End it, and the statement with a semicolon"
            )

    def _take(self, line: str) -> None:
        from totes.warehouse.statement import split

        if not self._typed and line.lstrip().startswith("\\"):
            self._command(*line.split())
            return
        statements, self._typed = split(f"{self._typed}{line}\n")
        for statement in statements:
            ask(self._current, self._pipeline, statement, self._write)

    def _command(self, name: str, *arguments: str) -> None:
        if name == "\\?":
            typer.echo(_HELP)
        elif name == "\\d" and not arguments:
            self._current.show(
                {model.name: model.description for model in self._pipeline.project.models}, self._show_tables
            )
        elif name == "\\d" and len(arguments) == 1:
            self._describe(arguments[0].rstrip(";"))
        else:
            raise ConfigurationError(
                f"there is no {' '.join((name, *arguments))}", hint="\\? shows what there is"
            )

    def _show_tables(self, out: Console) -> None:
        from totes.console import table_of

        table = table_of("table", "has", "what it is")
        for model in self._pipeline.project.models:
            table.add_row(
                model.name, "every version" if model.versioned else "latest rows", model.description
            )
        out.print(table)
        out.print("TABLE_current has the current rows of a table, without deleted ones.")

    def _describe(self, name: str) -> None:
        from totes import engine

        model = self._pipeline.project.model(name.removesuffix("_current"))
        said = {column.name: column.description for column in model.columns} if model else {}
        relation = engine.name(name) if model else name

        def show(_out: object, answer: Answer) -> None:
            columns = {column.name: column.type for column in answer.columns}
            self._current.show(columns, partial(_show_columns, columns=columns, said=said))

        ask(self._current, self._pipeline, f"SELECT * FROM {relation} LIMIT 0", show)


def _show_columns(out: Console, *, columns: dict[str, str], said: dict[str, str | None]) -> None:
    from totes.console import table_of

    table = table_of("column", "type", "what it is")
    for name, kind in columns.items():
        table.add_row(name, kind, said.get(name) or "")
    out.print(table)


@contextmanager
def _line_editing(pipeline: Pipeline) -> Iterator[None]:
    """Lines can be edited and completed, and those of earlier shells come back, where Python has readline."""
    try:
        import readline
    except ImportError:
        yield
        return
    models = pipeline.project.models
    tables = [name for model in models for name in (model.name, f"{model.name}_current")]
    columns = [column.name for model in models for column in model.output]
    words = sorted({*tables, *columns, *_WORDS.split()})

    def complete(begun: str, number: int) -> str | None:
        found = [word for word in words if word.lower().startswith(begun.lower())]
        return found[number] if number < len(found) else None

    readline.set_completer(complete)
    readline.set_completer_delims(_WORD_ENDS)
    libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")
    file = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "totes" / "history"
    with suppress(OSError):
        readline.read_history_file(file)
    try:
        yield
    finally:
        readline.set_history_length(_HISTORY_LINES)
        with suppress(OSError):  # without a folder for it, nothing is remembered
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(file, os.O_CREAT | os.O_WRONLY, 0o600))
            file.chmod(0o600)
            readline.write_history_file(file)
