"""The kinds of catalogs: the Glue Data Catalog as AWS's emulator has it, and the REST catalog of SeaweedFS."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import boto3
import duckdb
import pytest
from moto.server import ThreadedMotoServer

from tests.conftest import Database, _free_ports, rows_of, run_cleanly
from tests.faults import kiosk
from tests.publishing import readers
from totes.pipeline import Pipeline
from totes.publishing.catalog import Catalog

pytestmark = pytest.mark.iceberg
COUNTS = ("SELECT count(*)::VARCHAR FROM fact_sale", "SELECT batch_id::VARCHAR FROM totes_batches")


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """S3 and Glue as moto has them, with a bucket `lake`; PyIceberg's settings point there."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = f"http://127.0.0.1:{server.get_host_and_port()[1]}"
    region = {"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}
    keys = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key", "AWS_ENDPOINT_URL": url}
    own = {
        "WAREHOUSE": "s3://lake/iceberg",
        "S3__ENDPOINT": url,
        "S3__REGION": "us-east-1",
        "GLUE__ENDPOINT": url,
    }
    variables = region | keys | {f"PYICEBERG_CATALOG__TOTES__{name}": value for name, value in own.items()}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="lake")
    yield url
    server.stop()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_glue_has_the_tables_with_their_columns(
    aws: str,
    database: Database,
    make_pipeline: Callable[..., Pipeline],
    write_project: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(readers, "_extension", lambda _tables, _queries: [])  # it has no client for S3 here
    pipeline = make_pipeline(database.url, project=write_project(kiosk.MODELS), publish={"iceberg": "glue:"})
    for state in kiosk.STATES:
        database.execute(state)
        run_cleanly(pipeline)
    assert readers.query(pipeline, *COUNTS)["PyIceberg"] == [[(str(len(kiosk.HISTORY)),)], [("3",)]]
    tables = boto3.client("glue").get_tables(DatabaseName="project")["TableList"]
    columns = {one["Name"]: [c["Name"] for c in one["StorageDescriptor"]["Columns"]] for one in tables}
    assert sorted(columns) == [*sorted(kiosk.MODELS), "totes_batches"]
    assert columns["dim_region"] == ["code", "name", "batch_id", "is_deleted"]


def test_an_sql_catalog_in_postgresql(
    new_database: Callable[[], Database],
    database: Database,
    make_pipeline: Callable[..., Pipeline],
    write_project: Any,
) -> None:
    there = {"iceberg": f"sql:{new_database().url}"}
    pipeline = make_pipeline(database.url, project=write_project(kiosk.MODELS), publish=there)
    for state in kiosk.STATES:
        database.execute(state)
        run_cleanly(pipeline)
    assert readers.check(pipeline)["fact_sale"] == len(kiosk.HISTORY)


@pytest.fixture
def rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A REST catalog with its own S3; PyIceberg's settings have its credentials."""
    (tmp_path / "s3.json").write_text(
        '{"identities": [{"name": "tests", "actions": ["Admin"],'
        ' "credentials": [{"accessKey": "tests", "secretKey": "s3-secret"}]}]}'
    )
    services = ("master", "volume", "filer", "s3", "admin")
    flags = [*(f"{service}.port{kind}" for service in services for kind in ("", ".grpc")), "s3.port.iceberg"]
    ports = dict(zip(flags, _free_ports(len(flags)), strict=True))
    with (tmp_path / "log").open("wb") as output:
        process = subprocess.Popen(
            [
                Path(sys.executable).with_name("weed"), "mini", f"-dir={tmp_path}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
                "-webdav=false", "-admin.ui=false", "-s3.port.lance=0", "-master.telemetry=false", "-tableBucket=lakehouse",
                f"-s3.config={tmp_path / 's3.json'}", *(f"-{flag}={port}" for flag, port in ports.items()),
            ],
            stdout=output, stderr=output, cwd=tmp_path,
        )  # fmt: skip
    own = {
        "WAREHOUSE": "s3://lakehouse", "S3__ENDPOINT": f"http://127.0.0.1:{ports['s3.port']}", "S3__REGION": "us-east-1",
        "S3__ACCESS_KEY_ID": "tests", "S3__SECRET_ACCESS_KEY": "s3-secret", "REST__SIGV4_ENABLED": "true",
        "REST__SIGNING_REGION": "us-east-1", "REST__SIGNING_NAME": "s3tables",
    }  # fmt: skip
    for name, value in own.items():
        monkeypatch.setenv(f"PYICEBERG_CATALOG__TOTES__{name}", value)
    for name, value in {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "s3-secret"}.items():
        monkeypatch.setenv(name, value)
    try:
        yield f"rest:http://127.0.0.1:{ports['s3.port.iceberg']}"
    finally:
        process.kill()
        process.wait()


def test_a_rest_catalog_gets_every_batch(
    rest: str,
    database: Database,
    make_pipeline: Callable[..., Pipeline],
    write_project: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(readers, "_extension", lambda _tables, _queries: [])  # it has no client for S3 here
    pipeline = make_pipeline(database.url, project=write_project(kiosk.MODELS), publish={"iceberg": rest})
    deadline = time.monotonic() + 60
    for number, state in enumerate(kiosk.STATES, start=1):
        database.execute(state)
        while pipeline.run().published != number and time.monotonic() < deadline:
            time.sleep(0.5)  # the server is starting
    assert readers.query(pipeline, *COUNTS)["PyIceberg"] == [[(str(len(kiosk.HISTORY)),)], [("3",)]]
    renamed = kiosk.MODELS | {
        "dim_region": "CREATE TABLE dim_region (code VARCHAR PRIMARY KEY,\n label VARCHAR -- was: name\n) AS SELECT code, name AS label FROM region"
    }
    pipeline = make_pipeline(database.url, project=write_project(renamed), publish={"iceberg": rest})
    run_cleanly(pipeline)
    pipeline.apply()
    run_cleanly(pipeline)
    fields = {
        field.name: field.field_id for field in readers.published(pipeline, "dim_region").schema().fields
    }
    assert fields == {"code": 5, "label": 6, "batch_id": 1, "is_deleted": 2}


def test_a_rest_catalog_with_views_has_those_of_the_warehouse(
    rest: str,
    database: Database,
    make_pipeline: Callable[..., Pipeline],
    write_project: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server has views, and does not say so."""
    from pyiceberg.catalog.rest import VIEW_ENDPOINTS, RestCatalog

    fetched = RestCatalog._fetch_config

    def with_views(catalog: RestCatalog) -> None:
        fetched(catalog)
        catalog._supported_endpoints |= VIEW_ENDPOINTS

    monkeypatch.setattr(RestCatalog, "_fetch_config", with_views)
    pipeline = make_pipeline(database.url, project=write_project(kiosk.MODELS), publish={"iceberg": rest})
    deadline = time.monotonic() + 60
    for number, state in enumerate(kiosk.STATES, start=1):
        database.execute(state)
        while pipeline.run().published != number and time.monotonic() < deadline:
            time.sleep(0.5)  # the server is starting
    with (
        Catalog.open(pipeline.settings, pipeline.processed_store) as catalog,
        closing(duckdb.connect()) as engine,
    ):
        for name in (*kiosk.MODELS, "totes_batches"):
            table = catalog.table(name)
            assert table is not None
            engine.register(name, table.scan().to_arrow())
        for name in ("dim_region_current", "dim_customer_current", "fact_sale_current", "fact_sale_history"):
            view = catalog._opened.load_view((catalog.namespace, name))
            texts = {one.root.dialect: one.root.sql for one in view.current_version().representations}
            with pipeline.warehouse(read_only=True) as warehouse:
                columns = warehouse.columns(name.removesuffix("_history"))
            assert set(columns) <= set(view.schema().column_names)
            text = ", ".join(f"CAST({column} AS VARCHAR)" for column in columns)
            seen = engine.execute(f"SELECT {text} FROM ({texts['trino']}) ORDER BY ALL").fetchall()
            assert texts["spark"].replace("`", '"') == texts["trino"]
            assert seen == rows_of(
                pipeline, f"SELECT {text} FROM {name.removesuffix('_history')} ORDER BY ALL"
            ), name
    models = {name: text for name, text in kiosk.MODELS.items() if name != "dim_region"}
    (pipeline.settings.base / "project/models/dim_region.sql").unlink()
    pipeline = make_pipeline(database.url, project=write_project(models), publish={"iceberg": rest})
    pipeline.apply()
    run_cleanly(pipeline)
    with Catalog.open(pipeline.settings, pipeline.processed_store) as catalog:
        there = {name for _, name in catalog._opened.list_views(catalog.namespace)}
    assert there == {"dim_customer_current", "fact_sale_current", "fact_sale_history"}
