"""No value of a row is in what an error of a database, of a driver or of the engine is reported as."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import adbc_driver_manager
import duckdb
import psycopg
import pytest
from pydantic import BaseModel, ValidationError

from tests.conftest import Database
from totes import log
from totes.errors import WarehouseError
from totes.libpq import connect_arrow
from totes.messages import engine_message, message, traceback_text

TABLE = (
    "CREATE TABLE person (email text PRIMARY KEY, age int CHECK (age < 100), name text NOT NULL)",
    "INSERT INTO person VALUES ('ada@tote.example', 36, 'Ada')",
    "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN RAISE EXCEPTION 'not %', NEW.email USING ERRCODE = TG_ARGV[0]; END $$",
)
POSTGRESQL = {
    "INSERT INTO person VALUES ('ada@tote.example', 1, 'x')": "unique violation: table person, constraint person_pkey (SQLSTATE 23505)",
    "INSERT INTO person VALUES ('bo@tote.example', 100, 'x')": "check violation: table person, constraint person_age_check (SQLSTATE 23514)",
    "INSERT INTO person VALUES ('bo@tote.example', 1)": "not null violation: table person, column name (SQLSTATE 23502)",
    "SELECT 'ada@tote.example'::text::int": "invalid text representation (SQLSTATE 22P02)",
    "INSERT INTO person SELECT 'x', 1, 'ada@tote.example'::text::timestamp::text": "invalid datetime format (SQLSTATE 22007)",
    "SELECT ('{\"a\": ada@tote.example'::text)::json": "invalid text representation (SQLSTATE 22P02)",
    "SELECT * FROM nowhere": 'relation "nowhere" does not exist',
    "SELECT nothing FROM person": 'column "nothing" does not exist',
}  # fmt: skip
ENGINE = {
    "SELECT CAST(v AS INTEGER) FROM t": "Conversion Error: Could not convert string … to INT32 when casting from source column v",
    "SELECT CAST(v AS DATE) FROM t": "Conversion Error: invalid date field format: …, expected format is (YYYY-MM-DD) when casting from source column v",
    "SELECT CAST(v AS UUID) FROM t": "Conversion Error: Could not convert string … to UUID when casting from source column v",
    "SELECT CAST(n AS TINYINT) FROM t": None,
    "SELECT n * n * n * n * n * n FROM t": None,
    "SELECT CAST(n AS DECIMAL(3, 1)) FROM t": None,
    "SELECT strptime(v, '%Y') FROM t": None,
    "SELECT error(v) FROM t": "Invalid Input Error: the message may quote a row, and is not shown",
    "SELECT json_extract(v, '$') FROM t": None,
    "SELECT CAST(v AS ENUM ('a', 'b')) FROM t": None,
    "INSERT INTO k SELECT v FROM t": None,
    "INSERT INTO k SELECT v || n FROM t": None,
    "INSERT INTO t VALUES (NULL, 1)": "Constraint Error: NOT NULL constraint failed: t.v",
    "SELECT * FROM nowhere": "Catalog Error: Table with name nowhere does not exist!",
}  # fmt: skip
VALUE = 'it\'s "Ada"\nof 47114711'


@contextmanager
def raised(kind: type[Exception]) -> Iterator[list[Exception]]:
    caught: list[Exception] = []
    with pytest.raises(kind) as info:
        yield caught
    caught.append(info.value)


@pytest.mark.parametrize("sql", POSTGRESQL)
def test_postgresql_is_reported_by_names_through_either_driver(database: Database, sql: str) -> None:
    database.execute(*TABLE)
    with database.connect() as connection, raised(psycopg.Error) as errors:
        connection.execute(sql.encode())
    with (
        closing(connect_arrow(database.url, autocommit=True)) as arrow,
        closing(arrow.cursor()) as cursor,
        raised(adbc_driver_manager.Error) as others,
    ):
        cursor.execute(sql)
        cursor.fetchall()
    assert [message(error) for error in (*errors, *others)] == [POSTGRESQL[sql]] * 2


def test_what_the_server_says_while_rows_are_read_is_reported_without_values(database: Database) -> None:
    failing = {
        "'ada@tote.example' || i": "invalid input syntax for type integer: …",
        "1 / (i - i)": "division by zero",
        "pg_cancel_backend(pg_backend_pid())::int": "canceling statement due to user request",
    }
    for expression, said in failing.items():
        sql = f"SELECT i, CASE WHEN i > 90000 THEN ({expression})::text::int END FROM generate_series(1, 100000) AS i"
        with (
            closing(connect_arrow(database.url, autocommit=True)) as arrow,
            closing(arrow.cursor()) as cursor,
            duckdb.connect() as engine,
            raised(duckdb.Error) as errors,
        ):
            cursor.execute(sql)
            engine.register("incoming", cursor.fetch_arrow())
            engine.execute("CREATE TABLE t AS FROM incoming")
        assert message(errors[0]) == said


@pytest.mark.parametrize("state", ["P0001", "23505", "ZZ001"])
def test_what_a_trigger_says_is_not_reported(database: Database, state: str) -> None:
    database.execute(
        *TABLE,
        f"CREATE TRIGGER refuse BEFORE INSERT ON person FOR EACH ROW EXECUTE FUNCTION refuse('{state}')",
    )
    with database.connect() as connection, raised(psycopg.Error) as errors:
        connection.execute("INSERT INTO person VALUES ('bo@tote.example', 1, 'x')")
    assert "bo@" in str(errors[0])
    assert "bo@" not in message(errors[0])
    assert f"(SQLSTATE {state})" in message(errors[0])


@pytest.mark.parametrize("sql", ENGINE)
def test_the_engine_is_reported_without_values(sql: str) -> None:
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE t (v VARCHAR NOT NULL, n INTEGER); CREATE TABLE k (v VARCHAR PRIMARY KEY)"
        )
        connection.execute("INSERT INTO t VALUES (?, 47114711)", [VALUE])
        connection.execute("INSERT INTO k SELECT v FROM t UNION ALL SELECT v || n FROM t")
        with raised(duckdb.Error) as errors:
            connection.execute(sql).fetchall()
    said = message(errors[0])
    assert not [part for part in ("Ada", "4711", "it's") if part in said]
    assert ENGINE[sql] in (None, said)
    assert said.split(":")[0].endswith(" Error")


def test_a_fault_told_in_json_and_one_within_a_drivers_text_are_the_same() -> None:
    said = "Conversion Error: Could not convert string 'ada@tote.example' to INT32"
    assert engine_message(f'{{"exception_type":"x","exception_message":"{said}"}}') == said.replace(
        "'ada@tote.example'", "…"
    )
    assert message(RuntimeError(f"get_next failed: {said}")) == f"get_next failed: {said}".replace(
        "'ada@tote.example'", "…"
    )


def test_no_value_is_in_a_traceback_or_in_the_log(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    database.execute(*TABLE)
    try:
        try:
            database.execute("INSERT INTO person VALUES ('ada@tote.example', 1, 'x')")
        except psycopg.Error as error:
            raise WarehouseError(f"loading failed: {message(error)}") from error
    except WarehouseError as error:
        text = traceback_text(error)
        for terminal in (True, False):
            log.configure(terminal=terminal)
            log.logger().exception("failed")
        log.configure(terminal=False)
    assert "person_pkey" in text
    assert "Key (" not in text
    written = capsys.readouterr().err
    assert "person_pkey" in written
    assert "Key (" not in written


def test_a_document_that_is_not_as_it_should_be_is_reported_without_what_it_holds() -> None:
    class Person(BaseModel):
        age: int

    with pytest.raises(ValidationError) as caught:
        Person.model_validate({"age": "ada@tote.example"})
    assert (
        message(caught.value) == "age: Input should be a valid integer, unable to parse string as an integer"
    )
