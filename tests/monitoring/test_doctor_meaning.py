"""Where a model means something else than PostgreSQL would: `doctor` says so, and `run` of what loses rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Database
from tests.processes import Command
from tests.processing.test_as_written import PEOPLE
from totes import engine
from totes.monitoring.diagnosis.exactness import inexact
from totes.processing.bound.binding import bind_models
from totes.processing.bound.relation import Relations
from totes.star.project import load_project

SCHEMA = """
CREATE EXTENSION citext;
CREATE TABLE customer (email citext PRIMARY KEY, code char(3), region char(5));
CREATE TABLE orders (id int PRIMARY KEY, email citext, code char(3), region char(3), amount numeric(10, 2), n int);
INSERT INTO customer VALUES ('Ann@x', 'a', 'n');
INSERT INTO orders VALUES (1, 'ann@X', 'a', 'n', 10, 3);
"""
DIMENSION = (
    "CREATE TABLE dim_customer (email VARCHAR PRIMARY KEY, code VARCHAR) AS SELECT email, code FROM customer"
)
FACT = """CREATE TABLE fact_order (record BIGINT PRIMARY KEY, id INTEGER, email VARCHAR{reference}, each_one NUMERIC) AS
SELECT o.id, o.email, o.amount / o.n AS each_one
FROM orders AS o
LEFT JOIN customer AS c {condition}
"""


@pytest.fixture
def checks(
    database: Database, totes: Callable[..., Command], tmp_path: Path, write_project: Callable[..., Any]
) -> Callable[..., tuple[list[str], str]]:
    """What `doctor` warns of in a project, and what `run` prints."""

    def look(condition: str, reference: str = "") -> tuple[list[str], str]:
        write_project(
            {"dim_customer": DIMENSION, "fact_order": FACT.format(condition=condition, reference=reference)}
        )
        (tmp_path / "totes.toml").write_text(
            f'[project]\nname = "shop"\npath = "project"\n[source]\nurl = "{database.url}"\n'
        )
        found = json.loads(totes("doctor", "--json", timeout=300).out)["checks"]
        return [
            f"{check['name']}: {check['found']}"
            for check in found
            if check["name"] in ("comparisons", "exactness")
        ], totes("run", timeout=300).err

    database.execute(SCHEMA)
    return look


def test_comparisons_that_postgresql_makes_otherwise_are_warned_of(
    checks: Callable[..., tuple[list[str], str]],
) -> None:
    found, printed = checks(
        "ON c.email = o.email AND c.code = o.code AND c.region = o.region", " REFERENCES dim_customer"
    )
    text = "\n".join(found)
    assert (
        "fact_order, line 4: customer.email is a citext, which PostgreSQL compares taking different" in text
    )
    assert "fact_order, line 4: customer.region is a character(5)" in text
    assert "line 4: orders.region is a character(3)" in text
    assert "orders.email is a citext" in text
    assert ".code is" not in text
    assert "exactness: fact_order computes with exact numbers in binary floating point: / in line 2" in text
    assert "customer.email is a citext" in printed


def test_comparisons_of_values_that_were_made_alike_are_not(
    checks: Callable[..., tuple[list[str], str]],
) -> None:
    found, printed = checks("ON lower(c.email) = lower(o.email) AND rtrim(c.region) = rtrim(o.region)")
    assert [one for one in found if one.startswith("comparisons")] == []
    assert "citext" not in printed


EXPRESSIONS = [
    ("i / k", "NUMERIC", ["/ in line 2"]),
    ("n / 3", "NUMERIC", ["/ in line 2"]),
    ("n * n + i / 2", "VARCHAR", ["/ in line 2"]),
    ("sqrt(i)", "NUMERIC", ["sqrt in line 2"]),
    ("i ^ 2", "INTEGER", ["^ in line 2"]),
    ("i / k", "DOUBLE", []),
    ("CAST(n / i AS DECIMAL(10, 2))", "DECIMAL(10, 2)", []),
    ("round(n / i, 2)", "DECIMAL(10, 2)", []),
    ("n::DOUBLE / 2", "VARCHAR", []),
    ("f / 2", "VARCHAR", []),
    ("f * n", "VARCHAR", []),
    ("i // k", "INTEGER", []),
    ("n * 1.5 - i", "NUMERIC", []),
]


def test_exact_numbers_in_floating_point_are_found(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    with engine.connect(None, memory="500MB") as connection:
        for expression, declared, found in EXPRESSIONS:
            text = f"CREATE TABLE x (id INTEGER PRIMARY KEY, r {declared}) AS\nSELECT id, {expression} AS r FROM people"
            (tmp_path / "models" / "x.sql").write_text(text)
            [query] = bind_models(load_project("x", tmp_path).models, Relations({"people": PEOPLE}, {}))
            assert (expression, inexact(query, connection)) == (expression, found)
