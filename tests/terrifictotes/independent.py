"""Compares the warehouse with the source, by another way than the pipeline's: PostgreSQL's COPY, the models' plain SQL.

It knows TerrificTotes' types only. What `totes verify` finds by the pipeline's own parts, this finds without them.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from totes import engine
from totes.errors import CommandFailed
from totes.pipeline import Pipeline
from totes.processing.calendar import calendar_rows, covered_years
from totes.star.model import WIDEST_DECIMAL, Model
from totes.star.project import CALENDAR, Project

_TYPES = {
    "integer": "INTEGER", "bigint": "BIGINT", "boolean": "BOOLEAN", "numeric": WIDEST_DECIMAL,
    "timestamp without time zone": "TIMESTAMP",
}  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """A warehouse table beside its model's result: rows in both, and rows that only one of them has."""

    rows: int
    missing: int
    extra: int


def compare(source_url: str, warehouse: Path, pipeline: Pipeline) -> dict[str, Comparison]:
    """Compares every table, and gives what was found by warehouse table.

    Args:
        source_url: the source, which nobody changes meanwhile.
        warehouse: the DuckDB file.
        pipeline: the pipeline between them.

    Raises:
        CommandFailed: a table differs.
    """
    project = pipeline.project
    with tempfile.TemporaryDirectory(prefix="totes-demo-") as scratch:
        connection = engine.connect(
            None,
            memory=pipeline.settings.lake.memory,
            scratch=Path(scratch),
            reads=[warehouse.parent, *(one.path.parent for one in project.references.values())],
        )
        with connection:
            _copy_source(source_url, project, connection, Path(scratch))
            connection.execute(f"ATTACH {engine.text(str(warehouse))} AS warehouse (READ_ONLY)")
            _make_calendar(project, connection)
            found = {model.name: _compare(model, connection) for model in project.models}
    differing = [f"{name}: {one.missing} rows are missing, {one.extra} are wrong or too many"
                 for name, one in found.items() if one.missing or one.extra]  # fmt: skip
    if differing:
        raise CommandFailed(f"the warehouse differs from the source. {'; '.join(differing)}")
    return found


def _copy_source(url: str, project: Project, connection: engine.Engine, scratch: Path) -> None:
    """Copies the tables that models read, and the reference files, into tables of the same names."""
    with psycopg.connect(url) as source:
        source.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        for table in sorted(project.source_tables):
            columns = source.execute(
                "SELECT column_name, data_type FROM information_schema.columns"
                " WHERE table_schema = 'public' AND table_name = %s ORDER BY ordinal_position", [table],
            ).fetchall()  # fmt: skip
            file = scratch / "table.csv"
            statement = sql.SQL("COPY {} TO STDOUT (FORMAT csv)").format(sql.Identifier(table))
            with file.open("wb") as lines, source.cursor().copy(statement) as copy:
                lines.writelines(copy)
            types = ", ".join(
                f"{engine.text(name)}: '{_TYPES.get(kind, 'VARCHAR')}'" for name, kind in columns
            )
            connection.execute(
                f"CREATE TABLE {engine.name(table)} AS FROM read_csv({engine.text(str(file))}, header = false,"
                f" auto_detect = false, columns = {{{types}}}, quote = '\"', escape = '\"', allow_quoted_nulls = false)"
            )
    for name, reference in project.references.items():
        connection.execute(
            f"CREATE TABLE {engine.name(name)} AS"
            f" FROM read_csv({engine.text(str(reference.path))}, header = true, all_varchar = true)"
        )


def _make_calendar(project: Project, connection: engine.Engine) -> None:
    """The dates of whole years around all those that any version of a fact refers to."""
    years = " UNION ".join(
        f"SELECT year({engine.name(column)}) FROM warehouse.{engine.name(model.name)}"
        for model in project.models
        for column, target in model.references.items()
        if CALENDAR in (project.model(target) or model).relations
    )
    covered = covered_years(int(year) for (year,) in connection.execute(years).fetchall())
    connection.execute(f"CREATE TABLE {CALENDAR} AS {calendar_rows(covered)}")


def _compare(model: Model, connection: engine.Engine) -> Comparison:
    columns = engine.names(column.name for column in model.produced)
    typed = ", ".join(
        f"CAST({engine.name(column.name)} AS {column.type}) AS {engine.name(column.name)}"
        for column in model.produced
    )
    actual = f"warehouse.{engine.name(f'{model.name}_current')}"
    connection.execute(f"CREATE TABLE expected AS SELECT {typed} FROM ({model.query.sql('duckdb')})")
    connection.execute(f"CREATE TABLE extra AS SELECT {columns} FROM {actual} EXCEPT ALL FROM expected")
    missing = engine.scalar(
        connection, f"SELECT count(*) FROM (FROM expected EXCEPT ALL SELECT {columns} FROM {actual})"
    )
    extra = engine.scalar(connection, "SELECT count(*) FROM extra")
    rows = engine.scalar(connection, "SELECT count(*) FROM expected")
    connection.execute("DROP TABLE expected; DROP TABLE extra")
    return Comparison(rows - missing, missing, extra)
