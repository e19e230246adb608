"""Computes the expected current rows of the warehouse: the models applied, from scratch, to a copy of the source.

Of the pipeline's own state, only the calendar's years so far are used, since the calendar never loses any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from totes import engine
from totes.ingestion.capture import position_column, select_rows
from totes.ingestion.source import Snapshot
from totes.lake.manifest import TableChanges
from totes.monitoring.text_rows import take_as_written
from totes.processing.bound.binding import bind
from totes.processing.bound.leaf import Leaf
from totes.processing.bound.problem import PROBLEM
from totes.processing.bound.query import BoundQuery
from totes.processing.calendar import calendar_rows, covered_years
from totes.processing.reference import load_reference
from totes.star.model import Model
from totes.star.project import CALENDAR, Project

# Problems of rows that may have been loaded before they had them.
DOUBLE, ORPHAN = "double", "orphan"
Progress = Callable[[str], None]


def needed_models(project: Project, tables: Iterable[str]) -> tuple[Model, ...]:
    """The models that have to be computed to know the rows of some tables, in load order."""
    models = {model.name: model for model in project.models}
    wanted = set(tables)
    for name in tuple(wanted):
        if CALENDAR in {relation.lower() for relation in models[name].relations}:
            wanted |= {model.name for model in project.models if name in model.references.values()}
    waiting = list(wanted)
    while waiting:
        for target in models[waiting.pop()].references.values():
            if target not in wanted:
                wanted.add(target)
                waiting.append(target)
    return tuple(model for model in project.models if model.name in wanted)


def expected(model: str) -> str:
    """The quoted name of the table with a model's expected rows."""
    return engine.name(engine.case_safe("expected", model))


def copy_source(
    bench: engine.Engine,
    snapshot: Snapshot,
    project: Project,
    models: tuple[Model, ...],
    progress: Progress,
) -> dict[str, TableChanges]:
    """Copies the tables that the models read, and returns the descriptions of all tables of the snapshot."""
    needed = {relation.lower() for model in models for relation in model.relations}
    needed -= project.built_in_relations
    tables = [table for table in snapshot.tables if table.name.lower() in needed]
    copied = 0
    for number, table in enumerate(tables, start=1):
        progress(f"reading the source: {table.name} ({number} of {len(tables)}), {copied:,} rows so far")
        columns = ", ".join(
            f"{position_column(position)}::{column.entry.raw_type} AS {engine.name(column.name)}"
            for position, column in enumerate(table.columns)
        )
        with snapshot.stream(select_rows(table, None), table.name) as stream:
            bench.register("incoming", stream)
            try:
                bench.execute(
                    f"CREATE OR REPLACE TABLE {_source(table.name)} AS SELECT {columns}, NULL::TIMESTAMP AS _at FROM incoming"
                )
            finally:
                bench.unregister("incoming")
        copied += int(engine.scalar(bench, f"SELECT count(*) FROM {_source(table.name)}"))
    return {table.name: table.description() for table in snapshot.tables}


def compute(
    bench: engine.Engine,
    project: Project,
    models: tuple[Model, ...],
    tables: dict[str, TableChanges],
    years: tuple[int, ...],
    progress: Progress,
) -> tuple[dict[str, BoundQuery], dict[str, str]]:
    """Creates a table of each model's rows; rows that cannot be in the warehouse, or not yet, have a `~problem`.

    The values of a row come from running the model's own text; which rows have a problem comes from the engine's query.

    Args:
        bench: the engine with the copy of the source.
        project: the project.
        models: the models, in load order.
        tables: the source's tables.
        years: the calendar's years so far.
        progress: called with a line about what is being done.

    Returns:
        The bound models, and a note for each model whose text could not be run on its own over all rows.

    Raises:
        ModelFailed: a model does not match the tables.
    """
    names = {model.name for model in models}
    queries = {query.model.name: query for query in bind(project, tables) if query.model.name in names}
    for name, reference in project.references.items():
        load_reference(bench, reference, _source(name))
    _fill_calendar(bench, years)
    notes: dict[str, str] = {}
    on_calendar = {
        name
        for name, query in queries.items()
        if any(leaf.relation.name == CALENDAR for leaf in query.leaves)
    }
    # Tables that read the calendar come last: the other tables' references decide which years it has.
    for name, query in sorted(queries.items(), key=lambda item: item[0] in on_calendar):
        if name in on_calendar:
            _fill_calendar(bench, _years(bench, models, on_calendar, years))
        progress(f"computing {name} over the source")
        bench.execute(f"CREATE OR REPLACE TABLE {expected(name)} AS {query.sql(_rows)}")
        note = take_as_written(bench, query, expected(name), lambda relation: _source(relation.name))
        if note:
            notes[name] = note
        keys = engine.names(query.key)
        _note(
            bench,
            name,
            DOUBLE,
            f"{engine.name(PROBLEM)} IS NULL AND ({keys}) IN"
            f" (SELECT ({keys}) FROM {expected(name)} GROUP BY ALL HAVING count(*) > 1)",
        )
    by_name = {model.name: model for model in project.models}
    for model in models:
        for column, target in model.references.items():
            if target in names:
                _note_orphans(bench, model, column, by_name[target])
    return queries, notes


def _note_orphans(bench: engine.Engine, model: Model, column: str, target: Model) -> None:
    [key] = target.primary_key
    problem = engine.name(PROBLEM)
    condition = (
        f"{problem} IS NULL AND {engine.name(column)} IS NOT NULL"
        f" AND NOT EXISTS (SELECT 1 FROM {expected(target.name)} AS parent WHERE parent.{problem} IS NULL"
        f" AND parent.{engine.name(key)} = row.{engine.name(column)})"
    )
    while _note(bench, model.name, ORPHAN, condition) and target.name == model.name:
        continue  # a row that refers to an orphan of its own table is an orphan too


def _note(bench: engine.Engine, model: str, problem: str, condition: str) -> int:
    return int(
        engine.scalar(
            bench,
            f"UPDATE {expected(model)} AS row SET {engine.name(PROBLEM)} = {engine.text(problem)} WHERE {condition}",
        )
    )


def _years(
    bench: engine.Engine, models: tuple[Model, ...], on_calendar: set[str], years: tuple[int, ...]
) -> tuple[int, ...]:
    """All years that the calendar must have: those so far, and those of referenced dates."""
    found = set(years)
    for model in models:
        for column, target in model.references.items():
            if target in on_calendar and model.name not in on_calendar:
                quoted = engine.name(column)
                rows = bench.execute(
                    f"SELECT DISTINCT year({quoted}) FROM {expected(model.name)}"
                    f" WHERE {engine.name(PROBLEM)} IS NULL AND {quoted} IS NOT NULL AND isfinite({quoted})"
                ).fetchall()
                found.update(int(year) for (year,) in rows)
    return covered_years(found)


def _fill_calendar(bench: engine.Engine, years: Iterable[int]) -> None:
    bench.execute(f"CREATE OR REPLACE TABLE {_source(CALENDAR)} AS {calendar_rows(years)}")


def _rows(leaf: Leaf) -> str:
    return _source(leaf.relation.name)


def _source(relation: str) -> str:
    return engine.name(engine.case_safe("source", relation))
