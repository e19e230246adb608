"""Checks the source's tables: which ones a batch would capture, which ones it could not, and the statements that fix that."""

from __future__ import annotations

import difflib
import fnmatch
from dataclasses import dataclass, field
from importlib import resources

from psycopg.rows import class_row

from totes import engine
from totes.config import SourceSettings
from totes.display import count
from totes.errors import SourceRefused
from totes.ingestion.catalog import RESERVED, SourceTable, select_tables
from totes.monitoring.diagnosis.check import Area, some
from totes.monitoring.diagnosis.server import Server

TABLES_SQL = resources.files("totes.monitoring.diagnosis").joinpath("tables.sql").read_text(encoding="utf-8")
LARGE_BYTES = 10 << 30
_ROW_KEY = "row_id"


@dataclass(frozen=True)
class Facts:
    """A table in the catalog; see tables.sql.

    `unique_columns` are those of a unique index without NULLs, `blind` those with a collation for which different characters
    can be equal.
    """

    name: str
    kind: str
    readable: bool
    filtered: bool
    populated: bool
    unlogged: bool
    owned: bool
    keyed: bool
    names: list[str]
    times: list[str]
    numbered: list[str]
    blind: list[str]
    unique_columns: list[str]
    children: list[str]
    foreign_partitions: list[str]
    bytes: int


@dataclass(frozen=True)
class Tables:
    """The source's tables, by name: those that can be captured, and those that should be but cannot, with the reason."""

    facts: dict[str, Facts]
    captured: dict[str, SourceTable] = field(default_factory=dict)
    left_out: dict[str, SourceRefused] = field(default_factory=dict)


def check_tables(area: Area, server: Server, source: SourceSettings, needed: frozenset[str]) -> Tables:
    """Checks every table that would be captured, and every one that should be but cannot."""
    with server.connection.cursor(row_factory=class_row(Facts)) as cursor:
        facts = {
            table.name: table for table in cursor.execute(TABLES_SQL.encode(), {"schema": source.schema_})
        }
    if not _check_schema(area, server, source):
        return Tables(facts)
    try:
        selection = select_tables(server.connection, source, needed)
        captured, left_out = {table.name: table for table in selection.tables}, selection.left_out
        demanded = selection.demanded
    except SourceRefused as error:  # not one table can be captured
        for each in facts.values():
            _name_obstacles(area, server, source, each, demanded=True)
        area.fail("tables", error.what, error.hint or "Check source.schema and source.tables")
        return Tables(facts, {}, dict.fromkeys(facts, error))
    for name, refusal in left_out.items():
        table, before = facts.get(name), len(area.checks)
        if table:
            _name_obstacles(area, server, source, table, demanded=name in demanded)
        if len(area.checks) == before:
            note = area.fail if name in demanded else area.warn
            note("tables", refusal.what, _elsewhere(server, name) or refusal.hint or "Correct source.schema")
    for name in captured:
        _check_captured(area, server, source, facts[name])
    _check_choice(area, source, facts, captured)
    listed = f"{count(len(captured), 'table')} of {source.schema_} can be captured"
    area.ok("tables", listed + (f": {some(sorted(captured), 5)}" if captured else ""))
    return Tables(facts, captured, left_out)


def _check_schema(area: Area, server: Server, source: SourceSettings) -> bool:
    rows = server.connection.execute(
        "SELECT nspname::text, has_schema_privilege(oid, 'USAGE') FROM pg_catalog.pg_namespace"
    ).fetchall()
    usable = {str(name): bool(allowed) for name, allowed in rows}
    schema = source.schema_
    if schema not in usable:
        near = difflib.get_close_matches(schema, [name for name in usable if not name.startswith("pg_")], n=1)
        area.fail(
            "schema",
            f"the database {server.database} has no schema {schema}",
            f'Did you mean source.schema = "{near[0]}"?' if near else "Correct source.schema",
        )
    elif not usable[schema]:
        area.fail(
            "schema",
            f"{server.role} may not use the schema {schema}",
            "As the schema's owner:",
            f"GRANT USAGE ON SCHEMA {engine.name(schema)} TO {server.quoted_role}",
        )
    else:
        area.ok("schema", f"{schema} exists, and {server.role} may use it")
    return schema in usable


def _name_obstacles(
    area: Area, server: Server, source: SourceSettings, table: Facts, *, demanded: bool
) -> None:
    """Reports everything that prevents a table from being captured; as errors if a model or a setting demands it."""
    note = area.fail if demanded else area.warn
    way_out = "" if demanded else ", or leave it out for good with source.exclude"
    quoted = engine.name(source.schema_, table.name)
    full = f"{source.schema_}.{table.name}"
    if not table.readable:
        note(
            "grants",
            f"{server.role} may not read {full}",
            f"As its owner{way_out}:",
            f"GRANT SELECT ON {quoted} TO {server.quoted_role}",
        )
    if table.filtered:
        note(
            "row security",
            f"{full} hides rows from {server.role}, and hidden rows would look deleted",
            f"As a superuser{way_out}:",
            f"ALTER ROLE {server.quoted_role} BYPASSRLS",
        )
    if not table.keyed and table.name not in source.keys:
        fix, *sql = _fix_key(table, quoted, way_out)
        note("keys", f"{full} has no primary key, so its rows cannot be followed over time", fix, *sql)
    for column in (column for column in table.names if column.lower() in RESERVED):
        other = _unused(column.strip("_"), table.names)
        note(
            "column names",
            f"{full} has a column {column}, a name that the lake uses itself",
            f"As its owner, if its applications can be adapted; otherwise capture a view that renames it{way_out}:",
            f"ALTER TABLE {quoted} RENAME COLUMN {engine.name(column)} TO {engine.name(other)}",
        )


def _fix_key(table: Facts, quoted: str, way_out: str) -> tuple[str, ...]:
    setting = f'[source.keys] "{table.name}" = ["…"]'
    if table.kind not in ("r", "p"):
        return (f"Name the columns that identify a row{way_out}: {setting}",)
    columns = (
        table.unique_columns
        or table.numbered[:1]
        or [column for column in table.names if column.lower() in ("id", f"{table.name}_id".lower())][:1]
    )
    if columns:
        setting = setting.replace('"…"', ", ".join(f'"{column}"' for column in columns))
        return (
            f"Write {setting}{way_out}, or better, as its owner:",
            f"ALTER TABLE {quoted} ADD PRIMARY KEY ({engine.names(columns)})",
        )
    if table.kind == "p":
        return (f"Name the columns that identify a row{way_out}: {setting}",)
    return (
        f"If some columns identify a row, name them: {setting}{way_out}. Otherwise, as its owner (the table is rewritten):",
        f"ALTER TABLE {quoted} ADD COLUMN {engine.name(_unused(_ROW_KEY, table.names))}"
        " bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    )


def _check_captured(area: Area, server: Server, source: SourceSettings, table: Facts) -> None:
    full, quoted = f"{source.schema_}.{table.name}", engine.name(source.schema_, table.name)
    chosen = list(source.keys.get(table.name, ()))
    if chosen and table.kind in ("r", "p") and set(table.unique_columns) != set(chosen):
        area.warn(
            "keys",
            f"nothing at the source ensures that {', '.join(chosen)} identify a row of {full}: if two rows have the same "
            "key, the table is left out",
            "As its owner:",
            *(f"ALTER TABLE {quoted} ALTER COLUMN {engine.name(column)} SET NOT NULL" for column in chosen),
            f"CREATE UNIQUE INDEX ON {quoted} ({engine.names(chosen)})",
        )
    if table.children:
        area.warn(
            "inheritance",
            f"{full} is captured with the rows of the tables that inherit from it ({some(table.children)}): its key is not "
            "enforced over all of them, and where two rows have the same one, the table is left out",
            "Nothing, as long as the key is of one row in all of these tables",
        )
    if table.foreign_partitions:
        area.warn(
            "foreign partitions",
            f"partitions of {full} are on another server ({some(table.foreign_partitions)}): their rows have no "
            "transaction ids of this one, so every batch reads the table in full and compares its content",
            "Nothing, as long as it is small; otherwise capture that server's table with a pipeline of its own",
        )
    if not table.populated:
        area.fail(
            "materialized views",
            f"{full} is not populated yet",
            "As its owner:",
            f"REFRESH MATERIALIZED VIEW {quoted}",
        )
    if table.bytes >= LARGE_BYTES:
        area.warn(
            "size",
            f"{full} has {table.bytes / (1 << 30):,.0f} GiB, and for each batch the server reads all of it to find what is new",
            "Set schedule.every to several times the duration of a scan; docs/concepts/capture.md explains why",
        )


def _check_choice(
    area: Area, source: SourceSettings, facts: dict[str, Facts], captured: dict[str, SourceTable]
) -> None:
    for setting, patterns in (("tables", source.tables), ("exclude", source.exclude)):
        for pattern in patterns:
            if (
                pattern != "*"
                and ("*" in pattern or setting == "exclude")
                and not fnmatch.filter(facts, pattern)
            ):
                area.warn(
                    "choice",
                    f"source.{setting} has {pattern}, which matches no table of {source.schema_}",
                    "Correct it",
                )
    undated = sorted(name for name, table in captured.items() if table.changed_at is None)
    if captured and len(undated) == len(captured):
        area.warn(
            "changed at",
            f"no table has a timestamp column {source.changed_at}: a version begins when a batch read it, not when "
            "it was written",
            "Set source.changed_at to the column with the time of a row's last change, if there is one",
        )
    elif captured:
        others = f"; without it, at the batch's read time: {some(undated)}" if undated else ""
        area.ok("changed at", f"versions begin at {source.changed_at}{others}")


def _elsewhere(server: Server, table: str) -> str | None:
    """A hint with the schemas that have a table of that name, if there are any."""
    rows = server.connection.execute(
        "SELECT relnamespace::regnamespace::text FROM pg_catalog.pg_class"
        " WHERE relname = %s AND relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY 1",
        (table,),
    ).fetchall()
    return f"There is one in {some([schema for (schema,) in rows])}: see source.schema" if rows else None


def _unused(wanted: str, names: list[str]) -> str:
    existing = {name.lower() for name in names}
    return next(
        name
        for name in (wanted, *(f"{wanted}_{n}" for n in range(2, len(names) + 3)))
        if name.lower() not in existing
    )
