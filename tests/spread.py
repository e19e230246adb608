"""Which variants of a test `make test` has: a spread that shows each value of each kind; all others are in the sweep."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pytest

KINDS = ("duckdb", "postgresql")


def in_sweep(*values: Any, **named: Any) -> Any:
    """A variant that the sweep alone has."""
    return pytest.param(*values, marks=pytest.mark.sweep, **named)


def diagonal(*axes: Sequence[Any]) -> list[Any]:
    """All combinations, of which as few are no sweep as show each value of each axis."""
    longest = max(len(axis) for axis in axes)
    often = {tuple(step % len(axis) for axis in axes) for step in range(longest)}
    return [
        (pytest.param if numbers in often else in_sweep)(
            *(axis[number] for axis, number in zip(axes, numbers, strict=True))
        )
        for numbers in itertools.product(*(range(len(axis)) for axis in axes))
    ]


def over_kinds(variants: Mapping[str, Any], *, both: Collection[str], fully: str = "postgresql") -> list[Any]:
    """Each variant by its name over one kind of warehouse, some over the other kind too, where that does as it always does."""
    assert variants.keys() >= set(both)
    return [
        (pytest.param if kind == fully or name in both else in_sweep)(kind, variant, id=f"{kind}-{name}")
        for kind in KINDS
        for name, variant in variants.items()
    ]
