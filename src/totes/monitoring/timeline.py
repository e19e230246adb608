"""One row's history as a timeline: of each version, what it changed, until when it held, and where it is in the lake."""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from totes.monitoring.history import Version, read_history
from totes.pipeline import Pipeline

_HISTORY = ("valid_from", "valid_to", "is_deleted", "_at", "_op")


@dataclass(frozen=True)
class Change:
    """A value that a version changed, both as text; None is NULL, or where a version did not have the column."""

    column: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Step:
    """A version of a row: `began` and `ended` as the warehouse or the lake has them, where they are known.

    `time` is where `began` comes from, and `ended` is where the next version begins.
    `changes` are what differs from the version before; of the first version there are none, and `values` are all of it.
    """

    batch: int
    began: str | None
    ended: str | None
    deleted: bool
    changes: tuple[Change, ...]
    values: dict[str, str | None]
    objects: tuple[str, ...]
    time: str | None = None


@dataclass(frozen=True)
class Timeline:
    """All versions of one row, oldest first."""

    table: str
    key: tuple[str, ...]
    steps: tuple[Step, ...]

    def as_json(self) -> dict[str, Any]:
        """The timeline as plain values."""
        return asdict(self)


def read_timeline(pipeline: Pipeline, table: str, key: list[str]) -> Timeline:
    """The timeline of a row of a warehouse table or a source table; raises what `read_history` does."""
    model = pipeline.project.model(table)
    versions = read_history(pipeline, table, key)
    return Timeline(table, tuple(key), steps_of(versions, model.surrogate if model else None))


def steps_of(versions: list[Version], surrogate: str | None = None) -> tuple[Step, ...]:
    """What each version changed. Pure.

    Args:
        versions: the versions, oldest first.
        surrogate: the column that numbers versions: that it differs is no change.
    """
    steps = []
    for before, version in itertools.pairwise([None, *versions]):
        assert version is not None
        values, previous = _values(version), _values(before) if before else {}
        names = dict.fromkeys((*previous, *values)) if before else {}
        history = version.values
        steps.append(
            Step(
                version.batch,
                plain(history.get("valid_from", history.get("_at"))),
                plain(history.get("valid_to")),
                bool(history.get("is_deleted")) or history.get("_op") == "delete",
                tuple(
                    Change(name, previous.get(name), values.get(name))
                    for name in names
                    if name != surrogate and previous.get(name) != values.get(name)
                ),
                values,
                version.objects,
                version.time,
            )
        )
    return tuple(steps)


def _values(version: Version) -> dict[str, str | None]:
    return {name: plain(value) for name, value in version.values.items() if name not in _HISTORY}


def plain(value: Any) -> str | None:
    """A value as text, as PostgreSQL writes it where Python would write something else; None for NULL."""
    if value is None:
        return None
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    if isinstance(value, bool):
        return str(value).lower()
    return str(Decimal(value)) if isinstance(value, float) and not math.isfinite(value) else str(value)
