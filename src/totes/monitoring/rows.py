"""Rows of a table of the star, a page at a time: filtered, sorted and cut by the database, now or as of a moment."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from totes import engine
from totes.errors import CommandFailed, ConfigurationError
from totes.lake.manifest import OutputColumn
from totes.monitoring.batches import SECONDS_MAX
from totes.monitoring.past import Past
from totes.pipeline import Pipeline
from totes.star.model import Model

_VALUE_SHOWN_MAX = 300
COUNT_MAX = 1_000_000
_COMPARED = re.compile(r"(>=|<=|!=|>|<|=)\s?(.*)", re.DOTALL)
_TEXT = {"VARCHAR", "JSON"}
_EXACT = re.compile(r"(TINYINT|SMALLINT|INTEGER|BIGINT|HUGEINT|FLOAT|DOUBLE|BOOLEAN|DECIMAL.*)$")
_ORDERED_AS_TEXT = {"JSON"}  # PostgreSQL cannot compare it
Ask = Callable[[str], tuple[list[str], list[tuple[Any, ...]]]]


@dataclass(frozen=True)
class RowsWanted:
    """Which rows: `filters` are texts by column, `sort` a column or none, `page` counts from 1.

    A filter is a value, before which one of `= != < <= > >=` may stand, or `null` or `!null`. Without one of these, text and
    times contain it, in any case of letters, and numbers are equal to it. `at`, in UTC, asks for the rows as of a moment;
    otherwise they are those of now: with `every_version` all of them, without it what is current and not deleted.
    """

    filters: Mapping[str, str] = field(default_factory=dict)
    sort: str | None = None
    descending: bool = False
    page: int = 1
    rows: int = 50
    at: datetime | None = None
    every_version: bool = False


@dataclass(frozen=True)
class Rows:
    """A page of rows, values as text; longer ones are cut at 300 characters and end with an ellipsis.

    `total` is how many rows there are on all pages, `COUNT_MAX` where there are at least as many. `key` are the columns that
    `totes history` takes. `refused` says by column why a filter was not used. `batch` is that after which the lake had rows
    as of a moment, where they came from the lake.
    """

    table: str
    columns: tuple[str, ...]
    types: tuple[str, ...]
    key: tuple[str, ...]
    rows: list[tuple[str | None, ...]]
    total: int
    page: int
    pages: int
    refused: dict[str, str]
    batch: int | None = None

    def is_number(self, column: str) -> bool:
        """Whether a column holds numbers."""
        kind = self.types[self.columns.index(column)]
        return kind != "BOOLEAN" and _EXACT.match(kind) is not None

    def key_of(self, row: tuple[str | None, ...]) -> list[tuple[str, str]]:
        """The row's key, as a query names it."""
        values = dict(zip(self.columns, row, strict=True))
        return [("key", values.get(column) or "") for column in self.key]

    def as_json(self) -> dict[str, Any]:
        """The page as plain values."""
        return asdict(self)


def read_rows(pipeline: Pipeline, table: str, wanted: RowsWanted, past: Past | None = None) -> Rows:
    """A page of a table's rows.

    Of now, and of tables that keep versions, they are the warehouse's; a table with one row a key has its past in the lake.

    Args:
        pipeline: the pipeline.
        table: the table.
        wanted: which rows.
        past: the lake's past, for a process that asks again and again.

    Raises:
        ConfigurationError: there is no such table or column.
        CommandFailed: nothing is loaded yet, or nothing was there at that moment.
        WarehouseError, StoreError, LakeDamaged: as they say.
    """
    model = find_model(pipeline, table)
    if wanted.at is not None and not model.versioned:
        with (past or Past(pipeline)).table(table, wanted.at) as found:
            return _page(
                table, found.columns, found.key, found.relation, "true", wanted, found.ask, found.batch
            )
    newest = pipeline.processed_journal.newest()
    if newest is None or table not in newest.models:
        raise CommandFailed(f"{table} has not been processed yet", hint="Run `totes run` first")
    with pipeline.warehouse(read_only=True) as warehouse:
        if warehouse.newest() is None:
            raise CommandFailed("the warehouse is empty", hint="Run `totes load` first")
        with warehouse.one_moment():
            there = set(warehouse.columns(table))
            if not there:
                raise CommandFailed(
                    f"the warehouse has no table {table}", hint="Run `totes load`, or `totes plan`"
                )
            columns = tuple(column for column in model.output if column.name in there)
            return _page(
                table,
                columns,
                newest.models[table].key,
                warehouse.relation(table),
                chosen_rows(model, wanted),
                wanted,
                lambda sql: warehouse.query(sql, seconds_max=SECONDS_MAX),
            )


def find_model(pipeline: Pipeline, table: str) -> Model:
    """The model of a table.

    Raises:
        ConfigurationError: there is none.
    """
    model = pipeline.project.model(table)
    if model is None:
        names = ", ".join(model.name for model in pipeline.project.models)
        raise ConfigurationError(f"there is no table {table}", hint=f"The tables are {names}")
    return model


def chosen_rows(model: Model, wanted: RowsWanted) -> str:
    """The condition of the rows that are asked for."""
    if wanted.at is not None:
        at = f"TIMESTAMP {engine.text(wanted.at.replace(tzinfo=None).isoformat(sep=' '))}"
        return f"valid_from <= {at} AND (valid_to IS NULL OR valid_to > {at}) AND NOT is_deleted"
    if wanted.every_version:
        return "true"
    if model.versioned:
        return "valid_to IS NULL AND NOT is_deleted"
    return "NOT is_deleted" if model.soft_deletes else "true"


def _page(
    table: str,
    columns: Iterable[OutputColumn],
    key: tuple[str, ...],
    relation: str,
    moment: str,
    wanted: RowsWanted,
    ask: Ask,
    batch: int | None = None,
) -> Rows:
    types = {column.name: column.type for column in columns}
    for unknown in (name for name in (*wanted.filters, *filter(None, [wanted.sort])) if name not in types):
        raise ConfigurationError(f"{table} has no column {unknown}", hint=f"They are {', '.join(types)}")
    conditions, refused = _conditions(types, wanted.filters)
    chosen = f"FROM {relation} WHERE {' AND '.join([f'({moment})', *conditions])}"
    [(total,)] = ask(f"SELECT count(*) FROM (SELECT 1 {chosen} LIMIT {COUNT_MAX}) AS counted")[1]
    total, size = int(total), max(1, wanted.rows)
    pages = max(1, -(-total // size))
    page = min(max(1, wanted.page), pages)
    shown = ", ".join(
        # Under another name than the column's: ORDER BY is to mean the column.
        f"substr(CAST({engine.name(name)} AS VARCHAR), 1, {_VALUE_SHOWN_MAX + 1}) AS {engine.name(f'~{number}')}"
        for number, name in enumerate(types)
    )
    order = [_ordered(wanted.sort, types, wanted.descending)] if wanted.sort else []
    order += [
        _ordered(name, types, False) for name in (*key, "valid_from") if name in types and name != wanted.sort
    ]
    _, rows = ask(
        f"SELECT {shown} {chosen} ORDER BY {', '.join(order) or '1'} LIMIT {size} OFFSET {(page - 1) * size}"
    )
    return Rows(
        table,
        tuple(types),
        tuple(types.values()),
        key,
        [tuple(None if value is None else _cut(str(value)) for value in row) for row in rows],
        total,
        page,
        pages,
        refused,
        batch,
    )


def _ordered(column: str, types: Mapping[str, str], descending: bool) -> str:
    name = engine.name(column)
    if types[column] in _ORDERED_AS_TEXT:
        name = f"CAST({name} AS VARCHAR)"
    return f"{name}{' DESC' if descending else ''} NULLS LAST"


def _cut(value: str) -> str:
    return value if len(value) <= _VALUE_SHOWN_MAX else f"{value[:_VALUE_SHOWN_MAX]}…"


def _conditions(types: Mapping[str, str], filters: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """The conditions of filters in SQL that DuckDB and PostgreSQL both understand, and why some of them make none."""
    conditions, refused = list[str](), dict[str, str]()
    if not filters:
        return conditions, refused
    with closing(engine.connect(None, memory="1GB")) as local:
        for column, text in filters.items():
            name, kind, wanted = engine.name(column), types[column], text.strip()
            if not wanted:
                continue
            if wanted.lower() in ("null", "!null"):
                conditions.append(f"{name} IS {'NOT ' * wanted.startswith('!')}NULL")
                continue
            compared = _COMPARED.fullmatch(wanted)
            operator, value = compared.groups() if compared else ("", wanted)
            if "\0" in value:
                refused[column] = "no value has a character with the code 0"
            elif not operator and not _EXACT.match(kind):
                conditions.append(f"strpos(lower(CAST({name} AS VARCHAR)), lower({engine.text(value)})) > 0")
            elif kind not in _TEXT and not _is_of(local, value, kind):
                refused[column] = f"{value[:40]} is no {kind}"
            else:
                left = f"CAST({name} AS VARCHAR)" if kind in _ORDERED_AS_TEXT else name
                conditions.append(f"{left} {operator or '='} {engine.text(value)}")
    return conditions, refused


def _is_of(local: engine.Engine, value: str, kind: str) -> bool:
    return bool(engine.scalar(local, f"SELECT TRY_CAST({engine.text(value)} AS {kind}) IS NOT NULL"))
