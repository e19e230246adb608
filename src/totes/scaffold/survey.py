"""Reads a database's catalog: which tables can be captured, what they refer to, and why others are left out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from fnmatch import fnmatchcase
from importlib import resources
from typing import Any

import psycopg
from psycopg.rows import class_row

from totes.config import SourceSettings
from totes.errors import ConfigurationError, SourceError, SourceRefused
from totes.ingestion.catalog import Selection, SourceTable, select_tables
from totes.ingestion.session import begin, connect
from totes.messages import message
from totes.monitoring.diagnosis.tables import TABLES_SQL, Facts
from totes.scaffold.catalog import Catalog, Column, LeftOut, Reference, Table
from totes.scaffold.frameworks import owner_of
from totes.scaffold.meaning import is_secret
from totes.scaffold.sample import sampled
from totes.scaffold.words import listed, singular, snake
from totes.sqlstate import next_step
from totes.star.project import CALENDAR

_FILES = resources.files("totes.scaffold")
RELATIONS_SQL = _FILES.joinpath("relations.sql").read_text(encoding="utf-8")
PARTITIONS_SQL = _FILES.joinpath("partitions.sql").read_text(encoding="utf-8")
REFERENCES_SQL = _FILES.joinpath("references.sql").read_text(encoding="utf-8")
_SCHEMAS_SQL = """
    SELECT namespace.nspname::text
    FROM pg_catalog.pg_namespace AS namespace
    WHERE namespace.nspname NOT LIKE 'pg\\_%' AND namespace.nspname <> 'information_schema'
        AND EXISTS (
            SELECT FROM pg_catalog.pg_class AS relation
            WHERE relation.relnamespace = namespace.oid AND relation.relkind IN ('r', 'p') AND NOT relation.relispartition
        )
    ORDER BY 1
"""
_NO_TABLES = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}
_PATIENCE = timedelta(seconds=30)
_SHOWN = 8


@dataclass(frozen=True)
class _Said:
    """What relations.sql says of a column and its table."""

    table_name: str
    column_name: str
    table_comment: str | None
    column_comment: str | None
    blind: bool
    owner: str
    secured: bool
    kind: str
    parents: list[str]


def survey(url: str, schema: str | None, patterns: tuple[str, ...]) -> Catalog:
    """Reads what models need to know of a schema.

    Args:
        url: the PostgreSQL URL.
        schema: the schema; by default `public`, or the only one that has tables.
        patterns: names of tables, or patterns such as `sales_*`.

    Raises:
        SourceError: the source cannot be reached or read.
        ConfigurationError: there is no such schema or table.
    """
    try:
        with connect(url) as connection:
            begin(connection, _PATIENCE)
            found = _read(connection, url, schema, patterns)
            connection.execute("COMMIT")
    except psycopg.Error as error:
        raise SourceError(
            f"reading the catalog failed: {message(error)}", hint=next_step(error, "the URL")
        ) from error
    return found


def _read(connection: psycopg.Connection, url: str, schema: str | None, patterns: tuple[str, ...]) -> Catalog:
    schema = _schema(connection, schema)
    said = {(one.table_name, one.column_name): one for one in _ask(connection, RELATIONS_SQL, _Said, schema)}
    facts = {one.name: one for one in _ask(connection, TABLES_SQL, Facts, schema)}
    kinds = {one.table_name: one for one in said.values()}
    chosen = _chosen(list(kinds), patterns, schema)
    left_out = {
        name: reason
        for name in chosen
        if (
            reason := _why_omitted(
                kinds[name], [parent for parent in kinds[name].parents if parent in chosen]
            )
        )
    }
    partitioned: dict[str, list[str]] = dict(
        connection.execute(PARTITIONS_SQL, {"schema": schema}).fetchall()
    )
    known = {
        name: facts[name].unique_columns or partitioned.get(name) for name in chosen if not facts[name].keyed
    }
    keys = {name: tuple(columns) for name, columns in known.items() if columns and name not in left_out}
    selection = _selection(connection, url, schema, chosen, left_out, keys)
    for name, refusal in selection.left_out.items():
        left_out.setdefault(name, _refused(facts[name], refusal, schema))
    references = _references(connection, schema)
    tables: dict[str, Table] = {}
    for captured in selection.tables:
        table = _table(captured, said, references.get(captured.name, ()), key_chosen=captured.name in keys)
        if captured.name in left_out:
            continue
        if reason := _unreadable(table):
            left_out[table.name] = reason
        else:
            tables[table.name] = sampled(connection, schema, table)
    complete = {
        name: replace(one, references=(*one.references, *_by_name(one, tables)))
        for name, one in tables.items()
    }
    owners = tuple(sorted({one.owner for one in said.values()}))
    secured = any(kinds[name].secured for name in chosen)
    return Catalog(connection.info.dbname, schema, complete, left_out, owners, secured)


def _chosen(names: list[str], patterns: tuple[str, ...], schema: str) -> list[str]:
    """The tables that patterns name; all where there are none."""
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ConfigurationError(
                f"no table of schema {schema} is called {pattern}",
                hint=f"Its tables are {listed(sorted(names), _SHOWN)}",
            )
    return [name for name in names if not patterns or any(fnmatchcase(name, one) for one in patterns)]


def _selection(
    connection: psycopg.Connection,
    url: str,
    schema: str,
    chosen: list[str],
    left_out: dict[str, LeftOut],
    keys: dict[str, tuple[str, ...]],
) -> Selection:
    """What a batch would capture of the chosen tables."""
    source = SourceSettings.model_validate(
        {"url": url, "schema": schema, "tables": chosen, "exclude": list(left_out), "keys": keys}
    )
    try:
        return select_tables(connection, source, frozenset())
    except SourceRefused as error:
        raise SourceRefused(
            f"no table of schema {schema} can be captured: {error.what}", hint=error.hint
        ) from error


def _references(connection: psycopg.Connection, schema: str) -> dict[str, list[Reference]]:
    """The foreign keys of each table."""
    found: dict[str, list[Reference]] = {}
    for name, columns, target, target_columns, enforced in connection.execute(
        REFERENCES_SQL, {"schema": schema}
    ):
        found.setdefault(name, []).append(Reference(tuple(columns), target, tuple(target_columns), enforced))
    return found


def _table(
    captured: SourceTable,
    said: dict[tuple[str, str], _Said],
    references: Iterable[Reference],
    *,
    key_chosen: bool,
) -> Table:
    spoken = [said[captured.name, column.name] for column in captured.columns]
    columns = tuple(
        Column(column.entry, one.column_comment or "", one.blind)
        for column, one in zip(captured.columns, spoken, strict=True)
    )
    order = {column.name: place for place, column in enumerate(columns)}
    in_order = sorted(references, key=lambda reference: [order[name] for name in reference.columns])
    comment = spoken[0].table_comment or ""
    return Table(captured.name, columns, captured.key, tuple(in_order), comment, key_chosen)


def _ask(connection: psycopg.Connection, sql: str, row: type[Any], schema: str) -> list[Any]:
    with connection.cursor(row_factory=class_row(row)) as cursor:
        return cursor.execute(sql.encode(), {"schema": schema}).fetchall()


def _schema(connection: psycopg.Connection, wanted: str | None) -> str:
    """The schema that is meant, if it has tables."""
    known = [str(name) for (name,) in connection.execute(_SCHEMAS_SQL).fetchall()]
    if wanted in known:
        return str(wanted)
    if wanted is None and "public" in known:
        return "public"
    if wanted is None and len(known) == 1:
        return known[0]
    if not known:
        raise ConfigurationError("the database has no tables", hint="Check the database's name in the URL")
    missing = f"schema {wanted} has no tables" if wanted else "schema public has no tables"
    raise ConfigurationError(missing, hint=f"Name one with --schema: {listed(known, _SHOWN)}")


def _why_omitted(table: _Said, parents: list[str]) -> LeftOut | None:
    """Why a table is not looked at any further."""
    if kind := _NO_TABLES.get(table.kind):
        return LeftOut(f"{kind}, which has no key of its own")
    if owner := owner_of(table.table_name):
        return LeftOut(f"internal to {owner}", excluded=True)
    if parents:
        return LeftOut(f"its rows are rows of {listed(parents)}", excluded=True)
    return None


def _refused(facts: Facts, error: SourceRefused, schema: str) -> LeftOut:
    if not facts.readable:
        return LeftOut("the role may not read it")
    if facts.filtered:
        return LeftOut("row-level security hides rows from the role")
    if not facts.keyed and not facts.unique_columns:
        return LeftOut("no primary key, nor a unique index without NULLs", excluded=True)
    return LeftOut(error.what.removeprefix(f"{schema}.{facts.name} "), excluded=True)


def _unreadable(table: Table) -> LeftOut | None:
    """Why no model can read a table that can be captured."""
    if table.name.lower() == CALENDAR:
        return LeftOut("models that say calendar mean totes' own")
    names = [column.name.lower() for column in table.columns]
    double = next((name for name in names if names.count(name) > 1), None)
    if double:
        return LeftOut(f"has columns that differ in case only ({double})")
    if any(is_secret(table, table.column(name)) for name in table.key):
        return LeftOut("its key is a secret", excluded=True)
    return None


def _by_name(table: Table, tables: dict[str, Table]) -> list[Reference]:
    """What a table refers to by its columns' names alone, as many applications leave it."""
    found = []
    known = {singular(snake(name)): one for name, one in tables.items()}
    names = {snake(column.name) for column in table.columns}
    for column in table.columns:
        name = snake(column.name)
        stem = name.removesuffix("_id")
        target = known.get(stem)
        if (
            stem == name
            or target is None
            or f"{stem}_type" in names
            or any(column.name in reference.columns for reference in table.references)
            or (target.name == table.name and column.name in table.key)
            or len(target.key) != 1
            or snake(target.key[0]) not in ("id", name)
            or target.column(target.key[0]).type not in ("smallint", "integer", "bigint", "uuid")
        ):
            continue
        pair = {column.type, target.column(target.key[0]).type}
        if len(pair) == 1 or "uuid" not in pair:
            found.append(Reference((column.name,), target.name, target.key, enforced=False, by_name=True))
    return found
