"""A first load by the real command, through a real server of Spark Connect."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Database
from totes.lake.journal import ingestion_journal
from totes.lake.store import Store

pytestmark = pytest.mark.spark
_SERVER = "org.apache.spark.sql.connect.service.SparkConnectServer"


@pytest.fixture
def connect_url(spark_environment: None, tmp_path: Path) -> Iterator[str]:
    """A server of Spark Connect with executors in its own process."""
    found = importlib.util.find_spec("pyspark")
    assert found is not None
    assert found.origin is not None
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    settings = {"spark.connect.grpc.binding.port": port, "spark.connect.grpc.binding.address": "127.0.0.1"}
    options = [part for name, value in settings.items() for part in ("--conf", f"{name}={value}")]
    command = [
        Path(found.origin).parent / "bin" / "spark-submit",
        "--class",
        _SERVER,
        "--master",
        "local[2]",
        *options,
    ]
    with (tmp_path / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "spark-internal"],
            env=os.environ | {"PYSPARK_PYTHON": sys.executable},
            stdout=log,
            stderr=log,
        )
    try:
        _wait_for(port, server)
        yield f"sc://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while server.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    pytest.fail("the server of Spark Connect did not start")


def test_the_command_reads_a_first_load_through_spark_connect(
    totesys: Database, connect_url: str, totes: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "totes.toml").write_text(
        f'[source]\nurl = "{totesys.url}"\n[workers]\nurl = "{connect_url}"\n'
    )
    done = totes("ingest", "--json")
    assert done.code == 0, done.err
    found = {name: table["upserts"] for name, table in json.loads(done.out)["ingested"].items()}
    assert found["sales_order"] == totesys.execute("SELECT count(*) FROM sales_order")[0][0]
    assert len(found) == 11
    password = totesys.url.partition("@")[0].rpartition(":")[2]
    assert password not in done.err + (tmp_path / "server.log").read_text()
    manifest = ingestion_journal(Store.open("lake/ingestion", tmp_path)).read(1)
    assert {name: len(table.marks) for name, table in manifest.tables.items()} == dict.fromkeys(found, 1)
    following = totes("run", "--json")  # processes and loads, from the lake
    assert following.code == 0, following.err
    assert json.loads(following.out)["loaded"]["fact_sales_order"] == found["sales_order"]
