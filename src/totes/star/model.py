"""A model: one warehouse table, read from one SQL file. It knows only its text, not the tables of any source."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from totes.errors import ModelError
from totes.lake.manifest import OutputColumn
from totes.star import syntax
from totes.star.column import Column

if TYPE_CHECKING:
    from sqlglot import exp

IS_DELETED = "is_deleted"
HISTORY_COLUMNS = {
    "valid_from": "TIMESTAMP",
    "valid_to": "TIMESTAMP",
    IS_DELETED: "BOOLEAN",
    "batch_id": "BIGINT",
}
# What the columns mean that no model describes, since totes adds or fills them.
_MEANINGS = {
    "valid_from": "From when the row was so, in UTC.",
    "valid_to": "Until when it was so; empty in the current version.",
    IS_DELETED: "Whether the row is deleted at its source, or has left the query's joins or its WHERE.",
    "batch_id": "The batch that brought this version.",
}
_SURROGATE_MEANING = "Numbers the versions; assigned by totes."
WIDEST_DECIMAL = "DECIMAL(38, 10)"


@dataclass(frozen=True)
class Model:
    """A parsed model file.

    `columns` are all declared columns in order, and `produced` those that the query gives. `primary_key` are declared
    columns; if there is a `surrogate`, it is that one column, which the query does not give. `text` is the query's text,
    `start` and `line` where it begins in the file, and `definition` the whole file. `tokens` is the query without comments
    and layout, `relations` are the names of the tables, reference files and calendar that it reads, as written in it, and
    `joins` is whether it reads more than one, so that processing needs all rows of its tables, not only changes.
    `referenced` is true if a table, possibly itself, REFERENCES it.
    """

    name: str
    path: Path
    description: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    surrogate: str | None
    text: str = ""
    start: int = 0
    line: int = 1
    definition: str = ""
    tokens: str = ""
    relations: frozenset[str] = frozenset()
    joins: bool = False
    referenced: bool = False

    @cached_property
    def query(self) -> exp.Select:
        """The query as parsed by sqlglot: only when it is needed, since that takes longer than all else of a model."""
        from totes.star.parsing import parse_query

        return parse_query(self.path, self.definition)

    @property
    def soft_deletes(self) -> bool:
        """Whether deleted rows stay, marked `is_deleted`: the table has one row a key, and other rows may refer to it."""
        return self.referenced and not self.versioned

    @property
    def retains_deleted(self) -> bool:
        """Whether deleted rows stay in the table, as a last version or marked."""
        return self.versioned or self.soft_deletes

    @property
    def versioned(self) -> bool:
        """Whether the table has every version of a row."""
        return self.surrogate is not None

    @cached_property
    def produced(self) -> tuple[Column, ...]:
        """The declared columns that the query gives."""
        return tuple(column for column in self.columns if column.name != self.surrogate)

    @cached_property
    def output(self) -> tuple[OutputColumn, ...]:
        """All columns of the warehouse table, including those that totes adds for its history."""
        columns = [OutputColumn.model_validate(column, from_attributes=True) for column in self.columns]
        if self.versioned:
            columns += [OutputColumn(name=name, type=kind) for name, kind in HISTORY_COLUMNS.items()]
        if self.soft_deletes:
            columns.append(OutputColumn(name=IS_DELETED, type="BOOLEAN"))
        return tuple(columns)

    @property
    def descriptions(self) -> dict[str, str]:
        """What the columns mean, as far as that is known: by the model's comments, and those that totes adds or fills."""
        found = {self.surrogate: _SURROGATE_MEANING} if self.surrogate else {}
        found |= {one.name: _MEANINGS[one.name] for one in self.output[len(self.columns) :]}
        found |= {column.name: column.description for column in self.columns if column.description}
        return {column.name: found[column.name] for column in self.output if column.name in found}

    @property
    def references(self) -> dict[str, str]:
        """The columns that refer to another warehouse table, each with that table."""
        return {column.name: column.references for column in self.columns if column.references}

    def referring_to(self, table: str) -> list[str]:
        """The columns that refer to a table."""
        return [column for column, target in self.references.items() if target == table]

    def table_sha256(self) -> str:
        """Identifies the declaration of the warehouse table."""
        declared = [
            (c.name, c.type, c.unbounded, c.length_max, c.not_null, c.references) for c in self.columns
        ]
        table = json.dumps(
            [self.name, declared, self.primary_key, self.surrogate] + [IS_DELETED] * self.soft_deletes
        )
        return hashlib.sha256(table.encode()).hexdigest()

    def sha256(self, references: dict[str, bytes]) -> str:
        """Identifies the model as a whole: its table, its query, and the content of the reference files that it reads."""
        return hashlib.sha256((self.table_sha256() + self.query_sha256(references)).encode()).hexdigest()

    def query_sha256(self, references: dict[str, bytes]) -> str:
        """Identifies the query's meaning: its text, and the content of the reference files that it reads."""
        content = [(name, references[name]) for name in sorted(self.relations & references.keys())]
        return hashlib.sha256((self.tokens + repr(content)).encode()).hexdigest()

    @cached_property
    def tree(self) -> syntax.Tree:
        """The query as parsed by DuckDB."""
        return syntax.parse(self.text)

    @cached_property
    def names(self) -> list[syntax.Name]:
        """The columns that the query names."""
        return syntax.names(self.text, self.tree)

    @cached_property
    def written(self) -> exp.Select:
        """The query with each expression as its author's text."""
        from totes.star.written import as_written

        return as_written(self.query, self.text, self.start, self.line, self.names)

    @property
    def query_line(self) -> int | None:
        """The line of the file at which the query begins."""
        from totes.star.written import line_of

        return line_of(self.query)

    def line_at(self, place: int | None) -> int:
        """The line of the file that has a character of the query, given by its position in the query."""
        return self.line + self.text.count("\n", 0, place or 0)


def read_definition(path: Path) -> str:
    """The text of a model file, without a byte order mark.

    Raises:
        ModelError: it is not UTF-8 text.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = 1 + error.object[: error.start].count(b"\n")
        raise ModelError(
            path, line, "it is not UTF-8 text", hint="Save it with the encoding UTF-8"
        ) from error
    if "\0" in text:
        line = 1 + text[: text.index("\0")].count("\n")
        raise ModelError(
            path, line, "it has the character U+0000, which SQL cannot hold", hint="Save it as UTF-8 text"
        )
    return text


def check_columns(model: Model) -> None:
    """Makes sure that the query gives each declared column once, and nothing else.

    Raises:
        ModelError: it does not.
    """
    from totes.star.written import output_name

    given = [output_name(projection) for projection in model.query.expressions]
    declared = [column.name for column in model.produced]
    line = model.query_line
    for name in sorted({name for name in given if given.count(name) > 1 and name}):
        raise ModelError(model.path, line, f"the query gives {name} twice")
    for name in (name for name in given if name and name not in declared):
        raise ModelError(model.path, line, f"the query gives {name}, which is not a declared column")
    for name in (name for name in declared if name not in given):
        raise ModelError(model.path, line, f"the query does not give the declared column {name}")
    check_added(model)
    folded = [column.name.lower() for column in model.columns]
    if len(set(folded)) < len(folded):
        raise ModelError(model.path, line, "two columns have the same name")


def check_added(model: Model) -> None:
    """Makes sure that no declared column has the name of a column that totes adds.

    Raises:
        ModelError: one does.
    """
    added = HISTORY_COLUMNS if model.versioned else [IS_DELETED] * model.soft_deletes
    for name in (column.name for column in model.columns if column.name in added):
        raise ModelError(
            model.path,
            model.query_line,
            f"{name} is a column that totes adds itself",
            hint="Leave it out",
        )
