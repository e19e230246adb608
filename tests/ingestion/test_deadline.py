"""A batch that nears its deadline leaves the rest of a table to the next: nothing is lost, nothing twice, nothing in disorder."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Database, rows_of, run_cleanly
from tests.ingestion.test_reading import captured
from tests.spread import in_sweep
from totes.deadline import Deadline
from totes.ingestion import allowance, planning, reading
from totes.lake import cache as cache_module
from totes.lake.journal import ingestion_journal
from totes.monitoring.verification import verify
from totes.pipeline import Pipeline

MODELS = {
    "dim_place": "CREATE TABLE dim_place (place_id INTEGER PRIMARY KEY, name VARCHAR NOT NULL) AS SELECT place_id, name FROM venue",
    "fact_stay": """CREATE TABLE fact_stay (stay_key BIGINT PRIMARY KEY, stay_id INTEGER NOT NULL,
        place_id INTEGER REFERENCES dim_place, place_name VARCHAR NOT NULL, price NUMERIC(10, 2), memo VARCHAR) AS
        SELECT stay_id, stay.place_id, venue.name AS place_name, price, memo FROM stay LEFT JOIN venue USING (place_id)""",
}
ROWS = 3000


@pytest.fixture(params=[200_000, in_sweep(100_000)], ids=lambda size: f"pieces of {size}")
def piece_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How large a piece is."""
    monkeypatch.setattr(reading, "PIECE_BYTES", request.param)
    return int(request.param)


@pytest.fixture
def hotel(database: Database, make_pipeline: Any, write_project: Any, piece_bytes: int) -> Pipeline:
    """A pipeline over two tables of some pieces; the one that others refer to is the larger, and the last by name."""
    database.execute(
        "CREATE TABLE venue (place_id int PRIMARY KEY, name text NOT NULL, filler text)",
        """CREATE TABLE stay (stay_id int PRIMARY KEY, place_id int REFERENCES venue, price numeric, memo text,
               last_updated timestamp DEFAULT now()) WITH (fillfactor = 70)""",
        f"INSERT INTO venue SELECT i, 'place ' || i, repeat('x', 200) FROM generate_series(1, {ROWS}) i",
        f"INSERT INTO stay SELECT i, i, i / 100.0, repeat('y', i % 50) FROM generate_series(1, {ROWS}) i",
    )
    return make_pipeline(database.url, project=write_project(MODELS))


def ingest_a_piece(pipeline: Pipeline) -> bool:
    """One call of the stage that has time for one piece; whether there is more."""
    return pipeline.ingest(deadline=Deadline.after(1e-9)).more


def all_lines(pipeline: Pipeline, table: str) -> list[str]:
    journal = ingestion_journal(pipeline.ingestion_store)
    batches = (batch for batch in range(1, journal.last() + 1) if journal.read(batch).tables[table].objects)
    return [line for batch in batches for line in captured(pipeline, table, batch)]


def is_equal(pipeline: Pipeline) -> bool:
    """Whether the warehouse has what the models give over the source."""
    return verify(pipeline, (), 1.0, lambda _: None).equal


def test_a_first_load_that_takes_many_batches_holds_each_row_once(
    database: Database, hotel: Pipeline, piece_bytes: int
) -> None:
    batches = 1
    while ingest_a_piece(hotel):
        batches += 1
        assert batches < 200
    assert batches > 1_000_000 // piece_bytes
    for table in ("venue", "stay"):
        lines = all_lines(hotel, table)
        assert len(lines) == len(set(lines)) == ROWS
    assert hotel.ingest().batch is None
    hotel.process()
    hotel.load()
    assert is_equal(hotel)
    assert rows_of(hotel, "SELECT count(*) FROM fact_stay") == [(ROWS,)]  # one version each


def test_a_table_that_cannot_be_divided_waits_as_a_whole(database: Database, hotel: Pipeline) -> None:
    database.execute(
        "CREATE TABLE year (id int PRIMARY KEY REFERENCES venue) PARTITION BY RANGE (id)",
        "CREATE TABLE year_all PARTITION OF year DEFAULT", "INSERT INTO year VALUES (1), (2)",
    )  # fmt: skip
    assert ingest_a_piece(hotel)
    rest = ingestion_journal(hotel.ingestion_store).read(1).tables["year"].rest
    assert rest is not None
    assert rest.is_whole
    assert not hotel.ingest().more
    assert len(all_lines(hotel, "year")) == 2


def test_no_row_comes_before_the_row_that_it_refers_to(database: Database, hotel: Pipeline) -> None:
    more = True
    while more:
        more = ingest_a_piece(hotel)
        done = hotel.process().batches
        hotel.load()
        assert all(table.quarantined == 0 for batch in done.values() for table in batch.values())
        if more:  # what is read wholly is brought up to the snapshot in every batch
            new = 10_000 + ingestion_journal(hotel.ingestion_store).last()
            database.execute(
                f"INSERT INTO venue VALUES ({new}, 'new')", f"INSERT INTO stay VALUES ({new}, {new})"
            )
    assert is_equal(hotel)


@pytest.mark.parametrize(("seed", "calls_min"), [(1, 18), pytest.param(2, 30, marks=pytest.mark.sweep)])
def test_what_changes_between_the_parts_of_a_load_is_neither_lost_nor_doubled(
    database: Database, hotel: Pipeline, seed: int, calls_min: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        reading, "PIECE_BYTES", 100_000
    )  # what happens after so many calls is still during the load
    chance = random.Random(seed)
    more, calls = True, 0
    with database.connect() as late:
        late.execute("UPDATE stay SET memo = 'late' WHERE stay_id IN (5, 2990)")
        while more or calls < calls_min:
            more, calls = ingest_a_piece(hotel), calls + 1
            low = chance.randrange(ROWS)
            database.execute(
                f"UPDATE stay SET price = price + 1 WHERE stay_id BETWEEN {low} AND {low + 40} AND stay_id NOT IN (5, 2990)",
                f"UPDATE venue SET name = name || '!' WHERE place_id = {1 + low}",
                f"DELETE FROM stay WHERE stay_id = {chance.randrange(6, 2900)}",
                f"INSERT INTO stay SELECT {10_000 + calls}, 1 + {low}, 1, 'new'",
            )
            if calls == 8:
                late.commit()
            if calls == 12:
                database.execute("VACUUM stay", "VACUUM venue")
            if calls == 14:
                database.execute("VACUUM FULL stay")
            if calls == 16:
                database.execute("ALTER TABLE stay ADD COLUMN stars int DEFAULT 3")
            if calls % 6 == 0:
                hotel.process()
                hotel.load()
    run_cleanly(hotel)
    assert is_equal(hotel)
    doubled = [
        line for line, times in Counter(all_lines(hotel, "stay")).items() if times > 1 and '"upsert"' in line
    ]
    assert doubled == []


def test_a_change_of_very_many_rows_is_read_in_parts(
    database: Database, hotel: Pipeline, piece_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_cleanly(hotel)
    monkeypatch.setattr(planning, "MANY_ROWS", 500)
    database.execute("UPDATE stay SET memo = 'changed'")
    calls = 1
    while ingest_a_piece(hotel):
        calls += 1
        database.execute(f"UPDATE stay SET price = price + 1 WHERE stay_id = {calls}")
    assert calls > 500_000 // piece_bytes
    run_cleanly(hotel)
    assert is_equal(hotel)
    assert rows_of(hotel, "SELECT count(*) FROM fact_stay WHERE memo = 'changed'")[0][0] >= ROWS


def test_an_emptied_and_a_rewritten_table_end_as_they_are(
    database: Database, hotel: Pipeline, piece_bytes: int
) -> None:
    for _ in range(1_200_000 // piece_bytes):
        ingest_a_piece(hotel)
    database.execute(
        "TRUNCATE stay", "INSERT INTO stay SELECT i, i, 7, 'again' FROM generate_series(1, 900) i"
    )
    ingest_a_piece(hotel)
    database.execute("CLUSTER venue USING venue_pkey", "DELETE FROM stay WHERE stay_id < 100")
    while ingest_a_piece(hotel):
        pass
    run_cleanly(hotel)
    assert is_equal(hotel)


def test_rows_that_a_rewrite_moves_to_the_rest_are_not_captured_again(
    database: Database, hotel: Pipeline
) -> None:
    for _ in range(4):
        ingest_a_piece(hotel)
    database.execute("CREATE INDEX downwards ON venue (place_id DESC)", "CLUSTER venue USING downwards")
    while ingest_a_piece(hotel):
        pass
    lines = all_lines(hotel, "venue")
    assert len(lines) == len(set(lines)) == ROWS


def test_a_batch_that_takes_too_much_room_leaves_the_rest(
    hotel: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allowance, "_ROOM_SHARE", 10.0)  # there is never ten times the room that there was
    first = hotel.ingest()
    assert first.more
    assert 0 < first.changes["venue"].upserts < ROWS
    rest = ingestion_journal(hotel.ingestion_store).read(1).tables["venue"].rest
    assert rest is not None
    assert rest.block > 0
    monkeypatch.undo()
    assert hotel.ingest().changes["venue"].upserts == ROWS - first.changes["venue"].upserts


def test_a_load_in_parts_comes_to_its_end_where_no_cache_lasts(
    database: Database, make_pipeline: Any, hotel: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "CHECKPOINT_BATCHES", 1)
    forgetful = make_pipeline(
        database.url,
        folder=tmp_path / "other",
        project=hotel.settings.project.model_dump(),
        lake={"checkpoints": True},
    )
    more = True
    while more:
        more = ingest_a_piece(forgetful)
        (forgetful.settings.cache_folder / "ingestion.duckdb").unlink()
    lines = all_lines(forgetful, "stay")
    assert len(lines) == len(set(lines)) == ROWS


def test_a_table_that_takes_the_name_is_compared_in_parts_and_only_what_differs_is_captured(
    database: Database, hotel: Pipeline
) -> None:
    run_cleanly(hotel)
    database.execute(
        "CREATE TABLE fresh (LIKE stay INCLUDING ALL)",
        "INSERT INTO fresh SELECT * FROM stay",
        "UPDATE fresh SET memo = 'differs' WHERE stay_id % 500 = 0",
        "DELETE FROM fresh WHERE stay_id = 7",
        "ALTER TABLE stay RENAME TO former",
        "ALTER TABLE fresh RENAME TO stay",
    )
    calls, changed = 1, {number for number in range(1, ROWS + 1) if number % 500 == 0}
    while ingest_a_piece(hotel):
        calls += 1
        for number in (calls, ROWS - calls):
            changed.add(number)
            database.execute(f"UPDATE stay SET price = price + 1 WHERE stay_id = {number}")
    assert calls > 3
    run_cleanly(hotel)
    later = [json.loads(line) for line in all_lines(hotel, "stay")[ROWS:]]
    upserts = [line["stay_id"] for line in later if line["_op"] == "upsert"]
    assert set(upserts) <= changed
    assert len(upserts) < 2 * len(changed)
    assert [line["stay_id"] for line in later if line["_op"] == "delete"] == [7]
    assert is_equal(hotel)
    assert hotel.ingest().batch is None
