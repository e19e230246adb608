"""Checks the warehouse: that this role can load it, that it is empty or of this lake, and that no other table is in the way."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from totes import engine
from totes.display import count
from totes.errors import TotesError
from totes.monitoring.diagnosis.check import Area, some
from totes.monitoring.diagnosis.settings import existing, known_url
from totes.pipeline import Pipeline
from totes.star.declaration import LEDGER
from totes.star.model import Model
from totes.star.project import Project
from totes.warehouse.adapter import Warehouse
from totes.warehouse.connection import dialect_of, duckdb_file, schema_of
from totes.warehouse.ddl import OWN_SCHEMAS, column_type
from totes.warehouse.inspection import Inspection
from totes.warehouse.stage import check_same_lake
from totes.warehouse.table import Dialect

VERSION_MIN = 13  # trim_scale() came with it
_NAME_BYTES_MAX = 63
_RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")


@dataclass(frozen=True)
class _Place:
    """The schema of the warehouse in which the star's tables are, or are to be."""

    area: Area
    warehouse: Warehouse
    schema: str
    project: Project | None

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self.warehouse.query(sql)[1]

    def quoted(self, table: str) -> str:
        return engine.name(self.schema, table)


def check_warehouse(
    area: Area, pipeline: Pipeline, project: Project | None, source: tuple[str, str] | None
) -> None:
    """Checks the warehouse; changes nothing there, and creates no file.

    Args:
        area: collects the checks.
        pipeline: the pipeline.
        project: the project, if it could be loaded.
        source: the source's cluster and database, if these are known.
    """
    settings = pipeline.settings
    url = known_url(settings.warehouse_url)
    if url is None:
        area.skip("connection", "warehouse.url is not known")
        return
    try:
        dialect = dialect_of(url)
    except TotesError as error:
        area.fail("connection", error.what, error.hint or "Correct warehouse.url")
        return
    schema = schema_of(url, settings.warehouse.schema_)
    if dialect == "duckdb" and not _check_file(area, pipeline, url, schema):
        return
    try:
        with pipeline.warehouse(read_only=True) as warehouse:
            place = _Place(area, warehouse, schema, project)
            if dialect == "postgresql":
                with area.checking("connection", "asking the warehouse"):
                    _check_postgresql(place, settings.source.schema_, source)
            else:
                warehouse.query("SELECT 1")
                area.ok("connection", f"{duckdb_file(url, settings.base)} can be opened")
            with area.checking("tables", "looking at the warehouse's tables"):
                _check_tables(place, pipeline, dialect)
            with area.checking("ledger", "reading the ledger"):
                _check_ledger(place, pipeline)
    except TotesError as error:
        fix, *sql = _fix_connection(url, error)
        area.fail("connection", error.what, fix, *sql)


def _fix_connection(url: str, error: TotesError) -> tuple[str, ...]:
    if "CONNECT privilege" in error.what:
        try:
            parts = conninfo_to_dict(url)
        except psycopg.Error:
            parts = {}
        role, database = (engine.name(str(parts.get(part))) for part in ("user", "dbname"))
        return "As the database's owner:", f"GRANT CONNECT ON DATABASE {database} TO {role}"
    return (error.hint or "Check warehouse.url",)


def _check_file(area: Area, pipeline: Pipeline, url: str, schema: str) -> bool:
    """Checks a DuckDB file without opening it; returns whether it exists and can be opened."""
    file = duckdb_file(url, pipeline.settings.base)
    if schema != OWN_SCHEMAS["duckdb"] and file.stem.lower() == schema.lower():
        area.fail(
            "schema",
            f"the schema {schema} has the name of the file {file.name}, and DuckDB could not distinguish them",
            "Give warehouse.schema or the file another name",
        )
        return False
    if file.exists():
        return True
    folder = existing(file.parent)
    if os.access(folder, os.W_OK):
        area.ok("connection", f"{file} is not there yet; the first load creates it")
    else:
        area.fail(
            "connection",
            f"{file} is not there, and this account may not write in {folder}",
            "Correct warehouse.url",
        )
    return False


def _check_postgresql(place: _Place, source_schema: str, source: tuple[str, str] | None) -> None:
    area = place.area
    [row] = place.rows(
        "SELECT current_setting('server_version'), current_setting('server_version_num')::int8, current_user::text,"
        " current_database()::text, pg_is_in_recovery(), current_setting('transaction_read_only'),"
        " current_setting('server_encoding'), has_database_privilege(current_database(), 'TEMPORARY'),"
        " CASE WHEN has_function_privilege('pg_control_system()', 'EXECUTE') THEN"
        " (SELECT system_identifier::text FROM pg_control_system()) END"
    )
    version, number, role, database, standby, read_only, encoding, temporary, identifier = row
    quoted_role, quoted_database = engine.name(role), engine.name(database)
    area.ok("connection", f"PostgreSQL {version}, database {database}, as {role}")
    if number // 10000 < VERSION_MIN:
        area.fail(
            "version",
            f"PostgreSQL {number // 10000} is too old",
            f"Upgrade the server to {VERSION_MIN} or newer",
        )
    if standby:
        area.fail(
            "read only",
            "the server is a standby, and accepts no writes",
            "Point warehouse.url at its primary",
        )
    elif read_only == "on":
        area.fail(
            "read only", f"sessions of {role} are read only", "As a superuser:",
            f"ALTER ROLE {quoted_role} IN DATABASE {quoted_database} SET default_transaction_read_only = off",
        )  # fmt: skip
    if encoding != "UTF8":
        area.warn(
            "encoding",
            f"the database's encoding is {encoding}: text with characters that it does not support ends the load of its batch",
            "Load into a database with ENCODING 'UTF8'",
        )
    if not temporary:
        area.fail(
            "grants", f"{role} may not create temporary tables in {database}, which each load needs",
            "As the database's owner:", f"GRANT TEMPORARY ON DATABASE {quoted_database} TO {quoted_role}",
        )  # fmt: skip
    if source and source == (identifier, database) and place.schema == source_schema:
        area.fail(
            "schema",
            f"warehouse and source are the same schema {place.schema} of the same database: the star's tables would be "
            "among the source's, and be captured",
            'Set warehouse.schema to another one, such as "star"',
        )
    with area.checking("grants", "asking for the role's rights"):
        _check_rights(place, role, database)


def _check_rights(place: _Place, role: str, database: str) -> None:
    area, schema, quoted_role = place.area, place.schema, engine.name(role)
    literal = engine.text(schema)
    names = [LEDGER, *(model.name for model in (place.project.models if place.project else ()))]
    there = {name for (name,) in place.rows(
        "SELECT relname::text FROM pg_class WHERE relkind IN ('r', 'p')"
        f" AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = {literal})"
    )}  # fmt: skip
    missing = [name for name in names if name not in there]
    known = place.rows(
        "SELECT has_schema_privilege(oid, 'USAGE'), has_schema_privilege(oid, 'CREATE')"
        f" FROM pg_namespace WHERE nspname = {literal}"
    )
    if not known:
        [[allowed]] = place.rows("SELECT has_database_privilege(current_database(), 'CREATE')")
        if allowed:
            area.ok("grants", f"the schema {schema} is not there yet, and {role} may create it")
        else:
            area.fail(
                "grants", f"there is no schema {schema}, and {role} may not create it", "As the database's owner:",
                f"GRANT CREATE ON DATABASE {engine.name(database)} TO {quoted_role}",
            )  # fmt: skip
        return
    [(usage, create)] = known
    lacking = [right for right, held in (("USAGE", usage), ("CREATE", create or not missing)) if not held]
    if lacking:
        what = f"and {some(missing)} are still to be created" if missing else "and its tables are there"
        area.fail(
            "grants",
            f"{role} may not {' or '.join(lacking)} in the schema {schema}, {what}",
            "As the schema's owner; or have its owner run the output of totes warehouse sql:",
            f"GRANT {', '.join(lacking)} ON SCHEMA {engine.name(schema)} TO {quoted_role}",
        )
    asked = ", ".join(f"has_table_privilege(pg_class.oid, '{right}')" for right in _RIGHTS)
    rows = place.rows(
        f"SELECT relname::text, {asked} FROM pg_class WHERE relkind IN ('r', 'p')"
        f" AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = {literal}) ORDER BY 1"
    )
    unfit = [name for name, *held in rows if (name in names or name.startswith("totes_")) and not all(held)]
    if unfit:
        area.fail(
            "grants",
            f"{role} may not read and write {some(unfit)}",
            "As their owner:",
            f"GRANT {', '.join(_RIGHTS)} ON {', '.join(map(place.quoted, unfit))} TO {quoted_role}",
        )
    if not area.failed("grants"):
        area.ok("grants", f"{role} may do in the schema {schema} what a load needs")


def _check_tables(place: _Place, pipeline: Pipeline, dialect: Dialect) -> None:
    """Finds relations with the star's names that totes did not create, and missing views and columns of those that it did."""
    if place.project is None:
        place.area.skip("tables", "the project cannot be loaded")
        return
    area, present = place.area, _present(place, dialect)
    made = Inspection.of(place.rows, place.schema, dialect).listed | _loaded(place, pipeline)
    found = 0
    for model in place.project.models:
        current = f"{model.name}_current"
        if dialect == "postgresql":
            _check_name_lengths(area, model)
        if model.name in made and present.get(model.name, ("",))[0] == "table":
            found += 1
            _check_columns(place, dialect, model, present[model.name][1])
            if current not in present:
                area.warn("views", f"{current} is missing", "Run totes load: it creates the view again")
            continue
        in_the_way = [name for name in (model.name, current) if name in present]
        if not in_the_way:
            continue
        sql = [
            f"ALTER {present[name][0].upper()} {place.quoted(name)} RENAME TO {engine.name(f'{name}_of_others')}"
            for name in in_the_way
        ]
        area.fail(
            "tables",
            f"{', '.join(in_the_way)} exists, and was not created by a load",
            "Set warehouse.schema to a schema of its own, or as its owner:",
            *sql,
        )
    if not area.failed("tables"):
        area.ok(
            "tables",
            f"{found} of {count(len(place.project.models), 'table')} are there; a load creates the missing ones",
        )


def _loaded(place: _Place, pipeline: Pipeline) -> frozenset[str]:
    """The tables that batches were loaded into, if the warehouse is of this lake."""
    with suppress(TotesError):  # another lake's, or not readable: the check of the ledger reports it
        newest = place.warehouse.newest()
        journal = pipeline.processed_journal
        check_same_lake(journal, journal.last(), newest)
        return frozenset(journal.read(newest.batch).models) if newest else frozenset()
    return frozenset()


def _check_columns(place: _Place, dialect: Dialect, model: Model, actual: dict[str, str]) -> None:
    expected = {column.name: column_type(column, dialect) for column in model.columns}
    types = list(dict.fromkeys(expected.values()))
    spelt = "to_regtype({text})::text" if dialect == "postgresql" else "typeof(CAST(NULL AS {kind}))"
    asked = ", ".join(spelt.format(text=engine.text(kind), kind=kind) for kind in types)
    known = dict(zip(types, place.rows(f"SELECT {asked}")[0], strict=True))
    expected = {name: str(known[kind]) for name, kind in expected.items()}
    wrong = [f"{name} is {actual.get(name, 'missing')}" for name, kind in expected.items()
             if actual.get(name, "").replace(" ", "") != kind.replace(" ", "")]  # fmt: skip
    if wrong:
        place.area.fail(
            "tables",
            f"{model.name} does not have the columns that its model declares: {some(wrong)}",
            "If the model was changed, run totes apply. If the table was altered, undo that, "
            f"or rebuild it from the lake: totes replay --table {model.name}",
        )


def _present(place: _Place, dialect: Dialect) -> dict[str, tuple[str, dict[str, str]]]:
    """The schema's relations by name: `table`, `view` or another kind, with the columns and their types."""
    literal = engine.text(place.schema)
    if dialect == "duckdb":
        kinds = place.rows(
            f"SELECT table_name, 'table' FROM duckdb_tables() WHERE schema_name = {literal} AND NOT temporary"
            f" UNION ALL SELECT view_name, 'view' FROM duckdb_views() WHERE schema_name = {literal} AND NOT temporary"
        )
        columns = place.rows(
            f"SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE schema_name = {literal}"
        )
    else:
        of = f"relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = {literal})"
        kinds = place.rows(
            "SELECT relname::text, CASE relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'table' WHEN 'v' THEN 'view'"
            " WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence' WHEN 'f' THEN 'foreign table'"
            f" WHEN 'c' THEN 'type' ELSE 'index' END FROM pg_class WHERE {of}"
        )
        columns = place.rows(
            "SELECT relname::text, attname::text, atttypid::regtype::text FROM pg_attribute"
            f" JOIN pg_class ON pg_class.oid = attrelid WHERE {of} AND attnum > 0 AND NOT attisdropped"
        )
    types: dict[str, dict[str, str]] = {}
    for table, column, kind in columns:
        types.setdefault(table, {})[column] = kind
    return {name: (kind, types.get(name, {})) for name, kind in kinds}


def _check_name_lengths(area: Area, model: Model) -> None:
    names = [
        f"{model.name}_current",
        *(column.name for column in model.columns),
    ]
    for name in names:
        if len(name.encode()) > _NAME_BYTES_MAX:
            area.fail(
                "names",
                f"PostgreSQL would cut the name {name} to {_NAME_BYTES_MAX} bytes",
                f"Give it a shorter one in models/{model.path.name}",
            )


def _check_ledger(place: _Place, pipeline: Pipeline) -> None:
    newest = place.warehouse.newest()
    if newest is None:
        place.area.ok("ledger", "nothing is loaded yet")
        return
    journal = pipeline.processed_journal
    last = journal.last()
    check_same_lake(journal, last, newest)
    place.area.ok(
        "ledger",
        f"batches 1 to {newest.batch} of this lake are loaded, and {last - newest.batch} are to come",
    )
