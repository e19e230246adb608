"""The whole pipeline with both lakes in S3."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Bucket, Command, Database, rows_of, run_cleanly
from tests.contracts.shop import MODELS, SCHEMA
from totes.pipeline import Pipeline


@pytest.fixture
def shop_in_s3(
    s3: Bucket,
    database: Database,
    make_pipeline: Callable[..., Pipeline],
    write_project: Callable[..., dict[str, Any]],
) -> Callable[..., Pipeline]:
    """A shop's pipeline whose lakes are both in S3."""
    database.execute(*SCHEMA)
    project = write_project(MODELS)

    def make(compression: str = "zstd") -> Pipeline:
        lake = {
            "ingestion": s3.url("ingestion"),
            "processed": s3.url("processed"),
            "compression": compression,
        }
        return make_pipeline(database.url, project=project, lake=lake)

    return make


@pytest.mark.parametrize("cache_is_lost", [False, True], ids=["cache kept", "cache lost"])
def test_a_pipeline_over_s3_keeps_history(
    shop_in_s3: Callable[..., Pipeline], database: Database, cache_is_lost: bool, tmp_path: Path
) -> None:
    run_cleanly(shop_in_s3())
    if cache_is_lost:
        shutil.rmtree(tmp_path / ".totes")
    database.execute(
        "UPDATE \"order\" SET quantity = 5, last_updated = '2024-11-26 10:00' WHERE order_id = 1",
        "UPDATE customer SET city = 'Bath', last_updated = '2024-11-26 10:00' WHERE customer_id = 10",
        'DELETE FROM "order" WHERE order_id = 2',
    )
    run_cleanly(shop_in_s3())
    assert run_cleanly(shop_in_s3()).ingested.batch is None
    history = "SELECT order_record_id, order_id, quantity, is_deleted, batch_id, valid_to IS NULL FROM fact_order ORDER BY 1"
    assert rows_of(shop_in_s3(), history) == [
        (1, 1, 2, False, 1, False), (2, 2, 1, False, 1, False), (3, 3, 7, False, 1, True),
        (4, 1, 5, False, 2, True), (5, 2, 1, True, 2, True),
    ]  # fmt: skip
    assert rows_of(shop_in_s3(), "SELECT customer_id, name, city FROM dim_customer ORDER BY 1") == [
        (10, "Ada", "Bath"),
        (11, "Bo", "York"),
    ]


@pytest.mark.parametrize("compression", ["zstd", "gzip", "none"])
def test_packets_are_compressed_as_set_and_processed(
    shop_in_s3: Callable[..., Pipeline], compression: str, tmp_path: Path
) -> None:
    pipeline = shop_in_s3(compression)
    pipeline.ingest()
    [path] = pipeline.ingestion_store.list("order/")
    content = pipeline.ingestion_store.read(path)
    assert content is not None
    ending, start = {
        "zstd": (".jsonl.zst", b"\x28\xb5\x2f\xfd"),
        "gzip": (".jsonl.gz", b"\x1f\x8b"),
        "none": (".jsonl", b"{"),
    }[compression]
    assert path.endswith(ending)
    assert content.startswith(start)
    if compression != "zstd":
        lines = (gzip.decompress(content) if compression == "gzip" else content).splitlines()
        assert json.loads(lines[0]) == {
            "order_id": 1, "customer_id": 10, "quantity": 2, "price": "12.50", "last_updated": "2024-11-25 09:00:00",
            "_op": "upsert", "_at": "2024-11-25T09:00:00",
        }  # fmt: skip
    pipeline.process()
    pipeline.load()
    assert rows_of(pipeline, "SELECT count(*), sum(quantity) FROM fact_order") == [(3, 10)]


def test_the_command_reads_and_writes_s3(
    s3: Bucket,
    database: Database,
    totes: Callable[..., Command],
    write_project: Callable[..., dict[str, Any]],
) -> None:
    database.execute(*SCHEMA)
    write_project(MODELS)
    settings = {
        "TOTES_SOURCE__URL": database.url, "TOTES_PROJECT__PATH": "project",
        "TOTES_LAKE__INGESTION": s3.url("ingestion"), "TOTES_LAKE__PROCESSED": s3.url("processed"),
    }  # fmt: skip
    done = totes("run", "--json", **settings)
    assert (done.code, json.loads(done.out)["loaded"]) == (0, {"dim_customer": 2, "fact_order": 3})
    history = json.loads(totes("history", "fact_order", "1", "--json", **settings).out)
    assert all(place.startswith(s3.url("")) for place in history["versions"][0]["objects"])
