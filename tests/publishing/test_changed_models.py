"""A changed model begins its published table anew, in one snapshot, and columns keep their field ids."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Database, run_cleanly
from tests.publishing.readers import ICEBERG, check, published
from totes.pipeline import Pipeline

pytestmark = pytest.mark.iceberg
SHOP = (
    "CREATE TABLE item (id int PRIMARY KEY, name text, price numeric(8,2), pieces int, last_updated timestamp);"
    "INSERT INTO item SELECT i, 'Tote ' || i, i * 1.5, i, '2026-01-01' FROM generate_series(1, 5) AS i"
)
CHANGE = (
    "UPDATE item SET pieces = pieces + 1, last_updated = last_updated + interval '1 day' WHERE id % 2 = {}"
)
FACT = "CREATE TABLE fact_item (record BIGINT PRIMARY KEY, id INTEGER NOT NULL, {columns}) AS SELECT id, {values} FROM item"
DIM = "CREATE TABLE dim_item (id INTEGER PRIMARY KEY, {columns}) AS SELECT id, {values} FROM item"
DIM_VERSIONS = (
    "CREATE TABLE dim_item (r BIGINT PRIMARY KEY, id INTEGER, {columns}) AS SELECT id, {values} FROM item"
)


@pytest.fixture
def shop(
    database: Database, make_pipeline: Callable[..., Pipeline], write_project: Any
) -> Callable[..., Pipeline]:
    """Applies models of these columns, and runs the pipeline, after something has changed at the source."""
    database.execute(SHOP)
    changes = iter(range(100))

    def run(columns: str, values: str, dim: str = DIM) -> Pipeline:
        database.execute(CHANGE.format(next(changes) % 2))
        models = {
            name: text.format(columns=columns, values=values)
            for name, text in (("fact_item", FACT), ("dim_item", dim))
        }
        pipeline = make_pipeline(database.url, project=write_project(models), publish=ICEBERG)
        run_cleanly(pipeline)
        pipeline.apply()
        assert run_cleanly(pipeline).published == pipeline.processed_journal.last()
        return pipeline

    return run


def fields(pipeline: Pipeline, name: str) -> dict[str, int]:
    """The field ids of a published table's columns."""
    return {field.name: field.field_id for field in published(pipeline, name).schema().fields}


def test_columns_that_come_are_renamed_retyped_and_go(shop: Callable[..., Pipeline]) -> None:
    added = {"valid_from": 3, "is_deleted": 2, "batch_id": 1}
    pipeline = shop("name VARCHAR, pieces INTEGER", "name, pieces")
    check(pipeline)
    assert fields(pipeline, "fact_item") == {"record": 5, "id": 6, "name": 7, "pieces": 8} | added
    assert fields(pipeline, "dim_item") == {"id": 5, "name": 6, "pieces": 7, "is_deleted": 2, "batch_id": 1}
    first = published(pipeline, "fact_item").current_snapshot()
    pipeline = shop("name VARCHAR, pieces INTEGER, price DECIMAL(8, 2)", "name, pieces, price")
    check(pipeline)
    assert fields(pipeline, "fact_item") == {"record": 5, "id": 6, "name": 7, "pieces": 8, "price": 9} | added
    # What there was before can still be read as it was.
    then = published(pipeline, "fact_item").scan(snapshot_id=first.snapshot_id).to_arrow()
    assert sorted(then.column_names) == [
        "batch_id",
        "id",
        "is_deleted",
        "name",
        "pieces",
        "record",
        "valid_from",
    ]
    assert then.num_rows == 5
    pipeline = shop(
        "\nlabel VARCHAR, -- was: name\n pieces BIGINT, price VARCHAR",
        "name AS label, pieces, price::VARCHAR AS price",
    )
    check(pipeline)
    assert (
        fields(pipeline, "fact_item") == {"record": 5, "id": 6, "label": 7, "pieces": 8, "price": 10} | added
    )
    pipeline = shop("name VARCHAR", "name")
    check(pipeline)
    assert fields(pipeline, "fact_item") == {"record": 5, "id": 6, "name": 11} | added
    operations = [one.summary.operation.value for one in published(pipeline, "fact_item").metadata.snapshots]
    assert operations.count("overwrite") == 3


def test_a_table_that_begins_to_keep_its_history_and_no_longer(shop: Callable[..., Pipeline]) -> None:
    columns = ("name VARCHAR, pieces INTEGER", "name, pieces")
    check(shop(*columns))
    pipeline = shop(*columns, dim=DIM_VERSIONS)
    assert check(pipeline)["dim_item"] > 5
    assert fields(pipeline, "dim_item") == {
        "r": 8, "id": 5, "name": 6, "pieces": 7, "valid_from": 3, "is_deleted": 2, "batch_id": 1,
    }  # fmt: skip
    pipeline = shop(*columns)
    assert check(pipeline)["dim_item"] == 5
    check(shop(*columns))


def test_a_model_that_is_gone_takes_its_published_table_along(
    database: Database, make_pipeline: Callable[..., Pipeline], write_project: Any
) -> None:
    database.execute(SHOP)
    models = {
        name: text.format(columns="name VARCHAR", values="name")
        for name, text in (("fact_item", FACT), ("dim_item", DIM))
    }
    pipeline = make_pipeline(database.url, project=write_project(models), publish=ICEBERG)
    run_cleanly(pipeline)
    files = [task.file.file_path for task in published(pipeline, "dim_item").scan().plan_files()]
    del models["dim_item"]
    (pipeline.settings.base / "project/models/dim_item.sql").unlink()
    pipeline = make_pipeline(database.url, project=write_project(models), publish=ICEBERG)
    pipeline.apply()
    run_cleanly(pipeline)
    assert published(pipeline, "dim_item") is None
    check(pipeline)
    assert all(pipeline.processed_store.read(file.partition("processed/")[2]) for file in files)


def test_a_latest_table_with_columns_called_as_those_that_totes_adds(
    database: Database, make_pipeline: Callable[..., Pipeline], write_project: Any
) -> None:
    database.execute(
        "CREATE TABLE item (id int PRIMARY KEY, is_deleted boolean, batch_id text, last_updated timestamp)",
        "INSERT INTO item VALUES (1, true, 'x', '2026-01-01'), (2, false, 'y', '2026-01-01')",
    )
    model = "CREATE TABLE dim_item (id INTEGER PRIMARY KEY, is_deleted BOOLEAN, batch_id VARCHAR) AS SELECT id, is_deleted, batch_id FROM item"
    pipeline = make_pipeline(database.url, project=write_project({"dim_item": model}), publish=ICEBERG)
    run_cleanly(pipeline)
    database.execute("DELETE FROM item WHERE id = 2")
    run_cleanly(pipeline)
    rows = sorted(
        map(tuple, (row.values() for row in published(pipeline, "dim_item").scan().to_arrow().to_pylist())),
        key=str,
    )
    names = ["id", "is_deleted", "batch_id", "totes_batch_id", "totes_is_deleted"]
    assert published(pipeline, "dim_item").schema().column_names == names
    assert rows == [(1, True, "x", 1, False), (2, False, "y", 1, False), (2, None, None, 2, True)]
