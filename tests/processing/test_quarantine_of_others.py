"""Rows that one model has in quarantine are tried again for that model alone: no other computes them, or takes their time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Database, rows_of, run_cleanly
from totes.lake.journal import processed_journal
from totes.pipeline import Pipeline
from totes.processing import transform

ROWS = 500
MODELS = {
    # Each row with an odd id is in quarantine of this one, which joins nothing.
    "fact_strict": """CREATE TABLE fact_strict (r BIGINT PRIMARY KEY, id INTEGER NOT NULL, v INTEGER NOT NULL) AS
        SELECT id, CASE WHEN id % 2 = 0 THEN v END AS v FROM o""",
    "fact_joined": """CREATE TABLE fact_joined (r BIGINT PRIMARY KEY, id INTEGER NOT NULL, v INTEGER, name VARCHAR) AS
        SELECT o.id, o.v, c.name FROM o JOIN c ON c.id = o.c""",
    "fact_plain": """CREATE TABLE fact_plain (r BIGINT PRIMARY KEY, id INTEGER NOT NULL, v INTEGER) AS SELECT id, v FROM o""",
    "dim_other": "CREATE TABLE dim_other (id INTEGER PRIMARY KEY, w INTEGER) AS SELECT id, w FROM other",
}


@pytest.fixture
def pipeline(
    database: Database, make_pipeline: Callable[..., Pipeline], write_project: Callable[..., dict[str, Any]]
) -> Pipeline:
    """Orders, each of one of two customers, half of them in quarantine of one model; and a table of its own."""
    database.execute(
        "CREATE TABLE c (id int PRIMARY KEY, name text)",
        "CREATE TABLE o (id int PRIMARY KEY, c int, v int, last_updated timestamp NOT NULL)",
        "CREATE TABLE other (id int PRIMARY KEY, w int)",
        "INSERT INTO c VALUES (1, 'Ada'), (2, 'Bo')",
        f"INSERT INTO o SELECT i, 1 + (i > 3)::int, i, '2024-06-01' FROM generate_series(1, {ROWS}) AS i",
        "INSERT INTO other VALUES (1, 1)",
    )
    made = make_pipeline(database.url, project=write_project(MODELS))
    run_cleanly(made)
    assert newest(made).models["fact_strict"].quarantine_open == ROWS // 2
    return made


def newest(pipeline: Pipeline) -> Any:
    found = processed_journal(pipeline.processed_store).newest()
    assert found
    return found


def state_rows(pipeline: Pipeline) -> dict[str, int]:
    """How many rows of state each model wrote in the newest batch."""
    models = newest(pipeline).models.items()
    return {name: sum(entry.rows for entry in changes.state) for name, changes in models}


def test_a_change_of_a_joined_row_begins_when_it_was_read(pipeline: Pipeline, database: Database) -> None:
    database.execute(
        "UPDATE o SET last_updated = '2024-07-01' WHERE id < 4"
    )  # a time at which no version begins
    run_cleanly(pipeline)
    database.execute("UPDATE c SET name = 'Eve' WHERE id = 1")
    run_cleanly(pipeline)
    [(read_at,)] = rows_of(pipeline, "SELECT read_at FROM totes_batches WHERE batch_id = 3")
    found = "SELECT id, name, valid_from FROM fact_joined WHERE batch_id = 3 ORDER BY id"
    assert rows_of(pipeline, found) == [(number, "Eve", read_at) for number in (1, 2, 3)]


def test_a_row_without_a_version_of_before_begins_when_its_own_row_did(
    pipeline: Pipeline, database: Database
) -> None:
    database.execute("INSERT INTO o VALUES (1001, 3, 1, '2024-07-01')")
    run_cleanly(pipeline)
    database.execute("INSERT INTO c VALUES (3, 'Cy')")
    run_cleanly(pipeline)
    [(at,)] = rows_of(pipeline, "SELECT valid_from::VARCHAR FROM fact_joined WHERE id = 1001")
    assert at.startswith("2024-07-01")


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE other SET w = 2",
        "UPDATE c SET name = 'Eve' WHERE id = 1",
        "UPDATE o SET v = 7, last_updated = '2024-06-02' WHERE id = 2",
    ],
)
def test_no_other_model_computes_what_one_has_in_quarantine(
    pipeline: Pipeline, database: Database, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    computed: dict[str, int] = {}
    compute = transform.Transformation.compute

    def counted(part: transform.Transformation, *touched: str) -> None:
        compute(part, *touched)
        [(rows,)] = part._engine.execute(f"SELECT count(*) FROM {part.new}").fetchall()
        computed[part.model.name] = rows

    monkeypatch.setattr(transform.Transformation, "compute", counted)
    database.execute(change)
    run_cleanly(pipeline)
    others = {name: rows for name, rows in computed.items() if name != "fact_strict"}
    assert sum(others.values()) <= 4
    assert sum(state_rows(pipeline).values()) <= 4
    if change.startswith("UPDATE o "):
        assert computed["fact_strict"] == 1 + ROWS // 2
    else:  # nothing has come that could let a row out
        assert "fact_strict" not in computed
    assert newest(pipeline).models["fact_strict"].quarantine_open == ROWS // 2


def test_a_batch_that_is_made_on_purpose_tries_all_rows_again(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = []
    compute = transform.Transformation.compute
    monkeypatch.setattr(
        transform.Transformation,
        "compute",
        lambda part, *touched: (computed.append(part.model.name), compute(part, *touched)),
    )
    cycle = pipeline.run(always=True)
    assert cycle.failures == {}
    assert computed == ["fact_strict"]
    assert newest(pipeline).models["fact_strict"].quarantine_open == ROWS // 2


def test_a_row_leaves_quarantine_when_its_own_row_or_what_it_refers_to_comes(
    database: Database,
    make_pipeline: Callable[..., Pipeline],
    write_project: Callable[..., dict[str, Any]],
    tmp_path: Any,
) -> None:
    database.execute(
        "CREATE TABLE region (id int PRIMARY KEY)",
        "CREATE TABLE city (id int PRIMARY KEY, region int)",
        "CREATE TABLE visit (id int PRIMARY KEY, city int, last_updated timestamp NOT NULL)",
        "INSERT INTO city VALUES (1, 1)",
        "INSERT INTO visit VALUES (1, 1, '2024-06-01')",
    )
    models = {
        "dim_region": "CREATE TABLE dim_region (id INTEGER PRIMARY KEY) AS SELECT id FROM region",
        "dim_city": "CREATE TABLE dim_city (id INTEGER PRIMARY KEY, region INTEGER REFERENCES dim_region) AS SELECT id, region FROM city",
        "fact_visit": "CREATE TABLE fact_visit (r BIGINT PRIMARY KEY, id INTEGER, city INTEGER REFERENCES dim_city) AS SELECT id, city FROM visit",
    }
    made = make_pipeline(database.url, project=write_project(models), folder=tmp_path / "chain")
    run_cleanly(made)
    assert {name: changes.quarantine_open for name, changes in newest(made).models.items()} == {
        "dim_region": 0, "dim_city": 1, "fact_visit": 1,
    }  # fmt: skip
    database.execute("INSERT INTO region VALUES (1)")  # lets the city out, and that the visit
    run_cleanly(made)
    assert rows_of(made, "SELECT id, city FROM fact_visit") == [(1, 1)]
    assert {changes.quarantine_open for changes in newest(made).models.values()} == {0}
