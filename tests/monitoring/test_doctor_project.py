"""`totes doctor` and the project: wrong models, each by itself, and the values that declared types do not hold."""

from __future__ import annotations

from typing import Any

from tests.conftest import Database, run_cleanly
from tests.monitoring.checks import listed, said
from totes.lake.journal import processed_journal

RIGHT = "CREATE TABLE dim_a (id INTEGER PRIMARY KEY, n VARCHAR) AS SELECT id, n FROM a"


def test_every_model_that_is_wrong_by_itself_is_named(
    database: Database, doctor: Any, write_project: Any
) -> None:
    project = write_project(
        {
            "dim_a": RIGHT,
            "dim_b": RIGHT.replace("dim_a", "dim_b").replace("FROM a", "FROM a GROUP BY id"),
            "dim_c": "SELECT 1",
        }
    )
    (project["path"] / "models" / "dim_d.sql").write_bytes(b"-- caf\xe9\n" + RIGHT.encode())
    checks = doctor(database.url, project=project)
    assert [check["found"] for check in checks["project", "models"]] == [
        "models/dim_b.sql, line 1: GROUP BY cannot be maintained incrementally: an output row would depend on many source rows",
        "models/dim_c.sql, line 1: a model is one statement: CREATE TABLE name (columns) AS SELECT …",
        "models/dim_d.sql, line 1: it is not UTF-8 text",
    ]
    assert said(checks, "project", "binding") == "not checked: the project cannot be loaded"


def test_a_reference_to_a_key_of_another_type_is_refused(
    database: Database, doctor: Any, write_project: Any
) -> None:
    fact = "CREATE TABLE fact_a (r BIGINT PRIMARY KEY, id INTEGER, a {0} REFERENCES dim_a) AS SELECT id, n AS a FROM a"
    checks = doctor(database.url, project=write_project({"dim_a": RIGHT, "fact_a": fact.format("VARCHAR")}))
    assert said(checks, "project", "models") == (
        "models/fact_a.sql: a is a VARCHAR and REFERENCES dim_a, whose key is a INTEGER"
    )
    checks = doctor(database.url, project=write_project({"dim_a": RIGHT, "fact_a": fact.format("BIGINT")}))
    assert listed(checks, "ok") >= {"project: models"}


def test_every_model_that_does_not_fit_the_source_is_named_with_its_line(
    database: Database, doctor: Any, write_project: Any
) -> None:
    database.execute(
        "CREATE TABLE a (id int PRIMARY KEY, n text, born date)", "CREATE TABLE keyless (x int)",
        "CREATE SCHEMA archive", "CREATE TABLE archive.b (id int PRIMARY KEY, n text)",
        "CREATE TABLE countries (id int PRIMARY KEY)",
    )  # fmt: skip
    lines = "CREATE TABLE {0} (id INTEGER PRIMARY KEY, n {1})\nAS\nSELECT id,\n{2} AS n FROM {3}"
    models = {
        "dim_right": lines.format("dim_right", "VARCHAR", "n", "a"),
        "dim_name": lines.format("dim_name", "VARCHAR", "nn", "a"),
        "dim_type": lines.format("dim_type", "INTEGER", "born", "a"),
        "dim_gone": lines.format("dim_gone", "VARCHAR", "n", "b"),
        "dim_wait": "CREATE TABLE dim_wait (id INTEGER PRIMARY KEY) AS SELECT x AS id FROM keyless",
        "dim_file": "CREATE TABLE dim_file (id VARCHAR PRIMARY KEY) AS SELECT id FROM countries",
    }
    references = {"countries": "id,name\nGB,Britain\n", "broken": "a,b\n1,2,3\n"}
    checks = doctor(database.url, project=write_project(models, references))
    assert sorted(check["found"] for check in checks["project", "binding"]) == [
        "models/dim_gone.sql, line 4: the source has no table b",
        "models/dim_name.sql, line 4: there is no column nn of a",
        "models/dim_type.sql, line 4: n is declared INTEGER, but born is a DATE",
        "not checked: dim_wait reads keyless, which cannot be captured",
    ]
    assert [check["fix"] for check in checks["source", "tables"] if check["severity"] == "error"] == [
        "There is one in archive: see source.schema"
    ]
    assert "broken.csv cannot be read" in said(checks, "project", "reference files")
    assert (
        "a model that names countries reads the file reference/countries.csv, not the source's table"
        in said(checks, "project", "names")
    )


def test_the_values_that_are_said_not_to_fit_are_those_that_go_to_quarantine(
    database: Database, doctor: Any, write_project: Any, make_pipeline: Any
) -> None:
    """Each column has one row with a value that its declared type cannot hold, or that it only just can."""
    columns = {  # name: type at the source, declared type, the widest value; those that do not fit come first
        "small": ("int", "SMALLINT", "2147483647"),
        "digits": ("bigint", "DECIMAL(18, 0)", "9223372036854775807"),
        "money": ("numeric", "DECIMAL(10, 2)", "0.123"),
        "wide": ("numeric(14, 2)", "DECIMAL(10, 2)", "123456789012.00"),
        "deep": ("numeric(6, 4)", "DECIMAL(10, 2)", "12.3456"),
        "huge": ("numeric", "NUMERIC", "1e30"),
        "whole": ("numeric(9, 2)", "INTEGER", "1.5"),
        "floating": ("double precision", "DECIMAL(10, 2)", "'Infinity'"),
        "day": ("varchar", "DATE", "'tomorrow'"),
        "short": ("varchar(10)", "VARCHAR(5)", "'123456'"),
        "listed": ("int[]", "JSON", "'{1,2}'"),
        "needed": ("text", "VARCHAR NOT NULL", "NULL"),
        "ok_int": ("int", "INTEGER", "2147483647"),
        "ok_wider": ("int", "DECIMAL(10, 0)", "2147483647"),
        "ok_numeric": ("numeric(10, 2)", "DECIMAL(12, 4)", "12345678.90"),
        "ok_hundreds": ("numeric(3, -2)", "INTEGER", "12300"),
        "ok_floating": ("real", "DOUBLE", "0.1"),
        "ok_short": ("varchar(5)", "VARCHAR(5)", "'12345'"),
        "ok_text": ("int4range", "VARCHAR", "'[1,5)'"),
        "ok_moment": ("timestamp", "TIMESTAMP", "'infinity'"),
    }
    kinds = ", ".join(f"{name} {kind}" for name, (kind, *_) in columns.items())
    database.execute(f"CREATE TABLE a (id int PRIMARY KEY, {kinds})")
    for number, (name, (_, _, value)) in enumerate(columns.items()):
        needed = "" if name == "needed" else ", needed"
        given = "" if name == "needed" else ", 'x'"
        database.execute(f"INSERT INTO a (id, {name}{needed}) VALUES ({number}, {value}{given})")
    declared = ", ".join(f"{name} {kind}" for name, (_, kind, _) in columns.items())
    project = write_project(
        {
            "dim_a": f"CREATE TABLE dim_a (id INTEGER PRIMARY KEY, {declared}) AS SELECT id, {', '.join(columns)} FROM a"
        }
    )
    found = said(doctor(database.url, project=project), "project", "values")
    told = {name for name in columns if f"{name} takes a.{name}, " in found}
    assert told == {name for name in columns if not name.startswith("ok_")}
    pipeline = make_pipeline(database.url, project=project)
    cycle = run_cleanly(pipeline)
    assert cycle.quarantined == len(told)
    assert processed_journal(pipeline.processed_store).read(1).models["dim_a"].written == len(columns) - len(
        told
    )


def test_values_that_are_rounded_or_cannot_be_computed_with_are_named(
    database: Database, doctor: Any, write_project: Any
) -> None:
    database.execute("CREATE TABLE a (id int PRIMARY KEY, n numeric, d double precision, b bigint)")
    model = (
        "CREATE TABLE dim_a (id INTEGER PRIMARY KEY, n DOUBLE, d FLOAT, b DOUBLE, twice VARCHAR)"
        " AS SELECT id, n, d, b, n * 2 AS twice FROM a"
    )
    found = said(doctor(database.url, project=write_project({"dim_a": model})), "project", "values")
    for part in (
        "n takes a.n, a numeric, as DOUBLE: rounded to 15 digits",
        "d takes a.d, a double precision, as FLOAT: rounded to 6 digits",
        "b takes a.b, a bigint, as DOUBLE: rounded to 15 digits",
        "it computes with a.n, a numeric, as DECIMAL(38, 10)",
    ):
        assert part in found
