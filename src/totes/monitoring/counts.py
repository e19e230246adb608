"""How many rows each table of the star has, now or as of a moment."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from totes.errors import CommandFailed, QueryTooSlow, TotesError
from totes.monitoring.batches import SECONDS_MAX
from totes.monitoring.past import Past, StillReading
from totes.monitoring.rows import RowsWanted, chosen_rows
from totes.pipeline import Pipeline
from totes.star.model import Model
from totes.warehouse.adapter import Warehouse


@dataclass(frozen=True)
class TableCount:
    """A table's current rows and its versions (None where it keeps none), or why they are not known."""

    table: str
    rows: int | None
    versions: int | None = None
    unknown: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The count as plain values."""
        return asdict(self)


def read_counts(pipeline: Pipeline, at: datetime | None = None, past: Past | None = None) -> list[TableCount]:
    """The counts of all tables, in load order. What keeps one from being known does not hide the others.

    Raises:
        StillReading: call again.
    """
    past, models = past or Past(pipeline), pipeline.project.models
    of_past = {} if at is None else {m.name: _count_past(m, at, past) for m in models if not m.versioned}
    wanted = [model for model in models if model.name not in of_past]
    try:
        with pipeline.warehouse(read_only=True) as warehouse:
            if warehouse.newest() is None:
                raise CommandFailed("the warehouse is empty", hint="Run `totes load` first")
            with warehouse.one_moment():
                of_now = {model.name: _count_now(warehouse, model, RowsWanted(at=at)) for model in wanted}
    except TotesError as error:
        of_now = {model.name: TableCount(model.name, None, unknown=str(error)) for model in wanted}
    found = of_past | of_now
    return [found[model.name] for model in models]


def _count_past(model: Model, at: datetime, past: Past) -> TableCount:
    try:
        with past.table(model.name, at) as table:
            [(rows,)] = table.ask(f"SELECT count(*) FROM {table.relation}")[1]
    except StillReading:
        raise
    except TotesError as error:
        return TableCount(model.name, None, unknown=str(error))
    return TableCount(model.name, int(rows))


def _count_now(warehouse: Warehouse, model: Model, wanted: RowsWanted) -> TableCount:
    if not warehouse.columns(model.name):
        return TableCount(
            model.name, None, unknown="The warehouse does not have it. Run `totes load`, or `totes plan`"
        )
    counted = f"SELECT count(*) FROM {warehouse.relation(model.name)}"
    try:
        _, [(rows,)] = warehouse.query(
            f"{counted} WHERE {chosen_rows(model, wanted)}", seconds_max=SECONDS_MAX
        )
        versions = None
        if model.versioned and wanted.at is None:
            _, [(versions,)] = warehouse.query(counted, seconds_max=SECONDS_MAX)
    except QueryTooSlow as error:
        return TableCount(model.name, None, unknown=str(error))
    return TableCount(model.name, int(rows), None if versions is None else int(versions))
