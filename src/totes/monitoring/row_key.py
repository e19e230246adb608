"""What names a row: its key as somebody gives it, checked against the types of the key's columns."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from totes import engine
from totes.errors import CommandFailed, ConfigurationError, ModelFailed
from totes.lake.manifest import IngestionManifest
from totes.pipeline import Pipeline
from totes.processing.bound.binding import bind_models, relations_at
from totes.processing.bound.query import BoundQuery
from totes.processing.bound.relation import TYPED
from totes.star.model import Model

_INTEGER = re.compile(r"U?(TINYINT|SMALLINT|INTEGER|BIGINT|HUGEINT)")
# Whose text has one form for each value, so that another form of it can be brought into that one.
_ONE_FORM = re.compile(rf"{_INTEGER.pattern}|DATE|UUID|BOOLEAN|DECIMAL.*")


@dataclass(frozen=True)
class RowKey:
    """What names a row of a table: its key, and the same values in the order of the key of the source's table.

    `source_values` is empty where the table's key is not that of a table of the source.
    """

    columns: tuple[str, ...]
    values: tuple[str, ...]
    source_values: tuple[str, ...]


class KeyColumn(NamedTuple):
    """A column of a key; `type` is what it is called in its database, `typed` DuckDB's type for it."""

    name: str
    type: str
    typed: str


def find_row(pipeline: Pipeline, table: str, given: list[str]) -> RowKey:
    """The row that a key names in a warehouse table or a source table; whether there is one, is not looked at.

    Raises:
        ConfigurationError: there is no such table, or this cannot be a key of it.
        CommandFailed: nothing is captured and processed yet.
    """
    model, captured = pipeline.project.model(table), pipeline.ingestion_journal.newest()
    if model is None and (captured is None or table not in captured.tables):
        names = [m.name for m in pipeline.project.models] + list(captured.tables if captured else ())
        near = difflib.get_close_matches(table, names, n=1)
        raise ConfigurationError(
            f"there is no table {table}",
            hint=f"Did you mean {near[0]}?" if near else f"The tables are {', '.join(names)}",
        )
    processed = pipeline.processed_journal.newest()
    if captured is None or (model is not None and (processed is None or table not in processed.models)):
        raise CommandFailed("nothing has been captured and processed yet", hint="Run `totes run` first")
    if model is None:
        source = captured.tables[table]
        types = {column.name: column.type for column in source.columns}
        columns = tuple(
            KeyColumn(name, types[name], TYPED.get(types[name], "VARCHAR")) for name in source.key
        )
        values = tuple(understood(table, columns, given, {}))
        return RowKey(source.key, values, values)
    assert processed is not None
    changes = processed.models[table]
    types = {column.name: column.type for column in changes.columns}
    carriers = _carriers(pipeline, model, captured)
    columns = tuple(KeyColumn(name, types[name], types[name]) for name in changes.key)
    values = tuple(understood(table, columns, given, carriers))
    by_name = dict(zip(changes.key, values, strict=True))
    same = sorted(carriers.values()) == sorted(changes.key)
    return RowKey(changes.key, values, tuple(by_name[name] for name in carriers.values()) if same else ())


def source_of(pipeline: Pipeline, model: Model, captured: IngestionManifest) -> str | None:
    """The first table of a model, which its rows come from; None where it cannot be computed."""
    query = _bound(pipeline, model, captured)
    return query.base.relation.name if query else None


def _carriers(pipeline: Pipeline, model: Model, captured: IngestionManifest) -> dict[str, str]:
    """The columns that carry the key of a model's first table, by the names that they have there, in its order."""
    query = _bound(pipeline, model, captured)
    return dict(zip(query.base.relation.key, query.key_of_base, strict=True)) if query else {}


def _bound(pipeline: Pipeline, model: Model, captured: IngestionManifest) -> BoundQuery | None:
    try:
        [query] = bind_models((model,), relations_at(pipeline.project, captured))
    except ModelFailed:
        return None
    return query


def understood(
    table: str, columns: tuple[KeyColumn, ...], given: list[str], also: Mapping[str, str]
) -> list[str]:
    """The values of a key, in the order of its columns, each as its column's type writes it.

    Args:
        table: the table's name.
        columns: the key's columns.
        given: the values in that order; or `column=value` each, as `totes quarantine list` prints a key.
        also: other names that the columns go by, with the column of each.

    Raises:
        ConfigurationError: it is not such a key.
    """
    values = _named(columns, given, also) or given
    if len(values) != len(columns):
        names = ", ".join(column.name for column in columns)
        raise ConfigurationError(
            f"a row of {table} is identified by {names}; {len(values)} values were given",
            hint=f"totes history {table} {' '.join(column.name.upper() for column in columns)}",
        )
    with engine.connect(None, memory="1GB") as connection:
        return [_typed(connection, table, *pair) for pair in zip(columns, values, strict=True)]


def written(key: Mapping[str, object]) -> str:
    """A key as `column=value` each, so that it can be given to `totes history` in a shell."""
    return " ".join(f"{column}={shlex.quote(str(value))}" for column, value in key.items())


def _named(columns: tuple[KeyColumn, ...], given: list[str], also: Mapping[str, str]) -> list[str] | None:
    """The values where each has its column's name before it; None where they have not."""
    parts = given
    if len(given) == 1 < len(columns):
        with suppress(ValueError):  # a quote that does not end
            parts = shlex.split(given[0])
    pairs = [part.partition("=") for part in parts]
    names = [also.get(name, name) for name, _, _ in pairs]
    if sorted(names) != sorted(column.name for column in columns) or not all(sign for _, sign, _ in pairs):
        return None
    values = {name: value for name, (_, _, value) in zip(names, pairs, strict=True)}
    return [values[column.name] for column in columns]


def _typed(connection: engine.Engine, table: str, column: KeyColumn, value: str) -> str:
    kind, literal = column.typed, engine.text(value)
    [(text,)] = connection.execute(f"SELECT CAST(TRY_CAST({literal} AS {kind}) AS VARCHAR)").fetchall()
    if text is None or (_INTEGER.fullmatch(kind) and not re.fullmatch(r"\s*[-+]?\d+\s*", value)):
        raise ConfigurationError(
            f"the key of {table} is {column.name}, of type {column.type}, which {value} is not",
            hint=f"totes history {table} {column.name.upper()}",
        )
    return str(text) if _ONE_FORM.fullmatch(kind) else value
