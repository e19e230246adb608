"""Whatever a name or a value is, it is a name or a value: it works exactly, or is refused, and is never SQL or a path."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zlib import crc32

import duckdb
import psycopg
import pytest
from pydantic import ValidationError

from tests.conftest import Bucket, Database, rows_of, run_cleanly
from tests.contracts.shop import MODELS, SCHEMA
from tests.spread import in_sweep
from totes import engine
from totes.cli.history import show_history
from totes.cli.run import show_cycle
from totes.cli.session import console
from totes.errors import CommandFailed, ConfigurationError, LakeDamaged, SourceRefused, WarehouseRefused
from totes.lake.document import StoredObject
from totes.monitoring.history import read_history
from totes.monitoring.timeline import steps_of
from totes.monitoring.verification import verify
from totes.pipeline import Pipeline
from totes.terrifictotes.server import LocalServer
from totes.warehouse.table import BatchLoad

HOSTILE = [
    'x"; DROP TABLE canary; --',
    "x'); DROP TABLE canary; --",
    "x$$; DROP TABLE canary; $$",
    "\\'; DROP TABLE canary; --",
    "%s %(schema)s %%",
    "{file} {0}",
    "/* */ -- ",
    "two\nlines\tand\x0btabs",
    "[/red][bold]*?",
    "../../up",
    " Käse ",
    "?x=1&y#z",
]
NUMBERED = list(enumerate(HOSTILE))
REFERENCE = f"reference {HOSTILE[0]} [a-z]*"
Write = Callable[..., dict[str, Any]]
Make = Callable[..., Pipeline]


def q(*parts: str) -> str:
    """A quoted name, written here once more so that the tests do not lean on what they test."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


def t(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


@pytest.fixture
def hostile_source(server: LocalServer) -> Database:
    """A database, role, schema, tables, columns, types and values of hostile names, and a table `canary`."""
    name, role = f"db {HOSTILE[0]}"[:50], f"role {HOSTILE[1]}"[:50]
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {q(name)}".encode())
        connection.execute(f"DROP ROLE IF EXISTS {q(role)}".encode())
        connection.execute(f"CREATE ROLE {q(role)} LOGIN PASSWORD 'reader'".encode())
        connection.execute(f"CREATE DATABASE {q(name)} OWNER {q(role)}".encode())
    source = Database(server.url(quote(name, safe=""), quote(role, safe=""), "reader"), name)
    schema = HOSTILE[3]
    labels = ", ".join(t(value) for value in HOSTILE)
    source.execute(
        "CREATE TABLE public.canary (id int PRIMARY KEY)",
        f"CREATE SCHEMA {q(schema)}",
        f"CREATE TYPE {q(schema, 'type ' + HOSTILE[2])} AS ENUM ({labels})",
    )
    for number, table in NUMBERED:
        source.execute(
            f"CREATE TABLE {q(schema, table)} ({q('key ' + table)} text PRIMARY KEY, {q('doc ' + table)} json,"
            f" {q('kind ' + table)} {q(schema, 'type ' + HOSTILE[2])} DEFAULT {t(table)}, {q('last_updated')} timestamp)",
            *(
                f"INSERT INTO {q(schema, table)} VALUES"
                f" ({t(value)}, {t(json.dumps({value: value}))}, {t(value)}, '2024-11-25 09:00')"
                for value in HOSTILE[: 3 + number % 3]
            ),
        )
    source.execute(f"CREATE VIEW {q(schema, 'view ' + HOSTILE[0])} AS SELECT * FROM {q(schema, HOSTILE[0])}")
    return source


def hostile_models() -> dict[str, str]:
    """A model over each table; each second one keeps every version, and the first joins a reference file."""
    models = {}
    for number, table in NUMBERED:
        key, doc, kind = (q(f"{part} {table}") for part in ("key", "doc", "kind"))
        first = f"{q('number ' + table)} BIGINT PRIMARY KEY, {key} VARCHAR NOT NULL"
        joined, said = "", "'-'"
        if number == 0:
            joined, said = (
                f" LEFT JOIN {q(REFERENCE)} AS r ON r.{q(HOSTILE[5])} = {key}",
                f"r.{q(HOSTILE[6])}",
            )
        models[f"model_{number}"] = (
            f"-- {table.splitlines()[0]}\n"
            f"CREATE TABLE {q('star ' + table)} ({first if number % 2 else key + ' VARCHAR PRIMARY KEY'},"
            f" {doc} JSON, {kind} VARCHAR, {q('said ' + table)} VARCHAR) AS"
            f" SELECT {key}, {doc}, {kind}, {said} AS {q('said ' + table)} FROM {q(table)}{joined}"
        )
    return models


@pytest.fixture
def hostile(
    hostile_source: Database, warehouse_url: str, write_project: Write, make_pipeline: Make
) -> Pipeline:
    """A pipeline in which everything that has a name has a hostile one."""
    project = write_project(hostile_models())
    reference = (
        f'"{HOSTILE[5]}","{HOSTILE[6]}"\n"' + HOSTILE[0].replace('"', '""') + '","said; DROP TABLE canary"\n'
    )
    (Path(project["path"]) / "reference" / f"{REFERENCE}.csv").write_text(reference, encoding="utf-8")
    pipeline = make_pipeline(
        hostile_source.url,
        warehouse_url,
        project=project | {"name": HOSTILE[0]},
        source={"schema": HOSTILE[3]},
        warehouse={"schema": HOSTILE[1]},
        lake={"ingestion": "in [a-z]*? ' \" ; \\ {file} %41", "processed": "[out]*"},
    )
    if warehouse_url.startswith("duckdb"):
        with closing(duckdb.connect(warehouse_url.removeprefix("duckdb:///"))) as file:
            file.execute("CREATE TABLE canary AS SELECT 1 AS id")
    return pipeline


def test_hostile_names_and_values_go_through_all_stages_exactly(
    hostile: Pipeline, hostile_source: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names and values of every kind reach SQL here: catalog, bulk reads, engine, DDL, loads, verification, history."""
    # What a pattern of the lake's folder would match as well.
    for decoy in ("[out]x", "o", "in ax"):
        (tmp_path / decoy).mkdir()
    show_cycle(console(), run_cleanly(hostile))
    schema, table = HOSTILE[3], HOSTILE[1]
    for number, name in NUMBERED:
        kept = HOSTILE[: 3 + number % 3]
        view = f"star {name}_current" if number % 2 else f"star {name}"
        columns = ", ".join(q(f"{part} {name}") for part in ("key", "doc", "kind", "said"))
        found = rows_of(hostile, f"SELECT {columns} FROM {q(HOSTILE[1], view)}")
        said = {HOSTILE[0]: "said; DROP TABLE canary"} if number == 0 else dict.fromkeys(kept, "-")
        assert sorted((k, json.loads(d), e, s) for k, d, e, s in found) == sorted(
            (value, {value: value}, value, said.get(value)) for value in kept
        )
    hostile_source.execute(
        f"UPDATE {q(schema, table)} SET {q('kind ' + table)} = {t(HOSTILE[5])}, last_updated = now()"
        f" WHERE {q('key ' + table)} = {t(HOSTILE[1])}",
        f"DELETE FROM {q(schema, HOSTILE[0])} WHERE {q('key ' + HOSTILE[0])} = {t(HOSTILE[0])}",
    )
    run_cleanly(hostile)
    assert verify(hostile, (), 1.0, lambda _: None).equal
    for place in (f"star {table}", table):
        versions = read_history(hostile, place, [HOSTILE[1]])
        assert [version.values[f"kind {table}"] for version in versions] == [HOSTILE[1], HOSTILE[5]]
        show_history(console(), f"{place} {HOSTILE[8]}", steps_of(versions), ())
    assert HOSTILE[1] in capsys.readouterr().out
    _find_nothing_else(hostile)
    assert hostile_source.execute("SELECT count(*) FROM public.canary") == [(0,)]
    if hostile.settings.warehouse_url().startswith("duckdb"):
        assert rows_of(hostile, "SELECT count(*) FROM canary") == [(1,)]


def _find_nothing_else(hostile: Pipeline) -> None:
    """Keys and names that would find something if they were SQL."""
    for place in (f"star {HOSTILE[0]}", f"star {HOSTILE[1]}", HOSTILE[0]):
        for value in ("' OR true --", "\\' OR true --", '" OR 1=1; DROP TABLE canary; --', "') OR ('1'='1"):
            with pytest.raises(CommandFailed, match="has no row"):
                read_history(hostile, place, [value])
    for unknown in HOSTILE:
        with pytest.raises(ConfigurationError, match="there is no table"):
            read_history(hostile, f"no {unknown}", ["1"])
        with pytest.raises(ConfigurationError, match="there is no table"):
            verify(hostile, (f"no {unknown}",), 1.0, lambda _: None)


@pytest.mark.parametrize("ways", [1, in_sweep(3)])  # in how many settings each name stands in turn
def test_hostile_settings_of_the_source_name_a_table_or_are_refused(
    hostile_source: Database, make_pipeline: Make, write_project: Write, ways: int
) -> None:
    project = write_project({"dim": "CREATE TABLE dim (id VARCHAR PRIMARY KEY) AS SELECT id FROM canary"})

    def captured(number: int, **source: Any) -> set[str]:
        pipeline = make_pipeline(
            hostile_source.url, project=project, source={"schema": HOSTILE[3]} | source,
            lake={"ingestion": f"lake-{number}", "cache": f"cache-{number}"},
        )  # fmt: skip
        done = pipeline.ingest()
        if done.failure:
            raise done.failure
        return set(done.changes)

    view, key = f"view {HOSTILE[0]}", f"key {HOSTILE[0]}"
    hostile_source.execute(f"CREATE TABLE {q(HOSTILE[3])}.canary (id text PRIMARY KEY)")
    assert captured(0) == set(HOSTILE)
    assert captured(1, exclude=HOSTILE[1:]) == {
        HOSTILE[0],
        HOSTILE[8],
    }  # [/red] is a pattern's set of letters
    assert captured(2, tables=[view], keys={view: [key]}) == {view}
    for number, wrong in enumerate(("' OR true --", 'canary"; DROP TABLE canary; --', *HOSTILE), start=3):
        settings: list[dict[str, Any]] = [
            {"schema": f"no {wrong}"},
            {"keys": {f"no {wrong}": ["id"]}},
            {"tables": [view], "keys": {view: [wrong]}},
        ]
        for way in range(ways):
            with pytest.raises(SourceRefused):
                captured(number, **settings[(number + way) % 3])
    assert hostile_source.execute("SELECT count(*) FROM public.canary") == [(0,)]


def test_a_quote_of_the_key_is_not_escaped_where_a_role_reads_backslashes(
    database: Database, new_database: Callable[..., Database], make_pipeline: Make, write_project: Write
) -> None:
    warehouse = new_database()
    for one in (database, warehouse):
        one.execute(f"ALTER DATABASE {one.name} SET standard_conforming_strings = off")
    database.execute("CREATE TABLE item (id text PRIMARY KEY)", "INSERT INTO item VALUES ('a\\\\b'), ('c')")
    pipeline = make_pipeline(
        database.url, warehouse.url, warehouse={"schema": "\\' || 'star"},
        project=write_project({"f": "CREATE TABLE f (n BIGINT PRIMARY KEY, id VARCHAR) AS SELECT id FROM item"}),
    )  # fmt: skip
    run_cleanly(pipeline)
    run_cleanly(pipeline)
    assert len(read_history(pipeline, "f", ["a\\b"])) == 1
    with pytest.raises(CommandFailed, match="has no row"):
        read_history(pipeline, "f", ["\\' OR true --"])


def test_a_function_that_somebody_put_in_the_way_is_not_called(
    database: Database, new_database: Callable[..., Database], make_pipeline: Make, write_project: Write
) -> None:
    warehouse = new_database()
    schema = next(name for n in range(100) if crc32(f"totes.{(name := f's{n}')}".encode()) < 1 << 31)
    for one in (database, warehouse):
        one.execute(
            f"ALTER DATABASE {one.name} SET search_path = public, pg_catalog",
            "CREATE TABLE public.called (name text)",
            *(
                f"CREATE FUNCTION public.{name} RETURNS {given} LANGUAGE sql AS"
                f" $$INSERT INTO public.called VALUES ('{name.partition('(')[0]}'); SELECT {value}::{given}$$"
                for name, given, value in (
                    ("pg_advisory_xact_lock(int)", "int", "1"),
                    ("trim_scale(numeric)", "numeric", "1"),
                    ("set_config(text, text, boolean)", "text", "''"),
                    ("pg_export_snapshot()", "text", "''"),
                    ("has_table_privilege(oid, text)", "boolean", "true"),
                    ("format(text, text)", "text", "''"),
                    ("current_database(int)", "text", "''"),
                )
            ),
        )
    database.execute(*SCHEMA)
    pipeline = make_pipeline(
        database.url, warehouse.url, project=write_project(MODELS), warehouse={"schema": schema},
        source={"exclude": ["called"]},
    )  # fmt: skip
    run_cleanly(pipeline)
    for one in (database, warehouse):
        assert one.execute("SELECT * FROM called") == []


@pytest.mark.parametrize("prefix", [in_sweep("plain"), "it's [a-z]*", "Ünï %41 {x}", in_sweep("a+b&c=d")])
def test_a_prefix_of_a_bucket_is_taken_as_it_is(
    prefix: str, s3: Bucket, database: Database, make_pipeline: Make, write_project: Write
) -> None:
    database.execute(*SCHEMA)
    pipeline = make_pipeline(
        database.url, project=write_project(MODELS),
        lake={"ingestion": s3.url(f"{prefix}/in"), "processed": s3.url(f"{prefix}/out")},
    )  # fmt: skip
    run_cleanly(pipeline)
    assert rows_of(pipeline, "SELECT count(*) FROM fact_order_current") == [(3,)]
    assert (
        len(list(make_pipeline(database.url, lake={"ingestion": s3.url("in")}).ingestion_store.list(""))) == 0
    )


@pytest.mark.parametrize("prefix", ["a/../b", "..", "a//b"])
def test_a_prefix_that_leads_elsewhere_is_refused(prefix: str, s3: Bucket, make_pipeline: Make) -> None:
    with pytest.raises(ConfigurationError, match="s3://bucket/prefix"):
        _ = make_pipeline("postgresql://h/d", lake={"ingestion": s3.url(prefix)}).ingestion_store


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("duckdb:///:memory:", ":memory:"),
        ("duckdb:///md:star", "md:star"),
        ("duckdb:///it's%20%22%23%25.duckdb", "it's \"#%.duckdb"),
        ("duckdb:///star[a-z]*.duckdb", "star[a-z]*.duckdb"),
        ("duckdb:///star%3Faccess_mode=read_only.duckdb", None),
        ("duckdb:///star%5Cx.duckdb", None),
        ("duckdb:///star.duckdb?access_mode=read_only", None),
        ("duckdb:///star.duckdb#x", None),
        ("duckdb:///", None),
    ],
)
def test_a_warehouse_file_is_that_file_or_refused(
    url: str, file: str | None, make_pipeline: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pipeline = make_pipeline("postgresql://h/d", url, folder=Path())
    if file is None:
        with pytest.raises(ConfigurationError), pipeline.warehouse():
            pass
        assert list(tmp_path.iterdir()) == []
        return
    for batch in (1, 2):
        with pipeline.warehouse() as warehouse:
            assert warehouse.load((), BatchLoad(batch, "digest", "2024-01-01 00:00:00", (), frozenset()))
    assert {path.name for path in tmp_path.iterdir()} == {file, f".{file}.lock"}


def test_a_schema_of_a_name_that_postgresql_would_cut_is_refused(
    database: Database, new_database: Callable[..., Database], make_pipeline: Make, write_project: Write
) -> None:
    database.execute("CREATE TABLE item (id int PRIMARY KEY)", "INSERT INTO item VALUES (1)")
    pipeline = make_pipeline(
        database.url, new_database().url, warehouse={"schema": "ü" * 32},
        project=write_project({"m": "CREATE TABLE m (id INTEGER PRIMARY KEY) AS SELECT id FROM item"}),
    )  # fmt: skip
    assert isinstance(pipeline.run().failures["load"], WarehouseRefused)


@pytest.mark.parametrize(
    "path", ["../x", "/etc/hostname", "item/../../x", "item//x", "a\\..\\x", "./x", "item/.", ""]
)
def test_an_object_is_inside_its_store(path: str) -> None:
    with pytest.raises(ValidationError, match="is not an object of this store"):
        StoredObject(path=path, rows=1, bytes=1, sha256="")


@pytest.mark.parametrize("store", ["ingestion", "processed"])
def test_a_manifest_cannot_name_what_is_outside_its_store(
    store: str, database: Database, make_pipeline: Make, write_project: Write, tmp_path: Path
) -> None:
    pipeline = make_pipeline(database.url, project=write_project(MODELS))
    database.execute(*SCHEMA)
    pipeline.ingest()
    if store == "processed":
        pipeline.process()
    place = tmp_path / "lake" / store / "batches" / "000000000001.json"
    manifest = json.loads(place.read_text(encoding="utf-8"))
    part = manifest["tables"]["customer"] if store == "ingestion" else manifest["models"]["dim_customer"]
    [entry] = part["objects"]
    # Its digest is right, so that nothing but its place is wrong with it.
    (tmp_path / "outside").write_bytes((tmp_path / "lake" / store / entry["path"]).read_bytes())
    entry["path"] = "../../outside"
    place.unlink()
    place.write_text(json.dumps(manifest), encoding="utf-8")
    fresh = make_pipeline(database.url, project=pipeline.settings.project.model_dump())
    with pytest.raises(LakeDamaged, match="outside is not an object of this store"):
        fresh.process() if store == "ingestion" else fresh.load()


def test_a_manifest_cannot_bring_sql_with_it(
    database: Database, make_pipeline: Make, write_project: Write, tmp_path: Path
) -> None:
    pipeline = make_pipeline(database.url, project=write_project(MODELS))
    database.execute(*SCHEMA)
    run_cleanly(pipeline)
    place = tmp_path / "lake" / "processed" / "batches" / "000000000001.json"
    manifest = json.loads(place.read_text(encoding="utf-8"))
    manifest["models"]["dim_customer"]["columns"][0]["type"] = "INTEGER) FROM read_text('/etc/passwd') --"
    place.unlink()
    place.write_text(json.dumps(manifest), encoding="utf-8")
    fresh = make_pipeline(
        database.url, project=pipeline.settings.project.model_dump(), lake={"cache": "other"}
    )
    with pytest.raises(LakeDamaged, match=r"columns\.0\.type"):
        fresh.load()


def test_a_scratch_folder_that_is_a_pattern_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="TMPDIR"):
        engine.parquet([tmp_path / "scratch*" / "part"])
