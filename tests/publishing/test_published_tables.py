"""Published tables, read by two readers that know nothing of totes, have the rows of the warehouse, batch after batch."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Bucket, Database, run_cleanly
from tests.faults import kiosk
from tests.publishing.earlier import without_field_ids
from tests.publishing.readers import ICEBERG, check, published, query
from totes.pipeline import Pipeline
from totes.terrifictotes import demo_source

pytestmark = pytest.mark.iceberg
TYPES = (
    "BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "FLOAT", "DOUBLE", "DATE", "TIME", "TIMESTAMP", "TIMESTAMPTZ", "INTERVAL",
    "UUID", "BLOB", "JSON", "VARCHAR", "VARCHAR(5)", "DECIMAL(4, 1)", "DECIMAL(18, 6)", "DECIMAL(38, 10)", "NUMERIC",
)  # fmt: skip
SOURCE_TYPES = {"TINYINT": "smallint", "FLOAT": "real", "DOUBLE": "double precision", "BLOB": "bytea"}
VALUES = (
    ("true", "-128", "-32768", "-2147483648", "-9223372036854775808", "1.1", "0.1", "'0044-03-15 BC'", "'23:59:59.999999'",
     "'0001-01-01'", "'9999-12-31 23:59:59.999999+00'", "'1 month 2 days 00:00:00.000003'", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
     r"'\x00ff'", """'{"a": [1, null]}'""", "'it''s ünï'", "'äöüß€'", "-999.9", "123456789012.123456",
     "1234567890123456789012345678.0123456789", "1.5"),
    ("false", "127", "32767", "2147483647", "9223372036854775807", "'NaN'", "'Infinity'", "'5000-01-01'", "'00:00'",
     "'2026-01-01 00:00:00.000001'", "'1900-01-01+00'", "'-1 day'", "'00000000-0000-0000-0000-000000000000'",
     "''", "'null'", "''", "''", "0", "-0.000001", "0", "-99"),
    *(
        ("true", "0", "0", "0", "0", f"'{sign}Infinity'", "'NaN'", f"'{sign}infinity'", "'12:00'", f"'{sign}infinity'",
         f"'{sign}infinity'", "'0'", "NULL", "NULL", "NULL", "NULL", "NULL", "0", "0", "0", "0")
        for sign in ("", "-")
    ),
)  # fmt: skip


def test_batches_with_changes_and_deletes(
    database: Database, make_pipeline: Callable[..., Pipeline], write_project: Any
) -> None:
    pipeline = make_pipeline(database.url, project=write_project(kiosk.MODELS), publish=ICEBERG)
    for number, state in enumerate(kiosk.STATES, start=1):
        database.execute(state)
        assert run_cleanly(pipeline).published == number
        check(pipeline)
    assert check(pipeline) == {"dim_region": 2, "dim_customer": 4, "fact_sale": len(kiosk.HISTORY)}
    # A table with one row a key has its history too: each row that was written, and each that left.
    regions = "SELECT code, name, CAST(batch_id AS VARCHAR), CAST(is_deleted AS VARCHAR) FROM dim_region ORDER BY 3, 1"
    for [rows] in query(pipeline, regions).values():
        assert rows == [
            ("e", "East", "1", "false"), ("n", "North", "1", "false"), ("s", "South", "1", "false"),
            ("e", None, "2", "true"), ("s", "Far South", "2", "false"),
            ("s", "Deep South", "3", "false"),
        ]  # fmt: skip


def test_no_file_is_copied_and_each_batch_is_one_snapshot(
    database: Database, make_pipeline: Callable[..., Pipeline], write_project: Any
) -> None:
    pipeline = make_pipeline(database.url, project=write_project(kiosk.MODELS), publish=ICEBERG)
    for state in kiosk.STATES:
        database.execute(state)
        run_cleanly(pipeline)
    lake = pipeline.settings.base / "lake"
    for name in kiosk.MODELS:
        table = published(pipeline, name)
        batches = [one.summary["totes.batch"] for one in table.metadata.snapshots]
        assert batches == ["1", "2", "3"]
        for task in table.scan().plan_files():
            assert task.file.file_path.startswith(f"file://{lake}/processed/")
    assert not [
        file for file in (lake / "iceberg/kiosk").rglob("*.parquet") if "totes_batches" not in str(file)
    ]
    before = [published(pipeline, name).metadata_location for name in (*kiosk.MODELS, "totes_batches")]
    again = make_pipeline(database.url, project=write_project(kiosk.MODELS), publish=ICEBERG)
    assert run_cleanly(again).published == 3
    assert [
        published(pipeline, name).metadata_location for name in (*kiosk.MODELS, "totes_batches")
    ] == before


def test_terrifictotes_with_days_of_trading(
    totesys: Database, make_pipeline: Callable[..., Pipeline]
) -> None:
    pipeline = make_pipeline(totesys.url, publish=ICEBERG)
    run_cleanly(pipeline)
    for _ in range(2):
        demo_source.trade(totesys.url)
        run_cleanly(pipeline)
    rows = check(pipeline)
    assert len(rows) == 11
    assert min(rows.values()) > 0


def test_every_type_that_a_column_can_have(
    database: Database, make_pipeline: Callable[..., Pipeline], write_project: Any
) -> None:
    columns = ", ".join(f"c{number} {SOURCE_TYPES.get(kind, kind)}" for number, kind in enumerate(TYPES))
    nulls = ", ".join(["NULL"] * len(TYPES))
    rows = ", ".join(f"({number}, {', '.join(row)})" for number, row in enumerate(VALUES))
    database.execute(
        f"CREATE TABLE item (id int PRIMARY KEY, {columns})", f"INSERT INTO item VALUES {rows}, (9, {nulls})"
    )
    declared = ", ".join(f"c{number} {kind}" for number, kind in enumerate(TYPES))
    given = ", ".join(f"c{number}" for number in range(len(TYPES)))
    models = {
        "fact_item": f"CREATE TABLE fact_item (r BIGINT PRIMARY KEY, id INTEGER NOT NULL, {declared}) AS SELECT id, {given} FROM item",
        "dim_item": f"CREATE TABLE dim_item (id INTEGER PRIMARY KEY, {declared}) AS SELECT id, {given} FROM item",
    }
    pipeline = make_pipeline(database.url, project=write_project(models), publish=ICEBERG)
    assert run_cleanly(pipeline).quarantined == 0
    assert check(pipeline) == {"fact_item": 5, "dim_item": 5}


def test_a_lake_of_an_earlier_release_and_one_that_is_published_late(
    database: Database, make_pipeline: Callable[..., Pipeline], write_project: Any
) -> None:
    project = write_project(kiosk.MODELS)
    pipeline = make_pipeline(database.url, project=project)
    database.execute(kiosk.STATES[0])
    pipeline.run("ingest")
    pipeline.run("process")
    without_field_ids(pipeline)
    database.execute(kiosk.STATES[1])
    run_cleanly(make_pipeline(database.url, project=project))
    late = make_pipeline(database.url, project=project, publish=ICEBERG)
    assert run_cleanly(late).published == 2
    check(late)
    assert len(published(late, "fact_sale").metadata.snapshots) == 1
    database.execute(kiosk.STATES[2])
    run_cleanly(late)
    check(late)


def test_an_earlier_lake_that_has_no_new_batch_is_published_as_it_is(
    database: Database, make_pipeline: Callable[..., Pipeline], write_project: Any
) -> None:
    project = write_project(kiosk.MODELS)
    pipeline = make_pipeline(database.url, project=project)
    database.execute(kiosk.STATES[0])
    pipeline.run("ingest")
    pipeline.run("process")
    without_field_ids(pipeline)
    published_now = make_pipeline(database.url, project=project, publish=ICEBERG)
    assert published_now.run("load").published == 1
    check(published_now)
    ids = {field.name: field.field_id for field in published(published_now, "dim_customer").schema().fields}
    database.execute(kiosk.STATES[1])
    run_cleanly(published_now)
    check(published_now)
    assert ids == {
        field.name: field.field_id for field in published(published_now, "dim_customer").schema().fields
    }


def test_a_lake_in_s3(
    database: Database,
    make_pipeline: Callable[..., Pipeline],
    write_project: Any,
    s3: Bucket,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = {
        "WAREHOUSE": s3.url("iceberg"),
        "S3__ENDPOINT": os.environ["AWS_ENDPOINT_URL"],
        "S3__REGION": "us-east-1",
    }
    for name, value in own.items():
        monkeypatch.setenv(f"PYICEBERG_CATALOG__TOTES__{name}", value)
    lake = {"ingestion": s3.url("ingestion"), "processed": s3.url("processed")}
    pipeline = make_pipeline(
        database.url,
        project=write_project(kiosk.MODELS),
        lake=lake,
        publish={"iceberg": "sql:sqlite:///iceberg.db"},
    )
    for state in kiosk.STATES:
        database.execute(state)
        run_cleanly(pipeline)
    assert check(pipeline)["fact_sale"] == len(kiosk.HISTORY)
    [*tasks] = published(pipeline, "fact_sale").scan().plan_files()
    assert {task.file.file_path.startswith(s3.url("processed/fact_sale/")) for task in tasks} == {True}


def test_a_lake_in_s3_without_a_place_for_metadata_says_what_to_set(
    database: Database, make_pipeline: Callable[..., Pipeline], write_project: Any, s3: Bucket
) -> None:
    lake = {"ingestion": s3.url("ingestion"), "processed": s3.url("processed")}
    pipeline = make_pipeline(
        database.url,
        project=write_project(kiosk.MODELS),
        lake=lake,
        publish={"iceberg": "sql:sqlite:///iceberg.db"},
    )
    database.execute(kiosk.STATES[0])
    [failure] = pipeline.run().failures.values()
    assert "PYICEBERG_CATALOG__TOTES__WAREHOUSE" in str(failure)
