"""Promise 8: `verify` finds every planted difference, and none where there is none."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.conftest import Database, run_cleanly
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


@pytest.mark.parametrize(
    ("statement", "table", "verdict"),
    [
        ("UPDATE fact_shipment SET weight = 2 WHERE shipment_number = 10", "fact_shipment", (0, 0, 1, 0)),
        ("UPDATE fact_shipment SET origin_title = NULL WHERE shipment_number = 10", "fact_shipment", (0, 0, 1, 0)),
        ("DELETE FROM fact_shipment WHERE shipment_number = 10", "fact_shipment", (1, 0, 0, 0)),
        ("UPDATE fact_shipment SET is_deleted = true WHERE shipment_number = 10", "fact_shipment", (1, 0, 0, 0)),
        ("UPDATE fact_shipment SET is_deleted = false WHERE is_deleted", "fact_shipment", (0, 1, 0, 0)),
        ("UPDATE fact_shipment SET valid_to = '2030-01-01' WHERE shipment_number = 10", "fact_shipment", (1, 0, 0, 1)),
        ("UPDATE fact_shipment SET valid_to = '2030-01-01' WHERE shipment_number = 1 AND valid_to IS NOT NULL", "fact_shipment", (0, 0, 0, 1)),
        ("UPDATE dim_driver SET boss_name = 'stale' WHERE badge = 'd2'", "dim_driver", (0, 0, 1, 0)),
        ("INSERT INTO dim_driver VALUES ('d9', 'Nobody', NULL)", "dim_driver", (0, 1, 0, 0)),
        ("DELETE FROM dim_driver WHERE badge = 'd3'", "dim_driver", (1, 0, 0, 0)),
    ],
)  # fmt: skip
def test_a_planted_difference_is_found(
    statement: str, table: str, verdict: tuple[int, ...], pipeline: Pipeline
) -> None:
    tamper(pipeline, statement)
    seen = found(pipeline)
    one = seen.tables[table]
    assert (one.missing, one.extra, one.different, one.broken) == verdict
    assert [name for name, other in seen.tables.items() if not other.equal] == [table]


def test_a_difference_is_named_with_key_column_and_both_values(pipeline: Pipeline) -> None:
    tamper(pipeline, "UPDATE dim_driver SET boss_name = 'stale' WHERE badge = 'd2'")
    [example] = found(pipeline, "dim_driver").tables["dim_driver"].examples
    assert (example.key, example.columns) == ({"badge": "d2"}, {"boss_name": ("ANN", "stale")})


def test_a_row_that_history_refers_to_is_kept_and_no_difference(
    pipeline: Pipeline, database: Database
) -> None:
    database.execute(
        "UPDATE shipment SET driver = 'd1' WHERE driver = 'd2'", "DELETE FROM driver WHERE badge = 'd2'"
    )
    verdict = found(pipeline)
    assert verdict.equal
    assert verdict.tables["dim_driver"].kept == 1


def test_a_sample_compares_a_part(pipeline: Pipeline) -> None:
    rows = found(pipeline, "fact_shipment", sample=0.5).tables["fact_shipment"].rows
    assert 0 < rows < 29


def test_an_unknown_table_is_refused(pipeline: Pipeline) -> None:
    with pytest.raises(ConfigurationError, match="there is no table dim_nothing"):
        found(pipeline, "dim_nothing")


def test_a_replayed_warehouse_has_the_same_rows(
    pipeline: Pipeline, database: Database, new_database: Any
) -> None:
    database.execute(
        "UPDATE shipment SET weight = NULL WHERE number = 3", "DELETE FROM driver WHERE badge = 'd3'"
    )
    run_cleanly(pipeline)
    everything = {}
    for url in (
        f"duckdb:///{pipeline.settings.base}/again.duckdb",
        new_database().url,
        pipeline.settings.warehouse_url(),
    ):
        if url != pipeline.settings.warehouse_url():
            assert len(pipeline.replay(url).batches) == 3
        again = Pipeline(
            pipeline.settings.model_copy(
                update={
                    "warehouse": pipeline.settings.warehouse.model_copy(
                        update={"url": type(pipeline.settings.warehouse.url)(url)}
                    )
                }
            )
        )
        with again.warehouse() as warehouse:
            everything[url] = [
                sorted(map(str, ([f"{float(v):g}" if column == "weight" and v is not None else str(v) for column, v in zip(names, row, strict=True)] for row in rows)))
                for names, rows in (warehouse.query(f"SELECT * FROM {model.name}") for model in pipeline.project.models)
            ]  # fmt: skip
    one, other, original = everything.values()
    assert one == other == original
