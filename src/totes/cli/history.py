"""`totes history`: every version of one row."""

from __future__ import annotations

import itertools
import math
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated

import typer

from totes.cli.session import ConfigOption, DebugOption, JsonOption, session

if TYPE_CHECKING:
    from rich.console import Console

    from totes.monitoring.history import Version

_HISTORY = ("valid_from", "valid_to", "is_deleted", "_at", "_op")


def history(
    context: typer.Context,
    table: Annotated[str, typer.Argument(help="A warehouse table, or a source table.")],
    key: Annotated[list[str], typer.Argument(help="The row's key, one value a key column.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show every version of one row, newest last, with the lake objects it came from."""
    from totes.monitoring.history import read_history

    with session(context, config, as_json, debug) as current:
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
    """One column a version, newest last; what has changed stands out."""
    from rich.table import Table
    from rich.text import Text

    counted = f"{len(versions)} version{'s' if len(versions) > 1 else ''}"
    table = Table(title=Text(f"{title}: {counted}", "italic"), title_justify="left")
    table.add_column("")
    for version in versions:
        table.add_column(f"batch {version.batch}", overflow="fold")
    names = list(versions[0].values)
    for name in [n for n in names if n not in _HISTORY] + [n for n in _HISTORY if n in names]:
        values = [version.values.get(name) for version in versions]
        changed = [False, *(one != other for one, other in itertools.pairwise(values))]
        table.add_row(
            Text(name),
            *(
                Text(_text(v), style="bold yellow" if new else "")
                for v, new in zip(values, changed, strict=True)
            ),
        )
    out.print(table)
    for version in versions:
        for place in version.objects:
            out.print(f"  batch {version.batch}  {place}", style="dim", markup=False)


def _text(value: object) -> str:
    return "-" if value is None else str(_plain(value))


def _plain(value: object) -> object:
    """The value, or as PostgreSQL writes it where JSON has no form for it."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(Decimal(value))
    return f"\\x{value.hex()}" if isinstance(value, bytes) else value
