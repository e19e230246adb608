"""What is a store and an object of it, and which of S3's answers are final: pure."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from totes.errors import ConfigurationError
from totes.lake.document import StoredObject
from totes.lake.s3 import _REFUSAL
from totes.lake.store import Store


@pytest.mark.parametrize("code", [400, 401, 403, 404, 409, 412, 418, 428, 430])
def test_a_refusal_is_not_asked_again(code: int) -> None:
    assert _REFUSAL.search(f"Client error with status code: {code} Forbidden")


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_what_timed_out_or_was_slowed_down_is_asked_again(code: int) -> None:
    assert not _REFUSAL.search(f"Server error with status code: {code}, after 3 retries")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://", "s3:// names no bucket"), ("s3:///prefix", "names no bucket"), ("gs://bucket", "gs://… is not a store"),
        ("s3://bucket/a/../b", "more in it than a bucket"), ("s3://bucket/a//b", "more in it than a bucket"),
        ("s3://bucket/./a", "more in it than a bucket"), ("s3://key:secret@bucket/a", "more in it than a bucket"),
        ("s3://bucket/a?region=x", "more in it than a bucket"),
    ],
)  # fmt: skip
def test_a_place_that_is_no_store_is_refused(url: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Store.open(url, tmp_path)


def test_a_folder_is_made_below_the_settings_and_an_absolute_one_where_it_says(tmp_path: Path) -> None:
    assert Store.open("lake/ingestion", tmp_path).url == str(tmp_path / "lake" / "ingestion")
    assert Store.open(str(tmp_path / "other"), tmp_path / "base").url == str(tmp_path / "other")
    assert (tmp_path / "lake" / "ingestion").is_dir()
    store = Store.open("lake", tmp_path)
    assert store.location("a/b") == f"{tmp_path}/lake/a/b"


@pytest.mark.parametrize(
    ("path", "is_within"),
    [("a/b.json", True), ("a", True), ("a/../b", False), ("../a", False), ("/a", False), ("a//b", False), ("a/", False),
     ("a/./b", False), ("a\\b", False), ("", False), ("..a/b..", True)],
)  # fmt: skip
def test_a_manifest_names_only_what_is_within_its_store(path: str, is_within: bool) -> None:
    if is_within:
        assert StoredObject(path=path, rows=1, bytes=1, sha256="x").path == path
    else:
        with pytest.raises(ValidationError, match="is not an object of this store"):
            StoredObject(path=path, rows=1, bytes=1, sha256="x")
