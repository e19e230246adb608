"""Processing uses the rows that ingestion hands off: what it makes of them is what it makes of the lake."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Database, processed_rows, run_cleanly
from totes.lake.journal import ingestion_journal
from totes.lake.packets import PacketReader

MODELS = {
    "dim_c": "CREATE TABLE dim_c (id INTEGER PRIMARY KEY, n VARCHAR NOT NULL) AS SELECT id, n FROM c",
    "dim_c_too": "CREATE TABLE dim_c_too (id INTEGER PRIMARY KEY, n VARCHAR) AS SELECT id, n FROM c",
    "dim_code": "CREATE TABLE dim_code (code INTEGER PRIMARY KEY, n INTEGER) AS SELECT code, n FROM code",
    "dim_day": "CREATE TABLE dim_day (day DATE PRIMARY KEY) AS SELECT date AS day FROM calendar",
    "dim_node": "CREATE TABLE dim_node (id INTEGER PRIMARY KEY, up INTEGER REFERENCES dim_node) AS SELECT id, up FROM node",
    "fact_o": """CREATE TABLE fact_o (r BIGINT PRIMARY KEY, id INTEGER, c INTEGER REFERENCES dim_c,
        day DATE REFERENCES dim_day, price NUMERIC(6, 2)) AS SELECT id, c, day, price FROM o""",
    "fact_o_joined": """CREATE TABLE fact_o_joined (r BIGINT PRIMARY KEY, id INTEGER, name VARCHAR) AS
        SELECT j.id, c.n AS name FROM j LEFT JOIN c2 AS c ON c.id = j.c""",
}


def fill(database: Database, *further: str) -> None:
    database.execute(
        "CREATE TABLE c (id int PRIMARY KEY, n text)",
        "CREATE TABLE c2 (id int PRIMARY KEY, n text)",
        "CREATE TABLE j (id int PRIMARY KEY, c int)",
        "CREATE TABLE o (id int PRIMARY KEY, c int, day text, price numeric, last_updated timestamp)",
        "CREATE TABLE code (code text PRIMARY KEY, n int)",
        "CREATE TABLE node (id int PRIMARY KEY, up int)",
        "INSERT INTO c SELECT i, 'c' || i FROM generate_series(1, 20) i",
        "INSERT INTO c2 TABLE c",
        "INSERT INTO j SELECT i, i % 30 FROM generate_series(1, 100) i",
        """INSERT INTO o SELECT 1000 - i, 1 + i % 20, date '2023-06-01' + i, i / 100.0,
               timestamp '2024-01-01' + i * interval '1 s' FROM generate_series(1, 500) i""",
        "INSERT INTO code SELECT i::text, i FROM generate_series(1, 10) i",
        "INSERT INTO node SELECT i, i - 1 FROM generate_series(2, 10) i",
        "INSERT INTO node VALUES (1, NULL)",
        *further,
    )


FURTHER = {
    "all well": (),
    "bad values": (
        "INSERT INTO o VALUES (0, 5, 'soon', 1.234, NULL)",
        "INSERT INTO c VALUES (21, NULL)",
    ),
    "an orphan": ("INSERT INTO o VALUES (0, 99, '2023-06-05', 1, NULL), (-1, NULL, NULL, NULL, NULL)",),
    "keys read from text": ("INSERT INTO code VALUES ('01', 1), ('x', 2)",),
    "orphans of orphans": ("UPDATE node SET up = 77 WHERE id = 3",),
}
# Of other tables, each of which is computed by itself: at once, and one by one in the sweep.
FURTHER["bad values, keys and orphans"] = tuple(
    statement
    for name in ("bad values", "keys read from text", "orphans of orphans")
    for statement in FURTHER[name]
)


@pytest.mark.parametrize(
    "further",
    [
        pytest.param(
            further,
            id=name,
            marks=() if name in ("all well", "bad values, keys and orphans") else pytest.mark.sweep,
        )
        for name, further in FURTHER.items()
    ],
)
def test_what_is_made_of_a_handoff_is_what_is_made_of_the_lake(
    further: tuple[str, ...], database: Database, make_pipeline: Any, write_project: Any, tmp_path: Path
) -> None:
    fill(database, *further)
    project = write_project(MODELS)
    handed_off = make_pipeline(database.url, folder=tmp_path / "handed off", project=project)
    from_lake = make_pipeline(
        database.url,
        folder=tmp_path / "from the lake",
        project=project,
        lake={"ingestion": handed_off.ingestion_store.url},
    )
    for statement in (
        "SELECT 1",
        "UPDATE o SET price = price + 1, c = 1, last_updated = '2025-01-01' WHERE id < 600",
        "UPDATE c SET n = 'other' WHERE id = 21",
        "INSERT INTO c VALUES (99, 'late')",
    ):
        database.execute(statement)
        with handed_off.workspace() as workspace:
            handed_off.ingest(always=True, workspace=workspace)
            handed_off.process(workspace)
        from_lake.process()
    assert processed_rows(from_lake) == processed_rows(handed_off)


def test_rows_are_released_when_their_batch_is_processed(
    database: Database, make_pipeline: Any, write_project: Any
) -> None:
    fill(database, "INSERT INTO code VALUES ('x', 2)")
    pipeline = make_pipeline(database.url, project=write_project(MODELS))
    with pipeline.workspace() as workspace:
        pipeline.ingest(workspace=workspace)
        digest = ingestion_journal(pipeline.ingestion_store).read(1).sha256()
        assert all(workspace.handoff(digest, table) for table in ("c", "c2", "code", "j", "node", "o"))
        pipeline.process(workspace)
        assert not any(workspace.handoff(digest, table) for table in ("c", "c2", "code", "j", "node", "o"))
        with closing(workspace.connect()) as connection:
            left = "SELECT table_name FROM duckdb_tables() WHERE database_name = 'memory'"
            assert connection.execute(left).fetchall() == []
    run_cleanly(pipeline)


def test_packets_of_a_first_batch_are_read_once(
    database: Database, make_pipeline: Any, write_project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(database)
    pipeline, read = make_pipeline(database.url, project=write_project(MODELS)), []
    reading = PacketReader.read

    def counted(self: PacketReader, table: Any, *arguments: Any) -> Any:
        read.append(table.name)
        return reading(self, table, *arguments)

    pipeline.ingest()
    monkeypatch.setattr(PacketReader, "read", counted)
    pipeline.process()
    assert sorted(read) == ["c", "c2", "code", "j", "node", "o"]
