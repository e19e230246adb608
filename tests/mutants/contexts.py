"""A pytest plugin: coverage notes which test reaches a line, also in the processes that a test starts.

Loaded by `tests/mutants/reach.py` with `-p tests.mutants.contexts`. `TOTES_MUTANTS_TIMES` names a file that takes one JSON line
for each test: its name, how long it took, and whether it passed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from coverage import Coverage

_TIMES = os.environ.get("TOTES_MUTANTS_TIMES", "")


def _switch(test: str) -> None:
    running = Coverage.current()
    if running:
        running.switch_context(test)


def in_context(test: str, target: Callable[..., None], *arguments: Any) -> None:
    """Runs in a forked process what it was forked for, and counts it to the test that forked it."""
    _switch(test)
    target(*arguments)


class _Servers:
    """`multiprocessing`'s context, whose processes say for which test they run."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self.test = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def Process(self, *, target: Callable[..., None], args: tuple[Any, ...], **others: Any) -> Any:  # noqa: N802
        return self._context.Process(target=in_context, args=(self.test, target, *args), **others)


class Contexts:
    """Switches the context from test to test."""

    def __init__(self) -> None:
        from tests import processes

        self._servers = processes._servers = _Servers(processes._servers)
        self._seconds: dict[str, float] = {}
        self._passed: dict[str, bool] = {}

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._servers.test = item.nodeid
        _switch(item.nodeid)
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid
        self._seconds[name] = self._seconds.get(name, 0.0) + report.duration
        self._passed[name] = self._passed.get(name, True) and report.passed
        if report.when == "teardown":
            line = {"test": name, "seconds": round(self._seconds[name], 3), "passed": self._passed[name]}
            with Path(_TIMES).open("a", encoding="utf-8") as times:
                times.write(f"{json.dumps(line)}\n")


def pytest_configure(config: pytest.Config) -> None:
    """Takes the plugin into use."""
    if _TIMES:
        config.pluginmanager.register(Contexts(), "mutants-contexts")
