"""Which tables the models of a project read at a batch, and which models have to wait for a later one."""

from __future__ import annotations

from contextlib import closing
from functools import lru_cache
from pathlib import Path
from threading import Lock

from totes import engine
from totes.errors import ModelError, ModelFailed
from totes.lake.manifest import IngestionManifest, TableChanges
from totes.log import logger
from totes.processing.bound.query import BoundQuery
from totes.processing.bound.relation import (
    Relation,
    RelationColumn,
    Relations,
    Suspects,
    source_relation,
    suspects,
)
from totes.processing.bound.retained import Retained
from totes.processing.calendar import calendar_relation
from totes.star.model import Model
from totes.star.project import CALENDAR, Project

_turn = Lock()  # of those who give names to relations in the engine that all share
_log = logger(stage="process")


def relations_at(project: Project, manifest: IngestionManifest) -> Relations:
    """What the models of a project can read at an ingestion batch."""
    absent = {name: entry.reason for name, entry in manifest.left_out.items()}
    return _relations(project, manifest.tables, absent)


def bind(project: Project, tables: dict[str, TableChanges]) -> list[BoundQuery]:
    """Binds all models of a project, in load order, to the tables that a manifest describes.

    Raises:
        ModelFailed: a model names what is not there, or declares types that its query does not give.
    """
    return bind_models(project.models, _relations(project, tables, {}))


def bind_models(
    models: tuple[Model, ...], relations: Relations, retained: Path | None = None
) -> list[BoundQuery]:
    """Binds models to relations; what has been bound once in a process is not bound again.

    Args:
        models: the models.
        relations: what they can read.
        retained: a file for bound queries, so that the next process need not bind them again.

    Raises:
        ModelFailed: a model names what is not there, or declares types that its query does not give.
    """
    return list(_bind(models, tuple(relations.present.items()), tuple(relations.absent.items()), retained))


@lru_cache(maxsize=16)
def _bind(
    models: tuple[Model, ...],
    present: tuple[tuple[str, Relation], ...],
    absent: tuple[tuple[str, str], ...],
    file: Path | None,
) -> tuple[BoundQuery, ...]:
    relations, retained = Relations(dict(present), dict(absent)), Retained(file)
    known = [retained.query(model, relations) for model in models]
    if all(known):
        return tuple(query for query in known if query)
    # Only here: most processes bind nothing, and to parse SQL takes longer to import than they run.
    from totes.processing.bound.resolution import bound_query
    from totes.star.syntax import parser

    bound = []
    with _turn, closing(engine.another(parser())) as connection:
        for model, query in zip(models, known, strict=True):
            try:
                bound.append(query or bound_query(model, relations, connection))
            except ModelError as error:
                raise ModelFailed(error.what, hint=error.hint, model=model.name) from error
    retained.save(bound, relations)
    return tuple(bound)


def _relations(project: Project, tables: dict[str, TableChanges], absent: dict[str, str]) -> Relations:
    present = {name: source_relation(name, table) for name, table in tables.items()}
    for name, reference in project.references.items():
        columns = tuple(RelationColumn(column, "VARCHAR", "VARCHAR") for column in reference.columns)
        present[name] = Relation(name, columns, (), is_source=False)
    present[CALENDAR] = calendar_relation()
    return Relations(present, absent)


def bind_or_defer(
    project: Project, manifest: IngestionManifest, newest: IngestionManifest | None
) -> tuple[list[BoundQuery], list[BoundQuery]]:
    """Binds the models to the tables of a batch, those apart that fit the tables of the newest batch only.

    Where columns have been renamed since, their newest names are used. A model that reads what the batch did
    not have at all has to wait: all its rows are computed at the first batch where it can be bound again.

    Raises:
        ModelFailed: a model fits neither.
    """
    retained = project.cache / "queries.json" if project.cache else None
    try:
        queries = bind_models(project.models, relations_at(project, manifest), retained)
    except ModelFailed:
        if newest is None or newest.batch <= manifest.batch:
            raise
    else:
        if suspected := suspects(manifest.tables):
            _warn_of(queries, suspected)
        return queries, []
    here = relations_at(project, manifest.called_as(newest))
    bound, deferred = [], []
    for query in bind_models(project.models, relations_at(project, newest)):
        try:
            bound += bind_models((query.model,), here)
        except ModelFailed as error:
            _log.warning(
                f"the model waits for a later batch: {error}", model=query.model.name, batch=manifest.batch
            )
            deferred.append(query)
    return bound, deferred


def _warn_of(queries: list[BoundQuery], suspected: Suspects) -> None:
    from totes.processing.bound.text_comparison import HINT, doubts

    for query in queries:
        for doubt in doubts(query, suspected):
            _warn_once(query.model.name, f"{doubt}. {HINT}")


@lru_cache(maxsize=256)
def _warn_once(model: str, doubt: str) -> None:
    """Warns once in a process of what a model compares differently from PostgreSQL."""
    _log.warning(f"{model}, {doubt}", model=model)
