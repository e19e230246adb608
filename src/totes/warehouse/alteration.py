"""How a table of PostgreSQL becomes what it is declared to be, from what the catalog says that it is. Pure text.

First it is *loosened*, so that it takes the new rows beside the old ones: columns are added, types widened, NOT NULL dropped.
Then rows are written, to where each column is then. At last it is *tightened*: columns get their names and types, others go.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from totes import engine
from totes.lake.manifest import OutputColumn
from totes.star.change import holds
from totes.star.column import Column
from totes.warehouse import ddl
from totes.warehouse.table import Dialect, WarehouseTable

_NAMES = {
    "CHARACTER VARYING": "VARCHAR",
    "TEXT": "VARCHAR",
    "REAL": "FLOAT",
    "DOUBLE PRECISION": "DOUBLE",
    "BYTEA": "BLOB",
    "TIMESTAMP WITHOUT TIME ZONE": "TIMESTAMP",
    "TIMESTAMP WITH TIME ZONE": "TIMESTAMPTZ",
    "TIME WITHOUT TIME ZONE": "TIME",
}
# What the names of columns begin with that are there only between the two steps.
_BETWEEN = "~totes~"


class Present(NamedTuple):
    """A column as the catalog has it: its type as the catalog writes it, and whether it is NOT NULL."""

    kind: str
    not_null: bool


@dataclass(frozen=True)
class Alteration:
    """What is to be done to a table.

    `at` says in which column each declared one is until the table is tightened. `loosened` and `retyped` are parts of ALTER
    TABLE, `tightened` too, after these; `renamed` are pairs of names, in the order in which they are changed. `altered` are
    the present columns whose type changes when the table is loosened, `lost` those that go or change theirs at last, and
    `dropped` those that go.
    """

    at: Mapping[str, str]
    loosened: tuple[str, ...]
    altered: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...]
    retyped: tuple[str, ...]
    tightened: tuple[str, ...]
    lost: tuple[str, ...]
    dropped: tuple[str, ...]
    added: tuple[str, ...]

    @property
    def is_needed(self) -> bool:
        """Whether rows could not be written without it."""
        return bool(self.loosened or self.renamed or self.retyped)


def alteration(
    present: Mapping[str, Present], table: WarehouseTable, renamed: Mapping[str, str]
) -> Alteration:
    """What makes a table what it is declared to be.

    Args:
        present: its columns, in order.
        table: the declaration.
        renamed: the previous names of columns by their present ones.
    """
    found = _Comparison(present, table, renamed)
    for number, column in enumerate(table.model.output, 1):
        found.compare(column, f"{_BETWEEN}{number}")
    return found.result()


class _Comparison:
    """What is found by comparing the columns of a table with its declaration, one after the other."""

    def __init__(
        self, present: Mapping[str, Present], table: WarehouseTable, renamed: Mapping[str, str]
    ) -> None:
        self._present = present
        self._table = table
        self._there = {name: column for name, column in present.items() if not name.startswith(_BETWEEN)}
        self._was = {new: old for new, old in renamed.items() if old in self._there and new in table.columns}
        self._required = ddl.required(table)
        self._at: dict[str, str] = {}
        self._between: dict[str, str] = {}
        self._added: list[str] = []
        self._loosened: list[str] = []
        self._altered: list[str] = []
        self._retyped: list[str] = []
        self._tightened: list[str] = []
        self._lost: list[str] = []

    def compare(self, column: OutputColumn, helper: str) -> None:
        """Finds the column's place, which is `helper` where it cannot have its own before the table is tightened."""
        name, kind = column.name, ddl.column_type(column, "postgresql")
        old = self._was.get(name) or (None if name in self._was.values() else name)
        if old is None or old not in self._there:
            self._added.append(name)
            self._at[name] = helper if name in self._there else name
            if self._at[name] == name:
                self._loosened.append(f"ADD COLUMN {engine.name(name)} {kind}")
        else:
            self._at[name] = self._compare(column, old, helper)
        if self._at[name] == helper:
            self._between[helper] = kind
        is_set = self._at[name] in self._there and self._there[self._at[name]].not_null
        if name in self._required and not is_set:
            self._tightened.append(f"ALTER COLUMN {engine.name(name)} SET NOT NULL")

    def _compare(self, column: OutputColumn, old: str, helper: str) -> str:
        """Compares a column with one that is there; gives where its values are while rows are written."""
        there, kind = self._there[old], ddl.column_type(column, "postgresql")
        fits = is_of_type(there.kind, column) or is_wider(column, there.kind)
        stays = fits and column.name in (*self._required, *self._table.model.primary_key)
        if there.not_null and not stays:
            self._loosened.append(f"ALTER COLUMN {engine.name(old)} DROP NOT NULL")
        if not fits:
            self._retyped.append(_retype(column.name, kind, engine.name(helper)))
            self._lost.append(old)
            return helper
        if not is_of_type(there.kind, column):
            self._altered.append(old)
            self._loosened.append(_retype(old, kind, _exactly(old, column)))
        return old

    def result(self) -> Alteration:
        """What is to be done."""
        table, names = self._table, {old: new for new, old in self._was.items()}
        taken = {self._was.get(name, name) for name in table.columns if name not in self._added}
        dropped = [name for name in self._there if name not in taken]
        free = [
            f"ALTER COLUMN {engine.name(name)} DROP NOT NULL"
            for name in dropped
            if self._there[name].not_null
        ]
        names |= {self._at[name]: name for name in self._added if self._at[name] != name}
        for position, name in enumerate(dropped, 1):
            if name in table.columns:  # its name is another one's
                names[name] = f"{_BETWEEN}gone{position}"
        gone = [names.get(name, name) for name in dropped]
        gone += [helper for helper in self._between if helper not in names]
        return Alteration(
            at=self._at,
            loosened=(*_between(self._present, self._between), *free, *self._loosened),
            altered=tuple(self._altered),
            renamed=tuple(_in_turn(names)),
            retyped=tuple(self._retyped),
            tightened=(*(f"DROP COLUMN {engine.name(name)}" for name in gone), *self._tightened),
            lost=(*self._lost, *dropped),
            dropped=tuple(dropped),
            added=tuple(self._added),
        )


def _between(present: Mapping[str, Present], wanted: Mapping[str, str]) -> list[str]:
    """Adds the columns that are there only between the two steps, and drops what an earlier attempt has left of them."""
    parts = []
    for name, column in present.items():
        if name.startswith(_BETWEEN) and (
            name not in wanted or column_of(wanted[name]) != column_of(column.kind)
        ):
            parts.append(f"DROP COLUMN {engine.name(name)}")
    left = {name for name in present if f"DROP COLUMN {engine.name(name)}" not in parts}
    return parts + [
        f"ADD COLUMN {engine.name(name)} {kind}" for name, kind in wanted.items() if name not in left
    ]


def _in_turn(names: Mapping[str, str]) -> list[tuple[str, str]]:
    """Pairs of names such that none is given while it is still taken."""
    clash = names.keys() & set(names.values())
    first = [(old, f"{_BETWEEN}was{number}") for number, old in enumerate(sorted(clash), 1)]
    now = dict(first)
    return [*first, *((now.get(old, old), new) for old, new in names.items())]


def _retype(name: str, kind: str, value: str) -> str:
    return f"ALTER COLUMN {engine.name(name)} SET DATA TYPE {kind} USING {value}"


def _exactly(name: str, column: OutputColumn) -> str:
    """The value of a column that is widened, without the zeros that its former scale gave it."""
    return f"trim_scale({engine.name(name)}::NUMERIC)" if column.unbounded else engine.name(name)


def is_of_type(kind: str, column: OutputColumn) -> bool:
    """Whether a type of PostgreSQL's catalog is the one of a declared column."""
    return column_of(kind) == column_of(ddl.column_type(column, "postgresql"))


def is_wider(column: OutputColumn, kind: str) -> bool:
    """Whether a declared column holds each value of a type of PostgreSQL's catalog, just as it is."""
    return holds(column_of(ddl.column_type(column, "postgresql")), column_of(kind))


def column_of(kind: str, dialect: Dialect = "postgresql") -> Column:
    """A column of a type as a warehouse's catalog writes it."""
    name, _, parameters = kind.upper().partition("(")
    if ")" in parameters:  # timestamp(3) without time zone
        name += parameters.partition(")")[2]
    name, numbers = _NAMES.get(name, name), re.findall(r"\d+", parameters)
    if name in ("NUMERIC", "DECIMAL"):
        unbounded = dialect == "postgresql" and not numbers
        precision, scale = numbers or (38, 10)
        return Column("", f"DECIMAL({precision}, {scale})", not_null=False, unbounded=unbounded)
    length = int(numbers[0]) if name == "VARCHAR" and numbers else None
    return Column("", name, not_null=False, length_max=length)
