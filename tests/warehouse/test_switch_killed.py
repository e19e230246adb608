"""A switch that is killed at any point, or raced, ends as one that was not; who looks meanwhile sees one table or the other."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command, Database
from tests.processes import KILLED, Started
from tests.warehouse.handmade import Lake
from tests.warehouse.test_switch import CUSTOMER, FIRST, NINE, ORDER, TAG, Star, quiet

MANY = "SELECT i::INTEGER, 5, 't' || i FROM range(1, 100002) AS r (i)"
CHANGED = quiet(
    dim_customer=CUSTOMER.made_anew(
        (1, "ADA", 5, False), (3, "CY", 6, True), columns={"id": "BIGINT", "name": "VARCHAR NOT NULL", "city": "INTEGER NOT NULL"}
    ),
    fact_order=ORDER.made_anew(
        (3, 70, 1, "1.50", NINE, False, 1), columns={"number": "BIGINT", **dict(list(ORDER.columns.items())[1:])},
        surrogate="number", key=("customer",),
    ),
    dim_tag=TAG.made_anew(rows=MANY, columns={"id": "INTEGER", "size": "INTEGER NOT NULL", "label": "VARCHAR"}, renamed={"label": "text"}),
    dim_new=TAG,
)  # fmt: skip
FEWER = CHANGED | {"dim_tag": replace(CHANGED["dim_tag"], rows=[(1, 5, "t1"), (2, 5, "t2")])}


@pytest.fixture
def star(warehouse_url: str, tmp_path: Path, beside: Database) -> Star:
    """A warehouse with a first batch, and a batch to come that changes all of it."""
    made = Star(Lake(tmp_path), warehouse_url, tmp_path, beside)
    made.load(FIRST | {"dim_gone": TAG})
    made.lake.add(CHANGED)
    return made


@pytest.fixture
def changed_star(warehouse_url: str, tmp_path: Path, beside: Database) -> Star:
    """A warehouse with a second batch that changed all of it."""
    made = Star(Lake(tmp_path), warehouse_url, tmp_path, beside)
    made.load(FIRST | {"dim_gone": TAG})
    made.load(FEWER)
    return made


def settings(star: Star) -> dict[str, str]:
    """The environment in which the command finds the lake and the warehouse."""
    return {"TOTES_SOURCE__URL": "postgresql://nobody@localhost/nothing", "TOTES_WAREHOUSE__URL": star.url,
            "TOTES_LAKE__PROCESSED": "processed", "TOTES_LAKE__INGESTION": "ingestion"}  # fmt: skip


POINTS = {
    "duckdb": ("duckdb.switched", "duckdb.rows:2", "duckdb.removed:1", "duckdb.commit.before", "duckdb.commit.after"),
    "postgresql": ("postgresql.loosened", "postgresql.built:2", "postgresql.rows:2", "postgresql.removed:1",
                   "postgresql.switched", "postgresql.commit.before", "postgresql.commit.after"),
}  # fmt: skip


def test_a_switch_that_is_killed_at_any_point_is_done_by_the_next_load(
    star: Star, totes: Callable[..., Command]
) -> None:
    kind = "duckdb" if star.url.startswith("duckdb") else "postgresql"
    before = star.contents()
    for point in POINTS[kind]:
        assert totes("load", **settings(star), TOTES_FAILPOINT=point).code == KILLED, point
        if not point.endswith("commit.after"):
            now = {
                name: found for name, found in star.contents().items() if not name.startswith("totes_loading")
            }
            added = {"dim_tag": ["size"]} if point.startswith("postgresql") else {}
            for name, (columns, _) in now.items():
                assert set(columns) - set(before[name][0]) <= {*added.get(name, ())}
            if not added:
                assert now == before
    done = totes("load", "--json", **settings(star))
    assert (done.code, json.loads(done.out)["loaded"]) == (0, {})
    star.check()


def test_a_table_that_is_rebuilt_is_killed_and_rebuilt(
    changed_star: Star, totes: Callable[..., Command]
) -> None:
    star = changed_star
    kind = "duckdb" if star.url.startswith("duckdb") else "postgresql"
    before = star.contents()
    star.execute("DELETE FROM dim_new WHERE id = 2")
    assert (
        totes("replay", "--table", "dim_new", **settings(star), TOTES_FAILPOINT=f"{kind}.rebuilt").code
        == KILLED
    )
    assert len(star.rows("SELECT * FROM dim_new")) == 2
    done = totes("replay", "--table", "dim_new", "--json", **settings(star))
    assert json.loads(done.out) == {"batch": 2, "table": "dim_new", "rows": 3}
    assert star.contents() == before
    wrong = totes("replay", "--table", "dim_nothing", **settings(star))
    assert wrong.code == 2
    assert "the warehouse has no table dim_nothing at batch 2" in wrong.err
    assert totes("replay", **settings(star)).code == 2
    assert totes("replay", "--table", "dim_new", "--to", "1", **settings(star)).code == 2


def test_loaders_that_start_at_once_switch_once(star: Star, tmp_path: Path) -> None:
    loaders = [Started(("load", "--json"), tmp_path, {**os.environ, **settings(star)}) for _ in range(3)]
    done = [loader.finish(120) for loader in loaders]
    assert [(one.code, one.err) for one in done if one.code] == []
    assert sum(bool(json.loads(one.out)["loaded"]) for one in done) == 1
    star.check()


def test_a_table_is_rebuilt_beside_loads(changed_star: Star) -> None:
    star = changed_star
    failures: list[BaseException] = []

    def rebuild() -> None:
        try:
            for _ in range(5):
                star.rebuild("dim_customer")
        except BaseException as error:
            failures.append(error)

    beside = threading.Thread(target=rebuild)
    if star.url.startswith("duckdb"):
        rebuild()  # one process has one connection to the file
    else:
        beside.start()
    row: tuple[Any, ...] = (1, "Eve", 7, False)
    for _ in range(5):
        star.load({name: table.having() for name, table in FEWER.items()}
                  | {"dim_customer": FEWER["dim_customer"].having(row)})  # fmt: skip
    if beside.ident:
        beside.join()
    assert failures == []
    star.check()
