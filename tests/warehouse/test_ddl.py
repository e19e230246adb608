"""The DDL of each dialect, as text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import Database
from tests.contracts.shop import MODELS
from totes.star.project import load_project
from totes.warehouse.ddl import catalog_type, statements
from totes.warehouse.table import WarehouseTable, warehouse_tables

KEYS = {"dim_customer": ("customer_id",), "fact_order": ("order_id",)}


@pytest.fixture
def tables(write_project: Callable[..., dict[str, Any]]) -> Callable[..., tuple[WarehouseTable, ...]]:
    """The tables of a project with these models."""

    def make(models: dict[str, str], keys: dict[str, tuple[str, ...]]) -> tuple[WarehouseTable, ...]:
        project = load_project("shop", Path(write_project(models)["path"]))
        return warehouse_tables(project.models, keys)

    return make


def flat(made: list[str]) -> list[str]:
    return [" ".join(statement.split()) for statement in made]


def test_postgresql_gets_tables_with_their_keys_then_indexes_views_and_grants(
    tables: Callable[..., Any],
) -> None:
    made = flat(statements(tables(MODELS, KEYS), "public", "postgresql", role="loader"))
    assert made[0] == "BEGIN"
    assert made[3].startswith('INSERT INTO "public"."totes_tables" SELECT star.name, NOT EXISTS (')
    made = [one for one in made if not one.startswith(("ALTER TABLE", "DO "))]
    described = [one for one in made if one.startswith("COMMENT ON ")]
    assert (
        'COMMENT ON TABLE "public"."fact_order" IS \'Orders, in every version they have had.\'' in described
    )
    made = [one for one in made if one not in described]
    assert made[1:3] + made[4:] == [
        'CREATE TABLE IF NOT EXISTS "public"."totes_batches" ( batch_id BIGINT PRIMARY KEY, manifest_sha256 VARCHAR NOT NULL, '
        "read_at TIMESTAMP NOT NULL, loaded_at TIMESTAMP NOT NULL, rows BIGINT NOT NULL )",
        'CREATE TABLE IF NOT EXISTS "public"."totes_tables" ( table_name VARCHAR PRIMARY KEY, '
        "made_by_totes BOOLEAN NOT NULL CONSTRAINT there_is_another_relation_of_this_name CHECK (made_by_totes) )",
        'CREATE TABLE IF NOT EXISTS "public"."dim_customer" ( "customer_id" INTEGER NOT NULL, "name" VARCHAR NOT NULL, '
        '"city" VARCHAR, "is_deleted" BOOLEAN NOT NULL, CONSTRAINT "dim_customer_pkey" PRIMARY KEY ("customer_id") )',
        'CREATE TABLE IF NOT EXISTS "public"."fact_order" ( "order_record_id" BIGINT NOT NULL, "order_id" INTEGER NOT NULL, '
        '"customer_id" INTEGER NOT NULL, "quantity" INTEGER NOT NULL, "price" NUMERIC(10, 2) NOT NULL, '
        '"valid_from" TIMESTAMP NOT NULL, "valid_to" TIMESTAMP, "is_deleted" BOOLEAN NOT NULL, "batch_id" BIGINT NOT NULL, '
        'CONSTRAINT "fact_order_pkey" PRIMARY KEY ("order_record_id"), CONSTRAINT "fact_order_customer_id_fkey" '
        'FOREIGN KEY ("customer_id") REFERENCES "public"."dim_customer" )',
        'CREATE UNIQUE INDEX IF NOT EXISTS "dim_customer_pkey" ON "public"."dim_customer" ("customer_id")',
        'CREATE UNIQUE INDEX IF NOT EXISTS "fact_order_pkey" ON "public"."fact_order" ("order_record_id")',
        'CREATE UNIQUE INDEX IF NOT EXISTS "fact_order_history" ON "public"."fact_order" ("order_id", valid_from)',
        'CREATE UNIQUE INDEX IF NOT EXISTS "fact_order_newest" ON "public"."fact_order" ("order_id") WHERE valid_to IS NULL',
        'CREATE OR REPLACE VIEW "public"."dim_customer_current" AS SELECT * FROM "public"."dim_customer" WHERE NOT is_deleted',
        'CREATE OR REPLACE VIEW "public"."fact_order_current" AS SELECT * FROM "public"."fact_order" '
        "WHERE valid_to IS NULL AND NOT is_deleted",
        'GRANT USAGE ON SCHEMA "public" TO "loader"',
        'GRANT SELECT, INSERT, UPDATE, DELETE ON "public"."totes_batches", "public"."totes_tables", '
        '"public"."dim_customer", "public"."fact_order" TO "loader"',
        "COMMIT",
    ]


def test_a_schema_that_is_not_the_dialects_own_is_made_first(tables: Callable[..., Any]) -> None:
    for dialect in ("duckdb", "postgresql"):
        made = statements(tables(MODELS, KEYS), "The Star", dialect)
        assert made[:2] == ["BEGIN", 'CREATE SCHEMA IF NOT EXISTS "The Star"']
        assert any(one.startswith('CREATE TABLE IF NOT EXISTS "The Star"."fact_order"') for one in made)


def test_names_of_constraints_stay_apart_and_within_what_postgresql_keeps(tables: Callable[..., Any]) -> None:
    long, table = "o" * 58, f"fact_{'o' * 50}"
    columns = [f"{long}_one", f"{long}_two"]
    model = (
        f"CREATE TABLE {table} (record_id BIGINT PRIMARY KEY, id INTEGER NOT NULL, "
        + ", ".join(f"{column} INTEGER REFERENCES dim_customer" for column in columns)
        + f") AS SELECT id, 1 AS {columns[0]}, 2 AS {columns[1]} FROM t"
    )
    made = statements(tables(MODELS | {"fact_long": model}, KEYS | {table: ("id",)}), "public", "postgresql")
    names = [part.split('"')[1] for s in made if "FOREIGN KEY" in s for part in s.split("CONSTRAINT ")[2:]]
    names += [s.split('EXISTS "')[1].split('"')[0] for s in made if "INDEX" in s]
    assert len(names) == len(set(names)) == 10
    assert max(len(name) for name in names) <= 63


def test_the_first_date_that_refers_to_another_table_has_an_index_of_newest_versions(
    tables: Callable[..., Any],
) -> None:
    model = (
        "CREATE TABLE fact_visit (record_id BIGINT PRIMARY KEY, id INTEGER NOT NULL, born DATE,"
        " seen DATE REFERENCES dim_day, left_on DATE REFERENCES dim_day) AS SELECT id, born, seen, left_on FROM t"
    )
    day = "CREATE TABLE dim_day (day DATE PRIMARY KEY) AS SELECT day FROM days"
    models = tables({"fact_visit": model, "dim_day": day}, {"fact_visit": ("id",)})
    assert [made for made in statements(models, "public", "postgresql") if "INDEX" in made][4:] == [
        'CREATE INDEX IF NOT EXISTS "fact_visit_seen_newest" ON "public"."fact_visit" ("seen") WHERE valid_to IS NULL'
    ]
    assert not [made for made in statements(models, "main", "duckdb") if "INDEX" in made]


def test_a_type_is_compared_as_the_catalog_writes_it(new_database: Callable[..., Database]) -> None:
    types = ("VARCHAR", "VARCHAR(7)", "NUMERIC", "NUMERIC(10, 2)", "INTEGER", "SMALLINT", "BIGINT", "REAL", "DOUBLE PRECISION",
             "BYTEA", "BOOLEAN", "DATE", "TIME", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "INTERVAL", "JSON", "UUID")  # fmt: skip
    star = new_database()
    star.execute(f"CREATE TABLE t ({', '.join(f'c{n} {kind}' for n, kind in enumerate(types))})")
    found = star.execute("SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 't'::regclass"
                         " AND attnum > 0 ORDER BY attnum")  # fmt: skip
    assert [kind for (kind,) in found] == [catalog_type(kind) for kind in types]


def test_the_ddl_brings_tables_up_to_a_declaration_unless_a_value_would_not_be_kept(
    tables: Callable[..., Any], new_database: Callable[..., Database]
) -> None:
    star = new_database()
    star.execute(*statements(tables(MODELS, KEYS), "public", "postgresql"))
    star.execute("INSERT INTO dim_customer VALUES (1, 'Ada', 'Hull', false)")
    wider = MODELS["dim_customer"].replace("INTEGER PRIMARY KEY", "BIGINT PRIMARY KEY")
    wider = wider.replace("VARCHAR NOT NULL", "VARCHAR").replace(
        "city         VARCHAR", "age INTEGER, city VARCHAR(4)"
    )
    wider = wider.replace("name, city FROM", "name, 1 AS age, city FROM")
    for _ in range(2):
        star.execute(*statements(tables(MODELS | {"dim_customer": wider}, KEYS), "public", "postgresql"))
    assert star.execute("SELECT * FROM dim_customer_current") == [(1, "Ada", "Hull", False, None)]
    assert star.execute("SELECT attname::text, atttypid::regtype::text, attnotnull FROM pg_attribute"
                        " WHERE attrelid = 'dim_customer'::regclass AND attnum > 0 ORDER BY attnum") == [
        ("customer_id", "bigint", True), ("name", "character varying", False), ("city", "character varying", False),
        ("is_deleted", "boolean", True), ("age", "integer", False),
    ]  # fmt: skip
    star.execute("UPDATE dim_customer SET customer_id = 5000000000")
    with pytest.raises(psycopg.Error):
        star.execute(*statements(tables(MODELS, KEYS), "public", "postgresql"))
