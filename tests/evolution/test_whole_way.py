"""Changed models all the way: what stands in the warehouse is what a fresh project over the same lake loads into an empty one."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Database, rows_of
from tests.evolution.test_rebuild import CUSTOMERS, DATES, DIM_REGION, SALES, Shop
from tests.spread import KINDS, in_sweep
from totes.monitoring.plan import plan
from totes.monitoring.verification import verify
from totes.pipeline import Pipeline

TABLES = ("dim_region", "dim_customer", "dim_date", "fact_sale")


def tables_of(pipeline: Pipeline) -> dict[str, set[tuple[Any, ...]]]:
    """Every row of the star by column names, without the numbers of versions."""
    found = {}
    for table in TABLES:
        with pipeline.warehouse() as warehouse:
            columns = sorted(set(warehouse.columns(table)) - {"record"})
            values = ", ".join(f"CAST({column} AS VARCHAR)" for column in columns)
            rows = warehouse.query(f"SELECT {values} FROM {warehouse.relation(table)}")[1]
        found[table] = {tuple(zip(columns, row, strict=True)) for row in rows}
        assert len(found[table]) == len(rows)
    return found


@pytest.mark.parametrize(
    ("warehouse_url", "seed", "steps"),
    [
        ("duckdb", 1, 2),
        ("postgresql", 2, 2),
        *(in_sweep(kind, seed, 4) for kind in KINDS for seed in range(1, 8)),
    ],
    indirect=["warehouse_url"],
)  # fmt: skip
def test_changed_models_are_loaded_as_a_fresh_project_would_load_them(
    seed: int,
    steps: int,
    database: Database,
    warehouse_url: str,
    make_pipeline: Callable[..., Pipeline],
    write_project: Any,
) -> None:
    shop, choose = Shop(database, seed), random.Random(seed)
    shop.trade(40)

    def pipeline_with(state: list[int], fresh: str = "") -> Pipeline:
        models = {
            "dim_region": DIM_REGION,
            "dim_customer": CUSTOMERS[state[0]],
            "dim_date": DATES[state[1]],
            "fact_sale": SALES[state[2]],
        }
        lake = {"processed": f"lake/{fresh or 'processed'}", "cache": f".totes{fresh}"}
        url = f"duckdb:///{fresh}.duckdb" if fresh else warehouse_url
        return make_pipeline(database.url, url, project=write_project(models), lake=lake)

    for step in range(steps):
        state = [choose.randrange(len(states)) for states in (CUSTOMERS, DATES, SALES)]
        pipeline = pipeline_with(state)
        if step % 2:
            pipeline.run()
            shop.trade(4)
        else:
            assert pipeline.run().failures == {}
        planned = plan(pipeline)
        pipeline.apply()
        assert not plan(pipeline).changes, planned
        fresh = pipeline_with(state, f"fresh{step}")
        fresh.process()
        fresh.load()
        star, expected = tables_of(pipeline), tables_of(fresh)
        assert star.pop("dim_date") >= expected.pop("dim_date")
        assert star == expected, (step, state)
        shop.trade(10)
    verdict = verify(pipeline, (), 1, lambda _doing: None)
    assert verdict.equal, verdict
    [(total, distinct)] = rows_of(pipeline, "SELECT count(*), count(DISTINCT record) FROM fact_sale")
    assert total == distinct
