"""The DDL of each dialect, as text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.shop import MODELS
from totes.star.project import load_project
from totes.warehouse.ddl import statements
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


def test_postgresql_gets_tables_then_keys_then_foreign_keys_then_views(tables: Callable[..., Any]) -> None:
    assert flat(statements(tables(MODELS, KEYS), "public", "postgresql")) == [
        'CREATE TABLE "public"."totes_batches" ( batch_id BIGINT PRIMARY KEY, manifest_sha256 VARCHAR NOT NULL, '
        "read_at TIMESTAMP NOT NULL, loaded_at TIMESTAMP NOT NULL, rows BIGINT NOT NULL )",
        'CREATE TABLE "public"."totes_kept" ( table_name VARCHAR NOT NULL, row_key VARCHAR NOT NULL, '
        "referred_by VARCHAR NOT NULL )",
        'CREATE TABLE "public"."dim_customer" ( "customer_id" INTEGER NOT NULL, "name" VARCHAR NOT NULL, "city" VARCHAR )',
        'CREATE TABLE "public"."fact_order" ( "order_record_id" BIGINT NOT NULL, "order_id" INTEGER NOT NULL, '
        '"customer_id" INTEGER NOT NULL, "quantity" INTEGER NOT NULL, "price" NUMERIC(10, 2) NOT NULL, '
        "valid_from TIMESTAMP NOT NULL, valid_to TIMESTAMP, is_deleted BOOLEAN NOT NULL, batch_id BIGINT NOT NULL )",
        'ALTER TABLE "public"."dim_customer" ADD CONSTRAINT "dim_customer_pkey" PRIMARY KEY ("customer_id")',
        'ALTER TABLE "public"."fact_order" ADD CONSTRAINT "fact_order_pkey" PRIMARY KEY ("order_record_id")',
        'CREATE UNIQUE INDEX "fact_order_history" ON "public"."fact_order" ("order_id", valid_from)',
        'CREATE UNIQUE INDEX "fact_order_newest" ON "public"."fact_order" ("order_id") WHERE valid_to IS NULL',
        'ALTER TABLE "public"."fact_order" ADD CONSTRAINT "fact_order_customer_id_fkey" '
        'FOREIGN KEY ("customer_id") REFERENCES "public"."dim_customer"',
        'COMMENT ON TABLE "public"."dim_customer" IS \'Customers.\'',
        'CREATE VIEW "public"."fact_order_current" AS SELECT * FROM "public"."fact_order" '
        "WHERE valid_to IS NULL AND NOT is_deleted",
        'COMMENT ON TABLE "public"."fact_order" IS \'Orders, in every version they have had.\'',
    ]


def test_a_schema_that_is_not_the_dialects_own_is_made_first(tables: Callable[..., Any]) -> None:
    for dialect in ("duckdb", "postgresql"):
        made = statements(tables(MODELS, KEYS), "The Star", dialect)
        assert made[0] == 'CREATE SCHEMA IF NOT EXISTS "The Star"'
        assert '"The Star"."fact_order"' in made[4]


def test_names_of_constraints_stay_apart_and_within_what_postgresql_keeps(tables: Callable[..., Any]) -> None:
    long, table = "o" * 58, f"fact_{'o' * 50}"
    columns = [f"{long}_one", f"{long}_two"]
    model = (
        f"CREATE TABLE {table} (record_id BIGINT PRIMARY KEY, id INTEGER NOT NULL, "
        + ", ".join(f"{column} INTEGER REFERENCES dim_customer" for column in columns)
        + f") AS SELECT id, 1 AS {columns[0]}, 2 AS {columns[1]} FROM t"
    )
    made = statements(tables(MODELS | {"fact_long": model}, KEYS | {table: ("id",)}), "public", "postgresql")
    names = [s.split("CONSTRAINT ")[1].split('"')[1] for s in made if "FOREIGN KEY" in s]
    names += [s.split('INDEX "')[1].split('"')[0] for s in made if "INDEX" in s]
    assert len(names) == len(set(names)) == 7
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
    assert [made for made in statements(models, "public", "postgresql") if "INDEX" in made][2:] == [
        'CREATE INDEX "fact_visit_seen_newest" ON "public"."fact_visit" ("seen") WHERE valid_to IS NULL'
    ]
    assert not [made for made in statements(models, "main", "duckdb") if "INDEX" in made]
