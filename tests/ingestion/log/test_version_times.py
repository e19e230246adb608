"""History says where the time of a version comes from: a column of the source, a commit, or the read time of a batch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command, Database, run_cleanly
from tests.ingestion.log.conftest import Lake
from totes.monitoring.history import read_history
from totes.monitoring.timeline import read_timeline
from totes.pipeline import Pipeline

MODELS = {
    "fact_sale": "CREATE TABLE fact_sale (sale_key BIGINT PRIMARY KEY, sale_id INTEGER NOT NULL, item VARCHAR, region VARCHAR) AS"
    " SELECT sale_id, item, region.name AS region FROM sale JOIN region USING (region_id)",
    "dim_region": "CREATE TABLE dim_region (region_id INTEGER PRIMARY KEY, name VARCHAR) AS SELECT region_id, name FROM region",
}
TABLES = (
    "CREATE TABLE region (region_id int PRIMARY KEY, name text)",
    "CREATE TABLE sale (sale_id int PRIMARY KEY, region_id int, item text, last_updated timestamp)",
    "INSERT INTO region VALUES (1, 'North')",
)
OWN, COMMIT, READ, PUSHED = "source column last_updated", "commit", "read", "after the previous version"
INSERTED = "INSERT INTO sale VALUES (1, 1, 'tea', '2024-01-01 08:00')"
CHANGES = (
    "UPDATE region SET name = 'South' WHERE region_id = 1",  # another table of the join
    "UPDATE sale SET item = 'coffee'",  # its own time does not advance
    "UPDATE sale SET item = 'milk', last_updated = '2024-01-02 08:00'",  # it is before the version's
    "UPDATE sale SET item = 'beer', last_updated = '2999-01-02 08:00'",
    "UPDATE region SET name = 'East' WHERE region_id = 1",
    "DELETE FROM sale",
)


@pytest.fixture
def make(source: Database, new_lake: Callable[..., Lake], write_project: Any) -> Callable[[str], Pipeline]:
    """Makes the pipeline, by query or from the log."""
    source.execute(*TABLES)

    def make(capture: str) -> Pipeline:
        pipeline = new_lake(source, capture, project=write_project(MODELS)).pipeline
        run_cleanly(pipeline)
        return pipeline

    return make


def times(pipeline: Pipeline, table: str, key: str = "1") -> list[str | None]:
    """Where the time of each version comes from."""
    return [version.time for version in read_history(pipeline, table, [key])]


def test_by_query(source: Database, make: Callable[[str], Pipeline]) -> None:
    pipeline = make("query")
    for change in (INSERTED, *CHANGES):
        source.execute(change)
        run_cleanly(pipeline)
    assert times(pipeline, "fact_sale") == [OWN, READ, READ, READ, OWN, PUSHED, PUSHED]
    assert times(pipeline, "sale") == [OWN, OWN, OWN, OWN, READ]
    assert times(pipeline, "region") == [READ, READ, READ]  # the table has no such column
    assert times(pipeline, "dim_region") == [None, None, None]


def test_from_the_log(source: Database, make: Callable[[str], Pipeline]) -> None:
    pipeline = make("log")
    source.execute(INSERTED, *CHANGES)
    run_cleanly(pipeline)
    assert times(pipeline, "fact_sale") == [OWN, COMMIT, COMMIT, COMMIT, OWN, PUSHED, PUSHED]
    assert times(pipeline, "sale") == [COMMIT] * 5
    assert times(pipeline, "region") == [READ, COMMIT, COMMIT]  # the first batch is by query


def test_a_row_that_waited_for_its_join_has_the_time_that_it_had(
    source: Database, make: Callable[[str], Pipeline]
) -> None:
    pipeline = make("log")
    source.execute("INSERT INTO sale VALUES (1, 9, 'tea', '2024-01-01'), (2, 9, 'milk', NULL)")
    run_cleanly(pipeline)
    source.execute("INSERT INTO region VALUES (9, 'West')")
    run_cleanly(pipeline)
    own, commit = (read_history(pipeline, "fact_sale", [key])[0] for key in ("1", "2"))
    assert (str(own.values["valid_from"]), own.time) == ("2024-01-01 00:00:00", OWN)
    [line] = read_history(pipeline, "sale", ["2"])
    assert (commit.values["valid_from"], commit.time) == (line.values["_at"], COMMIT)


def test_a_rebuilt_table(source: Database, make: Callable[[str], Pipeline]) -> None:
    pipeline = make("log")
    for change in (INSERTED, *CHANGES):
        source.execute(change)
        run_cleanly(pipeline)
    model = Path(pipeline.settings.project.path or "") / "models" / "fact_sale.sql"
    model.write_text(
        model.read_text()
        .replace("region VARCHAR)", "region VARCHAR, number INTEGER)")
        .replace(" FROM", ", 1 AS number FROM")
    )
    rebuilt = Pipeline(pipeline.settings)
    rebuilt.apply()
    # Which row of another table it was joined with is not known any more.
    assert times(rebuilt, "fact_sale") == [OWN, None, COMMIT, COMMIT, OWN, PUSHED, PUSHED]


def test_a_column_with_another_name(
    source: Database, new_lake: Callable[..., Lake], write_project: Any
) -> None:
    source.execute(*TABLES, 'ALTER TABLE sale RENAME last_updated TO "changed on"', INSERTED)
    pipeline = new_lake(
        source, "query", project=write_project(MODELS), source={"changed_at": "changed on"}
    ).pipeline
    run_cleanly(pipeline)
    assert times(pipeline, "fact_sale") == times(pipeline, "sale") == ["source column changed on"]
    pipeline.settings.source.__dict__["changed_at"] = (
        "last_updated"  # set again since: the name is not in the lake
    )
    assert times(pipeline, "sale") == ["source column"]


def test_changes_of_a_batch_are_in_the_order_of_the_log(
    source: Database, make: Callable[[str], Pipeline]
) -> None:
    pipeline = make("log")
    source.execute(INSERTED, "DELETE FROM sale", INSERTED)
    run_cleanly(pipeline)
    found = read_history(pipeline, "sale", ["1"])
    assert [version.values["_op"] for version in found] == ["upsert", "delete", "upsert"]
    assert [version.values["_at"] for version in found] == sorted(version.values["_at"] for version in found)
    assert all("/" in version.values["_lsn"] and version.values["_seq"] >= 0 for version in found)


def test_command_and_pages_show_it(
    source: Database, make: Callable[[str], Pipeline], totes: Callable[..., Command], tmp_path: Path
) -> None:
    pipeline = make("log")
    source.execute(INSERTED, CHANGES[0])
    run_cleanly(pipeline)
    settings = pipeline.settings
    (tmp_path / "totes.toml").write_text(
        f'[project]\nname = "p"\npath = "{settings.project.path}"\n'
        f'[source]\nurl = "{settings.source_url()}"\ncapture = "log"\n[lake]\ncompression = "gzip"\n'
    )
    versions = json.loads(totes("history", "fact_sale", "1", "--json").out)["versions"]
    assert [version["time_is"] for version in versions] == [OWN, COMMIT]
    text = totes("history", "fact_sale", "1").out
    assert "batch 2, from 2024-01-01 08:00:00 (source column last_updated) until 20" in text
    assert " (commit)\n" in text
    assert [step.time for step in read_timeline(pipeline, "fact_sale", ["1"]).steps] == [OWN, COMMIT]
