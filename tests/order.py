"""The order in which tests begin: first what works on while others run, then what takes longest, so that nothing long is last.

Workers begin with the first of their tests and take over the last ones of another. All tests of one deployment stay
together in this way.
"""

from __future__ import annotations

import gc

import pytest

FIRST = (
    "tests/aws/deployed/test_beginning.py",  # Terraform, which mostly waits
    "tests/oracle/",
    "tests/aws/",
    "tests/values/test_declared_types.py",
    "tests/monitoring/test_planted_differences.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts tests in order; those of one file stay together."""
    items.sort(key=_rank)
    gc.freeze()  # the garbage collector need not go through all tests and modules each time


def _rank(item: pytest.Item) -> int:
    matching = (number for number, start in enumerate(FIRST) if item.nodeid.startswith(start))
    return next(matching, len(FIRST))
