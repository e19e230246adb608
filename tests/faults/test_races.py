"""Promise 5 with whole processes: eight at once, and one that sleeps while the others go on, leave one history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Bucket, Database
from tests.faults.conftest import Shop
from tests.processes import Runner
from tests.spread import in_sweep

RUNNERS = 8
# Where a runner is stopped: over which store and warehouse, at which point, and the stages that others can do meanwhile.
PAUSES = [
    *(
        ("folder", "duckdb", point, [None])
        for point in ("ingest.table:2", "journal.commit.before:1", "process.loaded:1")
    ),
    ("s3", "postgresql", "journal.commit.before:1", [None]),  # the ingested batch
    ("s3", "postgresql", "journal.commit.before:2", [None]),  # the processed one
    *(  # it holds the warehouse
        ("folder", kind, f"{kind}.{point}:1", ["ingest", "process"])
        for kind in ("duckdb", "postgresql")
        for point in ("rows", "commit.before")
    ),
]
LESS_OFTEN = {("s3", "journal.commit.before:2"), ("folder", "duckdb.rows:1"), ("folder", "postgresql.rows:1")}


@pytest.fixture
def open_shop(
    make_shop: Callable[..., Shop],
    new_database: Callable[..., Database],
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> Callable[[str, str], Shop]:
    """Makes a shop over a kind of store and of warehouse, with its settings in a file for processes of their own."""

    def opened(store: str, kind: str) -> Shop:
        bucket: Bucket | None = request.getfixturevalue("s3") if store == "s3" else None
        shop = make_shop(bucket.prefix if bucket else "", new_database().url if kind == "postgresql" else "")
        lake = "".join(f'{name} = "{value}"\n' for name, value in shop.settings["lake"].items())
        (tmp_path / "totes.toml").write_text(
            f'[project]\nname = "shop"\npath = "shop"\n[source]\nurl = "{shop.database.url}"\n'
            f'[warehouse]\nurl = "{shop.warehouse}"\n[lake]\n{lake}',
            encoding="utf-8",
        )
        return shop

    return opened


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Runner]]:
    """Starts runners, each with a cache of its own unless they share one, and ends those that a failed test has left."""
    runners: list[Runner] = []

    def start(only: str | None = None, *, failpoint: str = "", cache: str = "") -> Runner:
        own = {"TOTES_LAKE__CACHE": cache or f"cache-{len(runners)}"}
        runners.append(Runner(tmp_path, only, failpoint=failpoint, environment=own))
        return runners[-1]

    yield start
    for runner in runners:
        if runner.process.is_alive():
            runner.end()


@pytest.mark.parametrize(
    ("store", "kind"),
    [
        ("folder", "duckdb"),
        ("s3", "postgresql"),
        in_sweep("folder", "postgresql"),
        in_sweep("s3", "duckdb"),
    ],
)
def test_of_eight_runners_at_once_one_makes_each_batch(
    open_shop: Callable[[str, str], Shop], start: Callable[..., Runner], store: str, kind: str
) -> None:
    shop = open_shop(store, kind)
    cache = "cache" if store == "folder" else ""  # on one machine they share it
    for batch in (1, 2):
        runners = [start(cache=cache) for _ in range(RUNNERS)]
        outcomes = [runner.wait() for runner in runners]
        assert [(outcome.code, outcome.failures) for outcome in outcomes] == [(0, {})] * RUNNERS
        made = Counter(outcome.cycle["batch"] for outcome in outcomes)
        assert made == {batch: 1, None: RUNNERS - 1}
        loaded = [outcome.cycle["loaded"] for outcome in outcomes if outcome.cycle["loaded"]]
        assert len(loaded) == 1
        shop.check(batch)
        shop.change()


@pytest.mark.parametrize(
    ("store", "kind", "point", "others_do"),
    [
        (in_sweep if (store, point) in LESS_OFTEN else pytest.param)(
            store, kind, point, others_do, id=f"{store}-{point}"
        )
        for store, kind, point, others_do in PAUSES
    ],
)
def test_a_runner_that_wakes_up_long_after_others_went_on_does_no_harm(
    open_shop: Callable[[str, str], Shop],
    start: Callable[..., Runner],
    store: str,
    kind: str,
    point: str,
    others_do: list[str | None],
) -> None:
    shop = open_shop(store, kind)
    shop.run()
    shop.change()
    sleeper = start(failpoint=f"{point}=stop")
    assert sleeper.wait_until_stopped()
    for _ in range(2):
        shop.change()
        for stage in others_do:
            cycle = shop.pipeline().run(stage)
            assert cycle.failures == {}
    sleeper.wake()
    outcome = sleeper.wait()
    assert (outcome.code, outcome.failures) == (0, {})
    shop.run()
    batches = len(list(shop.pipeline().ingestion_store.list("batches/")))
    assert batches >= 3
    shop.check(batches)
    assert shop.pipeline().run().ingested.batch is None  # type: ignore[union-attr]
