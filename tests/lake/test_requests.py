"""How often a lake's storage is asked does not depend on the lake's age."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Database, run_cleanly
from tests.lake.counted import count
from totes.lake.backup import back_up
from totes.monitoring.history import read_history
from totes.monitoring.plan import plan
from totes.monitoring.quarantine import read_quarantine
from totes.monitoring.status import read_status
from totes.pipeline import Pipeline

MODELS = {
    "dim_t": "CREATE TABLE dim_t (id INTEGER PRIMARY KEY, v INTEGER) AS SELECT id, v FROM t",
    "dim_u": "CREATE TABLE dim_u (id INTEGER PRIMARY KEY, w INTEGER NOT NULL) AS SELECT id, w FROM u",
}
CHANGED = {"dim_u": MODELS["dim_u"].replace("SELECT id, w", "SELECT id, w + 1 AS w")}
CHAPTER = 5
YOUNG, OLD = 13, 23  # two chapters and four, and as many batches after them
IDLE_MAX = 6


@pytest.fixture
def pipeline(
    database: Database, make_pipeline: Callable[..., Pipeline], write_project: Any
) -> Callable[[], Pipeline]:
    """Opens the pipeline of a new process; a row is in quarantine from the first batch on."""
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v int)", "INSERT INTO t VALUES (1, 0)",
        "CREATE TABLE u (id int PRIMARY KEY, w int)", "INSERT INTO u VALUES (1, 1), (2, NULL)",
    )  # fmt: skip
    project = write_project(MODELS)

    def opened() -> Pipeline:
        made = make_pipeline(database.url, project=project)
        made.ingestion_journal.chapters.batches = made.processed_journal.chapters.batches = CHAPTER
        return made

    return opened


def test_a_running_process_asks_as_often_after_many_batches_as_after_few(
    pipeline: Callable[[], Pipeline], database: Database
) -> None:
    running, idle, small = pipeline(), {}, {}
    requests = count(running)
    run_cleanly(running)
    for batch in range(2, OLD + 1):
        database.execute("UPDATE t SET v = v + 1")
        requests.clear()
        run_cleanly(running)
        small[batch] = dict(requests)
        requests.clear()
        run_cleanly(running)
        idle[batch] = dict(requests)
    assert idle[OLD] == idle[YOUNG]
    assert set(idle[OLD]) == {"get"}
    assert idle[OLD]["get"] <= IDLE_MAX
    assert small[OLD] == small[YOUNG]
    assert "list" not in small[OLD]


def test_commands_ask_as_often_in_an_old_lake_as_in_a_young_one(
    pipeline: Callable[[], Pipeline], database: Database, write_project: Any, tmp_path: Path
) -> None:
    running = pipeline()
    run_cleanly(running)
    changed = write_project(MODELS | CHANGED, name="changed")

    def back_up_now(of: Pipeline) -> None:
        back_up(of.ingestion_store, of.processed_store, str(tmp_path / "backup"), tmp_path)

    def plan_a_change(of: Pipeline) -> None:
        of.settings = of.settings.model_copy(
            update={"project": of.settings.project.model_copy(update={"path": changed["path"]})}
        )
        assert list(plan(of).changes) == ["dim_u"]

    def list_quarantine(of: Pipeline) -> None:
        assert [row.key for row in read_quarantine(of).rows] == [{"id": 2}]

    def show_one(of: Pipeline) -> None:
        assert [version.values["w"] for version in read_history(of, "dim_u", ["1"])] == [1]

    def asked() -> dict[str, dict[str, int]]:
        back_up_now(running)
        found = {}
        for work in (read_status, back_up_now, plan_a_change, list_quarantine, show_one):
            of = pipeline()
            requests = count(of)
            work(of)
            found[work.__name__] = dict(requests)
        return found

    young = {}
    for batch in range(2, OLD + 1):
        database.execute("UPDATE t SET v = v + 1")
        run_cleanly(running)
        if batch == YOUNG:
            young = asked()
    assert asked() == young
