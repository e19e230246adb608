"""A model before it is written: its columns in order, the tables that it reads, and what there is to say of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from totes.scaffold.catalog import Reference
from totes.scaffold.identifiers import is_plain
from totes.scaffold.kind import Kind
from totes.scaffold.words import clipped, plural, snake
from totes.star.declaration import NAME_BYTES_MAX
from totes.star.model import HISTORY_COLUMNS, IS_DELETED


@dataclass(frozen=True)
class Value:
    """A source column under the alias of its table; `template` is an expression with {} in its place."""

    alias: str
    column: str
    template: str = "{}"


@dataclass(frozen=True)
class DraftColumn:
    """A declared column; one without a value is the surrogate."""

    name: str
    type: str
    value: Value | None
    not_null: bool = False
    references: str | None = None
    note: str = ""


@dataclass(frozen=True)
class Source:
    """A table in FROM; all but the first are joined where the pairs of values are equal."""

    table: str
    alias: str
    on: tuple[tuple[Value, Value], ...] = ()


@dataclass
class Draft:
    """A model of a source table. Columns and joins are added in the order in which they are written."""

    name: str
    kind: Kind
    table: str
    description: str = ""
    columns: list[DraftColumn] = field(default_factory=list)
    key: tuple[str, ...] = ()
    sources: list[Source] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begins with the table itself."""
        self.sources.append(Source(self.table, self._alias(self.table)))

    @property
    def first(self) -> str:
        """The alias of the table that the model is of."""
        return self.sources[0].alias

    @property
    def surrogate(self) -> str | None:
        """The column that the query does not give."""
        return next((column.name for column in self.columns if column.value is None), None)

    def references(self) -> set[str]:
        """The models that it refers to."""
        return {column.references for column in self.columns if column.references}

    def join(self, alias: str, reference: Reference, role: str) -> str:
        """Joins the table that a reference of another one in FROM leads to; gives its alias."""
        pairs = tuple(zip(reference.columns, reference.target, strict=True))
        for source in self.sources:
            ends = tuple((ours.column, theirs.column) for theirs, ours in source.on)
            if (
                source.table == reference.table
                and source.on
                and source.on[0][1].alias == alias
                and ends == pairs
            ):
                return source.alias
        own = self._alias(reference.table)
        if own in {source.alias for source in self.sources} or reference.table == self.table:
            own = self._unused(role, {source.alias.lower() for source in self.sources})
        on = tuple((Value(own, target), Value(alias, column)) for column, target in pairs)
        self.sources.append(Source(reference.table, own, on))
        return own

    def add(self, column: DraftColumn) -> DraftColumn:
        """Adds a column, under another name where its own is in use."""
        reserved = HISTORY_COLUMNS if self.kind is Kind.FACT else {IS_DELETED: ""}
        name, note = column.name, column.note
        if name in reserved:
            note = note or f"{name} at the source"
            name = f"source_{name}"
        name = self._unused(name, {known.name.lower() for known in self.columns})
        self.columns.append(replace(column, name=name, note=note))
        return self.columns[-1]

    def has(self, name: str) -> bool:
        """Whether there is a column of that name."""
        return any(column.name == name for column in self.columns)

    def _alias(self, table: str) -> str:
        """A table's own name where it needs no quotes, or else one that needs none."""
        written = snake(table)
        return next((name for name in (table, written, plural(written)) if is_plain(name)), table)

    @staticmethod
    def _unused(wanted: str, existing: set[str]) -> str:
        return unused(wanted, existing)


def unused(wanted: str, existing: set[str], bytes_max: int = NAME_BYTES_MAX) -> str:
    """A name that is not in use yet and not too long: the wanted one, or one with a number."""
    name, number = clipped(wanted, bytes_max) or "unnamed", 1
    while name.lower() in existing:
        number += 1
        name = f"{clipped(wanted, bytes_max - len(str(number)) - 1)}_{number}"
    return name
