"""What a database's catalog says of the tables that models can read. It knows nothing of stars."""

from __future__ import annotations

from dataclasses import dataclass, field

from totes.lake.manifest import SourceColumn


@dataclass(frozen=True)
class Column:
    """A column as it is captured.

    `blind` says that PostgreSQL takes different characters of it for equal, which DuckDB does not. The others are what was
    seen in some rows: `infinite` that a date or time was, `digits` how many a number had before and behind its point at most, or
    None where one was not a number of digits at all.
    """

    entry: SourceColumn
    comment: str = ""
    blind: bool = False
    infinite: bool = False
    digits: tuple[int, int] | None = (0, 0)

    @property
    def name(self) -> str:
        """The column's name at the source."""
        return self.entry.name

    @property
    def type(self) -> str:
        """PostgreSQL's name of the type, with its modifiers."""
        return self.entry.type

    @property
    def nullable(self) -> bool:
        """Whether it may be NULL."""
        return self.entry.nullable


@dataclass(frozen=True)
class Reference:
    """Columns of a table that hold the key of a row of another, or of the same one.

    `enforced` says that PostgreSQL makes sure of it; it does not where a foreign key is not validated. `by_name` says that there
    is none, and only the column's name suggests it.
    """

    columns: tuple[str, ...]
    table: str
    target: tuple[str, ...]
    enforced: bool = True
    by_name: bool = False


@dataclass(frozen=True)
class Table:
    """A table that is captured. `key` identifies a row; `key_chosen` says that it is no primary key, and has to be set."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    references: tuple[Reference, ...] = ()
    comment: str = ""
    key_chosen: bool = False

    def column(self, name: str) -> Column:
        """The column of that name, which is there."""
        return next(column for column in self.columns if column.name == name)


@dataclass(frozen=True)
class LeftOut:
    """Why a table gets no model, and whether the settings leave it out of capture as well."""

    reason: str
    excluded: bool = False


@dataclass(frozen=True)
class Catalog:
    """A schema of a database: the tables to model, by name, and those that are left out.

    `owners` are the roles that own its tables, `secured` says that some table has row-level security.
    """

    database: str
    schema: str
    tables: dict[str, Table]
    left_out: dict[str, LeftOut] = field(default_factory=dict)
    owners: tuple[str, ...] = ()
    secured: bool = False
