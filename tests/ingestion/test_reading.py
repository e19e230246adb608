"""Large tables are read in pieces and small changes by where they stand; neither may lose or double a row."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Database, processed_rows
from totes import engine
from totes.ingestion import capture as capture_module
from totes.ingestion import lines as lines_module
from totes.ingestion import reading
from totes.ingestion.source import Snapshot
from totes.lake.journal import ingestion_journal
from totes.pipeline import Pipeline

MODELS = {
    "dim_place": "CREATE TABLE dim_place (place_id INTEGER PRIMARY KEY, name VARCHAR NOT NULL) AS SELECT place_id, name FROM place",
    "fact_stay": """CREATE TABLE fact_stay (stay_key BIGINT PRIMARY KEY, stay_id INTEGER NOT NULL,
        place_id INTEGER REFERENCES dim_place, price NUMERIC(10, 2), began DATE, notes JSON, said JSON, memo VARCHAR) AS
        SELECT stay_id, place_id, price, CAST(began AS DATE) AS began, notes, said, memo FROM stay""",
}


@pytest.fixture
def pipelines(make_pipeline: Any, write_project: Any, tmp_path: Path) -> Callable[..., Pipeline]:
    numbers = itertools.count()

    def make(database: Database, source: Any = None, **lake: Any) -> Pipeline:
        """A pipeline with a lake of its own."""
        folder, project = tmp_path / str(next(numbers)), write_project(MODELS)
        return make_pipeline(database.url, folder=folder, project=project, source=source or {}, lake=lake)

    return make


@pytest.fixture
def surveyed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tables that are looked through, in order."""
    tables: list[str] = []
    surveys = Snapshot.surveys

    def noting(self: Snapshot, asked: Any, **how: Any) -> Any:
        tables.extend(table.name for table, _ in asked)
        return surveys(self, asked, **how)

    monkeypatch.setattr(Snapshot, "surveys", noting)
    return tables


def fill(database: Database, rows: int) -> None:
    database.execute(
        "CREATE TABLE place (place_id int PRIMARY KEY, name text NOT NULL)",
        """CREATE TABLE stay (stay_id int PRIMARY KEY, place_id int, price numeric, began timestamptz, notes jsonb,
               said json, memo text, last_updated timestamp)""",
        r"""INSERT INTO place SELECT i, E'place \"' || i || E'\"\n\t\\' FROM generate_series(1, 10) i""",
        f"""INSERT INTO stay SELECT i, 1 + i % 10, i / 100.0, timestamptz '2024-01-01' + i * interval '1 hour',
               jsonb_build_object('n', i, 'x', null), CASE i % 4 WHEN 0 THEN NULL WHEN 1 THEN 'null' ELSE E'{{"a":\\t[1e2,\\n 3]}}' END::json,
               CASE WHEN i % 7 > 0 THEN repeat('é', i % 50) END, timestamp '2024-02-01' + i * interval '1 ms'
            FROM generate_series(1, {rows}) i""",
        "INSERT INTO stay (stay_id, place_id, last_updated) VALUES (-1, NULL, 'infinity'), (-2, 3, '0044-03-15 12:00 BC'), (-3, 99, '2024-01-05')",
    )


def captured(pipeline: Pipeline, table: str, batch: int) -> list[str]:
    """The lines of a batch's changes of a table, without the times at which the source was read."""
    manifest = ingestion_journal(pipeline.ingestion_store).read(batch)
    with pipeline.ingestion_store.local(list(manifest.tables[table].objects)) as files:
        lines = engine.text_lines(files, manifest.compression, line_bytes_max=1 << 20)
        found = (
            engine.connect(None, memory="1GB", reads=pipeline.lake_folders)
            .execute(f"SELECT json FROM {lines}")
            .fetchall()
        )
    return sorted(re.sub(r'"_at":"202[5-9][^"]*"', '"_at":""', line) for (line,) in found)


def test_a_large_table_is_read_in_pieces_and_no_row_is_lost_or_doubled(
    database: Database, pipelines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(database, 3000)
    database.execute("DELETE FROM stay WHERE stay_id BETWEEN 500 AND 900")  # whole blocks without a row
    whole = pipelines(database)
    whole.ingest()
    monkeypatch.setattr(reading, "PIECE_BYTES", 20_000)
    parts = pipelines(database)
    found = parts.ingest().changes["stay"]
    assert len(found.objects) > 5
    assert found.upserts == found.rows == 3000 + 3 - 401
    manifest = ingestion_journal(parts.ingestion_store).read(1)
    assert list(manifest.tables) == ["place", "stay"]  # although the larger was read first
    lines = captured(parts, "stay", 1)
    assert lines == captured(whole, "stay", 1)
    assert len(set(lines)) == found.rows
    assert parts.ingest().batch is None
    database.execute(
        "DELETE FROM stay WHERE stay_id IN (-3, 1, 1500, 3000)"
    )  # all keys are read, in pieces as well
    assert parts.ingest().changes["stay"].deletes == 4
    assert parts.ingest().batch is None


def test_a_table_whose_reading_fails_is_left_out_and_no_thread_goes_on(
    database: Database, pipelines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PIECE_BYTES", 20_000)
    fill(database, 3000)
    database.execute("CREATE VIEW share AS SELECT stay_id, 1 / (stay_id - 1500) AS part FROM stay")
    pipeline = pipelines(database, source={"tables": ["*", "share"], "keys": {"share": ["stay_id"]}})
    for expected in ({"place": 10, "stay": 3003}, {}):
        done = pipeline.ingest()
        assert {name: changed.upserts for name, changed in done.changes.items()} == expected
        failure = done.failure
        assert str(failure).startswith("reading share failed: division by zero. ")
    assert [thread for thread in threading.enumerate() if thread.name.startswith("totes-")] == []
    database.execute("CREATE OR REPLACE VIEW share AS SELECT stay_id, 1 AS part FROM stay")
    assert {name: changed.upserts for name, changed in pipeline.ingest().changes.items()} == {"share": 3003}


def test_a_table_that_is_refused_while_others_are_read_is_left_out_alone(
    database: Database, pipelines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PIECE_BYTES", 20_000)
    fill(database, 3000)
    database.execute("CREATE TABLE guest AS SELECT DISTINCT place_id FROM stay WHERE place_id < 11",
                     "INSERT INTO guest VALUES (7)")  # fmt: skip
    pipeline = pipelines(database, source={"keys": {"guest": ["place_id"]}})
    found = pipeline.ingest().changes
    assert {name: changed.upserts for name, changed in found.items()} == {"place": 10, "stay": 3003}
    [(name, left_out)] = ingestion_journal(pipeline.ingestion_store).read(1).left_out.items()
    assert name == "guest"
    assert "several rows with the same place_id" in left_out.reason
    database.execute("DELETE FROM guest WHERE place_id = 7")
    found = pipeline.ingest().changes
    assert {name: changed.upserts for name, changed in found.items()} == {"guest": 9}


def test_each_compression_holds_the_same_lines(database: Database, pipelines: Any) -> None:
    fill(database, 500)
    lines = []
    for compression in ("zstd", "gzip", "none"):
        pipeline = pipelines(database, compression=compression)
        pipeline.ingest()
        lines.append(captured(pipeline, "stay", 1))
    assert len(lines[0]) == 503
    assert lines[0] == lines[1] == lines[2]


def test_long_rows_are_written_a_few_at_a_time(
    database: Database, pipelines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines_module, "_FIRST_ROWS", 10)
    monkeypatch.setattr(lines_module, "_BUFFER_BYTES", 5_000)
    fill(database, 300)
    pipeline = pipelines(database)
    pipeline.ingest()
    assert len(set(captured(pipeline, "stay", 1))) == 303


def test_rows_that_are_handed_off_are_those_that_the_lake_holds(database: Database, pipelines: Any) -> None:
    """Processing uses the rows that ingestion handed off, if any: what it makes of them must not depend on that."""
    fill(database, 200)
    handed, read = pipelines(database), pipelines(database)
    for statement in (
        "SELECT 1",
        "UPDATE stay SET price = price + 1, notes = '[1, 2.50]', last_updated = now() WHERE stay_id % 3 = 0",
        "DELETE FROM stay WHERE stay_id % 5 = 0",
        "UPDATE place SET name = 'moved' WHERE place_id = 3",
        "ALTER TABLE stay ADD COLUMN note text DEFAULT 'x'",
    ):
        database.execute(statement)
        assert not handed.run().failures
        read.ingest()
        read.process()
    found, expected = processed_rows(handed), processed_rows(read)
    assert found.keys() == expected.keys()
    assert len(found) >= 6
    for folder, rows in expected.items():
        assert len(found[folder]) == len(rows), folder
        assert _without_read_times(found[folder]) == _without_read_times(rows), folder


def _without_read_times(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The rows without times of this year: the two pipelines read the source at different moments."""
    return sorted(
        (tuple(v for v in row if not (isinstance(v, datetime) and v.year > 2024)) for row in rows), key=str
    )


def test_where_no_transaction_has_begun_no_table_is_looked_at(
    database: Database, pipelines: Any, surveyed: list[str]
) -> None:
    fill(database, 50)
    pipeline = pipelines(database)
    pipeline.ingest()
    assert pipeline.ingest().batch is None
    assert surveyed == []
    database.execute("DELETE FROM stay WHERE stay_id = 7")
    assert {name: (c.upserts, c.deletes) for name, c in pipeline.ingest().changes.items()} == {"stay": (0, 1)}
    assert surveyed == ["place", "stay"]


@pytest.mark.parametrize("listed_max", [0, 10_000], ids=["a range", "a list"])
def test_what_changed_is_found_wherever_it_stands(
    database: Database, pipelines: Any, monkeypatch: pytest.MonkeyPatch, listed_max: int
) -> None:
    monkeypatch.setattr(capture_module, "_LISTED_MAX", listed_max)
    fill(database, 3000)
    pipeline = pipelines(database)
    pipeline.ingest()
    database.execute("DELETE FROM stay WHERE stay_id BETWEEN 100 AND 200")
    assert pipeline.ingest().changes["stay"].deletes == 101
    with database.connect() as session:
        session.autocommit = True
        session.execute("VACUUM stay")  # new versions now go to the front as well as to the end
    database.execute(
        "UPDATE stay SET memo = 'new' WHERE stay_id % 10 = 0",
        "INSERT INTO stay (stay_id) VALUES (150), (9999)",
    )
    done = pipeline.ingest()
    expected = {
        f'"stay_id":{row}'
        for (row,) in database.execute(
            "SELECT stay_id FROM stay WHERE memo = 'new' OR stay_id IN (150, 9999)"
        )
    }
    assert {line[1:].partition(",")[0] for line in captured(pipeline, "stay", 3)} == expected
    assert done.changes["stay"].upserts == len(expected)
    assert pipeline.ingest().batch is None


def test_what_was_looked_through_and_had_nothing_new_is_not_looked_through_again(
    database: Database, pipelines: Any, surveyed: list[str]
) -> None:
    fill(database, 50)
    pipeline = pipelines(database)
    pipeline.ingest()
    with database.connect() as late:
        late.execute("UPDATE stay SET memo = 'late' WHERE stay_id = 1")
        database.execute("CREATE SCHEMA elsewhere", "CREATE TABLE elsewhere.t ()")
        assert pipeline.ingest().batch is None
        assert surveyed == ["place", "stay"]
    assert {name: c.upserts for name, c in pipeline.ingest().changes.items()} == {"stay": 1}
    database.execute("DROP TABLE elsewhere.t")
    surveyed.clear()
    assert pipeline.ingest().batch is None
    assert surveyed == ["place", "stay"]
    assert pipeline.ingest().batch is None
    assert surveyed == ["place", "stay"]
    database.execute("UPDATE place SET name = 'new' WHERE place_id = 1")
    assert {name: c.upserts for name, c in pipeline.ingest().changes.items()} == {"place": 1}
    assert pipeline.ingest().batch is None


def test_a_table_that_could_not_be_looked_at_is_when_it_can_be_again(
    new_database: Callable[..., Database], server: Any, make_pipeline: Any, write_project: Any
) -> None:
    database = new_database()
    fill(database, 20)
    database.execute(
        f"CREATE ROLE looks_{database.name} LOGIN PASSWORD 'p'",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO looks_{database.name}",
    )
    url = server.url(database.name, f"looks_{database.name}", "p")
    pipeline = make_pipeline(url, project=write_project(MODELS))
    pipeline.ingest()
    database.execute(
        "UPDATE stay SET memo = 'unseen' WHERE stay_id = 2",
        f"REVOKE SELECT ON stay FROM looks_{database.name}",
    )
    assert pipeline.ingest().failure
    assert pipeline.ingest().failure
    database.execute(f"GRANT SELECT ON stay TO looks_{database.name}")
    done = pipeline.ingest()
    assert done.changes["stay"].upserts == 1
