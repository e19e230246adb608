"""Field ids: a column keeps its own from batch to batch, and nothing else ever gets it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.conftest import Database, run_cleanly
from tests.publishing.earlier import without_field_ids
from totes.lake.manifest import ModelChanges, OutputColumn
from totes.pipeline import Pipeline
from totes.star.field_ids import numbered, with_field_ids

SHOP = (
    "CREATE TABLE item (id int PRIMARY KEY, name text, price numeric(8,2), pieces int, last_updated timestamp);"
    "INSERT INTO item VALUES (1, 'Tote', 9.50, 3, '2026-01-01')"
)
FACT = "CREATE TABLE fact_item (record BIGINT PRIMARY KEY, id INTEGER NOT NULL, {columns}) AS SELECT id, {values} FROM item"
DIM = "CREATE TABLE dim_item (id INTEGER PRIMARY KEY, {columns}) AS SELECT id, {values} FROM item"


def entry(*columns: str, kind: str = "latest", **others: Any) -> ModelChanges:
    """A table's entry with columns such as `price DECIMAL(8, 2)`."""
    declared = tuple(
        OutputColumn(name=name, type=type_) for name, type_ in (column.split(" ", 1) for column in columns)
    )
    return ModelChanges(
        kind=kind, table_sha256="", query_sha256="", columns=declared, key=("id",), surrogate=None, **others
    )  # fmt: skip


def ids(of: ModelChanges) -> dict[str, int]:
    return {column.name: column.field_id for column in of.columns}


def test_columns_are_numbered_after_those_that_totes_adds() -> None:
    first = numbered(entry("id INTEGER", "name VARCHAR"))
    assert (ids(first), first.field_ids) == ({"id": 5, "name": 6}, 6)
    history = ("valid_from TIMESTAMP", "valid_to TIMESTAMP", "is_deleted BOOLEAN", "batch_id BIGINT")
    versions = numbered(entry("record BIGINT", "id INTEGER", *history, kind="versioned"))
    added = {"batch_id": 1, "is_deleted": 2, "valid_from": 3, "valid_to": 4}
    assert ids(versions) == {"record": 5, "id": 6} | added
    # What a model declares is no column of totes, whatever its name.
    assert ids(numbered(entry("id INTEGER", "is_deleted BOOLEAN"))) == {"id": 5, "is_deleted": 6}


@pytest.mark.parametrize(
    ("then", "now", "kept"),
    [
        ("a INTEGER", "a INTEGER", True),
        ("a SMALLINT", "a INTEGER", True),
        ("a INTEGER", "a BIGINT", True),
        ("a BIGINT", "a INTEGER", False),
        ("a INTEGER", "a DECIMAL(12, 0)", False),
        ("a FLOAT", "a DOUBLE", True),
        ("a DECIMAL(8, 2)", "a DECIMAL(10, 2)", True),
        ("a DECIMAL(8, 2)", "a DECIMAL(10, 3)", False),
        ("a DECIMAL(8, 2)", "a DECIMAL(6, 2)", False),
        ("a VARCHAR", "a DATE", False),
        ("a JSON", "a VARCHAR", True),
    ],
)
def test_a_retyped_column_keeps_its_id_where_iceberg_reads_its_former_values(
    then: str, now: str, kept: bool
) -> None:
    before = numbered(entry("id INTEGER", then, "last TIME"))
    after = numbered(entry("id INTEGER", now, "last TIME"), before)
    assert ids(after) == {"id": 5, "a": 6 if kept else 8, "last": 7}
    assert after.field_ids == (7 if kept else 8)


def test_an_id_is_never_given_to_another_column() -> None:
    first = numbered(entry("id INTEGER", "a VARCHAR", "b VARCHAR"))
    second = numbered(entry("id INTEGER", "a VARCHAR"), first)
    third = numbered(entry("id INTEGER", "a VARCHAR", "b VARCHAR", "c VARCHAR"), second)
    assert ids(third) == {"id": 5, "a": 6, "b": 8, "c": 9}
    fourth = numbered(entry("id INTEGER", "label VARCHAR", "d VARCHAR", "c VARCHAR"), third, {"label": "a"})
    assert ids(fourth) == {"id": 5, "label": 6, "d": 10, "c": 9}
    # A latest table's own column `is_deleted` is none of those that totes adds to it later.
    own = numbered(entry("id INTEGER", "is_deleted BOOLEAN"))
    marked = numbered(entry("id INTEGER", "gone BOOLEAN", "is_deleted BOOLEAN", soft_deletes=True), own, {"gone": "is_deleted"})  # fmt: skip
    assert ids(marked) == {"id": 5, "gone": 6, "is_deleted": 2}


def test_a_manifest_of_an_earlier_release_is_numbered_by_its_columns() -> None:
    old = entry("id INTEGER", "name VARCHAR")
    assert ids(with_field_ids(old)) == {"id": 5, "name": 6}
    assert with_field_ids(with_field_ids(old)) == with_field_ids(old)


def ids_in_files(pipeline: Pipeline, batch: int, table: str) -> list[dict[str, int]]:
    """The field ids in the Parquet files that a batch brought to a table."""
    manifest = pipeline.processed_journal.read(batch)
    with pipeline.processed_store.local(list(manifest.models[table].objects)) as files:
        return [
            dict(duckdb.sql(f"SELECT name, field_id FROM parquet_schema('{file}') WHERE type IS NOT NULL").fetchall())
            for file in files
        ]  # fmt: skip


def test_files_carry_the_ids_and_a_changed_model_keeps_them(
    database: Database, make_pipeline: Callable[..., Pipeline], write_project: Any, tmp_path: Path
) -> None:
    database.execute(SHOP)

    def run(columns: str, values: str) -> Pipeline:
        models = {
            name: text.format(columns=columns, values=values)
            for name, text in (("fact_item", FACT), ("dim_item", DIM))
        }
        pipeline = make_pipeline(database.url, project=write_project(models))
        run_cleanly(pipeline)
        pipeline.apply()
        return pipeline

    odd = 'name VARCHAR, "it\'s ""odd""" INTEGER'
    added = {"valid_from": 3, "valid_to": 4, "is_deleted": 2, "batch_id": 1}
    pipeline = run(odd, 'name, pieces AS "it\'s ""odd"""')
    first = {"record": 5, "id": 6, "name": 7, 'it\'s "odd"': 8} | added
    assert ids_in_files(pipeline, 1, "fact_item") == [first]
    assert ids_in_files(pipeline, 1, "dim_item") == [{"id": 5, "name": 6, 'it\'s "odd"': 7}]
    database.execute("UPDATE item SET pieces = 4, last_updated = '2026-01-02'")
    pipeline = run(odd, 'name, pieces AS "it\'s ""odd"""')
    assert ids_in_files(pipeline, 2, "fact_item") == [first]
    # One is renamed, one retyped to what Iceberg reads its former values as, one comes.
    pipeline = run(
        '\nlabel VARCHAR, -- was: name\n "it\'s ""odd""" BIGINT, price DECIMAL(8, 2)',
        'name AS label, pieces AS "it\'s ""odd""", price',
    )
    changed = {"record": 5, "id": 6, "label": 7, 'it\'s "odd"': 8, "price": 9} | added
    assert ids_in_files(pipeline, 3, "fact_item") == [changed]
    # What goes leaves its number behind.
    pipeline = run("pieces INTEGER", "pieces")
    assert ids_in_files(pipeline, 4, "fact_item") == [{"record": 5, "id": 6, "pieces": 10} | added]
    assert ids_in_files(pipeline, 4, "dim_item") == [{"id": 5, "pieces": 9}]
    assert pipeline.processed_journal.read(4).models["fact_item"].field_ids == 10


def test_a_lake_without_ids_goes_on_with_them(
    database: Database, make_pipeline: Callable[..., Pipeline], write_project: Any
) -> None:
    database.execute(SHOP)
    models = {"dim_item": DIM.format(columns="name VARCHAR", values="name")}
    pipeline = make_pipeline(database.url, project=write_project(models))
    pipeline.run("ingest")
    pipeline.run("process")
    without_field_ids(pipeline)
    database.execute("UPDATE item SET name = 'Bag', last_updated = '2026-01-02'")
    again = make_pipeline(database.url, project=write_project(models))
    run_cleanly(again)
    assert ids(again.processed_journal.read(1).models["dim_item"]) == {"id": 0, "name": 0}
    assert ids(again.processed_journal.read(2).models["dim_item"]) == {"id": 5, "name": 6}
    assert ids_in_files(again, 2, "dim_item") == [{"id": 5, "name": 6}]
