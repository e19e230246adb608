"""How many rows each table of the star has, now or as of a moment."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from totes.errors import TotesError
from totes.monitoring.past import Past, StillReading
from totes.monitoring.rows import RowsWanted, read_rows
from totes.pipeline import Pipeline
from totes.star.model import Model


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
    past = past or Past(pipeline)
    return [_count(pipeline, model, at, past) for model in pipeline.project.models]


def _count(pipeline: Pipeline, model: Model, at: datetime | None, past: Past) -> TableCount:
    try:
        rows = read_rows(pipeline, model.name, RowsWanted(rows=1, at=at), past).total
        everything = RowsWanted(rows=1, every_version=True)
        versions = (
            read_rows(pipeline, model.name, everything).total if model.versioned and at is None else None
        )
    except StillReading:
        raise
    except TotesError as error:
        return TableCount(model.name, None, unknown=str(error))
    return TableCount(model.name, rows, versions)
