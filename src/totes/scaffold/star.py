"""Which star follows from a catalog: a model for each table, named, with its references and lookups. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from totes.scaffold.catalog import Catalog, Reference, Table
from totes.scaffold.declared import declared
from totes.scaffold.kind import Judgement, Kind, judge, outgoing
from totes.scaffold.meaning import (
    base_type,
    is_bookkeeping,
    is_generated_text,
    is_of_people,
    is_secret,
    name_columns,
)
from totes.scaffold.naming import model_names, role, things

_LOOKUP_COLUMNS_MAX = 8
_TEXTS = {"text", "character varying", "name"}
_NUMBERS = {"smallint", "integer", "bigint", "numeric"}
_EXACT = {
    "boolean", "bpchar", "bytea", "character", "cidr", "date", "inet", "macaddr", "time without time zone",
    "timestamp with time zone", "timestamp without time zone", "uuid",
}  # fmt: skip
_LARGE = {"bytea", "json", "jsonb", "xml"}


@dataclass(frozen=True)
class Plan:
    """What each table becomes.

    `things` are what a row of each table is called, `names` the models of all tables that have one, `folded` the lookups, whose
    columns are in other models instead, with those that refer to them. `circular` are references between dimensions that would
    make a circle of REFERENCES, as table and columns.
    """

    tables: dict[str, Table]
    kinds: dict[str, Judgement]
    things: dict[str, str]
    names: dict[str, str]
    folded: dict[str, list[str]] = field(default_factory=dict)
    circular: frozenset[tuple[str, tuple[str, ...]]] = frozenset()

    def kind(self, table: str) -> Kind:
        """What a table becomes."""
        return self.kinds[table].kind

    def refers(self, table: Table) -> list[Reference]:
        """The references of a table to tables of the plan, itself included."""
        return [reference for reference in table.references if reference.table in self.tables]

    def role(self, reference: Reference) -> str:
        """What a row is to the one that refers to it."""
        return role(reference, self.things[reference.table])

    def reference_of(self, table: Table, column: str) -> Reference | None:
        """The reference that a column is part of; of several, the one of fewest columns."""
        found = [reference for reference in self.refers(table) if column in reference.columns]
        return min(
            found, key=lambda reference: (len(reference.columns), not reference.enforced), default=None
        )

    def joins(self, table: Table, reference: Reference) -> bool:
        """Whether DuckDB finds the row that PostgreSQL means: in that very table, by values that both compare alike."""
        target = self.tables[reference.table]
        if any(name != target.name and name.lower() == target.name.lower() for name in self.tables):
            return False
        pairs = zip(reference.columns, reference.target, strict=True)
        return all(_alike(table, one, target, other) for one, other in pairs)

    def declares(self, table: Table, reference: Reference) -> bool:
        """Whether a model may say REFERENCES for it: to a dimension's key of one column, which PostgreSQL enforces."""
        return (
            reference.table in self.names
            and self.kind(reference.table) is Kind.DIMENSION
            and len(self.tables[reference.table].key) == 1
            and reference.enforced
            and self.joins(table, reference)
            and (table.name, reference.columns) not in self.circular
        )


def plan(catalog: Catalog) -> Plan:
    """What star follows from a catalog."""
    tables = dict(sorted(catalog.tables.items()))
    kinds = judge(tables)
    folded = _lookups(tables, kinds)
    called = things(tables, catalog.left_out)
    names = model_names([name for name in tables if name not in folded], called, kinds)
    found = Plan(tables, kinds, called, names, folded)
    return replace(found, circular=_circular(found))


def described(table: Table) -> list[str]:
    """The columns of a table that describe its rows: what others get of it when it is joined to them."""
    refers = {name for reference in table.references for name in reference.columns}
    return [
        column.name
        for column in table.columns
        if column.name not in refers | {*table.key}
        and not (is_bookkeeping(column) or is_secret(table, column) or is_generated_text(column))
        and base_type(column) not in _LARGE
        and not column.type.endswith("[]")
    ]


def _lookups(tables: dict[str, Table], kinds: dict[str, Judgement]) -> dict[str, list[str]]:
    """Dimensions that only other dimensions refer to, and that are narrow enough to be joined to these."""
    empty = Plan(tables, kinds, {}, {})
    referrers: dict[str, list[tuple[Table, Reference]]] = {name: [] for name in tables}
    for table in tables.values():
        for reference in empty.refers(table):
            referrers[reference.table].append((table, reference))
    widths: dict[str, int | None] = {}

    def width(name: str, above: tuple[str, ...]) -> int | None:
        """How many columns a table gives to those that refer to it; None where it cannot be joined to all of them."""
        if name in above:
            return None
        if name not in widths:
            table, by = tables[name], referrers[name]
            fits = bool(by) and kinds[name].kind is Kind.DIMENSION and not is_of_people(table)
            fits = fits and all(kinds[one.name].kind is Kind.DIMENSION for one, _ in by)
            fits = fits and all(_is_joined(empty, one, reference) for one, reference in by)
            inner = [width(one.table, (*above, name)) for one in outgoing(table, tables)] if fits else []
            total = len(described(table)) + sum(one or 0 for one in inner)
            fits = fits and all(one is not None for one in inner)
            fits = fits and not any(one.table == name for one in table.references)
            widths[name] = total if fits and 0 < total <= _LOOKUP_COLUMNS_MAX else None
        return widths[name]

    return {
        name: sorted({table.name for table, _ in referrers[name]})
        for name in tables
        if width(name, ()) is not None
    }


def _is_joined(empty: Plan, table: Table, reference: Reference) -> bool:
    """Whether the model of a table joins what a reference leads to."""
    last = table.column(reference.columns[-1])
    is_shown = last.name in table.key or not (
        is_bookkeeping(last) or is_secret(table, last) or is_generated_text(last)
    )
    return is_shown and empty.joins(table, reference) and empty.reference_of(table, last.name) == reference


def _circular(found: Plan) -> frozenset[tuple[str, tuple[str, ...]]]:
    """References of dimensions that would close a circle. Those that are never NULL come first, and stay."""
    edges = [
        (table, reference)
        for name, table in found.tables.items()
        if name in found.names and found.kind(name) is Kind.DIMENSION
        for reference in found.refers(table)
        if reference.table != name and found.declares(table, reference)
    ]
    edges.sort(key=lambda edge: any(edge[0].column(name).nullable for name in edge[1].columns))
    below: dict[str, set[str]] = {name: set() for name in found.tables}
    closing = set()
    for table, reference in edges:
        if _reaches(below, reference.table, table.name):
            closing.add((table.name, reference.columns))
        else:
            below[table.name].add(reference.table)
    return frozenset(closing)


def _reaches(below: dict[str, set[str]], start: str, end: str) -> bool:
    seen, waiting = set(), [start]
    while waiting:
        name = waiting.pop()
        if name == end:
            return True
        if name not in seen:
            seen.add(name)
            waiting += below[name]
    return False


def _alike(table: Table, name: str, target: Table, other: str) -> bool:
    """Whether DuckDB takes values of two columns for equal where PostgreSQL does."""
    one, two = table.column(name), target.column(other)
    kinds = {base_type(one), base_type(two)}
    as_text = {declared(column, as_key=True).type.startswith("VARCHAR") for column in (one, two)}
    if one.blind or two.blind or len(as_text) > 1:
        return False
    if kinds <= _TEXTS or kinds <= _NUMBERS:
        return True
    return one.type == two.type and (kinds <= _EXACT or bool(one.entry.labels))


def label(table: Table) -> list[str]:
    """The columns that people know a row of a table by, if they describe it."""
    known = described(table)
    return [column.name for column in name_columns(table) if column.name in known]
