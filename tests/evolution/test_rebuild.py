"""A changed model takes effect for all of history: what is computed is what a project that always had it would have.

The warehouse takes no part here; tests/evolution/test_switch.py loads what is made.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Database
from tests.evolution.whole import quarantine_in_lake, star_in_lake
from tests.spread import in_sweep
from totes.pipeline import Pipeline
from totes.processing.choice import everything

SCHEMA = (
    "CREATE TABLE region (code text PRIMARY KEY, label text, last_updated timestamp NOT NULL DEFAULT now())",
    "CREATE TABLE customer (id int PRIMARY KEY, name text, region text, last_updated timestamp NOT NULL DEFAULT now())",
    "CREATE TABLE sale (id int PRIMARY KEY, customer int, amount numeric, day date, note text,"
    " last_updated timestamp NOT NULL DEFAULT now())",
)
DIM_REGION = (
    "CREATE TABLE dim_region (code VARCHAR PRIMARY KEY, label VARCHAR) AS SELECT code, label FROM region"
)
DIM_CUSTOMER = """CREATE TABLE dim_customer (id INTEGER PRIMARY KEY, name VARCHAR, region VARCHAR{columns}) AS
SELECT customer.id, customer.name, region.label AS region{values} FROM customer LEFT JOIN region ON region.code = customer.region{where}"""
DIM_DATE = """CREATE TABLE dim_date (date_id DATE PRIMARY KEY, year INTEGER{columns}) AS
SELECT date AS date_id, year(date) AS year{values} FROM calendar"""
FACT_SALE = """CREATE TABLE fact_sale (record BIGINT PRIMARY KEY, id INTEGER NOT NULL,
    customer INTEGER REFERENCES dim_customer, amount {amount}, day DATE REFERENCES dim_date{columns}) AS
SELECT sale.id, sale.customer, sale.amount, sale.day{values} FROM sale{join}"""
# What the models become, one state after the other.
CUSTOMERS = [
    DIM_CUSTOMER.format(columns="", values="", where=""),
    DIM_CUSTOMER.format(columns=", shouted VARCHAR", values=", upper(customer.name) AS shouted", where=""),
    DIM_CUSTOMER.format(columns="", values="", where=" WHERE customer.name <> 'n3'"),
    DIM_CUSTOMER.format(columns=", code VARCHAR NOT NULL", values=", customer.region AS code", where=""),
]
DATES = [
    DIM_DATE.format(columns="", values=""),
    DIM_DATE.format(columns=", month INTEGER", values=", month(date) AS month"),
]
SALES = [
    FACT_SALE.format(amount="NUMERIC(6,2)", columns="", values="", join=""),
    FACT_SALE.format(amount="NUMERIC(12,4)", columns="", values="", join=""),
    FACT_SALE.format(
        amount="NUMERIC(12,4)", columns=", buyer VARCHAR", values=", customer.name AS buyer",
        join=" LEFT JOIN customer ON customer.id = sale.customer",
    ),
    FACT_SALE.format(amount="NUMERIC(3,1)", columns=", note VARCHAR NOT NULL", values=", sale.note", join=""),
]  # fmt: skip


class Shop:
    """A source that changes at random, always in the same way for one seed."""

    def __init__(self, database: Database, seed: int) -> None:
        self._database = database
        self._random = random.Random(seed)
        database.execute(*SCHEMA)

    def trade(self, changes: int) -> None:
        """Makes some changes, each its own transaction."""
        for _ in range(changes):
            self._database.execute(self._change())

    def _change(self) -> str:
        pick, key = self._random.randrange, self._random.randrange(8)
        day = f"date '2023-01-01' + {pick(900)}"
        return self._random.choice([
            f"INSERT INTO region VALUES ('r{pick(3)}', 'l{pick(5)}') ON CONFLICT (code) DO UPDATE SET label = excluded.label, last_updated = now()",
            f"INSERT INTO customer VALUES ({key}, 'n{pick(5)}', 'r{pick(3)}') ON CONFLICT (id) DO UPDATE SET name = excluded.name, region = excluded.region",
            f"INSERT INTO customer VALUES ({key}, 'n{pick(5)}', NULL) ON CONFLICT (id) DO UPDATE SET name = excluded.name, last_updated = now()",
            f"DELETE FROM customer WHERE id = {key}",
            f"DELETE FROM region WHERE code = 'r{pick(3)}'",
            *[f"INSERT INTO sale VALUES ({pick(30)}, {pick(8)}, {pick(130)}.{pick(20)}, {day}, 'x') ON CONFLICT (id) DO UPDATE SET amount = excluded.amount, last_updated = now()"] * 5,
            f"UPDATE sale SET note = NULL, customer = {key} WHERE id = {pick(30)}",
            f"DELETE FROM sale WHERE id = {pick(30)}",
        ])  # fmt: skip


@pytest.fixture
def evolving(
    database: Database, make_pipeline: Callable[..., Pipeline], write_project: Any, tmp_path: Path
) -> Callable[..., Pipeline]:
    """Gives the pipeline with these models; with `fresh`, over the same ingestion lake and a processed one of its own."""

    def give(customers: int = 0, dates: int = 0, sales: int = 0, *, fresh: str = "") -> Pipeline:
        models = {
            "dim_region": DIM_REGION,
            "dim_customer": CUSTOMERS[customers],
            "dim_date": DATES[dates],
            "fact_sale": SALES[sales],
        }
        lake = {"processed": f"lake/{fresh or 'processed'}", "cache": f".totes{fresh}"}
        return make_pipeline(database.url, project=write_project(models), lake=lake)

    return give


@pytest.mark.parametrize(("seed", "steps"), [(1, 2), (2, 2), *(in_sweep(seed, 5) for seed in range(1, 12))])
def test_any_change_of_models_gives_what_a_project_that_always_had_them_would(
    seed: int, steps: int, database: Database, evolving: Callable[..., Pipeline]
) -> None:
    shop, choose = Shop(database, seed), random.Random(seed)
    shop.trade(40)
    evolving().ingest()
    for step in range(steps):
        state = [choose.randrange(len(states)) for states in (CUSTOMERS, DATES, SALES)]
        pipeline = evolving(*state)
        if choose.random() < 0.3:
            shutil.rmtree(pipeline.settings.cache_folder, ignore_errors=True)
        pipeline.process(choose=everything)
        fresh = evolving(*state, fresh=f"fresh{step}")
        fresh.process()
        star, expected = star_in_lake(pipeline), star_in_lake(fresh)
        # A calendar keeps the years that it has had: rows of history that nobody rebuilt may need them.
        assert set(star["dim_date"]) >= set(expected.pop("dim_date"))
        del star["dim_date"]
        for name, rows in expected.items():
            assert (
                sorted(set(star[name]) - set(rows), key=str),
                sorted(set(rows) - set(star[name]), key=str),
            ) == ([], []), (name, step, state)
            assert len(star[name]) == len(rows)
        assert quarantine_in_lake(pipeline) == quarantine_in_lake(fresh)
        numbers = [row[0] for row in star_in_lake(pipeline, surrogates=True)["fact_sale"]]
        assert len(set(numbers)) == len(numbers)
        shop.trade(10)
        pipeline.ingest()
