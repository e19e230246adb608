"""`totes history` finds a row by whatever names it: a key as it is written anywhere, also that of a row in quarantine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command, Database
from totes.errors import ConfigurationError
from totes.monitoring.history import read_history
from totes.monitoring.row_key import written
from totes.pipeline import Pipeline

SCHEMA = (
    "CREATE TABLE stock (shop text, item int, day date, amount numeric, PRIMARY KEY (shop, item, day))",
    "INSERT INTO stock VALUES ('North Bay', 1, '2024-11-25', 5), ('a=b', 2, '2024-11-26', 7), ('it''s', 3, '2024-11-27', 1.005)",
)
DIM = """CREATE TABLE dim_stock (place VARCHAR, item INTEGER, day DATE, amount DECIMAL(10, 2), PRIMARY KEY (place, item, day)) AS
    SELECT shop AS place, item, day, amount FROM stock"""
FACT = """CREATE TABLE fact_stock (record_id BIGINT PRIMARY KEY, day DATE NOT NULL, place VARCHAR NOT NULL, item INTEGER NOT NULL,
    amount DECIMAL(10, 2)) AS SELECT day, shop AS place, item, amount FROM stock"""


@pytest.fixture
def pipeline(
    database: Database,
    make_pipeline: Callable[..., Pipeline],
    write_project: Callable[..., dict[str, Any]],
    tmp_path: Path,
) -> Pipeline:
    """A pipeline with keys of three columns, and a row in quarantine."""
    database.execute(*SCHEMA)
    made = make_pipeline(database.url, project=write_project({"dim_stock": DIM, "fact_stock": FACT}))
    (tmp_path / "totes.toml").write_text(
        f'[project]\nname = "project"\npath = "project"\n[source]\nurl = "{database.url}"\n', encoding="utf-8"
    )
    assert made.run().failures == {}
    return made


@pytest.mark.parametrize("table", ["dim_stock", "fact_stock", "stock"])
@pytest.mark.parametrize(
    "key",
    [
        {"shop": "North Bay", "item": "01", "day": "2024-11-25"},
        {"day": "2024-11-25", "item": "1", "shop": "North Bay"},
        {"shop": "a=b", "item": "2", "day": "2024-11-26"},
    ],
)
def test_a_key_is_understood_by_the_names_of_the_source(
    pipeline: Pipeline, table: str, key: dict[str, str]
) -> None:
    for given in ([f"{name}={value}" for name, value in key.items()], [written(key)]):
        [version] = read_history(pipeline, table, given)
        assert version.values["item"] == int(key["item"])


def test_a_key_is_understood_by_the_names_of_the_star_and_in_its_order(pipeline: Pipeline) -> None:
    for given in (["place=North Bay", "day=2024-11-25", "item=1"], ["North Bay", "1", "2024-11-25"]):
        assert len(read_history(pipeline, "dim_stock", given)) == 1
    with pytest.raises(ConfigurationError, match="the key of dim_stock is day, of type DATE, which 1 is not"):
        read_history(pipeline, "dim_stock", ["North Bay", "1", "1"])
    with pytest.raises(ConfigurationError, match="identified by place, item, day; 1 values were given"):
        read_history(pipeline, "dim_stock", ["place=x item=1"])


@pytest.mark.parametrize("table", ["dim_stock", "fact_stock", "stock"])
def test_a_row_in_quarantine_is_found_as_the_list_prints_it(
    pipeline: Pipeline, totes: Callable[..., Command], table: str
) -> None:
    [row, *_] = json.loads(totes("quarantine", "list", "--json").out)["rows"]
    assert written(row["key"]) == "shop='it'\"'\"'s' item=3 day=2024-11-27"
    done = totes("history", table, written(row["key"]), "--json")
    found = json.loads(done.out)
    assert done.code == 0, done.err
    assert len(found["versions"]) == (1 if table == "stock" else 0)
    tables = ["dim_stock", "fact_stock"] if table == "stock" else [table]
    assert [one["table"] for one in found["quarantine"]] == tables
    out = totes("history", table, written(row["key"])).out
    assert "In quarantine\n" in out
    assert "  amount  1.005  has more digits" in out
    assert all(f"{one} {written(row['key'])}\n" in out for one in tables)


def test_a_row_that_is_well_says_nothing_of_quarantine(
    pipeline: Pipeline, totes: Callable[..., Command]
) -> None:
    assert (
        json.loads(totes("history", "dim_stock", "a=b", "2", "2024-11-26", "--json").out)["quarantine"] == []
    )
    done = totes("history", "dim_stock", "nowhere", "2", "2024-11-26")
    assert (done.code, done.err) == (
        1,
        "error: dim_stock has no row nowhere, 2, 2024-11-26 and never had one\n",
    )
