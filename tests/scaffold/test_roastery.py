"""The promise of `totes init`, on a plain schema: it runs and verifies as it is, and reads as if written by hand."""

from __future__ import annotations

from collections.abc import Callable

from tests.scaffold.projects import Made

DIM_BEAN = """\
-- Beans that are or were on sale.
CREATE TABLE dim_bean (
    bean_id         INTEGER PRIMARY KEY,
    name            VARCHAR(60) NOT NULL,
    farm_name       VARCHAR(60) NOT NULL,
    country_name    VARCHAR NOT NULL,
    farm_altitude   INTEGER,
    price_per_kilo  DECIMAL(8, 2) NOT NULL,  -- Net, in euros
    decaffeinated   BOOLEAN NOT NULL
) AS
-- A dimension: bean_flavour and roast_order_line refer to it.
SELECT
    bean.bean_id,
    bean.name,
    farm.name AS farm_name,
    country.name AS country_name,
    farm.altitude AS farm_altitude,
    bean.price_per_kilo,
    bean.decaffeinated
FROM bean
LEFT JOIN farm ON farm.farm_id = bean.farm_id
LEFT JOIN country ON country.country_id = farm.country_id
"""


def test_it_runs_and_verifies_as_it_is(project: Callable[..., Made]) -> None:
    made = project("roastery")
    compared = made.works()
    assert compared["fact_roast_order"] == 50
    assert compared["fact_roast_order_line"] == 150
    assert compared["bridge_bean_flavour"] == 3
    assert set(compared) == made.models


def test_models_read_as_if_written_by_hand(project: Callable[..., Made]) -> None:
    made = project("roastery")
    assert made.model("dim_bean") == DIM_BEAN
