"""Every change of a row is a line, in the order of commits, with the commit's time."""

from __future__ import annotations

from datetime import datetime

from tests.conftest import Database
from tests.ingestion.log.conftest import Lake, number


def test_each_change_is_a_line_with_its_place_and_time(source: Database, lake: Lake) -> None:
    before = datetime.now()
    source.execute("INSERT INTO t VALUES (1, 'a'), (2, NULL)")
    source.execute(
        "UPDATE t SET v = v || '!' WHERE id = 1", "UPDATE t SET v = 'b'", "DELETE FROM t WHERE id = 2"
    )
    done = lake.ingest()
    assert {name: (found.upserts, found.deletes) for name, found in done.changes.items()} == {"t": (5, 1)}
    assert lake.steps(2) == [
        ("upsert", 1, "a"), ("upsert", 2, None), ("upsert", 1, "a!"), ("upsert", 2, "b"), ("upsert", 1, "b"), ("delete", 2),
    ]  # fmt: skip
    lines = lake.lines(2)
    assert [(line["_lsn"] == lines[0]["_lsn"], line["_seq"] > 0) for line in lines[:2]] == [(True, True)] * 2
    assert len({line["_lsn"] for line in lines}) == 4
    assert all(before < datetime.fromisoformat(line["_at"]) < datetime.now() for line in lines)
    manifest = lake.manifests()[1]
    assert manifest["tables"]["t"]["rows"] == 1
    assert number(manifest["position"]["log_lsn"]) >= number(lines[-1]["_lsn"])
    assert lake.ingest().batch is None
    source.execute("INSERT INTO t VALUES (3, 'c')")
    assert lake.ingest().batch == 3
    assert lake.steps(3) == [("upsert", 3, "c")]
