"""New tables of a PostgreSQL warehouse are built on several connections, and nobody sees them before they are complete."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.conftest import Database, rows_of, run_cleanly
from tests.contracts.shop import MODELS, SCHEMA
from totes.errors import WarehouseError
from totes.pipeline import Pipeline
from totes.processing import output
from totes.terrifictotes.server import LocalServer
from totes.warehouse import building, postgresql, steps

TABLES = "SELECT relname::text FROM pg_class WHERE relkind IN ('r', 'v') AND relnamespace = 'public'::regnamespace ORDER BY 1"
OWN = [("totes_batches",), ("totes_tables",)]
COMPLETE = [("dim_customer",), ("dim_customer_current",), ("fact_order",), ("fact_order_current",), *OWN]
SLOW_INDEXES = """
CREATE FUNCTION sleep() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(3600); END $$;
CREATE EVENT TRIGGER slow ON ddl_command_end WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION sleep()
"""


@pytest.fixture(autouse=True)
def several_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few rows there are and whatever the machine."""
    monkeypatch.setattr(building, "_MANY_ROWS", 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)


@pytest.fixture
def pipeline(pipeline: Pipeline) -> Pipeline:
    """A shop's pipeline into that warehouse, with a batch that is not loaded."""
    pipeline.ingest()
    pipeline.process()
    return pipeline


def test_nothing_but_what_is_being_built_is_seen_until_a_load_commits(
    pipeline: Pipeline, star: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = list[list[tuple[str]]]()
    with monkeypatch.context() as patched:
        patched.setattr(building, "reach", lambda _name: seen.append(star.execute(TABLES)))
        run_cleanly(pipeline)
    assert len(seen) == 2
    assert all(name.startswith("totes_loading_") for tables in seen for (name,) in tables)
    assert star.execute(TABLES) == COMPLETE


def test_no_name_is_left_that_a_table_had_while_it_was_built(pipeline: Pipeline, star: Database) -> None:
    run_cleanly(pipeline)
    names = star.execute(
        "SELECT relname::text FROM pg_class UNION ALL SELECT conname::text FROM pg_constraint"
        " UNION ALL SELECT typname::text FROM pg_type"
    )
    assert [name for (name,) in names if "loading" in name] == []


def test_foreign_keys_between_tables_that_are_built_are_checked(pipeline: Pipeline, star: Database) -> None:
    run_cleanly(pipeline)
    assert star.execute("SELECT conname::text, convalidated FROM pg_constraint WHERE contype = 'f'") == [
        ("fact_order_customer_id_fkey", True)
    ]


@pytest.mark.parametrize("workers", [1, 4])
def test_a_load_that_fails_while_it_builds_ends_what_it_does_and_leaves_nothing(
    pipeline: Pipeline, star: Database, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: workers)
    star.execute("CREATE VIEW dim_customer_pkey AS SELECT 1")
    if workers > 1:  # the other table's worker is at an index for an hour when this one's fails
        with psycopg.connect(star.url, autocommit=True) as connection:
            connection.execute(SLOW_INDEXES)
    with pytest.raises(WarehouseError, match='"dim_customer_pkey" already exists'):
        pipeline.load()
    assert star.execute(TABLES) == [("dim_customer_pkey",)]
    if workers > 1:
        star.execute("DROP EVENT TRIGGER slow")
    star.execute("DROP VIEW dim_customer_pkey")
    run_cleanly(pipeline)
    assert star.execute(TABLES) == COMPLETE


def test_a_load_that_is_interrupted_while_it_builds_ends_at_once_and_leaves_nothing(
    pipeline: Pipeline, star: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(star.url, autocommit=True) as connection:
        connection.execute(SLOW_INDEXES)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background ignore it
    # One table is built by then, and the worker of the other is at an index for an hour.
    with monkeypatch.context() as patched:
        patched.setattr(building, "reach", lambda _name: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            pipeline.load()
    signal.signal(signal.SIGINT, before)
    assert star.execute(TABLES) == []
    star.execute("DROP EVENT TRIGGER slow")
    run_cleanly(pipeline)
    assert star.execute(TABLES) == COMPLETE


def test_a_connection_that_is_cut_while_tables_are_built_costs_nothing_but_the_time(
    pipeline: Pipeline, star: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(_name: str) -> None:
        star.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    with monkeypatch.context() as patched:
        patched.setattr(building, "reach", cut)
        with pytest.raises(WarehouseError, match="loading batch 1 failed"):
            pipeline.load()
    left = star.execute(TABLES)
    assert left
    assert all(name.startswith("totes_loading_") for (name,) in left)
    star.execute("CREATE TABLE totes_loading_dock AS SELECT 1 AS mine")
    run_cleanly(pipeline)
    assert star.execute(TABLES) == sorted([*COMPLETE, ("totes_loading_dock",)])
    assert len(rows_of(pipeline, "SELECT * FROM fact_order")) == 3


def test_no_more_connections_are_used_than_the_role_may_have(
    pipeline: Pipeline, star: Database, server: LocalServer, make_pipeline: Callable[..., Pipeline]
) -> None:
    role = f"builder_{star.name}"
    star.execute(
        f"CREATE ROLE {role} LOGIN PASSWORD 'geheim-7' CONNECTION LIMIT 3",
        f"GRANT CREATE, USAGE ON SCHEMA public TO {role}",
    )
    sections = pipeline.settings.model_dump()
    limited = make_pipeline(
        pipeline.settings.source_url(),
        server.url(star.name, role, "geheim-7"),
        project=sections["project"],
        lake=sections["lake"],
    )
    assert limited.load().batch == 1
    assert star.execute(TABLES) == COMPLETE


def test_a_transaction_that_waits_for_its_tables_is_kept_alive(
    pipeline: Pipeline, star: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = postgresql.SET_TIMEOUTS.replace("5min", "1s")
    monkeypatch.setattr(postgresql, "SET_TIMEOUTS", short)
    monkeypatch.setattr(steps, "_PULSE_SECONDS", 0.2)
    monkeypatch.setattr(building, "reach", lambda _name: time.sleep(2.5))
    run_cleanly(pipeline)
    assert star.execute(TABLES) == COMPLETE


def test_the_indexes_of_one_table_are_built_at_the_same_time(pipeline: Pipeline, star: Database) -> None:
    star.execute(
        "CREATE SEQUENCE begun",
        """CREATE FUNCTION wait_for_another() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
               PERFORM nextval('begun');
               FOR turn IN 1..600 LOOP
                   IF (SELECT last_value >= 2 FROM begun) THEN RETURN; END IF;
                   PERFORM pg_sleep(0.05);
               END LOOP;
               RAISE EXCEPTION 'an index is built alone';
           END $$""",
        "CREATE EVENT TRIGGER waiting ON ddl_command_start WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION wait_for_another()",
    )
    run_cleanly(pipeline)
    assert star.execute(TABLES) == COMPLETE


def test_each_file_of_a_table_is_sent_on_its_own(
    database: Database, star: Database, make_pipeline: Callable[..., Pipeline],
    write_project: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(output, "GROUP_ROWS", 2048)  # the fewest that DuckDB writes
    monkeypatch.setattr(output, "PART_GROUPS_MAX", 1)
    orders = (
        "INSERT INTO \"order\" SELECT n, 10, 1, 1, '2024-11-25 09:00' FROM generate_series(100, 5000) AS n"
    )
    database.execute(*SCHEMA, orders)
    run_cleanly(make_pipeline(database.url, star.url, project=write_project(MODELS)))
    assert star.execute("SELECT count(*), count(DISTINCT xmin::text) FROM fact_order") == [(4904, 3)]
