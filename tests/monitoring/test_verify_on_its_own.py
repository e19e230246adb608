"""Promise 13: `verify` runs a model's own text, so that a fault on the way to the engine shows."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Database, run_cleanly
from totes.monitoring.verification import Verdict, verify
from totes.pipeline import Pipeline
from totes.star import meaning, written

SCHEMA = """
CREATE TABLE person (id int PRIMARY KEY, name text, boss int, born text, wage numeric, at timestamptz, doc jsonb);
INSERT INTO person VALUES
    (1, 'Ann', NULL, '2000-01-02', 10.50, '2024-01-01 12:00+00', '{"a": 1.50}'),
    (2, 'Bob', 1, '2001-02-03', 1e-15, '2024-01-02 12:00+00', '{"a": "x"}'),
    (3, 'Cy', 1, 'never', 12, NULL, NULL),
    (4, 'Dee', 3, NULL, 0, 'infinity', 'null');
CREATE TABLE "Order" (id int PRIMARY KEY, person int, "select" text, n int);
INSERT INTO "Order" VALUES (1, 1, 'a', 1), (2, 1, 'b', 0), (3, 2, 'c', 5), (4, 9, 'd', 2);
"""
MODELS = {
    "dim_person": """CREATE TABLE dim_person (id INTEGER PRIMARY KEY, name VARCHAR, boss VARCHAR, born DATE, wage VARCHAR,
        doubled NUMERIC, at VARCHAR, hour INTEGER, doc VARCHAR) AS
        SELECT p.id, upper(p.name) AS name, boss.name AS boss, p.born, p.wage, p.wage * 2 AS doubled, p.at,
            hour(p.at) AS hour, p.doc
        FROM person AS p LEFT JOIN person AS boss ON boss.id = p.boss""",
    "dim_birth": """CREATE TABLE dim_birth (id INTEGER PRIMARY KEY, born DATE, wage NUMERIC) AS
        SELECT id, CAST(born AS DATE) AS born, wage FROM person""",
    "fact_order": """CREATE TABLE fact_order (record BIGINT PRIMARY KEY, id INTEGER NOT NULL, thing VARCHAR, share DOUBLE,
        who VARCHAR) AS
        WITH named AS (SELECT id, lower(name) AS who FROM person)
        SELECT "Order".id, "select" || '!' AS thing, 10 // n AS share, who
        FROM "Order" LEFT JOIN named ON named.id = "Order".person -- the end""",
}


@pytest.fixture
def pipeline(database: Database, make_pipeline: Any, write_project: Any) -> Pipeline:
    database.execute(SCHEMA)
    made: Pipeline = make_pipeline(database.url, project=write_project(MODELS))
    return made


def found(pipeline: Pipeline) -> Verdict:
    return verify(pipeline, (), 1.0, lambda _doing: None)


def test_rows_in_quarantine_and_values_that_the_engine_cannot_hold_are_no_difference(
    pipeline: Pipeline, database: Database
) -> None:
    pipeline.run()
    for change, valid in (("at = at", 2), ("at = now()", 2), ("born = 'never'", 1)):
        database.execute(f"UPDATE person SET {change} WHERE id = 1")
        verdict = found(pipeline)
        assert [(name, one.examples, one.note) for name, one in verdict.tables.items() if not one.equal] == []
        assert {name: (one.rows, one.quarantined, one.note) for name, one in verdict.tables.items()} == {
            "dim_birth": (valid, 4 - valid, None),
            "dim_person": (valid, 4 - valid, None),
            "fact_order": (3, 1, None),
        }


@pytest.mark.parametrize(
    ("right", "wrong", "table", "key", "values"),
    [
        (" // ", " - ", "fact_order", {"id": "3"}, {"share": ("2.0", "5.0")}),
        ("lower(", "upper(", "fact_order", {"id": "1"}, {"who": ("ann", "ANN")}),
        (" = ", " <= ", "fact_order", None, None),
        ("upper(", "lower(", "dim_person", {"id": "1"}, {"name": ("ANN", "ann")}),
    ],
)
def test_a_fault_in_what_reaches_the_engine_is_found(
    right: str,
    wrong: str,
    table: str,
    key: dict[str, str] | None,
    values: dict[str, Any] | None,
    pipeline: Pipeline,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = written._text
    monkeypatch.setattr(written, "_text", lambda *arguments: text(*arguments).replace(right, wrong))
    monkeypatch.setattr(meaning, "_check_reading", lambda *_: None)
    pipeline.run()
    verdict = found(pipeline)
    assert not verdict.tables[table].equal
    assert verdict.tables["dim_birth"].equal
    if key and values:
        [example] = [one for one in verdict.tables[table].examples if one.key == key]
        assert values.items() <= example.columns.items()


def test_a_text_that_fails_for_rows_which_the_engine_has_computed_is_run_over_all_others(
    database: Database, make_pipeline: Any, write_project: Any
) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text)",
        "INSERT INTO t SELECT i, CASE i % 100 WHEN 7 THEN 'x' ELSE i::text END FROM generate_series(1, 300) i",
    )
    model = """CREATE TABLE dim_t (id INTEGER PRIMARY KEY, w INTEGER) AS
        SELECT id, v::INTEGER AS w FROM t WHERE v::INTEGER <> 5 AND v <> 'x'"""
    pipeline: Pipeline = make_pipeline(database.url, project=write_project({"dim_t": model}))
    run_cleanly(pipeline)
    verdict = found(pipeline)
    assert verdict.equal
    one = verdict.tables["dim_t"]
    assert (one.rows, one.quarantined) == (296, 0)
    assert one.note in (None, "its text could not be run by itself over 3 rows")
