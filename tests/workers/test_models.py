"""Models of large tables are computed in pieces, by any workers, with the rows that one machine gives without pieces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Database, rows_of
from tests.workers.conftest import CLUSTER, ON_SPARK
from tests.workers.tasks import Dying, Twice
from totes import engine
from totes.ingestion import reading
from totes.pipeline import Pipeline
from totes.processing import pieces
from totes.workers.protocol import Workers

# References that lead nowhere, values that do not fit, rows that a WHERE leaves out, and keys that a column cannot hold exactly.
SOURCE = """
CREATE TABLE kind (code text PRIMARY KEY, title text, last_updated timestamp);
INSERT INTO kind SELECT 'k' || n, 'kind ' || n, '2026-01-01' FROM generate_series(0, 8) n;
CREATE TABLE part (id uuid PRIMARY KEY, kind text, label text, wait interval, last_updated timestamp);
INSERT INTO part SELECT md5(n::text)::uuid, 'k' || n % 10, nullif(repeat('label ', n % 7), ''), n * interval '1 minute', '2026-01-01'
FROM generate_series(1, 400) n;
CREATE TABLE event (
    id bigint PRIMARY KEY, part uuid, other_part uuid, day date, amount numeric, status text, last_updated timestamp);
INSERT INTO event SELECT n, md5((n % 450)::text)::uuid, md5((n % 380 + 1)::text)::uuid, date '2025-12-01' + n % 90, n * 1.25,
    CASE WHEN n % 11 = 0 THEN 'draft' ELSE 'sent' END, timestamp '2026-01-01' + n * interval '1 second'
FROM generate_series(1, 700) n;
"""
CHANGES = (
    "UPDATE kind SET title = 'another' WHERE code = 'k1'; UPDATE event SET amount = 1, last_updated = '2026-01-02' WHERE id % 90 = 0;"
    "DELETE FROM event WHERE id % 100 = 7; INSERT INTO part VALUES (md5('430')::uuid, 'k2', 'late', NULL, '2026-01-02')",
    "INSERT INTO kind VALUES ('k9', 'kind 9', '2026-01-03'); UPDATE event SET status = 'sent' WHERE id % 55 = 0;"
    "UPDATE part SET label = 'mended' WHERE label IS NULL; UPDATE event SET day = '2031-05-05' WHERE id = 3",
)
MODELS = {
    "dim_date": "CREATE TABLE dim_date (date_id DATE PRIMARY KEY, year INTEGER) AS SELECT date AS date_id, year(date) AS year FROM calendar",
    "dim_kind": "CREATE TABLE dim_kind (code VARCHAR PRIMARY KEY, title VARCHAR NOT NULL) AS SELECT code, title FROM kind",
    "dim_part": "CREATE TABLE dim_part (part_id UUID PRIMARY KEY, kind VARCHAR REFERENCES dim_kind, label VARCHAR NOT NULL,"
    " wait INTERVAL) AS SELECT id AS part_id, kind, label, wait FROM part",
    "fact_event": "CREATE TABLE fact_event (record BIGINT PRIMARY KEY, id BIGINT NOT NULL, part UUID REFERENCES dim_part,"
    " other_part UUID REFERENCES dim_part, day DATE REFERENCES dim_date, amount NUMERIC(5,1), status VARCHAR) AS"
    " SELECT id, part, other_part, day, amount * 2 AS amount, upper(status) AS status FROM event WHERE status <> 'draft'",
    "fact_status": "CREATE TABLE fact_status (record BIGINT PRIMARY KEY, id BIGINT NOT NULL, status VARCHAR) AS"
    " SELECT id, status FROM event",
}
CHANGED = MODELS | {
    "dim_part": MODELS["dim_part"].replace("label, wait FROM", "upper(label) AS label, wait FROM"),
    "fact_event": MODELS["fact_event"].replace("amount * 2", "amount * 2.5"),
}
DIVIDED = {"dim_part", "fact_event", "fact_status"}
EVERYWHERE = pytest.mark.parametrize("url", ["local", pytest.param(CLUSTER, marks=ON_SPARK)])


@pytest.fixture
def make_stars(
    make_pipeline: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[Any]]:
    """Captures what is new at a source, and makes stars of it: one without pieces, and one for each of some workers."""
    monkeypatch.setattr(reading, "PIECE_BYTES", 16_384)
    whole = pieces.PIECE_ROWS_MIN

    def make(database: Database, project: dict[str, Any], *workers: Workers) -> list[Any]:
        lake = {"ingestion": str(tmp_path / "captured")}
        make_pipeline(database.url, folder=tmp_path, project=project, lake=lake).ingest()
        made = []
        for number, one in enumerate((None, *workers)):
            pipeline = make_pipeline(database.url, folder=tmp_path / str(number), project=project, lake=lake)
            monkeypatch.setattr(pieces, "PIECE_ROWS_MIN", 1 if one else whole)
            if one:
                monkeypatch.setattr(pipeline, "workers", lambda one=one: one)
            pipeline.apply()
            made.append(pipeline)
        return made

    return make


def contents(pipeline: Pipeline) -> dict[str, Any]:
    """All rows of a star but for the surrogates of the first batch, and what each batch says of it, quarantine included."""
    found: dict[str, Any] = {}
    for model in pipeline.project.models:
        number = model.surrogate
        shown = f"* REPLACE (CASE WHEN batch_id > 1 THEN {number} END AS {number})" if number else "*"
        found[model.name] = sorted(map(str, rows_of(pipeline, f"SELECT {shown} FROM {model.name}")))
    journal, objects = pipeline.processed_journal, ("objects", "state", "removed")
    connection = engine.connect(None, memory="1GB", reads=pipeline.lake_folders)
    for batch in range(1, journal.last() + 1):
        for name, entry in journal.read(batch).models.items():
            with journal.store.local(list(entry.quarantine)) as files:
                rows = connection.execute(f"FROM {engine.parquet(files)}").fetchall() if files else []
            stored = {one: sum(each.rows for each in getattr(entry, one)) for one in objects}
            found[f"{name}, batch {batch}"] = (
                entry.model_dump(exclude={*objects, "quarantine"}),
                stored,
                sorted(map(str, rows)),
            )
    return found


@EVERYWHERE
def test_pieces_make_the_star_of_one_machine(
    database: Database, make_stars: Any, write_project: Any, open_workers: Callable[[str], Workers], url: str
) -> None:
    database.execute(SOURCE)
    workers, project = open_workers(url), write_project(MODELS)
    for changes in ("", *CHANGES):
        if changes:
            database.execute(changes)
        whole, divided = make_stars(database, project, workers)
        assert contents(divided) == contents(whole)
    first = divided.processed_journal.read(1).models
    assert {name for name, entry in first.items() if len(entry.objects) > 2} == DIVIDED
    assert {name for name, entry in first.items() if entry.quarantined} == {"dim_part", "fact_event"}
    whole, divided = make_stars(database, write_project(CHANGED, name="changed"), workers)
    assert contents(divided) == contents(whole)
    assert divided.processed_journal.newest().models["fact_event"].since == divided.processed_journal.last()


@EVERYWHERE
def test_pieces_that_are_computed_twice_change_nothing(
    database: Database, make_stars: Any, write_project: Any, open_workers: Callable[[str], Workers], url: str
) -> None:
    database.execute(SOURCE)
    whole, twice = make_stars(database, write_project(MODELS), Twice(open_workers(url)))
    assert contents(twice) == contents(whole)
    numbers = [row[0] for row in rows_of(twice, "SELECT record FROM fact_event ORDER BY record")]
    assert numbers == list(range(1, len(numbers) + 1))


@ON_SPARK
def test_executors_that_are_killed_leave_no_trace_in_a_star(
    database: Database, make_stars: Any, write_project: Any, open_workers: Any, tmp_path: Path
) -> None:
    database.execute(SOURCE)
    dying = Dying(open_workers(CLUSTER), tmp_path, 2)
    whole, killed = make_stars(database, write_project(MODELS), dying)
    assert len(list(tmp_path.glob("killed-*"))) == 2
    assert contents(killed) == contents(whole)
