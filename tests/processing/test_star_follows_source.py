"""Whatever happens at the source, the star's current rows are the models applied to it, and versions form chains."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from tests.conftest import Database, rows_of, run_cleanly
from tests.processing.freight import EXPECTED, MODELS, PRESENT, SCHEMA, Traders
from tests.spread import KINDS, in_sweep
from totes.pipeline import Pipeline

BROKEN_CHAINS = """
SELECT series, shipment_number, valid_from, valid_to FROM (
    SELECT *, lead(valid_from) OVER (PARTITION BY series, shipment_number ORDER BY shipment_record) AS next
    FROM fact_shipment
) AS versions
WHERE valid_to IS DISTINCT FROM next OR valid_from >= next
"""


def star_of(pipeline: Pipeline) -> dict[str, list[tuple[Any, ...]]]:
    return {table: sorted(rows_of(pipeline, sql), key=repr) for table, sql in PRESENT.items()}


def truth(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    return {table: sorted(database.execute(sql), key=repr) for table, sql in EXPECTED.items()}


def normal(star: dict[str, list[tuple[Any, ...]]]) -> dict[str, list[tuple[Any, ...]]]:
    return {
        table: sorted(
            (tuple(f"{v.normalize():f}" if hasattr(v, "normalize") else v for v in row) for row in rows),
            key=repr,
        )
        for table, rows in star.items()
    }


@pytest.mark.parametrize(
    ("warehouse_url", "seed", "batches"),
    [("duckdb", 0, 4), ("postgresql", 1, 4), *(in_sweep(kind, seed, 6) for kind in KINDS for seed in (0, 1))],
    indirect=["warehouse_url"],
)
def test_current_rows_equal_the_models_applied_to_the_source_after_any_changes(
    seed: int, batches: int, database: Database, warehouse_url: str, make_pipeline: Any, write_project: Any
) -> None:
    database.execute(SCHEMA)
    pipeline = make_pipeline(database.url, warehouse_url, project=write_project(MODELS))
    traders = Traders(database, seed)
    traders.trade(60)
    for batch in range(batches):
        cycle = run_cleanly(pipeline)
        assert cycle.quarantined == 0
        known = normal(truth(database))
        star = normal(star_of(pipeline))
        assert star == known, f"after batch {batch + 1}"
        assert rows_of(pipeline, BROKEN_CHAINS) == []
        if batch == batches - 3:
            shutil.rmtree(pipeline.settings.cache_folder)
        traders.trade(12)
