"""Tries models that are not written yet: on the project's own parser, and on its binder over the tables of a catalog."""

from __future__ import annotations

import re
from pathlib import Path

from totes.errors import ModelError, ModelFailed
from totes.lake.manifest import TableChanges
from totes.processing.bound.binding import bind_models
from totes.processing.bound.relation import Relations, source_relation
from totes.processing.calendar import calendar_relation
from totes.scaffold.catalog import Catalog
from totes.scratch import temporary_folder
from totes.star.model import Model
from totes.star.project import CALENDAR, load_project

_MODELS = "models"
_PLACE = re.compile(r"^models/[^:]*: ")


def refused(catalog: Catalog, models: dict[str, str]) -> dict[str, str]:
    """The models that the project's parser or binder does not take, each with the reason; the parser's first."""
    with temporary_folder() as folder:
        (folder / _MODELS).mkdir()
        for name, text in models.items():
            (folder / _MODELS / f"{name}.sql").write_text(text, encoding="utf-8")
        try:
            project = load_project(catalog.database, folder)
        except ModelError as error:
            return {Path(error.path).stem: _PLACE.sub("", error.what)}
    described = {
        name: TableChanges(
            columns=tuple(column.entry for column in table.columns), key=table.key, marked_by="transaction",
            relation=number, partitions=(),
        )
        for number, (name, table) in enumerate(catalog.tables.items(), 1)
    }  # fmt: skip
    present = {name: source_relation(name, table) for name, table in described.items()}
    relations = Relations(present | {CALENDAR: calendar_relation()}, {})
    if _fault(project.models, relations) is None:  # all at once, which is quicker
        return {}
    faults = {model.name: _fault((model,), relations) for model in project.models}
    return {name: fault for name, fault in faults.items() if fault}


def _fault(models: tuple[Model, ...], relations: Relations) -> str | None:
    """Why models cannot be computed over the source's tables; None where they can."""
    try:
        bind_models(models, relations)
    except (ModelError, ModelFailed) as error:
        return _PLACE.sub("", error.what)
    return None
