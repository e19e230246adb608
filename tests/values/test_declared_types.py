"""Promise 10 at the warehouse: a declared type has a value exactly, or the row is set aside. Never bent, never NULL instead."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from tests.conftest import Database, rows_of, run_cleanly
from tests.values.fits import (
    DECLARED,
    DOCUMENTS,
    POSTGRESQL,
    Reading,
    Verdict,
    can_be_declared,
    content,
    readings,
    verdict,
)
from tests.values.randoms import STRATEGIES, random_values
from tests.values.test_lake_values import CANONICAL, set_contrary
from tests.values.types import MATRIX
from totes import engine
from totes.errors import ModelFailed
from totes.lake.journal import processed_journal
from totes.pipeline import Pipeline
from totes.star import model_file

SOURCES = {kind: f"c{number}" for number, kind in enumerate(STRATEGIES)}


def table_of(declared: str) -> str:
    """The warehouse table whose columns are all declared so."""
    return "as_" + re.sub(r"\W+", "_", declared.lower()).strip("_")


def models() -> dict[str, str]:
    """A model for each declared type, with a column for each source type that can be declared so."""
    made = {}
    for declared in DECLARED:
        columns = [column for kind, column in SOURCES.items() if can_be_declared(kind, declared)]
        listed = ", ".join(f"{column} {declared}" for column in columns)
        name = table_of(declared)
        made[name] = (
            f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, {listed}) AS SELECT id, {', '.join(columns)} FROM given"
        )
    return made


def fill(database: Database, each: int) -> dict[int, str]:
    """One row a value, so many random ones a type, in the column of its type; gives the type of each row's value."""
    kinds: dict[int, str] = {}
    columns = ", ".join(f"{column} {kind}" for kind, column in SOURCES.items())
    database.execute(f"CREATE TABLE given (id int PRIMARY KEY, {columns})")
    with psycopg.connect(database.url) as session:
        for kind, column in SOURCES.items():
            candidates = [*MATRIX[kind], *random_values(kind, each)]
            rows = ", ".join(
                f"({len(kinds) + number}, ({value})::{kind})" for number, value in enumerate(candidates)
            )
            session.execute(f"INSERT INTO given (id, {column}) VALUES {rows}".encode())
            kinds |= dict.fromkeys(range(len(kinds), len(kinds) + len(candidates)), kind)
    return kinds


def stored(pipeline: Pipeline, url: str) -> dict[str, dict[int, tuple[str | None, ...]]]:
    """The rows of each table as PostgreSQL, at a URL, writes their values, by declared type and id."""
    with psycopg.connect(url, options="-c TimeZone=UTC") as session:
        return {declared: _rows(pipeline, declared, session) for declared in DECLARED}


def _rows(
    pipeline: Pipeline, declared: str, session: psycopg.Connection
) -> dict[int, tuple[str | None, ...]]:
    columns = [column for kind, column in SOURCES.items() if can_be_declared(kind, declared)]
    table = table_of(declared)
    if pipeline.settings.warehouse_url().startswith("postgresql"):
        listed = ", ".join(f"{column}::text" for column in columns)
        with psycopg.connect(pipeline.settings.warehouse_url(), options=CANONICAL) as warehouse:
            rows = warehouse.execute(f"SELECT id, {listed} FROM public.{table}".encode()).fetchall()
        return {row[0]: tuple(plain(declared, value) for value in row[1:]) for row in rows}
    shown = [
        f"'\\x' || lower(hex({column}))" if declared == "BLOB" else f"{column}::VARCHAR" for column in columns
    ]
    rows = rows_of(pipeline, f"SELECT id, {', '.join(shown)} FROM {table}")
    # PostgreSQL reads what the engine writes; only the era it would not.
    texts = [value for row in rows for value in row[1:] if value is not None]
    kind = "json" if declared == "JSON" else POSTGRESQL.get(declared, declared)
    if declared.startswith(("DATE", "TIMESTAMP")):
        texts = [re.sub(r"^(\S+) \(BC\)(.*)$", r"\1\2 BC", text) for text in texts]
    read = session.execute(
        f"SELECT t::{kind}::text FROM unnest(%s::text[]) WITH ORDINALITY AS x (t, n) ORDER BY n".encode(),
        [texts],
    )
    forms = iter([plain(declared, form) for (form,) in read.fetchall()])
    return {row[0]: tuple(None if value is None else next(forms) for value in row[1:]) for row in rows}


def set_aside(pipeline: Pipeline, table: str) -> dict[int, str]:
    """The reasons of what is in quarantine, by id: the last that any batch says of a row."""
    journal, reasons = processed_journal(pipeline.processed_store), {}
    for batch in range(1, journal.last() + 1):
        objects = journal.read(batch).models[table].quarantine
        with pipeline.processed_store.local(list(objects)) as files:
            relation = (
                engine.parquet(files) if objects else "(SELECT '' AS row_key, '' AS reason WHERE false)"
            )
            rows = (
                engine.connect(None, memory="1GB", reads=pipeline.lake_folders)
                .execute(f"SELECT row_key, reason FROM {relation}")
                .fetchall()
            )
        reasons |= {json.loads(key)["id"]: reason for key, reason in rows}
    return {number: reason for number, reason in reasons.items() if reason}


def plain(declared: str, form: str | None) -> str | None:
    """A text form; of numbers that have as many digits as they need, without the zeros they end in."""
    return (
        form.rstrip("0").rstrip(".")
        if form and declared in ("DECIMAL(10,2)", "NUMERIC") and "." in form
        else form
    )


Stored = dict[str, dict[int, tuple[str | None, ...]]]


@dataclass
class Given:
    """The source's values by row, and what PostgreSQL makes of their texts."""

    kinds: dict[int, str]
    texts: dict[int, str]
    readings: dict[str | None, Reading]

    def right(self, number: int, declared: str) -> Verdict:
        """What the warehouse has to have of a row."""
        kind, text = self.kinds[number], self.texts[number]
        return verdict(kind, declared, self.readings[_meant(kind, declared, text)])


def look(database: Database, kinds: dict[int, str]) -> Given:
    with psycopg.connect(database.url, options="-c TimeZone=UTC") as session:
        listed = ", ".join(f"{column}::text" for column in SOURCES.values())
        texts = dict(session.execute(f"SELECT id, coalesce({listed}) FROM given".encode()).fetchall())
        wanted = {
            _meant(kinds[number], declared, text)
            for number, text in texts.items()
            for declared in ("JSON", "DATE")
        }
        return Given(kinds, texts, readings(session, wanted))


def _meant(kind: str, declared: str, text: str) -> str | None:
    """The text of which a declared type gets the value."""
    if kind in DOCUMENTS and declared not in ("JSON", "VARCHAR", "VARCHAR(5)"):
        return content(text)
    return re.sub(r"[\t\n\r]", " ", text) if kind == "json" else text


def faults(pipeline: Pipeline, given: Given, found: Stored, before: Stored) -> list[str]:
    """What differs from the oracle; of a row that is set aside, the version before it stays."""
    wrong = []
    for declared in DECLARED:
        rows, reasons = found[declared], set_aside(pipeline, table_of(declared))
        for number, kind in given.kinds.items():
            if not can_be_declared(kind, declared):
                continue
            right = given.right(number, declared)
            values = [value for value in rows.get(number, ()) if value is not None]
            if number in reasons:
                got: object = reasons[number]
                ok = right.word != "must" and rows.get(number) == before.get(declared, {}).get(number)
            else:
                got = values[0] if values else None
                ok = (
                    number in rows
                    and right.word != "never"
                    and len(values) <= 1
                    and plain(declared, right.form) == got
                )
            if not ok:
                wrong.append(
                    f"{kind} {given.texts[number][:80]!r} as {declared}: {right.word} be {str(right.form)[:60]!r}, is {str(got)[:90]!r}"
                )
    return wrong


def test_the_oracle_knows_every_type_that_a_model_may_declare() -> None:
    assert {*model_file._TYPES.values(), "VARCHAR", "DECIMAL(10,2)", "NUMERIC", "VARCHAR(5)"} == set(DECLARED)


@pytest.mark.parametrize("each", [8, pytest.param(40, marks=pytest.mark.sweep)])
def test_a_declared_type_has_the_value_exactly_or_the_row_is_quarantined(
    database: Database, new_database: Any, make_pipeline: Any, write_project: Any, each: int
) -> None:
    kinds = fill(database, each)
    project = write_project(models())
    pipeline = make_pipeline(database.url, project=project)
    run_cleanly(pipeline)
    given, first = look(database, kinds), stored(pipeline, database.url)
    assert "\n".join(faults(pipeline, given, first, {})[:40]) == ""
    # Each row gets the value of another of its type, in a batch that updates what is loaded.
    moved = ", ".join(f"{column} = other.{column}" for column in SOURCES.values())
    database.execute(f"""UPDATE given SET {moved} FROM (SELECT *, lead(id, 7) OVER (ORDER BY id) AS after FROM given) AS other
        WHERE other.after = given.id AND num_nonnulls({", ".join(f"given.{c} IS NOT NULL AND other.{c} IS NOT NULL OR NULL" for c in SOURCES.values())}) = 1""")  # fmt: skip
    run_cleanly(pipeline)
    given, second = look(database, kinds), stored(pipeline, database.url)
    assert "\n".join(faults(pipeline, given, second, first)[:40]) == ""
    # Both batches into the other kind of warehouse, and into another of this one, give the same rows.
    warehouse = new_database()
    set_contrary(warehouse)
    for url in (warehouse.url, "duckdb:///again.duckdb"):
        other = make_pipeline(database.url, url, project=project)
        other.replay(url)
        assert stored(other, database.url) == second


@pytest.mark.parametrize(
    ("source_type", "declared"),
    [("timestamp with time zone", "TIMESTAMP"), ("timestamp with time zone", "DATE"), ("timestamp", "DATE"), ("boolean", "INTEGER"),
     ("time with time zone", "TIME"), ("interval", "TIME"), ("bit(3)", "INTEGER"), ("bytea", "UUID"), ("numeric", "DATE")],
)  # fmt: skip
def test_types_of_different_kinds_are_refused_with_the_way_out(
    source_type: str, declared: str, database: Database, make_pipeline: Any, write_project: Any
) -> None:
    database.execute(f"CREATE TABLE t (id int PRIMARY KEY, v {source_type})")
    project = write_project(
        {"dim_t": f"CREATE TABLE dim_t (id INTEGER PRIMARY KEY, v {declared}) AS SELECT id, v FROM t"}
    )
    with pytest.raises(ModelFailed, match=f"v is declared {declared}, but v is a"):
        make_pipeline(database.url, project=project).warehouse_sql("duckdb")
