"""One model's part in a batch: its steps, carried out in order on the batch's connection."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from totes import engine
from totes.processing.bound.problem import PROBLEM, PROBLEMS, reason
from totes.processing.inputs import Inputs
from totes.processing.integrity import RowError, existing_key, orphan, orphans, repeated_key
from totes.processing.state import DELETED
from totes.processing.touched import affected_keys, computed_rows, touched_keys
from totes.processing.versions import CHANGED, NEWEST, end_of_version, versions
from totes.processing.versions_in_order import last_states, versions_in_order
from totes.star.model import Model


@dataclass(frozen=True)
class Count:
    """How many versions there are, how many of them are to be written, how many are deletions, and how many new rows are bad."""

    merged: int
    written: int
    deleted: int
    bad: int


class Transformation:
    """A model's rows in one batch: `new` as they are computed, with their problems, then `merged` with the known versions."""

    def __init__(self, connection: engine.Engine, inputs: Inputs) -> None:
        self.inputs = inputs
        self.query = inputs.query
        self.model: Model = inputs.query.model
        self.new = self.merged = ""  # their tables, once they are computed
        self.count = Count(0, 0, 0, 0)  # known after merge
        self._engine = connection
        self._touched = ""

    def compute(self, touched: str | None = None) -> None:
        """Computes the new rows, and looks for keys that repeat.

        Args:
            touched: a relation with the first table's keys that were touched before the batch's changes were applied.
        """
        if not self.inputs.whole and not self.query.rowwise:
            before = f"FROM {touched} UNION " if touched else ""
            self._touched = self._create("touched", f"{before}{touched_keys(self.inputs)}")
        self.new = self._create("new", computed_rows(self.inputs, self._touched))
        if not self.query.rowwise or self.query.key_is_read_from_text:
            self._note(repeated_key(self.inputs, self.new))
        if self.query.key_is_read_from_text and not self.inputs.whole:
            self._note(existing_key(self.inputs, self.new, self._touched))

    def note_orphans(self, parents: Mapping[str, str]) -> None:
        """Notes as a problem where a new row refers to a row that the other table does not have.

        Args:
            parents: by table, a relation with the keys that it has, as `k`.
        """
        errors = []
        columns: dict[str, list[str]] = {}
        for column, target in self.model.references.items():
            keys = parents[target]
            if target == self.model.name:
                [key] = self.model.primary_key
                own = f"SELECT {engine.name(key)} AS k FROM {self.new} WHERE {engine.name(PROBLEM)} IS NULL"
                keys = f"(FROM {keys} UNION ALL {own})"
            errors.append((target, orphan(column, target, keys, self.new)))
            columns.setdefault(keys, []).append(column)
        if errors and self._sum(orphans(several, keys, self.new) for keys, several in columns.items()):
            for target, error in errors:
                while self._note(error) and target == self.model.name:
                    continue  # a row that refers to one with a problem is an orphan itself

    def merge(self) -> None:
        """Compares new rows with the newest known versions; afterwards `merged` has the result."""
        old = self.inputs.newest
        if self.inputs.known and not self.inputs.whole:
            keys = affected_keys(self.inputs, self.new, self._touched)
            same = self.inputs.same_key("star", "affected")
            old = self._create(
                "old",
                f"SELECT star.* FROM {self.inputs.known} AS star SEMI JOIN ({keys}) AS affected ON {same}",
            )
        self.merged = self._create("merged", self._versions(old))
        [counted] = self._engine.execute(
            f"SELECT count(*) FILTER ({NEWEST}), count(*) FILTER ({self.written}), count(*) FILTER ({DELETED}),"
            f" (SELECT count({engine.name(PROBLEM)}) FROM {self.new}) FROM {self.merged}"
        ).fetchall()
        self.count = Count(*counted)

    @property
    def last(self) -> str:
        """The relation with the new rows in their last states."""
        return last_states(self.inputs, self.new, self._touched) if self.inputs.in_order else self.new

    @property
    def written(self) -> str:
        """The condition of merged rows that are to be written."""
        return CHANGED if self.model.retains_deleted else f"{CHANGED} AND NOT {DELETED}"

    @property
    def ends(self) -> str:
        """The SQL of when a merged version ends: where the next one begins."""
        return end_of_version(self.query) if self.inputs.in_order else "NULL::TIMESTAMP"

    @property
    def merged_rows(self) -> str:
        """The newest merged rows, in the shape of the newest versions."""
        return f"(SELECT * EXCLUDE ({CHANGED}, {NEWEST}) FROM {self.merged} WHERE {NEWEST})"

    def _versions(self, old: str) -> str:
        if self.inputs.in_order:
            return versions_in_order(self.inputs, self.new, old, self._touched)
        return versions(self.inputs, self.new, old, self._touched)

    def _sum(self, counts: Iterable[str]) -> int:
        return int(engine.scalar(self._engine, f"SELECT {' + '.join(f'({count})' for count in counts)}"))

    def _note(self, error: RowError) -> bool:
        """Notes a problem of the rows that have it, and returns whether there are any."""
        exists = bool(engine.scalar(self._engine, error.exists))
        if exists:
            text, problems = engine.name(PROBLEM), engine.name(PROBLEMS)
            further = f"list_concat({problems}, [{error.problem}])"
            self._engine.execute(
                f"UPDATE {self.new} AS row SET {problems} = {further}, {text} = {reason(further)} WHERE {error.condition}"
            )
        return exists

    def _create(self, kind: str, query: str) -> str:
        return engine.create_temporary(self._engine, kind, self.model.name, query)
