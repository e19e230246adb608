"""Whatever happens at the source, the star's current rows are the models applied to it, and versions form chains."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Database, rows_of, run_cleanly
from tests.processing.freight import EXPECTED, MODELS, PRESENT, SCHEMA
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


class Traders:
    """Random traders at the source, each statement one transaction."""

    def __init__(self, database: Database, seed: int) -> None:
        self._database = database
        self._random = random.Random(seed)
        self._serial = 0

    def trade(self, times: int) -> None:
        for _ in range(times):
            self._database.execute(self._random.choice(self._moves())())

    def _moves(self) -> list[Callable[[], str]]:
        return [self._country, self._region, self._depot, self._depot, self._driver, self._driver, self._shipment,
                self._shipment, self._shipment, self._change, self._change, self._change, self._delete, self._rekey]  # fmt: skip

    def _name(self) -> str:
        self._serial += 1
        return f"n{self._serial}"

    def _some(self, column: str, table: str) -> str:
        return f"(SELECT {column} FROM {table} ORDER BY md5({column}::text || '{self._random.random()}') LIMIT 1)"

    def _country(self) -> str:
        return f"INSERT INTO country VALUES ('{self._random.choice('ABC')}{self._random.choice('XYZ')}', '{self._name()}') ON CONFLICT DO NOTHING"

    def _region(self) -> str:
        return (
            f"INSERT INTO region SELECT code, {self._random.randrange(3)}, '{self._name()}' FROM country"
            f" WHERE code = {self._some('code', 'country')} ON CONFLICT DO NOTHING"
        )

    def _depot(self) -> str:
        with_region = "country_code, region_number" if self._random.random() < 0.8 else "NULL, NULL"
        return (
            f"INSERT INTO \"Depot\" SELECT gen_random_uuid(), '{self._name()}', {with_region} FROM region"
            f' WHERE "Region Name" = {self._some(chr(34) + "Region Name" + chr(34), "region")} LIMIT 1'
        )

    def _driver(self) -> str:
        return f"INSERT INTO driver VALUES ('{self._name()}', 'name {self._name()}', {self._some('badge', 'driver')}, now())"

    def _shipment(self) -> str:
        weight = self._random.choice(["1.50", "999.123456", "1000", "1000.01", "NULL", "5000"])
        status = self._random.choice(["sent", "sent", "draft", "sent"])
        return (
            f"INSERT INTO shipment SELECT '{self._random.choice('PQ')}', {self._random.randrange(40)}, d.id,"
            f" {self._some('id', chr(34) + 'Depot' + chr(34))}, {self._some('badge', 'driver')}, {weight}, '{status}',"
            f' now() FROM "Depot" d WHERE d.id = {self._some("id", chr(34) + "Depot" + chr(34))} ON CONFLICT DO NOTHING'
        )

    def _change(self) -> str:
        one_shipment = f"(series, number) IN (SELECT series, number FROM shipment ORDER BY md5(number::text || '{self._random.random()}') LIMIT 1)"
        return self._random.choice([
            f"UPDATE country SET name = '{self._name()}' WHERE code = {self._some('code', 'country')}",
            f"UPDATE region SET \"Region Name\" = '{self._name()}' WHERE country_code = {self._some('country_code', 'region')}",
            f"UPDATE \"Depot\" SET title = '{self._name()}' WHERE id = {self._some('id', chr(34) + 'Depot' + chr(34))}",
            f"UPDATE \"Depot\" SET (country_code, region_number) = (SELECT country_code, region_number FROM region ORDER BY md5(\"Region Name\" || '{self._random.random()}') LIMIT 1) WHERE id = {self._some('id', chr(34) + 'Depot' + chr(34))}",
            f"UPDATE driver SET boss = {self._some('badge', 'driver')} WHERE badge = {self._some('badge', 'driver')}",
            f"UPDATE driver SET \"select\" = '{self._name()}', last_updated = now() WHERE badge = {self._some('badge', 'driver')}",
            f"UPDATE shipment SET weight = coalesce(weight, 0) + 600, last_updated = now() WHERE {one_shipment}",
            f"UPDATE shipment SET weight = coalesce(weight, 0) + 1 WHERE {one_shipment}",
            f"UPDATE shipment SET last_updated = last_updated - interval '1 year', weight = 7 WHERE {one_shipment}",
            f"UPDATE shipment SET status = CASE status WHEN 'draft' THEN 'sent' ELSE 'draft' END WHERE {one_shipment}",
            f"UPDATE shipment SET destination = {self._some('id', chr(34) + 'Depot' + chr(34))} WHERE {one_shipment}",
            f"UPDATE shipment SET driver = NULL WHERE {one_shipment}",
        ])  # fmt: skip

    def _delete(self) -> str:
        return self._random.choice([
            "DELETE FROM shipment WHERE (series, number) IN (SELECT series, number FROM shipment LIMIT 2)",
            "DELETE FROM driver d WHERE NOT EXISTS (SELECT 1 FROM driver b WHERE b.boss = d.badge) AND NOT EXISTS (SELECT 1 FROM shipment s WHERE s.driver = d.badge)",
            "DELETE FROM \"Depot\" d WHERE NOT EXISTS (SELECT 1 FROM shipment s WHERE d.id IN (s.origin, s.destination))",
            "UPDATE \"Depot\" SET region_number = NULL, country_code = NULL WHERE id IN (SELECT id FROM \"Depot\" LIMIT 1)",
        ])  # fmt: skip

    def _rekey(self) -> str:
        return "UPDATE shipment SET number = number + 1000 WHERE (series, number) IN (SELECT series, number FROM shipment LIMIT 1)"


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
