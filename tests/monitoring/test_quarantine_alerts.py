"""Promise 9: people are told of the first rows of a kind that are set aside, and not of each further one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Database, Mailbox
from totes.config import AlertSettings
from totes.monitoring.alerts import watch
from totes.monitoring.health import health_file, read_health
from totes.pipeline import Pipeline

# What Apprise imports on Python 3.11 and 3.12.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
MODEL = """CREATE TABLE fact_t (r BIGINT PRIMARY KEY, id INTEGER, v INTEGER, w INTEGER NOT NULL) AS
    SELECT id, v, w FROM t"""


@pytest.fixture
def pipeline(
    database: Database,
    smtp: Mailbox,
    make_pipeline: Callable[..., Pipeline],
    write_project: Callable[..., dict[str, Any]],
) -> Pipeline:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text, w int)",
        "INSERT INTO t SELECT n, n, n FROM generate_series(1, 9) n",
    )
    project = write_project({"fact_t": MODEL}) | {"name": "shop"}
    return make_pipeline(database.url, project=project, alerts={"urls": [smtp.url]})


def run(pipeline: Pipeline, database: Database, *statements: str) -> None:
    database.execute(*statements)
    watch(pipeline.settings, pipeline.run())


def test_the_first_of_a_kind_is_reported_and_no_further_one(
    pipeline: Pipeline, database: Database, smtp: Mailbox
) -> None:
    run(pipeline, database)
    assert smtp.subjects == []
    run(pipeline, database, "UPDATE t SET v = 'secret' || id WHERE id <= 2")
    assert smtp.subjects == ["[totes] shop: 2 rows quarantined"]
    assert smtp.text(0).splitlines() == [
        "They do not meet their tables' declarations; everything else is loaded:",
        "- fact_t.v is not a valid INTEGER (2 rows)",
        "The next alert is sent when there is another kind of problem.",
        "Next step: totes quarantine list",
    ]
    run(pipeline, database, "UPDATE t SET v = 'y' WHERE id = 3")
    run(pipeline, database, "UPDATE t SET v = 'z' WHERE id = 3")
    run(pipeline, database)
    assert len(smtp.mails) == 1


def test_another_kind_and_another_column_are_told(
    pipeline: Pipeline, database: Database, smtp: Mailbox
) -> None:
    run(pipeline, database, "UPDATE t SET v = 'x' WHERE id = 1")
    run(pipeline, database, "UPDATE t SET v = '1.5' WHERE id = 2")
    run(pipeline, database, "UPDATE t SET w = NULL WHERE id = 3")
    assert smtp.subjects == ["[totes] shop: 1 row quarantined"] * 3
    assert [smtp.text(number).splitlines()[1] for number in range(3)] == [
        "- fact_t.v is not a valid INTEGER (1 row)",
        "- fact_t.v has more digits than INTEGER keeps (1 row)",
        "- fact_t.w is NULL, and is declared NOT NULL (1 row)",
    ]


def test_a_kind_that_was_resolved_and_comes_again_is_told_again(
    pipeline: Pipeline, database: Database, smtp: Mailbox
) -> None:
    run(pipeline, database, "UPDATE t SET v = 'x' WHERE id IN (1, 2)")
    run(pipeline, database, "UPDATE t SET v = '1' WHERE id = 1")
    run(pipeline, database, "UPDATE t SET v = 'x' WHERE id = 1")
    assert len(smtp.mails) == 1  # the second row was there all the time
    run(pipeline, database, "UPDATE t SET v = '1'")
    run(pipeline, database, "UPDATE t SET v = 'x' WHERE id = 5")
    assert smtp.subjects == ["[totes] shop: 2 rows quarantined", "[totes] shop: 1 row quarantined"]


def test_a_runner_that_died_before_it_could_tell_leaves_that_to_the_next_one(
    pipeline: Pipeline, database: Database, smtp: Mailbox
) -> None:
    run(pipeline, database)
    database.execute("UPDATE t SET v = 'x' WHERE id = 1")
    pipeline.run()
    run(pipeline, database)
    assert smtp.subjects == ["[totes] shop: 1 row quarantined"]


def test_where_health_is_not_kept_the_lake_tells_what_is_known(
    pipeline: Pipeline, database: Database, smtp: Mailbox
) -> None:
    for statement in ("UPDATE t SET v = 'x' WHERE id = 1", "UPDATE t SET v = 'y' WHERE id = 2", "SELECT 1"):
        run(pipeline, database, statement)
        shutil.rmtree(pipeline.settings.cache_folder)
    assert len(smtp.mails) == 1
    run(pipeline, database, "UPDATE t SET w = NULL WHERE id = 3")
    assert len(smtp.mails) == 2
    assert read_health(health_file(pipeline.settings)).quarantine_reported == 3


def test_a_lake_that_was_begun_anew_is_told_of_anew(
    pipeline: Pipeline, database: Database, smtp: Mailbox
) -> None:
    run(pipeline, database, "UPDATE t SET v = 'x' WHERE id = 1")
    run(pipeline, database, "UPDATE t SET v = 'x' WHERE id = 2")
    lake = pipeline.settings.base / "lake"
    shutil.rmtree(lake)
    (pipeline.settings.base / "warehouse.duckdb").unlink()
    again = Pipeline(pipeline.settings)
    run(again, database)
    assert smtp.subjects == ["[totes] shop: 1 row quarantined", "[totes] shop: 2 rows quarantined"]


def test_no_mail_is_made_where_none_is_wished(pipeline: Pipeline, database: Database, smtp: Mailbox) -> None:
    quiet = Pipeline(pipeline.settings.model_copy(update={"alerts": AlertSettings()}))
    run(quiet, database, "UPDATE t SET v = 'x' WHERE id = 1")
    assert smtp.mails == []
    assert read_health(health_file(quiet.settings)).quarantine_reported == 1
