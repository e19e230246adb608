"""Promise 16 at the source: a table that cannot be read stops that table alone, with the reason, until it is fixed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import Command, Database, rows_of
from totes.ingestion import reading
from totes.lake.journal import ingestion_journal
from totes.pipeline import Pipeline
from totes.terrifictotes.server import LocalServer

GOOD = ("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'a'), (2, 'b')")
MODEL = {"dim_t": "CREATE TABLE dim_t (id INTEGER PRIMARY KEY, v VARCHAR) AS SELECT id, v FROM t"}
# What is wrong with `x`, what is said of it, and what fixes it.
FAULTS = {
    "a materialized view without data": (
        ["CREATE MATERIALIZED VIEW x AS SELECT id FROM t WITH NO DATA"],
        "has not been populated",
        ["REFRESH MATERIALIZED VIEW x"],
    ),
    "a view that divides by zero": (
        ["CREATE VIEW x AS SELECT id, 1 / (id - 2) AS q FROM t"],
        "division by zero",
        ["CREATE OR REPLACE VIEW x AS SELECT id, 1 AS q FROM t"],
    ),
    "a view that writes": (
        [
            "CREATE TABLE log (n int)",
            "CREATE FUNCTION note(i int) RETURNS int LANGUAGE sql AS 'INSERT INTO public.log VALUES (i) RETURNING n'",
            "CREATE VIEW x AS SELECT id, note(id) AS n FROM t",
        ],
        "read-only transaction",
        ["CREATE OR REPLACE VIEW x AS SELECT id, 1 AS n FROM t"],
    ),
    "a foreign table whose server is away": (
        [
            "CREATE EXTENSION postgres_fdw",
            "CREATE SERVER away FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '1')",
            "CREATE USER MAPPING FOR CURRENT_USER SERVER away OPTIONS (password 'geheim-9')",
            "CREATE FOREIGN TABLE x (id int) SERVER away",
        ],
        "could not connect to server",
        ["DROP FOREIGN TABLE x", "CREATE VIEW x AS SELECT id FROM t"],
    ),
}


@pytest.fixture
def pipeline(
    database: Database, make_pipeline: Callable[..., Pipeline], write_project: Callable[..., dict[str, Any]]
) -> Pipeline:
    database.execute(*GOOD)
    source = {"tables": ["*", "x"], "keys": {"x": ["id"]}, "lock_timeout": "1s"}
    return make_pipeline(database.url, project=write_project(MODEL), source=source)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_table_that_cannot_be_read_is_left_out_until_it_can(
    database: Database, pipeline: Pipeline, fault: str
) -> None:
    broken, said, fixed = FAULTS[fault]
    database.execute(*broken)
    for number, rows in ((1, 2), (2, 3)):  # in the first batch, and in later ones
        done = pipeline.run()
        [(stage, error)] = done.failures.items()
        assert (stage, said in str(error), "Run it again" in str(error)) == ("ingest", True, False)
        assert error.exit_code == 3
        assert rows_of(pipeline, "SELECT count(*) FROM dim_t") == [(rows,)]
        left_out = ingestion_journal(pipeline.ingestion_store).read(number).left_out["x"]
        assert said in left_out.reason
        database.execute(f"INSERT INTO t VALUES ({10 + number}, 'more')")
    database.execute(*fixed)
    assert pipeline.run().failures == {}
    assert ingestion_journal(pipeline.ingestion_store).read(3).tables["x"].rows == 4


def test_a_table_that_somebody_holds_is_left_out_and_nothing_is_locked_meanwhile(
    database: Database, pipeline: Pipeline
) -> None:
    database.execute("CREATE TABLE held (id int PRIMARY KEY)", "CREATE TABLE aaa (id int PRIMARY KEY)",
                     "CREATE VIEW x AS SELECT id FROM t")  # fmt: skip
    with database.connect() as session:
        session.execute("LOCK TABLE held IN ACCESS EXCLUSIVE MODE")
        found: list[Any] = []
        run = threading.Thread(target=lambda: found.append(pipeline.run()))
        run.start()
        deadline = time.monotonic() + 30
        while (
            not database.execute("SELECT 1 FROM pg_locks WHERE NOT granted") and time.monotonic() < deadline
        ):
            time.sleep(0.01)
        # It waits for this table, and nobody could wait for another one behind it.
        session.execute("LOCK TABLE aaa, t IN ACCESS EXCLUSIVE MODE NOWAIT")
        session.execute("ROLLBACK")
        session.execute("LOCK TABLE held IN ACCESS EXCLUSIVE MODE")
        run.join()
        failure = str(found[0].failures.get("ingest"))
        assert "locking held failed" in failure or found[0].failures == {}
        again = pipeline.run()
        assert "locking held failed" in str(again.failures["ingest"])
        assert "the next run captures it" in str(again.failures["ingest"])
        assert rows_of(pipeline, "SELECT count(*) FROM dim_t") == [(2,)]
        session.rollback()
    assert pipeline.run().failures == {}


def test_a_value_that_is_too_large_for_the_memory_leaves_its_table_out(
    database: Database, make_pipeline: Any, write_project: Any
) -> None:
    database.execute(*GOOD, "CREATE TABLE x (id int PRIMARY KEY, v text)",
                     "INSERT INTO x VALUES (1, repeat('long', 12 << 20))")  # fmt: skip
    pipeline = make_pipeline(database.url, project=write_project(MODEL), lake={"memory": "130MB"})
    error = str(pipeline.run().failures["ingest"])
    assert "public.x" in error
    assert "lake.memory" in error
    assert rows_of(pipeline, "SELECT count(*) FROM dim_t") == [(2,)]
    roomy = make_pipeline(database.url, project=write_project(MODEL), lake={"memory": "2GB"})
    assert roomy.run().failures == {}
    assert ingestion_journal(roomy.ingestion_store).read(2).tables["x"].rows == 1


def test_bytes_that_are_no_text_leave_their_table_out(
    server: LocalServer, new_database: Any, make_pipeline: Any, write_project: Any
) -> None:
    name = f"{new_database().name}_bytes"
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(
            f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE_PROVIDER libc LOCALE 'C'".encode()
        )
    database = Database(server.url(name), name)
    database.execute(
        *GOOD, "CREATE TABLE x (id int PRIMARY KEY, v text)", r"INSERT INTO x VALUES (1, E'caf\xe9')"
    )
    pipeline = make_pipeline(database.url, project=write_project(MODEL))
    for _ in range(2):
        error = str(pipeline.run().failures["ingest"])
        assert "x" in error
        assert "invalid byte sequence" in error
        assert "Run it again" not in error
    assert rows_of(pipeline, "SELECT count(*) FROM dim_t") == [(2,)]
    database.execute("UPDATE x SET v = 'cafe'")
    assert pipeline.run().failures == {}


def test_the_command_ends_with_3_and_names_the_table(
    database: Database, totes: Callable[..., Command], write_project: Any, tmp_path: Path
) -> None:
    database.execute(*GOOD, "CREATE MATERIALIZED VIEW x AS SELECT id FROM t WITH NO DATA")
    write_project(MODEL)
    (tmp_path / "totes.toml").write_text(
        f'[project]\npath = "project"\n[source]\nurl = "{database.url}"\ntables = ["*", "x"]\n[source.keys]\nx = ["id"]\n'
    )
    done = totes("run")
    assert done.code == 3
    assert 'materialized view "x" has not been populated. REFRESH it' in done.err


def test_pieces_that_fail_cost_no_other_table_of_a_first_load(
    database: Database, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PIECE_BYTES", 20_000)
    database.execute(
        "INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(10, 3000) i",
        "CREATE VIEW x AS SELECT id, 1 / (id - 2900) AS q FROM t",
    )
    failure = str(pipeline.run().failures["ingest"])
    assert failure.startswith("reading x failed: division by zero")
    assert rows_of(pipeline, "SELECT count(*) FROM dim_t") == [(2 + 2991,)]
