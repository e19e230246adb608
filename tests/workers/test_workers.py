"""What all workers promise, tried on each kind of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.workers import tasks
from tests.workers.conftest import CLUSTER, ON_SPARK
from totes.errors import ConfigurationError, SourceRefused, TablesLeftOut, WorkersFailed
from totes.workers.protocol import Workers


@pytest.fixture(scope="module", params=["local", pytest.param(CLUSTER, marks=ON_SPARK)])
def workers(request: pytest.FixtureRequest) -> Iterator[Workers]:
    """Workers of each kind."""
    from totes.workers.place import workers_at

    if request.param != "local":
        request.getfixturevalue("spark_environment")
    opened = workers_at(request.param)
    yield opened
    opened.close()


def test_results_are_in_the_order_of_the_arguments(workers: Workers) -> None:
    assert list(workers.map(tasks.slowest_first, range(6), 2)) == [0, 1, 4, 9, 16, 25]
    assert list(workers.map(tasks.slowest_first, [], 2)) == []


def test_no_more_calls_run_at_once_than_may(workers: Workers, tmp_path: Path) -> None:
    assert set(workers.map(tasks.among, [tmp_path] * 6, 2)) <= {1, 2}


def test_a_single_call_is_made_here(workers: Workers) -> None:
    assert list(workers.map(tasks.process, [1], 2)) == [os.getpid()]


def test_arguments_are_taken_when_there_is_a_worker_for_them(workers: Workers) -> None:
    taken: list[int] = []

    def arguments() -> Iterator[int]:
        for number in range(20):
            taken.append(number)
            yield number

    results = workers.map(tasks.slowest_first, arguments(), 2)
    assert next(results) == 0
    results.close()  # what has begun is waited for, and nothing else begins
    assert len(taken) < 12


@pytest.mark.parametrize(
    ("kind", "error", "text"),
    [
        ("refused", SourceRefused, "orders has no key. Add one"),
        ("several", TablesLeftOut, "orders has no key"),
        ("builtin", ValueError, "no such number"),
    ],
)
def test_a_failure_arrives_as_it_was(workers: Workers, kind: str, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as raised:
        list(workers.map(tasks.failing, ["fine", kind, "fine"], 2))
    assert str(raised.value) == text
    if isinstance(raised.value, TablesLeftOut):
        assert raised.value.tables == {"orders"}
    assert list(workers.map(tasks.failing, ["fine", "too"], 2)) == [
        "fine",
        "too",
    ]  # and it can be called again


def test_nothing_is_taken_after_a_failure(workers: Workers) -> None:
    arguments = iter(["refused", *["fine"] * 20])
    with pytest.raises(SourceRefused):
        list(workers.map(tasks.failing, arguments, 2))
    assert len(list(arguments)) > 10


@ON_SPARK
def test_an_error_that_cannot_be_sent_keeps_its_message(open_workers: Callable[[str], Workers]) -> None:
    with pytest.raises(WorkersFailed, match="a task failed: Unpicklable: it went wrong"):
        list(open_workers(CLUSTER).map(tasks.failing, ["fine", "unpicklable"], 2))


@ON_SPARK
def test_a_cluster_that_is_not_there_is_an_error_of_the_workers(
    open_workers: Callable[[str], Workers],
) -> None:
    workers = open_workers("sc://127.0.0.1:9")
    with pytest.raises(WorkersFailed, match=r"Spark at sc://127\.0\.0\.1:9"):
        list(workers.map(tasks.process, [1, 2], 2))


def test_without_pyspark_it_is_said_what_to_install(
    open_workers: Callable[[str], Workers], monkeypatch: pytest.MonkeyPatch
) -> None:
    from totes.workers.spark import SparkWorkers

    monkeypatch.setitem(__import__("sys").modules, "pyspark.sql", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'totes\[spark\]'"):
        list(SparkWorkers(CLUSTER).map(tasks.process, [1, 2], 2))
