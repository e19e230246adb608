"""What is read as the engine's own types is what would be read as text, and only what they hold is read so."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Database, processed_rows
from tests.spread import in_sweep
from tests.values.test_lake_values import captured, set_contrary, written
from totes import engine
from totes.ingestion import reading
from totes.lake.journal import ingestion_journal
from totes.lake.workspace import Handoff

COLUMNS = {
    "small": "smallint",
    "whole": "integer",
    "day": "date",
    "at": "timestamp",
    "second": "timestamp(0)",
    "moment": "timestamptz",
    "own": "clock",
    "counted": "counter",
}
# The first and last that are held, some where calendars have gone wrong, and the changes of offsets.
HELD = {
    "day": ["0001-01-01", "9999-12-31", "1582-10-10", "1900-02-28", "2000-02-29", "1970-01-01", "0999-12-31"],
    "at": ["0001-01-01 00:00:00", "9999-12-31 23:59:59.999999", "1969-12-31 23:59:59.999999", "1582-10-10 00:00:00.1",
           "2024-02-29 24:00:00", "0044-03-15 01:02:03.000001"],
    "moment": ["0001-01-01 00:00:00+00", "9999-12-31 23:59:59.999999+00", "0001-01-01 14:00:00+14", "1883-11-18 12:03:58-07:52:58",
               "2024-10-27 01:30:00.000001-15:59", "1500-02-28 12:00:00+00"],
}  # fmt: skip
# What the engine's types do not hold, or not as PostgreSQL writes it.
MISSED = {
    "day": ["infinity", "-infinity", "0001-12-31 BC", "10000-01-01", "5874897-12-31", "4714-11-24 BC"],
    "at": ["infinity", "-infinity", "0001-12-31 23:59:59.999999 BC", "10000-01-01", "294276-12-31 23:59:59.999999",
           "4714-11-24 00:00:00 BC"],
    "moment": ["infinity", "-infinity", "0001-01-01 00:00:00+00:00:01", "9999-12-31 23:59:59.999999-00:00:01",
               "294276-12-31 23:59:59.999999+00", "4714-11-24 00:00:00+00 BC"],
}  # fmt: skip
ALIKE = {"day": ("day",), "at": ("at", "second", "own"), "moment": ("moment",)}
MODELS = {
    "fact_t": """CREATE TABLE fact_t (r BIGINT PRIMARY KEY, id INTEGER, small SMALLINT, wide BIGINT, whole INTEGER, n DOUBLE, said VARCHAR,
        day DATE, day_said VARCHAR, day_at TIMESTAMP, month INTEGER, "at" TIMESTAMP, at_said VARCHAR, at_json JSON, at_day DATE,
        moment TIMESTAMPTZ, moment_said VARCHAR, own TIMESTAMP, counted INTEGER, later BOOLEAN) AS
        SELECT id, small, small AS wide, whole, whole AS n, whole AS said, day, day AS day_said, day AS day_at, month(day) AS month,
        "at", "at" AS at_said, "at" AS at_json, CAST("at" AS DATE) AS at_day, moment, moment AS moment_said, own, counted,
        moment > CAST("at" AS TIMESTAMPTZ) AS later FROM t""",
    "dim_t": """CREATE TABLE dim_t (id INTEGER PRIMARY KEY, at_said VARCHAR, day TIMESTAMP) AS
        SELECT id, "at" AS at_said, day FROM t WHERE "at" < TIMESTAMP '2024-01-01'""",
    "dim_joined": """CREATE TABLE dim_joined (id INTEGER PRIMARY KEY, moment TIMESTAMPTZ, said VARCHAR, day DATE) AS
        SELECT u.id, u.moment, u."at" AS said, v.day FROM u LEFT JOIN u AS v ON v.whole = u.whole AND v.id = u.id""",
}


def fill(database: Database, given: dict[str, list[str]]) -> None:
    """Two tables with rows of values that are held, some of NULL, and some of random ones; at the end those that are given."""
    listed = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    database.execute(
        "CREATE DOMAIN clock AS timestamp",
        "CREATE DOMAIN counter AS int",
        f"CREATE TABLE t (id int PRIMARY KEY, {listed}, last_updated timestamptz)",
        """INSERT INTO t SELECT i, i - 150, i * 7158278, date '0001-01-01' + i * 12171, at, at, at AT TIME ZONE 'UTC', at, -i,
               CASE WHEN i % 5 > 0 THEN at AT TIME ZONE 'UTC' END
           FROM (SELECT i, timestamp '0001-01-01' + i * interval '12171 days 05:06:07.000891' AS at FROM generate_series(1, 299) i) AS made""",
        "INSERT INTO t (id) VALUES (0)",
    )
    numbers = itertools.count(1000)
    for values in (HELD, given):
        for like, several in values.items():
            for name, value in itertools.product(ALIKE[like], several):
                if name == "second" and "." in value:
                    continue  # it would be rounded, out of what is held
                last = "NULL" if like == "day" else engine.text(value)
                database.execute(
                    f"INSERT INTO t (id, {name}, last_updated) VALUES ({next(numbers)}, {engine.text(value)}, {last})"
                )
    database.execute("CREATE TABLE u (LIKE t INCLUDING ALL)", "INSERT INTO u TABLE t")
    set_contrary(database)


@pytest.mark.parametrize(
    ("given", "piece_bytes"),
    [
        ({}, 64 << 20),
        ({"day": MISSED["day"]}, 64 << 20),
        ({"moment": MISSED["moment"][:1]}, 8192),
        in_sweep(MISSED, 64 << 20),
        (MISSED, 8192),
    ],
    ids=[
        "all held",
        "days",
        "one moment in one of the pieces",
        "all times",
        "all times in one of the pieces",
    ],
)
def test_native_values_are_those_of_text(
    given: dict[str, list[str]], piece_bytes: int, database: Database, make_pipeline: Any, write_project: Any,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    fill(database, given)
    monkeypatch.setattr(reading, "PIECE_BYTES", piece_bytes)
    project = write_project(MODELS)
    pipeline = make_pipeline(database.url, folder=tmp_path / "handed off", project=project)
    from_lake = make_pipeline(
        database.url,
        folder=tmp_path / "from lake",
        project=project,
        lake={"ingestion": pipeline.ingestion_store.url},
    )
    with pipeline.workspace() as workspace:
        pipeline.ingest(workspace=workspace)
        rows = workspace.handoff(ingestion_journal(pipeline.ingestion_store).read(1).sha256(), "t")
        assert isinstance(rows, Handoff)
        missed = {name for like in given for name in ALIKE[like]}
        if given.keys() - {"day"}:
            missed.add("last_updated")
        assert rows.native == (COLUMNS.keys() | {"last_updated"}) - missed
        pipeline.process(workspace)
    monkeypatch.undo()
    expected = written(database)
    found = captured(pipeline, 1)
    assert found.keys() == expected.keys()
    for row, values in expected.items():
        lake = {name: value if value is None else str(value) for name, value in found[row].items()}
        assert {name: lake[name] for name in values} == values
        at = values["last_updated"]
        plain = at is not None and len(at.partition("-")[0]) == 4 and "BC" not in at
        assert (lake["_at"] == (at or "").replace(" ", "T").replace("+00", "")) == plain
    from_lake.process()
    as_text = "COLUMNS(*)::VARCHAR"
    assert processed_rows(pipeline, as_text) == processed_rows(from_lake, as_text)
