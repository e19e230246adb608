"""The star's dictionary: its tables and columns, what they mean, and from which columns of the source they come."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from totes.errors import ModelError
from totes.lake.manifest import IngestionManifest
from totes.pipeline import Pipeline
from totes.processing.bound.binding import relations_at
from totes.processing.bound.lineage import ColumnOrigin, column_lineage
from totes.star.column import Column
from totes.star.model import Model
from totes.star.project import Project
from totes.warehouse.connection import dialect_of
from totes.warehouse.ddl import column_type


@dataclass(frozen=True)
class ColumnEntry:
    """A column of a table; `sources` are `relation.column`, and `expression` is what the query makes of them.

    `role` is what the column is for: `surrogate`, `key`, `reference`, `history`, or nothing of these.
    """

    name: str
    type: str
    not_null: bool
    role: Literal["surrogate", "key", "reference", "history", ""]
    description: str | None = None
    references: str | None = None
    sources: tuple[str, ...] = ()
    expression: str | None = None


@dataclass(frozen=True)
class TableEntry:
    """A table of the star; `key` has the columns that identify a row over time, `reads` what its query names.

    `problem` is why the lineage of its columns is not known.
    """

    name: str
    description: str
    kind: Literal["versioned", "latest"]
    key: tuple[str, ...]
    columns: tuple[ColumnEntry, ...]
    reads: tuple[str, ...]
    referred_by: tuple[str, ...]
    definition: str
    problem: str | None = None

    @property
    def references(self) -> dict[str, str]:
        """The columns that refer to another table, each with that table."""
        return {column.name: column.references for column in self.columns if column.references}


@dataclass(frozen=True)
class Dictionary:
    """The tables of a star, in the order in which they are loaded."""

    project: str
    tables: tuple[TableEntry, ...]

    def table(self, name: str) -> TableEntry | None:
        """The table of a name."""
        return next((table for table in self.tables if table.name == name), None)

    def as_json(self) -> dict[str, Any]:
        """The dictionary as plain values."""
        return asdict(self)


def read_dictionary(pipeline: Pipeline) -> Dictionary:
    """The dictionary of a pipeline's star. Of the lake, the newest manifest is read: it says what the source's columns are.

    Raises:
        StoreError, LakeDamaged: the lake cannot be read.
    """
    return describe(
        pipeline.project,
        pipeline.ingestion_journal.newest(),
        dialect_of(pipeline.settings.warehouse_url()),
    )


def describe(project: Project, newest: IngestionManifest | None, dialect: Any) -> Dictionary:
    """The dictionary of a project over the source as the newest batch found it. Pure."""
    return Dictionary(
        project.name, tuple(_table(project, model, newest, dialect) for model in project.models)
    )


def _table(project: Project, model: Model, newest: IngestionManifest | None, dialect: Any) -> TableEntry:
    origins: dict[str, ColumnOrigin] = {}
    problem = None if newest else "Nothing has been captured yet, so the source's columns are not known."
    if newest:
        try:
            origins = column_lineage(model, relations_at(project, newest))
        except ModelError as error:
            problem = str(error)
    key = _key(model, newest, origins)
    columns = [_column(model, column, key, origins.get(column.name), dialect) for column in model.columns]
    columns += [
        ColumnEntry(
            one.name, column_type(one, dialect), one.not_null, "history", model.descriptions[one.name]
        )
        for one in model.output[len(model.columns) :]
    ]
    return TableEntry(
        model.name,
        model.description,
        "versioned" if model.versioned else "latest",
        key,
        tuple(columns),
        tuple(sorted(model.relations)),
        tuple(other.name for other in project.models if model.name in other.references.values()),
        model.definition,
        problem,
    )


def _key(model: Model, newest: IngestionManifest | None, origins: dict[str, ColumnOrigin]) -> tuple[str, ...]:
    """What identifies a row over time: of a versioned table, the columns that carry the first table's key."""
    if not model.versioned:
        return model.primary_key
    carriers = {origin.sources[0]: name for name, origin in reversed(origins.items())
                if len(origin.sources) == 1 and origin.expression is None}  # fmt: skip
    first = model.query.args["from_"].this.name.lower()
    for name, table in (newest.tables if newest else {}).items():
        if name.lower() == first:
            found = [carriers.get(f"{name}.{part}") for part in table.key]
            return tuple(one for one in found if one) if all(found) else ()
    return ()


def _column(
    model: Model, column: Column, key: tuple[str, ...], origin: ColumnOrigin | None, dialect: Any
) -> ColumnEntry:
    is_surrogate, is_key = column.name == model.surrogate, column.name in key
    role: Any = "surrogate" if is_surrogate else "key" if is_key else "reference" if column.references else ""
    return ColumnEntry(
        column.name,
        column_type(column, dialect),
        column.not_null or column.name in model.primary_key,
        role,
        model.descriptions.get(column.name),
        column.references,
        origin.sources if origin else (),
        origin.expression if origin else None,
    )
