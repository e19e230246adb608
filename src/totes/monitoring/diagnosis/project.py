"""Checks the project: that every model can be read, maintained and bound to the source's tables, with a finding for each."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from totes import engine
from totes.config import Settings
from totes.display import count
from totes.errors import ConfigurationError, TotesError
from totes.lake.manifest import TableChanges
from totes.monitoring.diagnosis.check import Area, some
from totes.monitoring.diagnosis.exactness import inexact
from totes.monitoring.diagnosis.tables import Tables
from totes.monitoring.diagnosis.values import check_values
from totes.processing.bound.binding import bind
from totes.processing.bound.query import BoundQuery
from totes.processing.bound.relation import suspects
from totes.processing.bound.text_comparison import HINT, doubts
from totes.processing.reference import load_reference
from totes.star.project import CALENDAR, Project, load_model, load_project, model_files

_HINT = "Correct the model: docs/how-to/write-models.md"


def check_project(area: Area, settings: Settings) -> Project | None:
    """Reads all models and reference files; returns the project, or None if it cannot be loaded."""
    path = settings.path(settings.project.path) if settings.project.path else None
    name = settings.project.name
    try:
        project = load_project(name, path)
    except TotesError as error:
        _name_all(area, name, path, error)
        return None
    area.ok(
        "models",
        f"understood, and loaded in the order {some([m.name for m in project.models], 20)}",
    )
    _check_references(area, project)
    return project


def check_binding(area: Area, project: Project, tables: Tables) -> None:
    """Binds each model to the source's tables, and reports which values its declared types may not hold."""
    described = {name: table.description() for name, table in tables.captured.items()}
    _check_names(area, project, tables)
    bound: list[BoundQuery] = []
    waiting = False
    absent = {name.lower() for name in tables.left_out if name in tables.facts}
    for model in project.models:
        missing = sorted(name for name in model.relations if name.lower() in absent)
        if missing:
            waiting = True
            area.skip("binding", f"{model.name} reads {some(missing)}, which cannot be captured")
            continue
        try:
            [query] = bind(replace(project, models=(model,)), described)
        except TotesError as error:
            area.fail("binding", error.what, error.hint or _HINT)
            continue
        bound.append(query)
        _check_values(area, query, described)
        _check_comparisons(area, query, tables, described)
        _check_exactness(area, query)
    if not waiting and not area.failed("binding"):
        area.ok("binding", f"every model matches the source's tables ({len(bound)})")
    if bound and not any(check.name == "values" for check in area.checks):
        area.ok(
            "values", "every value of the source's types can be held by the types that the models declare"
        )


def _check_comparisons(
    area: Area, query: BoundQuery, tables: Tables, described: dict[str, TableChanges]
) -> None:
    blind = {
        (name, column): "of a collation that is not deterministic"
        for name, facts in tables.facts.items()
        for column in facts.blind
    }
    for doubt in doubts(query, suspects(described) | blind):
        area.warn("comparisons", f"{query.model.name}, {doubt}", HINT)


def _check_exactness(area: Area, query: BoundQuery) -> None:
    connection = engine.connect(None, memory="1GB")
    with connection:
        found = inexact(query, connection)
    if found:
        area.warn(
            "exactness",
            f"{query.model.name} computes with exact numbers in binary floating point: {', '.join(found)}",
            "Round explicitly with CAST(… AS DECIMAL(p, s)), divide integers with //, or declare the column DOUBLE: "
            "docs/how-to/postgresql-sql.md",
        )


def _name_all(area: Area, name: str, path: Path | None, error: TotesError) -> None:
    """Reports every invalid model, since loading the project ends at the first."""
    named, files = False, []
    with suppress(ConfigurationError):  # then `error` is that one
        files = model_files(name, path)
    for file in files:
        try:
            load_model(file)
        except TotesError as wrong:
            named = True
            area.fail("models", wrong.what, wrong.hint or _HINT)
    if not named:
        area.fail("models", error.what, error.hint or _HINT)


def _check_references(area: Area, project: Project) -> None:
    if not project.references:
        return
    connection = engine.connect(None, memory="1GB")
    rows = 0
    with connection:
        for reference in project.references.values():
            with area.checking("reference files", f"reading {reference.path}"):
                load_reference(connection, reference, "reference")
                rows += int(engine.scalar(connection, "SELECT count(*) FROM reference"))
    if not area.failed("reference files"):
        area.ok("reference files", f"{some(sorted(project.references), 5)}, {count(rows, 'row')}")


def _check_names(area: Area, project: Project, tables: Tables) -> None:
    """Reports names of both a file of the project and a table of the source: in a model they mean the file."""
    read = {name.lower() for model in project.models for name in model.relations}
    for name in tables.facts:
        if name.lower() in project.built_in_relations & read:
            what = "the calendar" if name.lower() == CALENDAR else f"the file reference/{name}.csv"
            area.warn(
                "names",
                f"a model that names {name} reads {what}, not the source's table of that name",
                "Nothing, if that is intended; otherwise let the model read a view of the source with another name"
                + ("" if name.lower() == CALENDAR else ", or rename the file"),
            )


def _check_values(area: Area, query: BoundQuery, described: dict[str, TableChanges]) -> None:
    doubts = check_values(query, described)
    if doubts:
        area.warn(
            "values",
            f"{query.model.name}: {'; '.join(doubts)}",
            "Rows with such a value go to quarantine, or are rounded where noted. Declare a wider type, or VARCHAR for the "
            "exact text; leave it if no such value is expected",
        )
