"""`totes apply` that is killed at any point and run again gives the star that one run would have given, and no more batches."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.conftest import Command, Database
from tests.evolution.test_rebuild import CUSTOMERS, DATES, DIM_REGION, SALES, Shop
from tests.evolution.whole import quarantine_in_lake, star_in_lake
from tests.processes import KILLED
from totes.config import load_settings
from totes.lake.journal import ingestion_journal, processed_journal
from totes.pipeline import Pipeline

# Points that are tried in turn; the sweep tries every point alone, each time that it is reached.
OFTEN = ("process.", "store.put.", "journal.commit.", "duckdb.commit.")


def outcome(folder: Path) -> Any:
    """What stands in the lake and in the warehouse of the project in a folder."""
    pipeline = Pipeline(load_settings(folder / "totes.toml"))
    with duckdb.connect(str(folder / "warehouse.duckdb"), read_only=True) as warehouse:
        tables = sorted(
            row[0] for row in warehouse.execute("SELECT table_name FROM duckdb_tables()").fetchall()
        )
        rows = {
            name: warehouse.execute(f'SELECT * FROM "{name}" ORDER BY ALL').fetchall()
            for name in tables
            if name.startswith(("dim_", "fact_"))
        }  # fmt: skip
    batches = (
        ingestion_journal(pipeline.ingestion_store).last(),
        processed_journal(pipeline.processed_store).last(),
    )
    return star_in_lake(pipeline, surrogates=True), quarantine_in_lake(pipeline), rows, batches


@pytest.fixture
def changed(database: Database, totes: Callable[..., Command], write_project: Any, tmp_path: Path) -> Path:
    """The folder of a project with three batches, whose models have changed since."""
    shop, folder = Shop(database, 4), tmp_path / "shop"
    folder.mkdir()
    (folder / "totes.toml").write_text(
        f'[project]\nname = "shop"\npath = "project"\n[source]\nurl = "{database.url}"\n'
        '[warehouse]\nurl = "duckdb:///warehouse.duckdb"\n',
        encoding="utf-8",
    )

    def models(customers: int, dates: int, sales: int) -> None:
        texts = {"dim_region": DIM_REGION, "dim_customer": CUSTOMERS[customers], "dim_date": DATES[dates]}
        write_project({**texts, "fact_sale": SALES[sales]}, name="shop/project")

    models(0, 0, 0)
    for _ in range(3):
        shop.trade(25)
        assert totes("run", cwd=folder).code == 0
    models(1, 1, 2)
    return folder


@pytest.fixture
def expected(changed: Path, totes: Callable[..., Command], tmp_path: Path) -> tuple[Any, list[str]]:
    """What an undisturbed `apply` leaves, and the points that it reaches, one after the other."""
    before = outcome(changed)
    shutil.copytree(changed, tmp_path / "whole")
    trace = tmp_path / "trace"
    assert totes("apply", "--yes", cwd=tmp_path / "whole", TOTES_FAILPOINT_TRACE=str(trace)).code == 0
    after = outcome(tmp_path / "whole")
    assert after[0] != before[0]
    reached = trace.read_text(encoding="utf-8").split()
    assert {"process.model", "store.put.after", "journal.commit.after", "duckdb.commit.before"} <= {*reached}
    return after, reached


def test_an_apply_that_is_killed_again_and_again_is_completed_by_the_next(
    changed: Path, expected: tuple[Any, list[str]], totes: Callable[..., Command], tmp_path: Path
) -> None:
    after, reached = expected
    points = [point for point in dict.fromkeys(reached) if point.startswith(OFTEN)]
    for number in range(2):
        folder = tmp_path / f"killed{number}"
        shutil.copytree(changed, folder)
        # Every second one, in the order of the work: each goes on from where the one before it was killed.
        for point in points[number::2]:
            assert totes("apply", "--yes", cwd=folder, TOTES_FAILPOINT=point).code == KILLED, point
        done = totes("apply", "--yes", cwd=folder)
        assert done.code == 0, done.err
        assert outcome(folder) == after


@pytest.mark.sweep
def test_an_apply_that_is_killed_at_any_point_is_completed_by_the_next(
    changed: Path, expected: tuple[Any, list[str]], totes: Callable[..., Command], tmp_path: Path
) -> None:
    after, reached = expected
    for name, times in sorted(Counter(reached).items()):
        for point in (f"{name}:{turn}" for turn in range(1, times + 1)):
            folder = tmp_path / "killed"
            shutil.copytree(changed, folder)
            assert totes("apply", "--yes", cwd=folder, TOTES_FAILPOINT=point).code == KILLED, point
            done = totes("apply", "--yes", cwd=folder)
            assert done.code == 0, (point, done.err)
            assert outcome(folder) == after, point
            shutil.rmtree(folder)
