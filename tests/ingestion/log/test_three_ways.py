"""One history captured three ways: by query after each transaction, from the log after each, and from the log at the end."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Database, processed_rows, rows_of, run_cleanly
from tests.ingestion.log.conftest import Lake
from tests.processing.test_transactions import MODELS, ROWS, TABLES
from tests.spread import in_sweep
from totes.pipeline import Pipeline

KEYS = {"fact_order": "order_id", "fact_customer": "customer_id", "fact_line": "order_id"}


def star(pipeline: Pipeline, *, times: bool = True) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of the star but for what numbers versions and batches, and without the times of versions if they may differ."""
    left_out = "" if times else "SELECT * EXCLUDE (valid_from, valid_to)"
    return {
        table: rows_of(pipeline, f"{left_out} FROM ({query})" if left_out and table in KEYS else query)
        for table, query in ROWS.items()
    }


@pytest.mark.parametrize("seed", [0, *(in_sweep(seed) for seed in range(1, 30))])
def test_random_transactions(
    source: Database, new_lake: Callable[..., Lake], write_project: Any, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    source.execute(*TABLES)
    project = write_project(MODELS, name="star")
    by_query, each, once = (
        new_lake(
            source,
            capture,
            project=project,
            folder=tmp_path / name,
            source={"slot": f"totes_{source.name}_{name}"},
        ).pipeline
        for capture, name in (("query", "by_query"), ("log", "each"), ("log", "once"))
    )

    def commit(*statements: str, ends: str = "COMMIT") -> None:
        with source.connect() as connection:
            for statement in statements:
                connection.execute(statement.encode())
            connection.execute(ends.encode())
        run_cleanly(by_query)
        run_cleanly(each)

    def change() -> str:
        key, time = chance.randint(1, 4), f"'2024-01-0{chance.randint(1, 9)}'"
        return chance.choice([
            f"INSERT INTO region VALUES ({key}, 'r{chance.randint(1, 3)}') ON CONFLICT (region_id) DO UPDATE SET name = excluded.name",
            f"UPDATE region SET name = '{chance.choice(['hidden', 'r1', 'r2'])}' WHERE region_id = {key}",
            f"DELETE FROM region WHERE region_id = {key}",
            f"INSERT INTO customer VALUES ({key}, 'Ada', {chance.randint(1, 4)}, {time})"
            " ON CONFLICT (customer_id) DO UPDATE SET name = NULL, last_updated = excluded.last_updated",
            f"UPDATE customer SET customer_id = {chance.randint(5, 6)} WHERE customer_id = {key}"
            " AND NOT EXISTS (SELECT 1 FROM customer WHERE customer_id > 4)",
            f"DELETE FROM customer WHERE customer_id = {key}",
            f"INSERT INTO \"order\" SELECT i, {chance.randint(1, 5)}, repeat(md5(i::text || '{chance.random()}'), 200), {time}"
            f" FROM generate_series({key}, {key} + 2) i ON CONFLICT (order_id) DO UPDATE SET customer_id = excluded.customer_id",
            f"UPDATE \"order\" SET item = 'i{chance.randint(1, 9)}', last_updated = {time} WHERE order_id = {key}",
            f"DELETE FROM \"order\" WHERE order_id = {key}",
            f"SAVEPOINT s; DELETE FROM region; UPDATE \"order\" SET item = 'no'; ROLLBACK TO s; UPDATE region SET name = 'r3' WHERE region_id = {key}",
            *(['TRUNCATE "order"'] if chance.random() < 0.3 else []),
        ])  # fmt: skip

    commit("INSERT INTO region VALUES (1, 'r1')", "INSERT INTO customer VALUES (1, 'Ada', 1, '2024-01-01')")
    run_cleanly(once)
    for _ in range(12):
        commit(
            *(change() for _ in range(chance.choice([1, 1, 2, 4]))),
            ends=chance.choice(["COMMIT"] * 3 + ["ROLLBACK"]),
        )
    run_cleanly(once)
    assert star(once) == star(each)
    from_lake = new_lake(
        source,
        project=project,
        folder=tmp_path / "from_lake",
        lake={"ingestion": each.ingestion_store.url},
    ).pipeline
    from_lake.process()
    assert processed_rows(from_lake) == processed_rows(each)
    assert star(once, times=False) == star(by_query, times=False)
