"""The lake as anybody would read it: Python's json and gzip over the stored bytes, none of the pipeline's parts.

Each function fails where the lake breaks what docs/concepts/lake.md promises of it.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import obstore
import psycopg
from obstore.store import S3Store

Objects = dict[str, bytes]
Rows = dict[tuple[Any, ...], dict[str, Any]]
_CHECKPOINT = re.compile(r"checkpoints/\w+/\d{12}-[0-9a-f]{8}(\.json|/\d+\.parquet)")
_DATA = re.compile(r"(.+/)?date=\d{4}-\d\d-\d\d/\d{12}-\d{4}-[0-9a-f]{8}\.(jsonl\.gz|parquet)")
_NOTE = re.compile(r"log/\w+/[0-9a-f]{16}\.json")
_MANIFEST = re.compile(r"batches/(\d{12})\.json")


def objects_of(store: str) -> Objects:
    """All objects of a store, which is a folder or an S3 URL."""
    if store.startswith("s3://"):
        bucket, _, prefix = store.removeprefix("s3://").partition("/")
        storage = S3Store(bucket, prefix=prefix, client_options={"allow_http": True})
        paths = [entry["path"] for entry in obstore.list(storage).collect()]
        return {path: bytes(obstore.get(storage, path).bytes()) for path in paths}
    files = (file for file in Path(store).rglob("*") if file.is_file())
    return {str(file.relative_to(store)): file.read_bytes() for file in files}


def manifests_of(objects: Objects) -> list[dict[str, Any]]:
    """The manifests, oldest first: gapless from 1, each with the digest of the one before, all that they name intact.

    What no manifest names may only be data objects of runners that were killed or came second, and notes of an advanced slot.
    """
    numbers = sorted(int(found.group(1)) for path in objects if (found := _MANIFEST.fullmatch(path)))
    assert numbers == list(range(1, len(numbers) + 1))
    contents = [objects[f"batches/{number:012d}.json"] for number in numbers]
    manifests = [json.loads(content) for content in contents]
    assert [manifest["batch"] for manifest in manifests] == numbers
    assert [manifest["previous_sha256"] for manifest in manifests] == [None, *map(_sha256, contents)][
        : len(contents)
    ]
    named: dict[str, dict[str, Any]] = {}
    for manifest in manifests:
        for entry in _entries(manifest):
            assert entry["path"] not in named, f"{entry['path']} is named twice"
            named[entry["path"]] = entry
            content = objects[entry["path"]]
            assert (len(content), _sha256(content)) == (entry["bytes"], entry["sha256"]), entry["path"]
            if entry["path"].endswith(".jsonl.gz"):
                assert len(_lines(content)) == entry["rows"], entry["path"]
    # A write into a folder that was cut short leaves the name with `#` and eight hexadecimal digits.
    whole = (re.sub(r"#[0-9a-f]{8}$", "", path) for path in objects)
    strange = [
        path
        for path in whole
        if not any(kind.fullmatch(path) for kind in (_MANIFEST, _DATA, _CHECKPOINT, _NOTE))
    ]
    assert strange == []
    return manifests


def changes_of(objects: Objects, manifest: dict[str, Any], table: str) -> list[dict[str, Any]]:
    """The changes of one table in a batch of the ingestion lake."""
    return [line for entry in manifest["tables"][table]["objects"] for line in _lines(objects[entry["path"]])]


def rows_of_lake(objects: Objects) -> dict[str, Rows]:
    """The rows of each source table, by key, after all batches: what was upserted and not deleted since."""
    tables: dict[str, Rows] = {}
    for manifest in manifests_of(objects):
        for table, described in manifest["tables"].items():
            rows = tables.setdefault(table, {})
            changes = changes_of(objects, manifest, table)
            keys = [tuple(line[part] for part in described["key"]) for line in changes]
            assert len(set(keys)) == len(keys), f"a key of {table} stands twice in batch {manifest['batch']}"
            for key, line in zip(keys, changes, strict=True):
                operation, _ = line.pop("_op"), line.pop("_at")
                if operation == "delete":
                    del rows[key]  # fails where the row was not there
                else:
                    rows[key] = line
            assert len(rows) == described["rows"]
    return tables


def rows_of_source(url: str, manifest: dict[str, Any]) -> dict[str, Rows]:
    """The rows that the source has now, in the lake's form."""
    with psycopg.connect(url) as connection:
        return {name: _source_rows(connection, name, table) for name, table in manifest["tables"].items()}


def _source_rows(connection: psycopg.Connection, name: str, table: dict[str, Any]) -> Rows:
    columns = [(column["name"], "::text" if column["kind"] == "text" else "") for column in table["columns"]]
    asked = ", ".join(f'"{column}"{cast}' for column, cast in columns)
    found = connection.execute(f'SELECT {asked} FROM "{name}"'.encode()).fetchall()
    rows = [dict(zip((column for column, _ in columns), row, strict=True)) for row in found]
    return {tuple(row[part] for part in table["key"]): row for row in rows}


def _entries(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    if manifest["store"] == "ingestion":
        parts = [(table, kind) for table in manifest["tables"].values() for kind in ("objects", "marks")]
    else:
        kinds = ("objects", "removed", "state", "quarantine")
        parts = [(model, kind) for model in manifest["models"].values() for kind in kinds]
    return [entry for part, kind in parts for entry in part[kind]]


def _lines(content: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(content).splitlines()]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
