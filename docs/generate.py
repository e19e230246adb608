"""Writes docs/reference/ from the code: commands, settings, the lake's documents, the star's tables, errors.

It writes dashboards/superset/ too, which is what `totes dashboards` makes of TerrificTotes. `python docs/generate.py` writes
what is outdated; with `--check` it writes nothing and fails if anything is outdated.
"""

from __future__ import annotations

import inspect
import shutil
import sys
import types
import typing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import typer.main
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from totes import errors
from totes.cli.app import app
from totes.config import Settings
from totes.dashboards.assets import assets
from totes.lake import manifest
from totes.output_files import write
from totes.star.model import HISTORY_COLUMNS, Model
from totes.star.project import BUILT_IN, load_project
from totes.warehouse.ddl import column_type

FOLDER = Path(__file__).parent / "reference"
MADE = "<!-- Written by docs/generate.py from the code: change it there, then run `make docs`. -->"
WIDTH = 100


def commands() -> str:
    """Each command with its `--help`."""
    parts = [
        "# Commands",
        MADE,
        "`--config`, `--json` and `--debug` may stand before or after a command's name. With `--json` a command prints "
        "one JSON object on standard output and nothing else there; `totes run --every … --json` prints one per cycle. "
        "Logs and errors go to standard error. Exit codes are in [errors.md](errors.md#exit-codes).",
    ]
    for name, text in _helps("totes", typer.main.get_command(app), None):
        parts += [f"## {name}", f"```text\n{text}\n```"]
    return _page(parts)


def _helps(name: str, command: Any, parent: Any) -> list[tuple[str, str]]:
    context = command.context_class(
        command,
        info_name=name.rpartition(" ")[2],
        parent=parent,
        terminal_width=WIDTH,
        max_content_width=WIDTH,
    )
    found = [(name, "\n".join(line.rstrip() for line in command.get_help(context).splitlines()))]
    for child, subcommand in getattr(command, "commands", {}).items():
        found += _helps(f"{name} {child}", subcommand, context)
    return found


def settings() -> str:
    """Each setting with its type, default, variable of the environment and meaning."""
    parts = [
        "# Settings",
        MADE,
        "Settings are read from `totes.toml` in the working directory, or from the file given with `--config`. Each of them "
        "can be overridden by its environment variable, in which lists and tables are written as JSON. Relative paths start "
        "from the settings file's folder. Durations are written as `90s`, `15m`, `1h30m` or `2d`. An unknown key is an error. "
        "Secret values are masked in all output; a URL may be given as [`secretsmanager:NAME`](../how-to/secrets.md).",
    ]
    for section, field in Settings.model_fields.items():
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            continue
        rows = [
            (
                f"`{key}`", _kind(inner), _default(inner), f"`TOTES_{section.upper()}__{key.upper()}`",
                inner.description or "",
            )
            for key, inner in _keys(field.annotation)
        ]  # fmt: skip
        parts += [
            f"## [{section}]",
            inspect.getdoc(field.annotation) or "",
            _table(("key", "type", "default", "environment", "meaning"), rows),
        ]
    return _page(parts)


def _keys(section: type[BaseModel]) -> list[tuple[str, FieldInfo]]:
    return [(field.alias or name, field) for name, field in section.model_fields.items()]


def _kind(field: FieldInfo) -> str:
    annotation = field.annotation
    if annotation is timedelta:
        return "duration"
    return _type_name(annotation)


_PLAIN_NAMES = {
    str: "text", SecretStr: "secret text", Path: "path", bool: "boolean", int: "integer",
    timedelta: "duration", datetime: "ISO 8601 time",
}  # fmt: skip


def _type_name(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin is tuple:
        return f"list of {_type_name(arguments[0])}"
    if origin is dict:
        return f"table of {_type_name(arguments[1])}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type_name(part) for part in arguments if part is not type(None))
    return _PLAIN_NAMES.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is PydanticUndefined:
        return "required"
    if value is None or value in ("", (), {}):
        return "unset"
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, timedelta):
        seconds = int(value.total_seconds())
        value = f"{seconds // 60}m" if seconds % 60 == 0 else f"{seconds}s"
    if isinstance(value, tuple):
        return f"`[{', '.join(_quoted(part) for part in value)}]`"
    return f"`{_quoted(str(value))}`"


def _quoted(value: str) -> str:
    return f'"{value}"'


_DOCUMENTS = (
    manifest.IngestionManifest, manifest.Position, manifest.TableChanges, manifest.SourceColumn, manifest.LeftOut,
    manifest.ProcessedManifest, manifest.ModelChanges, manifest.OutputColumn, manifest.ProblemKind, manifest.StoredObject,
)  # fmt: skip


def lake() -> str:
    """The parts of manifests."""
    parts = [
        "# Manifests",
        MADE,
        "A manifest is a JSON document at `batches/<batch>.json` of a store. [The lake](../concepts/lake.md) describes what "
        "it means and what else is in a store. These are its parts; sizes are bytes, times are UTC.",
    ]
    for document in _DOCUMENTS:
        names = {document.__name__ for document in _DOCUMENTS}
        rows = [
            (f"`{name}`", _linked(_optional(field), names)) for name, field in document.model_fields.items()
        ]
        parts += [f"## {document.__name__}", inspect.getdoc(document) or "", _table(("key", "type"), rows)]
    return _page(parts)


def _optional(field: FieldInfo) -> str:
    nullable = type(None) in typing.get_args(field.annotation)
    return _type_name(field.annotation) + (", or null" if nullable else "")


def _linked(kind: str, names: set[str]) -> str:
    words = (f"[{word}](#{word.lower()})" if word in names else word for word in kind.split(" "))
    return " ".join(words)


def tables() -> str:
    """The tables of the built-in star."""
    models = load_project(BUILT_IN, None).models
    history = ", ".join(f"`{name} {kind.lower()}`" for name, kind in HISTORY_COLUMNS.items())
    parts = [
        "# TerrificTotes' tables",
        MADE,
        "The built-in project's star, in load order. Types are PostgreSQL's. A versioned table also has "
        f"{history}; any other table that is referred to also has `is_deleted boolean`. "
        "Each has a view `<table>_current` of the rows that are current and not deleted: see [History](../concepts/history.md).",
    ]
    for model in models:
        rows = (
            "It has every version of a row."
            if model.versioned
            else "It has one row a key, always the latest."
        )
        parts += [f"## {model.name}", f"{model.description} {rows}", _columns(model)]
    return _page(parts)


def _columns(model: Model) -> str:
    rows = []
    for column in model.columns:
        target = column.references
        notes = [
            "primary key" if column.name in model.primary_key else "",
            "assigned when the row is processed" if column.name == model.surrogate else "",
            f"→ [{target}](#{target})" if target else "",
        ]
        kind, nullable = column_type(column, "postgresql").lower(), "" if column.not_null else "yes"
        rows.append((f"`{column.name}`", kind, nullable, ", ".join(filter(None, notes))))
    return _table(("column", "type", "nullable", ""), rows)


def failures() -> str:
    """Every error with its exit code."""
    found = [
        kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.TotesError)
    ]
    found.sort(key=lambda kind: inspect.getsourcelines(kind)[1])
    rows = [
        (
            f"`{kind.__name__}`",
            str(kind.exit_code),
            "yes" if kind.retryable else "",
            _one_line(inspect.getdoc(kind)),
        )
        for kind in found
        if kind is not errors.TotesError
    ]
    return _page(
        [
            "# Errors",
            MADE,
            "An error is one line on standard error, `error: what was being done, to what. The next step`; `--debug` "
            "adds the traceback. Secrets are masked in both.",
            "## Exit codes",
            _table(
                ("code", "means"),
                [
                    (
                        "0",
                        "done, also if there was nothing to do, or if `run --every` was asked to stop",
                    ),
                    ("1", "a check failed, or the row that was asked for does not exist"),
                    ("2", "wrong use or configuration: nothing was started"),
                    (
                        "3",
                        "a stage failed; completed work is committed, and the next run continues from there",
                    ),
                    ("130, 143", "stopped by SIGINT or SIGTERM"),
                ],
            ),
            "## Kinds",
            "The third column shows whether the same call may succeed later without any change.",
            _table(("error", "exit code", "try again", "means"), rows),
        ]
    )


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join(
        [*lines, *(f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in rows)]
    )


def _page(parts: list[str]) -> str:
    return "\n\n".join(parts) + "\n"


PAGES = {
    "commands.md": commands, "settings.md": settings, "manifests.md": lake, "tables.md": tables, "errors.md": failures,
}  # fmt: skip


ASSETS = Path(__file__).parents[1] / "dashboards" / "superset"


def dashboards() -> dict[str, str]:
    """TerrificTotes' dashboards as Superset imports them, over a DuckDB file that everybody has somewhere else."""
    return assets(load_project(BUILT_IN, None), "duckdb:////path/to/warehouse.duckdb", "", Path("/"))


def main(arguments: list[str]) -> int:
    """Writes the pages, or with `--check` names those that are out of date."""
    stale = []
    made = dashboards()
    there = {file.relative_to(ASSETS).as_posix(): file for file in ASSETS.rglob("*.yaml")}
    if {name: file.read_text(encoding="utf-8") for name, file in there.items()} != made:
        stale.append("dashboards/superset")
        if "--check" not in arguments:
            shutil.rmtree(ASSETS, ignore_errors=True)
            write(ASSETS, made)
    for name, make in PAGES.items():
        file, text = FOLDER / name, make()
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            stale.append(name)
            if "--check" not in arguments:
                FOLDER.mkdir(exist_ok=True)
                file.write_text(text, encoding="utf-8")
    if "--check" in arguments and stale:
        print(f"out of date: {', '.join(stale)}; run `make docs`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
