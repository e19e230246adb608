"""A change of models while others run: the schedule goes on, two may apply at once, and one broken model stops only itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.conftest import Database
from tests.evolution.test_rebuild import DIM_CUSTOMER, DIM_REGION, SCHEMA
from tests.evolution.whole import star_in_lake
from totes.errors import ModelFailed
from totes.lake.journal import processed_journal
from totes.pipeline import Pipeline
from totes.processing.choice import everything
from totes.star.change import ModelChange

Make = Callable[..., Pipeline]
PLAIN = DIM_CUSTOMER.format(columns="", values="", where="")
SHOUTED = DIM_CUSTOMER.format(
    columns=", shouted VARCHAR", values=", upper(customer.name) AS shouted", where=""
)


@pytest.fixture
def make(database: Database, make_pipeline: Make, write_project: Any) -> Make:
    """Gives a runner with this model of customers, and a cache of its own; the source has one customer."""
    database.execute(*SCHEMA, "INSERT INTO customer VALUES (1, 'one', NULL)")

    def give(customers: str = PLAIN, runner: str = "a", store: str = "processed") -> Pipeline:
        project = write_project({"dim_region": DIM_REGION, "dim_customer": customers}, name=runner)
        lake = {"processed": f"lake/{store}", "cache": f".totes-{runner}"}
        return make_pipeline(database.url, project=project, lake=lake)

    return give


def nothing(_changes: Mapping[str, ModelChange]) -> frozenset[str]:
    return frozenset()


def test_a_rebuild_takes_in_what_the_schedule_did_meanwhile(database: Database, make: Make) -> None:
    schedule, laptop = make(), make(SHOUTED, "laptop")
    schedule.ingest()
    schedule.process()
    cycles = iter(range(2, 4))

    def overtaken(changes: Mapping[str, ModelChange]) -> frozenset[str]:
        number = next(cycles, None)
        if changes and number:
            database.execute(f"INSERT INTO customer VALUES ({number}, 'n{number}', NULL)")
            schedule.ingest()
            schedule.process(choose=nothing)
        return everything(changes)

    done = laptop.process(choose=overtaken)
    assert done.pending == {}
    newest = processed_journal(laptop.processed_store).newest()
    assert newest
    assert newest.models["dim_customer"].since == newest.batch
    fresh = make(SHOUTED, "fresh", "fresh")
    fresh.process()
    assert star_in_lake(laptop) == star_in_lake(fresh)
    assert len(star_in_lake(laptop)["dim_customer"]) == 3


def test_the_schedule_goes_on_by_the_definition_that_the_lake_has(database: Database, make: Make) -> None:
    make().ingest()
    make().process()
    before = star_in_lake(make())
    changed = make(SHOUTED)
    database.execute("INSERT INTO customer VALUES (2, 'two', NULL)")
    changed.ingest()
    assert list(changed.process(choose=nothing).pending) == ["dim_customer"]
    assert star_in_lake(changed)["dim_customer"] == [*before["dim_customer"], (2, "two", None)]
    assert list(changed.process(choose=nothing).pending) == ["dim_customer"]
    assert changed.process(choose=everything).pending == {}
    assert star_in_lake(changed)["dim_customer"] == [(1, "one", None, "ONE"), (2, "two", None, "TWO")]
    batches = processed_journal(changed.processed_store).last()
    assert changed.process(choose=everything).batches == {}
    assert processed_journal(changed.processed_store).last() == batches


def test_the_second_of_two_that_apply_finds_nothing_to_do(make: Make) -> None:
    make().ingest()
    make().process()
    first, second = make(SHOUTED, "first"), make(SHOUTED, "second")

    def after_the_first(changes: Mapping[str, ModelChange]) -> frozenset[str]:
        first.process(choose=everything)
        return everything(changes)

    assert second.process(choose=after_the_first).pending == {}
    entries = [
        processed_journal(first.processed_store).read(batch).models["dim_customer"] for batch in (1, 2)
    ]
    assert [entry.since for entry in entries] == [1, 2]
    assert processed_journal(first.processed_store).last() <= 3


def test_a_model_that_cannot_be_computed_stops_nobody_else_and_gets_its_history_later(
    database: Database, make: Make
) -> None:
    pipeline = make()
    pipeline.ingest()
    pipeline.process()
    database.execute(
        "ALTER TABLE region RENAME label TO title",
        "INSERT INTO region VALUES ('r1', 'one')",
        "INSERT INTO customer VALUES (2, 'two', NULL)",
    )
    pipeline.ingest()
    for _ in range(2):  # that nothing is new at the source does not make it well
        done = pipeline.process()
        with pytest.raises(ModelFailed, match=r"2 models cannot be computed.*there is no column label"):
            raise done.failure or AssertionError("it should have failed")
        assert done.failure.tables == {"dim_region", "dim_customer"}
    assert processed_journal(pipeline.processed_store).last() == 2
    other = make(
        "CREATE TABLE dim_customer (id INTEGER PRIMARY KEY, name VARCHAR) AS SELECT id, name FROM customer"
    )
    done = other.process(choose=everything)
    assert done.failure
    assert done.failure.tables == {"dim_region"}
    assert star_in_lake(other)["dim_customer"] == [(1, "one"), (2, "two")]
    database.execute("ALTER TABLE region RENAME title TO label", "INSERT INTO region VALUES ('r2', 'two')")
    other.ingest()
    assert other.process().failure is None
    assert star_in_lake(other)["dim_region"] == [("r1", "one"), ("r2", "two")]
