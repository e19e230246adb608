"""Promise 8: `verify` finds every planted difference, and none where there is none."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.conftest import EITHER_KIND, Database, run_cleanly
from tests.processing.freight import MODELS, SCHEMA
from totes import engine
from totes.errors import ConfigurationError
from totes.monitoring.verification import Verdict, verify
from totes.pipeline import Pipeline

FILL = """
INSERT INTO country VALUES ('AX', 'one'), ('BY', 'two');
INSERT INTO region VALUES ('AX', 1, 'north'), ('BY', 2, 'south');
INSERT INTO "Depot" SELECT ('00000000-0000-0000-0000-00000000000' || i)::uuid, 'depot ' || i, 'AX', 1 FROM generate_series(1, 4) i;
INSERT INTO driver VALUES ('d1', 'Ann', NULL, now()), ('d2', 'Bob', 'd1', now()), ('d3', 'Cy', 'd1', now());
INSERT INTO shipment SELECT 'P', i, ('00000000-0000-0000-0000-00000000000' || 1 + i % 3)::uuid,
    '00000000-0000-0000-0000-000000000002', 'd' || 1 + i % 2, i * 100.5, 'sent', '2024-01-01' FROM generate_series(1, 30) i;
"""


@pytest.fixture
def pipeline(database: Database, warehouse_url: str, make_pipeline: Any, write_project: Any) -> Pipeline:
    database.execute(SCHEMA, FILL)
    made: Pipeline = make_pipeline(database.url, warehouse_url, project=write_project(MODELS))
    run_cleanly(made)
    database.execute("UPDATE shipment SET weight = 1 WHERE number < 5", "DELETE FROM shipment WHERE number = 7",
                     "UPDATE \"Depot\" SET title = 'renamed' WHERE title = 'depot 1'")  # fmt: skip
    run_cleanly(made)
    return made


def found(pipeline: Pipeline, *tables: str, sample: float = 1.0) -> Verdict:
    return verify(pipeline, tables, sample, lambda _doing: None)


def tamper(pipeline: Pipeline, *statements: str) -> None:
    url = pipeline.settings.warehouse_url()
    if url.startswith("duckdb"):
        with engine.connect(
            pipeline.settings.path(url.removeprefix("duckdb:///")), memory="1GB"
        ) as connection:
            for statement in statements:
                connection.execute(statement)
    else:
        with psycopg.connect(url, autocommit=True) as session:
            for statement in statements:
                session.execute(statement.encode())


def test_an_untouched_warehouse_is_equal_also_after_changes_that_verify_itself_captures(
    pipeline: Pipeline, database: Database
) -> None:
    verdict = found(pipeline)
    assert verdict.equal
    assert {name: table.rows for name, table in verdict.tables.items()} == {
        "dim_driver": 3,
        "dim_depot": 4,
        "fact_shipment": 29,
    }
    database.execute(
        "UPDATE driver SET \"select\" = 'Dee' WHERE badge = 'd1'", "DELETE FROM shipment WHERE number = 9"
    )
    assert found(pipeline).equal
    assert found(pipeline).batch == 3


@EITHER_KIND
def test_a_checksum_is_the_same_in_every_warehouse_with_the_same_rows(pipeline: Pipeline) -> None:
    before = {name: table.checksum for name, table in found(pipeline).tables.items()}
    assert before == {
        "dim_driver": "2464b31fa9e9fc52",
        "dim_depot": "9a0f042d13e3a190",
        "fact_shipment": "7c16cef419d3f5f7",
    }
    tamper(
        pipeline,
        "UPDATE fact_shipment SET weight = 2 WHERE shipment_number = 3 AND valid_to IS NOT NULL",
        "UPDATE dim_driver SET boss_name = 'ANN' WHERE badge = 'd1'",
    )
    after = {name: table.checksum for name, table in found(pipeline).tables.items()}
    assert {name for name in before if after[name] != before[name]} == {"dim_driver", "fact_shipment"}


def test_a_difference_is_named_with_key_column_and_both_values(pipeline: Pipeline) -> None:
    tamper(pipeline, "UPDATE dim_driver SET boss_name = 'stale' WHERE badge = 'd2'")
    [example] = found(pipeline, "dim_driver").tables["dim_driver"].examples
    assert (example.key, example.columns) == ({"badge": "d2"}, {"boss_name": ("ANN", "stale")})


def test_a_row_that_is_marked_deleted_is_no_difference(pipeline: Pipeline, database: Database) -> None:
    database.execute(
        "UPDATE shipment SET driver = 'd1' WHERE driver = 'd2'", "DELETE FROM driver WHERE badge = 'd2'"
    )
    verdict = found(pipeline)
    assert verdict.equal
    assert verdict.tables["dim_driver"].rows == 2


@EITHER_KIND
def test_a_sample_compares_a_part(pipeline: Pipeline) -> None:
    rows = found(pipeline, "fact_shipment", sample=0.5).tables["fact_shipment"].rows
    assert 0 < rows < 29


@EITHER_KIND
def test_an_unknown_table_is_refused(pipeline: Pipeline) -> None:
    with pytest.raises(ConfigurationError, match="there is no table dim_nothing"):
        found(pipeline, "dim_nothing")


@EITHER_KIND
def test_a_model_whose_change_waits_is_told_apart(
    pipeline: Pipeline, database: Database, make_pipeline: Any, write_project: Any
) -> None:
    changed = MODELS["dim_depot"].replace("AS depot_id, title", "AS depot_id, upper(title) AS title")
    new = "CREATE TABLE dim_country (code VARCHAR PRIMARY KEY) AS SELECT code FROM country"
    project = write_project(MODELS | {"dim_depot": changed, "dim_country": new}, name="changed")
    later = make_pipeline(
        database.url, pipeline.settings.warehouse_url(), project=project | {"apply_rows": 0}
    )
    seen = found(later).tables
    assert [name for name, one in seen.items() if not one.equal] == ["dim_country", "dim_depot"]
    assert (seen["dim_country"].missing, seen["dim_depot"].different) == (2, 4)
    assert "totes apply makes the change" in str(seen["dim_depot"].note)
    later.apply()
    assert found(later).equal


def test_a_warehouse_that_another_runner_takes_further_is_compared_at_the_later_batch(
    pipeline: Pipeline, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, alone = Pipeline(pipeline.settings), pipeline.process

    def outrun() -> Any:
        if other.processed_store.read("batches/000000000003.json") is None:
            database.execute("UPDATE driver SET \"select\" = 'Eve' WHERE badge = 'd1'")
            run_cleanly(other)
        return alone()

    monkeypatch.setattr(pipeline, "process", outrun)
    verdict = found(pipeline)
    assert (verdict.batch, verdict.equal) == (3, True)


@EITHER_KIND
def test_a_sample_finds_a_difference_that_is_in_it(pipeline: Pipeline) -> None:
    tamper(pipeline, "UPDATE fact_shipment SET weight = 12345.6")
    one = found(pipeline, "fact_shipment", sample=0.3).tables["fact_shipment"]
    assert one.missing == one.extra == one.rows == one.broken == 0
    assert 0 < one.different < 29
    assert one.different < one.altered < 34


@EITHER_KIND
def test_one_table_asks_the_source_for_what_it_needs_only(pipeline: Pipeline) -> None:
    told: list[str] = []
    assert verify(pipeline, ("dim_driver",), 1.0, told.append).equal
    assert [line for line in told if line.startswith("reading the source")] == [
        "reading the source: driver (1 of 1), 0 rows so far"
    ]
    assert "comparing dim_driver (1 of 1), 3 rows" in told
