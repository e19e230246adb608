"""Every value of every type is in a line from the log as it is in a line by query."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.conftest import Database
from tests.ingestion.log.conftest import Lake
from tests.values.test_lake_values import fill, packets, set_contrary
from tests.values.types import set_up, with_arrays

KEY_ONLY = {"dim_t": "CREATE TABLE dim_t (id INTEGER PRIMARY KEY) AS SELECT id FROM t"}
PLACE = ("_lsn", "_seq", "_at")


def test_lines_are_the_same_from_the_log_and_by_query(
    source: Database, new_lake: Callable[..., Lake], write_project: Callable[..., object], tmp_path: Path
) -> None:
    project = write_project(KEY_ONLY)
    source.execute("DROP TABLE t")
    set_up(source)
    fill(source, {kind: values for kind, values in with_arrays(source).items() if values})
    source.execute("CREATE TABLE copied AS TABLE t", "TRUNCATE t")
    set_contrary(source)
    sections = {"project": project, "lake": {"compression": "zstd"}, "source": {"tables": ["t"]}}
    lake = new_lake(source, folder=tmp_path / "log", **sections)
    lake.ingest()
    source.execute("INSERT INTO public.t SELECT * FROM public.copied")
    batch = lake.ingest().batch or 0
    by_query = new_lake(source, "query", folder=tmp_path / "query", **sections)
    by_query.ingest()
    from_log = {row["id"]: row for row in packets(lake.pipeline, batch, "t")}
    expected = {row["id"]: row for row in packets(by_query.pipeline, 1, "t")}
    assert from_log.keys() == expected.keys()
    for key, row in expected.items():
        found = from_log[key]
        assert all(found.pop(name) for name in PLACE)
        row.pop("_at")
        assert list(found) == list(row)
        for name, value in row.items():
            assert found[name] == value, name
