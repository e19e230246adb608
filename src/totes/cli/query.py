"""`totes query`: asks the warehouse, read only."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from totes.cli.session import ConfigOption, DebugOption, JsonOption, Session, session

if TYPE_CHECKING:
    from totes.pipeline import Pipeline
    from totes.warehouse.answer import Answer

ROWS_SHOWN = 100
LimitOption = Annotated[
    int, typer.Option("--limit", min=1, help="How many rows a table shows; --json and --csv have all.")
]


def query(
    context: typer.Context,
    sql: Annotated[
        str,
        typer.Argument(
            metavar="SQL", help="One statement in the warehouse's SQL; - reads it from standard input."
        ),
    ],
    as_csv: Annotated[bool, typer.Option("--csv", help="Write all rows as CSV.")] = False,
    limit: LimitOption = ROWS_SHOWN,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Ask the warehouse, read only: a table, or with --json or --csv every row and exact value.

    The warehouse itself refuses a statement that writes. --json prints the columns with their types, and a list a row.
    """
    from totes.cli.answer import write_csv, write_json, write_table
    from totes.errors import ConfigurationError, StatementRefused
    from totes.warehouse.statement import split

    with session(context, config, as_json, debug) as current:
        if as_csv and current.json:
            raise ConfigurationError("both --csv and --json were given", hint="Choose one of them")
        text = _standard_input() if sql == "-" else sql
        if text.encode("utf-8", "ignore").decode() != text:
            raise ConfigurationError("the statement is not valid UTF-8", hint="Give it as UTF-8 text")
        statements, last = split(f"{text}\n;")
        if last or len(statements) != 1:
            many = "a quote or a comment does not end" if last else f"{len(statements)} statements were given"
            raise StatementRefused(many, hint="Give one statement; totes shell takes one after the other")
        write = write_csv if as_csv else write_json if current.json else partial(write_table, rows_max=limit)
        ask(current, current.pipeline(), statements[0], write)


def ask(
    current: Session, pipeline: Pipeline, statement: str, write: Callable[[TextIO, Answer], None]
) -> None:
    """Asks the warehouse, and writes the answer to standard output."""
    with (
        pipeline.warehouse(read_only=True) as warehouse,
        warehouse.ask(statement) as answer,
        current.writing() as out,
    ):
        write(out, answer)


def _standard_input() -> str:
    sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]
    return sys.stdin.read()
