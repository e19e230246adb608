"""Objects that are too large for one request to S3 go there in parts: whole or not at all, and never over another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError

from tests.conftest import Bucket
from totes.errors import StoreError
from totes.lake import s3 as s3_module
from totes.lake import s3_parts
from totes.lake.backup import back_up
from totes.lake.store import Store

pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")
PART = 5 << 20  # S3 takes no smaller ones, but for the last


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests take little, so that objects are large soon."""
    monkeypatch.setattr(s3_module, "REQUEST_BYTES_MAX", PART)
    monkeypatch.setattr(s3_parts, "PART_BYTES_MIN", PART)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of three parts, the last of which is smaller."""
    file = tmp_path / "file"
    file.write_bytes(b"".join(b"%07d\n" % number for number in range((2 * PART + 800) // 8)))
    return file


def unfinished(bucket: str) -> list[Any]:
    answer = boto3.client("s3").list_multipart_uploads(Bucket=bucket)
    return answer.get("Uploads", [])


def test_a_large_file_arrives_whole(s3: Bucket, file: Path, tmp_path: Path) -> None:
    store = Store.open(s3.url("lake"), tmp_path)
    entry = store.put_file("t/large", file, rows=1)
    assert entry.bytes == file.stat().st_size > 2 * PART
    with store.local([entry]) as [local]:
        assert local.read_bytes() == file.read_bytes()
    assert store.check(entry)
    assert unfinished("lakes") == []


def test_a_large_file_is_not_put_over_another(s3: Bucket, file: Path, tmp_path: Path) -> None:
    store = Store.open(s3.url("lake"), tmp_path)
    first = store.put_file("t/large", file, rows=1)
    assert store.put_file("t/large", file, rows=1) == first  # an answer that was lost
    store.put_new("t/other", b"theirs")
    with pytest.raises(StoreError, match="t/other"):
        store.put_file("t/other", file, rows=1)
    assert store.read("t/other") == b"theirs"
    assert unfinished("lakes") == []


def test_what_was_sent_of_a_file_that_fails_half_way_is_removed(
    s3: Bucket, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = s3_parts._put_part

    def fail_late(client: Any, upload: dict[str, str], file: Path, number: int, size: int) -> dict[str, Any]:
        if number == 3:
            raise EndpointConnectionError(endpoint_url="http://s3")
        return put(client, upload, file, number, size)

    monkeypatch.setattr(s3_parts, "_put_part", fail_late)
    store = Store.open(s3.url("lake"), tmp_path)
    with pytest.raises(StoreError, match=r"t/large in parts failed") as failed:
        store.put_file("t/large", file, rows=1)
    assert failed.value.retryable
    assert store.read("t/large") is None
    assert unfinished("lakes") == []


def test_without_boto3_the_way_to_it_is_said(
    s3: Bucket, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "boto3", None)
    store = Store.open(s3.url("lake"), tmp_path)
    with pytest.raises(StoreError, match=r"pip install 'totes\[aws\]'"):
        store.put_file("t/large", file, rows=1)


def test_a_lake_with_large_objects_is_backed_up_to_s3(s3: Bucket, file: Path, tmp_path: Path) -> None:
    from tests.lake.lakes import make_plain

    make_plain(tmp_path / "lake", 1, content=file.read_bytes())
    stores = [Store.open(str(tmp_path / "lake" / name), tmp_path) for name in ("ingestion", "processed")]
    done = back_up(*stores, s3.url("backup"), tmp_path)
    assert (done.faults, done.ingestion.objects, done.processed.objects) == ([], 1, 1)
    assert back_up(*stores, s3.url("backup"), tmp_path, check=True).faults == []
