"""What pages are made of: batches over time, the star's dictionary with its lineage, rows by the page, the past, a timeline."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Database, run_cleanly
from totes.errors import ConfigurationError, QueryTooSlow
from totes.lake.journal import Journal, processed_journal
from totes.lake.manifest import Manifest
from totes.monitoring import past
from totes.monitoring.batches import Batches
from totes.monitoring.counts import read_counts
from totes.monitoring.dictionary import read_dictionary
from totes.monitoring.history import Version
from totes.monitoring.past import Past, StillReading
from totes.monitoring.rows import RowsWanted, read_rows
from totes.monitoring.timeline import Change, steps_of
from totes.monitoring.verdict_file import read_verdict, write_verdict
from totes.monitoring.verification import verify
from totes.pipeline import Pipeline

LATEST = """
-- Things, with their colour.
CREATE TABLE dim_thing (
    thing_id  INTEGER PRIMARY KEY, -- The thing's own number.
    name      VARCHAR,
    shade     VARCHAR,
    price     DECIMAL(10,2),
    made      DATE,
    extra     JSON
) AS
WITH painted AS (SELECT colour_id, upper(name) || '-' || code AS shade FROM colour)
SELECT thing.thing_id, thing.name, p.shade, CAST(thing.price AS DECIMAL(10,2)) AS price, thing.made, thing.extra
FROM thing LEFT JOIN painted AS p USING (colour_id)
"""
VERSIONS = """
CREATE TABLE fact_thing (record_id BIGINT PRIMARY KEY, thing INTEGER NOT NULL REFERENCES dim_thing, price DECIMAL(10,2)) AS
SELECT thing_id AS thing, CAST(price AS DECIMAL(10,2)) AS price FROM thing
"""
SCHEMA = (
    "CREATE TABLE colour (colour_id int PRIMARY KEY, name text, code text)",
    "CREATE TABLE thing (thing_id int PRIMARY KEY, name text, price numeric, made date, extra json, colour_id int,"
    " last_updated timestamp)",
    "INSERT INTO colour VALUES (1, 'red', 'f00')",
    """INSERT INTO thing VALUES (1, 'Box', 2.5, '2026-01-01', '{"a": 1}', 1, '2026-01-01'),
        (2, 'bag', 10, '2026-02-01', NULL, 1, '2026-01-01'), (10, NULL, 9, NULL, NULL, NULL, '2026-01-01')""",
)


@pytest.fixture
def things(database: Database, make_pipeline: Any, write_project: Any, warehouse_url: str) -> Pipeline:
    database.execute(*SCHEMA)
    project = write_project({"dim_thing": LATEST, "fact_thing": VERSIONS})
    pipeline: Pipeline = make_pipeline(database.url, warehouse_url, project=project)
    run_cleanly(pipeline)
    return pipeline


duckdb_only = pytest.mark.parametrize("warehouse_url", ["duckdb"], indirect=True)


def keys(pipeline: Pipeline, table: str = "dim_thing", **wanted: Any) -> list[str | None]:
    found = read_rows(pipeline, table, RowsWanted(**wanted))
    return [row[found.columns.index(found.key[0])] for row in found.rows]


@duckdb_only
def test_the_dictionary_follows_columns_through_joins_and_subqueries_to_the_source(things: Pipeline) -> None:
    thing, fact = read_dictionary(things).tables
    assert (thing.description, thing.kind, thing.key) == (
        "Things, with their colour.",
        "latest",
        ("thing_id",),
    )
    assert (fact.kind, fact.key, fact.references) == ("versioned", ("thing",), {"thing": "dim_thing"})
    assert thing.referred_by == ("fact_thing",)
    columns = {column.name: column for column in thing.columns}
    assert columns["thing_id"].description == "The thing's own number."
    assert columns["name"].sources == ("thing.name",)
    assert columns["shade"].sources == ("colour.name", "colour.code")
    assert (columns["price"].sources, columns["price"].expression) == (
        ("thing.price",), "CAST(thing.price AS DECIMAL(10,2))",
    )  # fmt: skip
    assert [column.role for column in fact.columns][:3] == ["surrogate", "key", ""]
    assert [column.name for column in fact.columns if column.role == "history"] == [
        "valid_from", "valid_to", "is_deleted", "batch_id",
    ]  # fmt: skip


def test_filters_mean_what_they_say_in_either_warehouse(things: Pipeline) -> None:
    assert keys(things) == ["1", "2", "10"]  # as numbers, not as text
    assert keys(things, filters={"name": "B"}) == ["1", "2"]
    assert keys(things, filters={"name": "=bag"}) == ["2"]
    assert keys(things, filters={"name": "!=bag"}) == ["1"]
    assert keys(things, filters={"name": "null"}) == ["10"]
    assert keys(things, filters={"name": "!null", "price": "<=2.50"}) == ["1"]
    assert keys(things, filters={"price": "10"}) == ["2"]
    assert keys(things, filters={"made": "2026-02"}) == ["2"]
    assert keys(things, filters={"made": "<2026-02-01"}) == ["1"]
    assert keys(things, filters={"extra": '"a"'}) == ["1"]
    assert keys(things, filters={"name": "'; DROP TABLE dim_thing; --%"}) == []
    assert keys(things, sort="price", descending=True) == ["2", "10", "1"]
    assert keys(things, sort="made") == ["1", "2", "10"]
    assert keys(things, sort="extra", descending=True)[0] == "1"
    assert keys(things, rows=2, page=2) == keys(things, rows=2, page=99) == ["10"]
    refused = read_rows(things, "dim_thing", RowsWanted({"made": "=tomorrow", "name": "a\0b"}))
    assert set(refused.refused) == {"made", "name"}
    assert refused.total == 3
    with pytest.raises(ConfigurationError, match="no column nothing"):
        keys(things, sort="nothing")
    with pytest.raises(ConfigurationError, match="no table nothing"):
        keys(things, "nothing")


@duckdb_only
def test_a_long_value_is_cut_and_not_fetched(things: Pipeline, database: Database) -> None:
    database.execute(f"UPDATE thing SET name = '{'x' * 5000}' WHERE thing_id = 1")
    run_cleanly(things)
    [row] = read_rows(things, "dim_thing", RowsWanted({"thing_id": "1"})).rows
    assert row[1] == "x" * 300 + "…"


def test_a_query_that_takes_too_long_is_ended(things: Pipeline) -> None:
    dialect = "range" if "duckdb" in things.settings.warehouse_url() else "generate_series"
    numbers = f"{dialect}(0, 100000000)"
    with things.warehouse(read_only=True) as warehouse:
        with pytest.raises(QueryTooSlow, match=r"took longer than 0\.2 s"):
            warehouse.query(
                f"SELECT sum(a.n * b.n) FROM {numbers} AS a (n), {numbers} AS b (n)", seconds_max=0.2
            )
        assert warehouse.query("SELECT 1", seconds_max=5)[1] == [(1,)]


def test_the_past_of_each_table_is_what_it_then_held(things: Pipeline, database: Database) -> None:
    database.execute(
        "UPDATE thing SET price = 3, last_updated = '2026-03-01' WHERE thing_id = 1",
        "DELETE FROM thing WHERE thing_id = 2",
        "UPDATE colour SET name = 'blue'",
    )
    run_cleanly(things)
    journal = processed_journal(things.processed_store)
    first, second = (journal.read(batch).read_at.replace(tzinfo=UTC) for batch in (1, 2))

    def shades(at: datetime) -> list[Any]:
        found = read_rows(things, "dim_thing", RowsWanted(at=at))
        return [(row[0], row[2], row[3]) for row in found.rows]

    assert shades(first) == shades(second - timedelta(microseconds=1))
    assert shades(first) == [("1", "RED-f00", "2.50"), ("2", "RED-f00", "10.00"), ("10", None, "9.00")]
    assert shades(second) == [("1", "BLUE-f00", "3.00"), ("10", None, "9.00")]
    prices = [
        [row[2] for row in read_rows(things, "fact_thing", RowsWanted(at=datetime(2026, month, 15))).rows]
        for month in (2, 3)
    ]
    assert prices == [["2.50", "10.00", "9.00"], ["3.00", "10.00", "9.00"]]
    now = {count.table: (count.rows, count.versions) for count in read_counts(things)}
    assert now == {"dim_thing": (2, None), "fact_thing": (2, 5)}
    then = {count.table: (count.rows, count.versions) for count in read_counts(things, first)}
    assert then == {"dim_thing": (3, None), "fact_thing": (3, None)}


@duckdb_only
def test_many_batches_are_read_once_and_no_more_than_are_shown(
    things: Pipeline, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for price in range(6):
        database.execute(f"UPDATE thing SET price = {price} WHERE thing_id = 1")
        run_cleanly(things)
    read: list[int] = []
    original: Callable[..., Manifest] = Journal.read
    monkeypatch.setattr(Journal, "read", lambda self, batch: (read.append(batch), original(self, batch))[1])
    batches = Batches(things)
    assert [batch.batch for batch in batches.read(3).batches] == [5, 6, 7]
    assert sorted(read) == [5, 5, 6, 6, 7, 7]  # of either store
    assert [batch.batch for batch in batches.read(3).batches] == [5, 6, 7]
    assert len(read) == 6
    assert [batch.batch for batch in batches.read(2, last=4).batches] == [3, 4]
    assert len(read) == 10
    [newest] = batches.read(1).batches
    assert newest.load is not None
    assert (newest.ingest.rows, newest.load.rows) == (1, 2)
    detail = batches.detail(newest.batch)
    assert [
        (one.table, one.written, one.deleted, one.quarantined) for one in (*detail.captured, *detail.computed)
    ] == [("thing", 1, 0, 0), ("dim_thing", 1, 0, 0), ("fact_thing", 1, 0, 0)]
    # What the past needs is read in turns, and each manifest once.
    monkeypatch.setattr(past, "_CALL_SECONDS", 0)
    looked, at = Past(things), datetime.now(UTC)
    turns = 0
    while True:
        read.clear()
        try:
            assert read_rows(things, "dim_thing", RowsWanted(at=at), looked).total == 3
            break
        except StillReading:
            turns += 1
    assert turns == 6  # a manifest in each


def test_a_timeline_says_what_each_version_changed() -> None:
    times = {"valid_from": "2026-01-01", "valid_to": None, "is_deleted": False}
    versions = [
        Version(1, {"record": 1, "id": 7, "a": 1.5, "b": None, **times}, ("one",)),
        Version(2, {"record": 2, "id": 7, "a": float("inf"), "c": b"\x01", **times}, ()),
        Version(3, {"record": 3, "id": 7, "a": float("inf"), "c": b"\x01", **times, "is_deleted": True}, ()),
    ]
    first, second, third = steps_of(versions, "record")
    assert (first.changes, first.values["a"], first.objects) == ((), "1.5", ("one",))
    assert second.changes == (Change("a", "1.5", "Infinity"), Change("c", None, "\\x01"))
    assert (third.changes, third.deleted, second.deleted) == ((), True, False)


@duckdb_only
def test_the_last_verdict_is_retained(things: Pipeline, tmp_path: Path) -> None:
    assert read_verdict(things.settings) is None
    write_verdict(things.settings, verify(things, (), 1.0, lambda _: None))
    found = read_verdict(things.settings)
    assert found is not None
    assert (found["equal"], found["batch"], list(found["tables"])) == (True, 1, ["dim_thing", "fact_thing"])
    [file] = things.settings.cache_folder.glob("verdict-*.json")
    assert file.stat().st_mode & 0o077 == 0
