"""Catalogs written in a few words, for what is decided without a database."""

from __future__ import annotations

import re

from totes.lake.manifest import SourceColumn
from totes.scaffold.catalog import Catalog, Column, Reference, Table
from totes.scaffold.models import draft_models
from totes.scaffold.star import plan
from totes.scaffold.writing import CALENDAR_TEXT, written

_KINDS = {
    "smallint": "integer",
    "integer": "integer",
    "bigint": "integer",
    "boolean": "boolean",
    "json": "json",
    "jsonb": "json",
}
_SHORT = {
    "int": "integer", "float8": "double precision", "timestamp": "timestamp without time zone",
    "timestamptz": "timestamp with time zone", "varchar": "character varying",
}  # fmt: skip


def column(name: str, kind: str = "integer", *, nullable: bool = True, **further: object) -> Column:
    """A column of that type."""
    base, parameters = re.fullmatch(r"([^(]*)(\(.*\))?", kind).groups()  # type: ignore[union-attr]
    full = _SHORT.get(base, base) + (parameters or "")
    entry = SourceColumn(name=name, number=1, type=full, kind=_KINDS.get(full, "text"), nullable=nullable)  # type: ignore[arg-type]
    return Column(entry, **further)  # type: ignore[arg-type]


def table(name: str, *columns: str, key: str = "", comment: str = "") -> Table:
    """A table of columns such as `customer_id int not null -> customer.id` or `code text key`."""
    found, keys, references = [], key.split(), []
    for written_column in columns:
        said, _, target = written_column.partition(" -> ")
        own, kind, *constraints = said.split(" ", 2)
        is_key = constraints == ["key"]
        keys += [own] * is_key
        found.append(column(own, kind, nullable=not (is_key or constraints == ["not null"] or own in keys)))
        if target:
            other, _, theirs = target.partition(".")
            references.append(Reference((own,), other, (theirs or "id",)))
    return Table(name, tuple(found), tuple(keys), tuple(references), comment)


def catalog(*tables: Table) -> Catalog:
    """A catalog of these tables."""
    return Catalog("shop", "public", {one.name: one for one in tables})


def models(found: Catalog) -> dict[str, str]:
    """The text of each model, the calendar's included."""
    drafts = draft_models(plan(found))
    return {draft.name: written(draft) for draft in drafts} | {"dim_date": CALENDAR_TEXT}
