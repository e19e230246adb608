"""`totes history`: shows every version of one row."""

from __future__ import annotations

import itertools
import math
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated

import typer

from totes.cli.completion import tables
from totes.cli.session import ConfigOption, DebugOption, JsonOption, session
from totes.display import count, one_line

if TYPE_CHECKING:
    from totes.console import Console
    from totes.monitoring.history import Version

_HISTORY = ("valid_from", "valid_to", "is_deleted", "_at", "_op")


def history(
    context: typer.Context,
    table: Annotated[
        str, typer.Argument(help="A warehouse table, or a source table.", autocompletion=tables)
    ],
    key: Annotated[list[str], typer.Argument(help="The row's key, one value per key column.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show every version of one row, newest last, with the lake objects it came from."""
    from totes.errors import ConfigurationError
    from totes.monitoring.history import read_history

    with session(context, config, as_json, debug) as current:
        if any(argument.encode("utf-8", "ignore").decode() != argument for argument in (table, *key)):
            raise ConfigurationError(
                "an argument is not valid UTF-8", hint="Give table and key as UTF-8 text"
            )
        versions = read_history(current.pipeline(), table, key)
        document = {
            "table": table,
            "key": key,
            "versions": [
                {
                    **{name: _plain(value) for name, value in version.values.items()},
                    "batch_id": version.batch,
                    "objects": version.objects,
                }
                for version in versions
            ],
        }
        current.show(document, lambda out: show_history(out, f"{table} {' '.join(key)}", versions))


def show_history(out: Console, title: str, versions: list[Version]) -> None:
    """Shows one column per version, newest last; changes are highlighted, and columns that a version lacks are empty."""
    from rich.text import Text

    from totes.console import table_of

    table = table_of("", *(f"batch {version.batch}" for version in versions))
    # The newest version's columns, then those that only earlier versions have.
    names = list(dict.fromkeys(name for version in reversed(versions) for name in version.values))
    for name in [n for n in names if n not in _HISTORY] + [n for n in _HISTORY if n in names]:
        values = [version.values.get(name, "") for version in versions]
        changed = [False, *(one != other for one, other in itertools.pairwise(values))]
        table.add_row(
            name,
            *(
                Text(one_line(_text(v)), style="bold yellow" if new else "")
                for v, new in zip(values, changed, strict=True)
            ),
        )
    out.print(f"{title}: {count(len(versions), 'version')}", style="italic")
    out.print(table)
    for version in versions:
        for place in version.objects:
            out.print(
                f"  batch {version.batch}  {place}", style="dim", soft_wrap=True
            )  # a path can be copied


def _text(value: object) -> str:
    return "-" if value is None else str(_plain(value))


def _plain(value: object) -> object:
    """The value, in PostgreSQL's text form if JSON cannot represent it."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(Decimal(value))
    return f"\\x{value.hex()}" if isinstance(value, bytes) else value
