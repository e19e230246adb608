"""Killed at any point, raced, or run again: each batch is in the published tables once, and nobody sees a half of one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import processes
from tests.conftest import Database
from tests.faults import kiosk
from tests.faults.test_failpoints import ONLY_PUBLISHED
from tests.publishing.readers import ICEBERG, as_text, check, published, query, star
from totes.config import load_settings
from totes.pipeline import Pipeline

pytestmark = pytest.mark.iceberg
POINTS = (
    "publish.commit:1",
    "publish.commit:3",
    "publish.table:1",
    "publish.table:2",
    "publish.table:3",
    "publish.ledger.before:1",
    "publish.ledger.after:1",
)

AFTER = "publish.ledger.after:1"


@pytest.fixture
def shop(tmp_path: Path, database: Database) -> Path:
    """A folder with the kiosk's pipeline, for real processes."""
    kiosk.write_project(tmp_path)
    (tmp_path / "totes.toml").write_text(
        f'[project]\nname = "kiosk"\npath = "."\n[source]\nurl = "{database.url}"\n[publish]\niceberg = "{ICEBERG["iceberg"]}"\n',
        encoding="utf-8",
    )
    return tmp_path


def pipeline_of(folder: Path) -> Pipeline:
    return Pipeline(load_settings(folder / "totes.toml"))


def seen(pipeline: Pipeline) -> dict[str, Any]:
    """What either reader sees of every table, up to the batch that the published ledger has."""
    models = pipeline.processed_journal.read(1).models
    columns = {
        name: [c.name for c in entry.columns if c.name != "valid_to"] for name, entry in models.items()
    }
    asked = [as_text(columns[name], star(entry, name)) for name, entry in models.items()]
    return dict(query(pipeline, *asked))


def test_every_point_has_its_turn() -> None:
    assert {point.partition(":")[0] for point in POINTS} == ONLY_PUBLISHED


def live_killed(shop: Path, database: Database, points: tuple[str, ...]) -> None:
    """A life in which each batch is published by a run that is killed at a point, and by another one."""
    for number, (state, point) in enumerate(zip(kiosk.STATES, points, strict=True), start=1):
        before = seen(pipeline_of(shop)) if number > 1 else None
        database.execute(state)
        assert processes.run(shop, failpoint=point).code == processes.KILLED
        if before and point != AFTER:
            assert seen(pipeline_of(shop)) == before
        again = processes.run(shop)
        assert (again.failures, again.cycle["published"]) == ({}, number)
        check(pipeline_of(shop))


def test_runs_killed_while_they_publish_are_continued(shop: Path, database: Database) -> None:
    live_killed(shop, database, ("publish.table:2", "publish.commit:2", "publish.ledger.before:1"))


@pytest.mark.sweep
@pytest.mark.parametrize("point", POINTS)
def test_a_run_killed_at_any_point_of_publishing_is_continued(
    point: str, shop: Path, database: Database
) -> None:
    live_killed(shop, database, (point, point, point))


def test_a_batch_that_was_half_published_is_completed_with_the_next_one(
    shop: Path, database: Database
) -> None:
    for state, point in zip(kiosk.STATES[:2], ("publish.table:1", "publish.table:2"), strict=True):
        database.execute(state)
        assert processes.run(shop, failpoint=point).code == processes.KILLED
    database.execute(kiosk.STATES[2])
    assert processes.run(shop).failures == {}
    assert check(pipeline_of(shop)) == {"dim_region": 2, "dim_customer": 4, "fact_sale": len(kiosk.HISTORY)}


def raced(shop: Path, database: Database, point: str) -> None:
    """Has each batch published by a runner that stops at a point until another one has published it."""
    for number, state in enumerate(kiosk.STATES[:2], start=1):
        database.execute(state)
        slow = processes.Runner(shop, failpoint=f"{point}=stop")
        assert slow.wait_until_stopped()
        quick = processes.run(shop)
        assert (quick.failures, quick.cycle["published"]) == ({}, number)
        slow.wake()
        assert slow.wait().failures == {}
    check(pipeline_of(shop))
    for name in kiosk.MODELS:
        snapshots = published(pipeline_of(shop), name).metadata.snapshots
        assert [one.summary["totes.batch"] for one in snapshots] == ["1", "2"]


def test_two_runners_at_once_register_a_batch_once(shop: Path, database: Database) -> None:
    raced(shop, database, "publish.commit:1")


@pytest.mark.sweep
@pytest.mark.parametrize("point", POINTS)
def test_two_runners_at_any_point_register_a_batch_once(point: str, shop: Path, database: Database) -> None:
    raced(shop, database, point)


def test_what_failed_to_be_published_blocks_nothing_and_is_published_later(
    shop: Path, database: Database, totes: Callable[..., Any]
) -> None:
    database.execute(kiosk.STATES[0])
    place = shop / "lake" / "iceberg.db"
    place.mkdir(parents=True)  # no file can be there
    failed = totes("run", cwd=shop)
    assert failed.code == 3
    assert "publish: opening the catalog of publish.iceberg failed" in failed.err
    assert kiosk.query(f"duckdb:///{shop}/warehouse.duckdb", "SELECT count(*) FROM dim_region") == [[(3,)]]
    assert "Iceberg: publish fails since" in totes("status", cwd=shop).out
    place.rmdir()
    assert totes("load", cwd=shop).code == 0
    assert "Iceberg" not in totes("status", cwd=shop).out
    check(pipeline_of(shop))
