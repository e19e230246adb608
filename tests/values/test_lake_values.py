"""Promise 10 at the lake: every value of every type arrives as PostgreSQL itself writes it."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from tests.conftest import Database
from tests.values.types import MATRIX, set_up, types_of, with_arrays
from totes import engine
from totes.lake.journal import ingestion_journal
from totes.pipeline import Pipeline

# What a session may have that reads text forms, whatever the server's own settings are.
CANONICAL = (
    "-c TimeZone=UTC -c DateStyle=ISO -c IntervalStyle=postgres -c extra_float_digits=1 -c bytea_output=hex"
    " -c search_path= -c quote_all_identifiers=off -c lc_monetary=C"
)
# What a database's owner may have set, and what would bend every text form.
CONTRARY = {
    "TimeZone": "Asia/Kathmandu", "DateStyle": "German, DMY", "IntervalStyle": "sql_standard", "extra_float_digits": "-15",
    "bytea_output": "escape", "search_path": "pg_catalog, public", "standard_conforming_strings": "off",
    "escape_string_warning": "off", "array_nulls": "off",
}  # fmt: skip
KEY_ONLY = {"dim_t": "CREATE TABLE dim_t (id INTEGER PRIMARY KEY) AS SELECT id FROM t"}


def written(database: Database, table: str = "t") -> dict[int, dict[str, str | None]]:
    """Rows by their id as COPY has them, which calls each type's output function."""
    columns = [name for (name,) in database.execute(
        f"SELECT attname FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0 ORDER BY attnum"
    )]  # fmt: skip
    with (
        psycopg.connect(database.url, options=CANONICAL) as session,
        session.cursor().copy(f"COPY public.{table} TO STDOUT".encode()) as copied,
    ):
        rows: list[Any] = [dict(zip(columns, row, strict=True)) for row in copied.rows()]
    return {int(row["id"]): row for row in rows}


class Digits(str):
    """A number of JSON as it is written."""


def members(text: str) -> Any:
    """JSON with the digits of its numbers, and with every member of its objects, in their order."""
    return json.loads(
        text, parse_int=Digits, parse_float=Digits, parse_constant=Digits, object_pairs_hook=list
    )


def captured(pipeline: Pipeline, batch: int, table: str = "t") -> dict[int, dict[str, Any]]:
    """Rows of a batch's packets by their id."""
    return {int(row["id"]): row for row in packets(pipeline, batch, table)}


def packets(pipeline: Pipeline, batch: int, table: str) -> list[dict[str, Any]]:
    """Rows of a batch's packets."""
    objects = ingestion_journal(pipeline.ingestion_store).read(batch).tables[table].objects
    with pipeline.ingestion_store.local(list(objects)) as files:
        read = engine.text_lines(files, "zstd", line_bytes_max=64 << 20)
        lines = (
            engine.connect(None, memory="1GB", reads=pipeline.lake_folders)
            .execute(f"SELECT json FROM {read}")
            .fetchall()
        )
    return [dict(members(line)) for (line,) in lines]


def as_written(value: Any, kind: str) -> Any:
    """What the lake has for a value of PostgreSQL's text form."""
    if value is None:
        return None
    if kind in ("json", "jsonb", "document"):
        return members(value)
    if kind in ("boolean", "flag"):
        return value == "t"
    return Digits(value) if kind in ("smallint", "integer", "bigint", "small") else value


@pytest.fixture(scope="module")
def typed(new_database: Any) -> Database:
    database = new_database()
    set_up(database)
    return database


def set_contrary(database: Database) -> None:
    """Gives all sessions to come settings of which nothing may depend."""
    database.execute(*(f"ALTER DATABASE {database.name} SET {name} = {value if name == 'search_path' else engine.text(value)}"
                       for name, value in CONTRARY.items()))  # fmt: skip


def fill(database: Database, matrix: dict[str, list[str]]) -> None:
    """A table with a column a type, and as many rows as the longest list of values has."""
    columns = ", ".join(f"c{number} {kind}" for number, kind in enumerate(matrix))
    database.execute(f"CREATE TABLE t (id int PRIMARY KEY, {columns})")
    with psycopg.connect(database.url) as session:
        for row in range(max(map(len, matrix.values())) + 1):
            given = {
                f"c{n}": f"({values[row]})" for n, values in enumerate(matrix.values()) if row < len(values)
            }
            names, values = ", ".join(["id", *given]), ", ".join([str(row), *given.values()])
            session.execute(f"INSERT INTO t ({names}) VALUES ({values})".encode())


def test_the_matrix_has_every_type_that_the_server_has(typed: Database) -> None:
    rows = ", ".join(engine.text(kind) for kind in MATRIX)
    covered = {name for (name,) in typed.execute(
        f"SELECT format_type(kind::regtype, NULL) FROM unnest(ARRAY[{rows}]) AS kind"
    )}  # fmt: skip
    assert types_of(typed) - covered == set()


def test_every_value_of_every_type_reads_in_the_lake_as_postgresql_writes_it(
    typed: Database, make_pipeline: Any, write_project: Any
) -> None:
    matrix = with_arrays(typed)
    fill(typed, matrix)
    set_contrary(typed)
    typed.execute(f"ALTER DATABASE {typed.name} SET quote_all_identifiers = on")
    pipeline = make_pipeline(typed.url, project=write_project(KEY_ONLY), source={"tables": ["t"]})
    pipeline.ingest()
    check(written(typed), captured(pipeline, 1), matrix)
    # Every column changes in every row, by the path that later batches take.
    moved = ", ".join(f"c{n} = other.c{n}" for n in range(len(matrix)))
    typed.execute(
        f"UPDATE t SET {moved} FROM (SELECT *, lag(id) OVER (ORDER BY id) AS before FROM t) AS other WHERE other.before = t.id"
    )
    expected = written(typed)
    expected.pop(max(expected))
    pipeline.ingest()
    check(expected, captured(pipeline, 2), matrix)


def check(
    expected: dict[int, dict[str, str | None]], found: dict[int, dict[str, Any]], matrix: dict[str, list[str]]
) -> None:
    assert found.keys() == expected.keys()
    compared = 0
    for row, values in expected.items():
        for number, kind in enumerate(matrix):
            name = f"c{number}"
            assert (kind, row, found[row][name]) == (kind, row, as_written(values[name], kind))
            compared += values[name] is not None
    assert compared > len(matrix)


def test_text_holds_every_code_point(database: Database, make_pipeline: Any, write_project: Any) -> None:
    points = [*range(1, 0xD800), *range(0xE000, 0x110000)]
    everything = "".join(map(chr, points))
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v text, j json)")
    with psycopg.connect(database.url) as session:
        session.execute("INSERT INTO t VALUES (1, %s, to_json(%s::text))", [everything, everything])
        session.cursor().executemany(
            "INSERT INTO t VALUES (%s, %s, to_json(%s::text))",
            [
                (10 + n, *[f"a{chr(point)}b{chr(point)}"] * 2)
                for n, point in enumerate([*points[:700], *points[700::997]])
            ],
        )
    model = "CREATE TABLE dim_t (id INTEGER PRIMARY KEY, v VARCHAR, w VARCHAR) AS SELECT id, v, j ->> '$' AS w FROM t"
    pipeline = make_pipeline(database.url, project=write_project({"dim_t": model}))
    pipeline.ingest()
    pipeline.process()
    pipeline.load()
    given = dict(database.execute("SELECT id, v FROM t"))
    rows = captured(pipeline, 1)
    assert {row: (values["v"], values["j"]) for row, values in rows.items()} == {
        row: (text, text) for row, text in given.items()
    }
    with pipeline.warehouse() as warehouse:
        stored = {row: (v, w) for row, v, w in warehouse.query("SELECT id, v, w FROM dim_t")[1]}
    assert stored == {row: (text, text) for row, text in given.items()}
