"""The oracle: what lake and warehouse must hold after a sequence of committed states, worked out the slow and plain way.

It knows the rules of docs/concepts and nothing of how the pipeline keeps them: for each batch it computes every model
anew over all rows, and compares.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from tests.oracle.shop import COLUMNS, STAR, TABLES, Key, Values


class Row(NamedTuple):
    """A row of the source, and the transaction that wrote it: what tells one version from the next."""

    values: Values
    writer: int


State = dict[str, dict[Key, Row]]


class Version(NamedTuple):
    """A version in a table that keeps all of them."""

    key: Key
    values: Values
    begins: datetime
    is_deleted: bool
    batch: int
    surrogate: int


@dataclass
class Expected:
    """What there must be after a batch.

    `changes` are the lines of the batch's packets, by table and key: the row, or None for a delete, and `_at`.
    `latest` are the warehouse's tables with one row a key, all of which are referred to and so end in `is_deleted`; `quarantine` the keys that are set aside, by model.
    """

    state: State
    read_at: datetime
    changes: dict[str, dict[Key, tuple[Values | None, datetime]]]
    latest: dict[str, dict[Key, Values]]
    quarantine: dict[str, set[Key]]


@dataclass
class Oracle:
    """The expected past of a pipeline, a batch at a time."""

    batches: list[Expected] = field(default_factory=list)
    versions: dict[str, list[Version]] = field(
        default_factory=lambda: {name: [] for name, model in STAR.items() if model.versioned}
    )
    _captured: dict[str, dict[Key, tuple[int, datetime]]] = field(
        default_factory=lambda: {table: {} for table in TABLES}
    )
    _star: dict[str, dict[Key, Values]] = field(default_factory=lambda: {name: {} for name in STAR})
    _warehouse: dict[str, dict[Key, Values]] = field(
        default_factory=lambda: {name: {} for name, model in STAR.items() if not model.versioned}
    )

    def has_news(self, state: State) -> bool:
        """Whether a batch of this state would have anything in it."""
        return any(
            {key: row.writer for key, row in state[table].items()}
            != {key: writer for key, (writer, _) in self._captured[table].items()}
            for table in TABLES
        )

    def batch(self, state: State, read_at: datetime) -> Expected:
        """Takes in that a batch was read at a state of the source."""
        changes = {table: self._capture(table, state[table], read_at) for table in TABLES}
        quarantine = {}
        for name, model in STAR.items():
            fresh = changes[model.base].keys() | self._set_aside(
                name
            )  # what is set aside is tried again each time
            quarantine[name] = self._apply(name, state, read_at, fresh)
        latest = {
            name: {key: (*values, key not in self._star[name]) for key, values in rows.items()}
            for name, rows in self._warehouse.items()
        }
        expected = Expected(deepcopy(state), read_at, changes, latest, quarantine)
        self.batches.append(expected)
        return expected

    def history(self, name: str, batch: int) -> list[tuple[Any, ...]]:
        """The versions that a warehouse holds after a batch, oldest first: surrogate, values and history columns."""
        loaded = [version for version in self.versions[name] if version.batch <= batch]
        rows = []
        for number, version in enumerate(loaded):
            ends = next((later.begins for later in loaded[number + 1 :] if later.key == version.key), None)
            rows.append(
                (version.surrogate, *version.values, version.begins, ends, version.is_deleted, version.batch)
            )
        return rows

    def _capture(
        self, table: str, rows: dict[Key, Row], read_at: datetime
    ) -> dict[Key, tuple[Values | None, datetime]]:
        known, changes = self._captured[table], {}
        for key, row in rows.items():
            if key not in known or known[key][0] != row.writer:
                at = _changed_at(table, row.values) or read_at
                changes[key] = (row.values, at)
                known[key] = (row.writer, at)
        for key in known.keys() - rows.keys():
            changes[key] = (None, read_at)
            del known[key]
        return changes

    def _set_aside(self, name: str) -> set[Key]:
        return self.batches[-1].quarantine[name] if self.batches else set()

    def _apply(self, name: str, state: State, read_at: datetime, fresh: set[Key]) -> set[Key]:
        """Brings a table up to a state; gives the keys of rows that are set aside."""
        model, star = STAR[name], self._star[name]
        outputs = list(
            model.rows({table: {key: row.values for key, row in state[table].items()} for table in state})
        )
        good = {
            row.key: row.values
            for row in outputs
            if row.fits and (row.refers_to is None or (row.refers_to,) in self._warehouse[str(model.target)])
        }
        bad = {row.key for row in outputs} - good.keys()
        removed = (
            star.keys() - good.keys() - bad
        )  # a row that is set aside leaves its last good version where it is
        changed = {key for key, values in good.items() if star.get(key) != values}
        if model.versioned:
            for key in sorted(changed | removed):
                self._add_version(name, key, good.get(key), read_at, is_fresh=key in fresh)
        else:
            self._warehouse[name] |= good
        for key in removed:
            del star[key]
        star |= good
        return bad

    def _add_version(
        self, name: str, key: Key, values: Values | None, read_at: datetime, *, is_fresh: bool
    ) -> None:
        versions = self.versions[name]
        before = next((version for version in reversed(versions) if version.key == key), None)
        _, changed_at = self._captured[STAR[name].base].get(key, (0, None))
        begins = changed_at or read_at
        if before and (begins <= before.begins or not is_fresh):
            begins = max(read_at, before.begins + timedelta(microseconds=1))
        shown = values if values is not None else before.values if before else ()
        versions.append(Version(key, shown, begins, values is None, len(self.batches) + 1, len(versions) + 1))


def _changed_at(table: str, values: Values) -> datetime | None:
    if COLUMNS[table][-1] != "last_updated" or values[-1] in (None, "infinity"):
        return None
    return datetime.fromisoformat(values[-1])
