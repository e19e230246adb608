"""What PostgreSQL gives beyond the contract of all warehouses: real keys, indexes that serve, and rights."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.conftest import Command, Database, rows_of, run_cleanly
from totes.errors import WarehouseError, WarehouseRefused
from totes.pipeline import Pipeline
from totes.terrifictotes.server import LocalServer
from totes.warehouse import postgresql_answer


@pytest.fixture
def loader(server: LocalServer, star: Database) -> str:
    """The URL of a role that may read and write the warehouse's tables, and create none."""
    role = f"loader_{star.name}"
    star.execute(
        f"CREATE ROLE {role} LOGIN PASSWORD 'loaders-secret'",
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role}",
    )
    return server.url(star.name, role, "loaders-secret")


def test_primary_and_foreign_keys_are_real(pipeline: Pipeline, star: Database) -> None:
    run_cleanly(pipeline)
    assert star.execute(
        """SELECT t.table_name, t.constraint_type, k.column_name, u.table_name
           FROM information_schema.table_constraints t
           JOIN information_schema.key_column_usage k USING (constraint_schema, constraint_name)
           JOIN information_schema.constraint_column_usage u USING (constraint_schema, constraint_name)
           WHERE t.table_schema = 'public' ORDER BY 1, 2"""
    ) == [
        ("dim_customer", "PRIMARY KEY", "customer_id", "dim_customer"),
        ("fact_order", "FOREIGN KEY", "customer_id", "dim_customer"),
        ("fact_order", "PRIMARY KEY", "order_record_id", "fact_order"),
        ("totes_batches", "PRIMARY KEY", "batch_id", "totes_batches"),
        ("totes_tables", "PRIMARY KEY", "table_name", "totes_tables"),
    ]  # fmt: skip


def test_a_second_newest_version_of_a_row_is_impossible(pipeline: Pipeline, star: Database) -> None:
    run_cleanly(pipeline)
    with pytest.raises(Exception, match="fact_order_newest"):
        star.execute("INSERT INTO fact_order VALUES (99, 1, 10, 1, 1, '2025-01-01', NULL, false, 1)")


def test_declared_types_and_nullability_are_those_of_the_model(pipeline: Pipeline, star: Database) -> None:
    run_cleanly(pipeline)
    assert star.execute(
        """SELECT attname::text, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute
           WHERE attrelid = 'fact_order'::regclass AND attnum > 0 ORDER BY attnum"""
    ) == [
        ("order_record_id", "bigint", True), ("order_id", "integer", True), ("customer_id", "integer", True),
        ("quantity", "integer", True), ("price", "numeric(10,2)", True),
        ("valid_from", "timestamp without time zone", True), ("valid_to", "timestamp without time zone", False),
        ("is_deleted", "boolean", True), ("batch_id", "bigint", True),
    ]  # fmt: skip


def test_the_current_view_and_the_history_of_one_key_are_read_by_index(
    pipeline: Pipeline, database: Database, star: Database
) -> None:
    database.execute(
        "INSERT INTO \"order\" SELECT n, 10, 1, 1, '2024-11-25 09:00' FROM generate_series(100, 5000) AS n"
    )
    run_cleanly(pipeline)
    star.execute("ANALYZE")
    for query, index in (
        ("SELECT * FROM fact_order_current WHERE order_id = 1234", "fact_order_newest"),
        ("SELECT * FROM fact_order WHERE order_id = '1234' ORDER BY valid_from", "fact_order_history"),
        ("SELECT * FROM fact_order WHERE order_record_id = 1234", "fact_order_pkey"),
    ):
        plan = "\n".join(line for (line,) in star.execute(f"EXPLAIN {query}"))
        assert f"Index Scan using {index}" in plan or f"Bitmap Index Scan on {index}" in plan
        assert "Sort" not in plan


def test_a_change_is_loaded_without_reading_the_whole_history(
    pipeline: Pipeline, database: Database, star: Database
) -> None:
    database.execute(
        "INSERT INTO \"order\" SELECT n, 10, 1, 1, '2024-11-25 09:00' FROM generate_series(100, 5000) AS n"
    )
    run_cleanly(pipeline)
    star.execute("ANALYZE")
    before = sequential_reads(star, inserted=4904)
    database.execute("UPDATE \"order\" SET quantity = 2, last_updated = '2024-11-26' WHERE order_id = 1234",
                     "UPDATE customer SET city = 'Bath' WHERE customer_id = 10")  # fmt: skip
    run_cleanly(pipeline)
    assert sequential_reads(star, inserted=4905) == before


def sequential_reads(star: Database, inserted: int) -> int:
    """How many rows of the fact table have been read other than by an index, once the loads are counted."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        [(rows, counted)] = star.execute(
            "SELECT seq_tup_read, n_tup_ins FROM pg_stat_user_tables WHERE relname = 'fact_order'"
        )
        if counted == inserted:
            return int(rows)
        time.sleep(0.05)
    raise AssertionError(f"{counted} rows were inserted")


def test_the_owner_creates_and_a_role_that_may_not_create_loads(
    pipeline: Pipeline, database: Database, star: Database, loader: str, totes: Callable[..., Command],
    make_pipeline: Callable[..., Pipeline], tmp_path: Path,
) -> None:  # fmt: skip
    (tmp_path / "totes.toml").write_text(
        f'[source]\nurl = "{database.url}"\n[project]\npath = "project"\n[warehouse]\nurl = "{loader}"\n',
        encoding="utf-8",
    )
    ddl = totes("warehouse", "sql")
    assert ddl.code == 0
    star.execute(*(statement for statement in ddl.out.split(";\n\n") if statement.strip()))
    assert totes("run").code == 0
    database.execute('UPDATE "order" SET quantity = 9', 'DELETE FROM "order" WHERE order_id = 3',
                     "INSERT INTO customer VALUES (12, 'Cy', NULL, now())")  # fmt: skip
    again = totes("run", "--json")
    assert (again.code, again.err.count("error")) == (0, 0)
    assert star.execute("SELECT order_id, quantity FROM fact_order_current ORDER BY 1") == [(1, 9), (2, 9)]
    assert star.execute("SELECT tableowner FROM pg_tables WHERE tablename = 'fact_order'") == [("postgres",)]


def test_missing_tables_that_may_not_be_created_are_named_with_the_way_out(
    pipeline: Pipeline,
    database: Database,
    star: Database,
    loader: str,
    make_pipeline: Callable[..., Pipeline],
) -> None:
    powerless = make_pipeline(database.url, loader, project=pipeline.settings.project.model_dump())
    powerless.ingest()
    powerless.process()
    with pytest.raises(WarehouseRefused) as caught:
        powerless.load()
    assert (
        caught.value.what
        == "the warehouse lacks dim_customer, fact_order, and the role may not create tables in public"
    )
    assert "totes warehouse sql" in (caught.value.hint or "")
    assert star.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]


def test_a_warehouse_that_cannot_be_reached_is_told_without_its_password(
    pipeline: Pipeline, database: Database, star: Database, make_pipeline: Callable[..., Pipeline]
) -> None:
    for url in (
        "postgresql://loader:geheim123@127.0.0.1:1/star",
        star.url.replace("postgres:", "nobody:geheim123"),
    ):
        away = make_pipeline(database.url, url, project=pipeline.settings.project.model_dump())
        with pytest.raises(WarehouseError, match="connecting to the warehouse failed") as caught:
            away.load()
        assert "geheim123" not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_constraint_of_somebodys_that_is_violated_is_named_without_the_row(
    pipeline: Pipeline, database: Database, star: Database
) -> None:
    run_cleanly(pipeline)
    star.execute("ALTER TABLE fact_order ADD CONSTRAINT few CHECK (quantity < 100)")
    database.execute('UPDATE "order" SET quantity = 1000 WHERE order_id = 1')
    pipeline.ingest()
    pipeline.process()
    with pytest.raises(WarehouseError) as caught:
        pipeline.load()
    said = "loading batch 2 failed: check violation: table fact_order, constraint few (SQLSTATE 23514)"
    assert (caught.value.what, caught.value.hint) == (said, None)


def test_duckdb_and_postgresql_hold_the_same_rows_of_the_same_lake(
    pipeline: Pipeline, database: Database, make_pipeline: Callable[..., Pipeline]
) -> None:
    database.execute("INSERT INTO customer VALUES (12, 'Cy', 'Bath', now())")
    pipeline.ingest()
    database.execute(
        'UPDATE "order" SET price = 0.07 WHERE order_id = 1', 'DELETE FROM "order" WHERE order_id = 2'
    )
    pipeline.ingest()
    database.execute("DELETE FROM customer WHERE customer_id <> 10", "UPDATE customer SET city = NULL")
    pipeline.ingest()
    pipeline.process()
    beside = make_pipeline(database.url, project=pipeline.settings.project.model_dump())
    assert pipeline.load() == beside.load()
    for table, count in (("dim_customer", 3), ("dim_customer_current", 1), ("fact_order", 5)):
        rows = rows_of(pipeline, f"SELECT * FROM {table} ORDER BY 1")
        assert [tuple(map(str, row)) for row in rows] == [
            tuple(map(str, row)) for row in rows_of(beside, f"SELECT * FROM {table} ORDER BY 1")
        ]
        assert len(rows) == count


def test_an_interrupt_between_a_question_and_its_answer_leaves_the_connection_usable(
    star: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when Ctrl-C is typed after a statement was sent, and before psycopg waits for its result, where it would end it."""

    def interrupt(_control: psycopg.Connection) -> None:
        raise KeyboardInterrupt

    with psycopg.connect(star.url, autocommit=True) as control:
        with monkeypatch.context() as patched:
            patched.setattr(postgresql_answer, "_result", interrupt)
            with pytest.raises(KeyboardInterrupt), postgresql_answer.answer(control, "SELECT 1", "public"):
                pass
        with postgresql_answer.answer(control, "SELECT 40 + 2 AS answer", "public") as found:
            assert list(found.rows) == [("42",)]
