"""Computes a model's rows by running its own text in DuckDB, exactly as in the file, over typed copies of the source.

These rows are what a warehouse must have. The code that computes batches is not used, except for the casts to declared types, so
that a fault in it shows up as a difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace

import duckdb

from totes import engine
from totes.processing.bound.declared import Output, checked
from totes.processing.bound.leaf import Leaf
from totes.processing.bound.problem import PROBLEM
from totes.processing.bound.query import BoundQuery
from totes.processing.bound.relation import Relation, RelationColumn, Relations
from totes.processing.bound.verbatim import named

QUERIES_MAX = 200
# In the engine's main schema, wherever the text's names are looked up.
_THEIRS, _ODD, _EXCLUDED = 'main."~theirs"', 'main."~odd"', 'main."~excluded"'
Copies = Callable[[Relation], str]


def take_as_written(bench: engine.Engine, query: BoundQuery, expected: str, copies: Copies) -> str | None:
    """Replaces the rows of the engine's query by those of the model's own text.

    Rows of the first table with a problem are excluded: the text cannot be computed for them, or gives rows that cannot be
    loaded.

    Args:
        bench: the engine.
        query: the bound model.
        expected: the table with the rows of the engine's query.
        copies: returns the table with a relation's copy.

    Returns:
        A note, if the text could not be run over all other rows.
    """
    text = _Text(bench, query, expected, copies)
    return text.run()


class _Text:
    def __init__(self, bench: engine.Engine, query: BoundQuery, expected: str, copies: Copies) -> None:
        self._bench = bench
        self._query = query
        self._expected = expected
        self._copies = copies
        self._relations = Relations({leaf.relation.name: leaf.relation for leaf in query.leaves}, {})
        self._outputs: list[Output] = []
        base = query.base.relation
        self._divisible = bool(base.key) and [leaf.relation for leaf in query.leaves].count(base) == 1

    def run(self) -> str | None:
        """Computes and replaces the rows; returns the note, if there is one."""
        key = self._query.base.key
        listed = engine.names(key) if key else "NULL AS nothing"
        self._bench.execute(
            f"CREATE OR REPLACE TABLE {_EXCLUDED} AS SELECT DISTINCT {listed} FROM {self._expected}"
            f" WHERE {engine.name(PROBLEM)} IS NOT NULL"
        )
        has_problems = bool(engine.scalar(self._bench, f"SELECT count(*) FROM {_EXCLUDED}"))
        if has_problems and not self._divisible and not self._query.key_is_base_key:
            return "its text was not run by itself: rows are in quarantine that cannot be identified in its result"
        self._outputs = self._described()
        left_out = self._compute()
        if left_out is None:
            return "its text could not be run by itself: it fails for a row that the engine has computed"
        if has_problems and not self._divisible:
            self._drop_excluded()
        self._replace()
        return f"its text could not be run by itself over {left_out:,} rows" if left_out else None

    def _drop_excluded(self) -> None:
        """Deletes the rows of excluded rows of the first table, after the text had to be run over all rows."""
        same = engine.same("their", "one", self._query.key)
        self._bench.execute(
            f"DELETE FROM {_THEIRS} AS their WHERE EXISTS (SELECT 1 FROM {self._expected} AS one"
            f" WHERE one.{engine.name(PROBLEM)} IS NOT NULL AND {same})"
        )

    def _compute(self) -> int | None:
        """Creates the table of the text's rows; returns for how many rows of the first table it fails, None if not known."""
        try:
            self._create(None)
        except duckdb.Error:
            if not self._divisible:
                return None
        else:
            return 0
        copy = self._copies(self._query.base.relation)
        last = int(engine.scalar(self._bench, f"SELECT coalesce(max(rowid), -1) FROM {copy}"))
        self._create((0, -1))
        left_out = 0
        for number, (low, high) in enumerate(parts := _Parts(0, last)):
            try:
                self._append((low, high))
            except duckdb.Error:
                if low == high or number >= QUERIES_MAX:
                    left_out += self._exclude(low, high)
                else:
                    parts.halve(low, high)
        return left_out

    def _exclude(self, low: int, high: int) -> int:
        keys = engine.names(self._query.base.relation.key)
        copy = self._copies(self._query.base.relation)
        [(rows,)] = self._bench.execute(
            f"INSERT INTO {_EXCLUDED} SELECT {keys} FROM {copy} WHERE rowid BETWEEN {low} AND {high}"
        ).fetchall()
        return int(rows)

    def _described(self) -> list[Output]:
        """The model's outputs, with the types that the text's values have."""
        with self._named(None):
            described = self._bench.execute(f"DESCRIBE {self._query.model.text}").fetchall()
        found = []
        for output, (_, kind, *_) in zip(self._query.outputs, described, strict=True):
            natural, origin = str(kind), str(kind)
            if output.carrier and self._is_raw(*output.carrier):
                origin = output.carrier[1].typed
            is_document = origin == "JSON" and output.column.type not in ("JSON", "VARCHAR")
            if is_document:
                natural = origin = "VARCHAR"
            found.append(
                replace(output, natural=natural, origin=origin, wrapped=False, is_document=is_document)
            )
        return found

    def _create(self, part: tuple[int, int] | None) -> None:
        with self._named(part):
            self._bench.execute(f"CREATE OR REPLACE TABLE {_THEIRS} AS {self._rows()}")

    def _append(self, part: tuple[int, int]) -> None:
        with self._named(part):
            self._bench.execute(f"INSERT INTO {_THEIRS} {self._rows()}")

    def _named(self, part: tuple[int, int] | None) -> AbstractContextManager[None]:
        return named(
            self._query.model, self._relations, self._bench, lambda relation: self._view(relation, part)
        )

    def _rows(self) -> str:
        """A query for the rows of the text that can be loaded, with the values both before and after their casts."""
        values = [f'"~v{number}"' for number in range(len(self._outputs))]
        uncast = [f"~uncast{number}" for number in range(len(self._outputs))]
        given = ", ".join(f"{value} AS {engine.name(one)}" for value, one in zip(values, uncast, strict=True))
        text = f'SELECT *, {given} FROM ({self._query.model.text}\n) AS "~text"({", ".join(values)})'
        rows = checked(text, self._outputs, self._query.key, uncast, uncast)
        return f"SELECT * FROM ({rows}) WHERE {engine.name(PROBLEM)} IS NULL"

    def _view(self, relation: Relation, part: tuple[int, int] | None) -> str:
        """A query for a relation as the model's expressions see it; for the first table, without the excluded rows."""
        columns = ", ".join(
            f"{held if self._passed_on_only(relation, column) else column.typed_expression(held)}"
            f" AS {engine.name(column.name)}"
            for column in relation.columns
            for held in (engine.name("one", column.name),)
        )
        rows = f"SELECT {columns} FROM {self._copies(relation)} AS one"
        if relation != self._query.base.relation or not self._divisible:
            return rows
        same = " AND ".join(
            f"other.{engine.name(hidden)} IS NOT DISTINCT FROM one.{engine.name(key)}"
            for hidden, key in zip(self._query.base.key, relation.key, strict=True)
        )
        within = f" AND one.rowid BETWEEN {part[0]} AND {part[1]}" if part else ""
        return f"{rows} WHERE NOT EXISTS (SELECT 1 FROM {_EXCLUDED} AS other WHERE {same}){within}"

    def _passed_on_only(self, relation: Relation, column: RelationColumn) -> bool:
        """Whether no expression computes with a column, so that the text passes its exact form on."""
        computed = {
            name for leaf in self._query.leaves if leaf.relation == relation for name in leaf.computed
        }
        return column.carried_as_text and column.name not in computed

    def _is_raw(self, leaf: Leaf, column: RelationColumn) -> bool:
        return self._passed_on_only(leaf.relation, column)

    def _replace(self) -> None:
        """Replaces the expected rows that differ from the text's."""
        theirs, ours, names = [], [], []
        for number, output in enumerate(self._outputs):
            name = engine.name(output.column.name)
            carrier = output.carrier
            if (
                carrier
                and carrier[1].carried_as_text
                and not self._is_raw(*carrier)
                and output.column.type == "VARCHAR"
            ):
                # Compared before the cast: its text form is PostgreSQL's on one side, and DuckDB's on the other.
                theirs.append(engine.name(f"~uncast{number}"))
                ours.append(carrier[1].typed_expression(name))
            else:
                theirs.append(name)
                ours.append(name)
            names.append(f"c{number}")
        given = ", ".join(f"{one} AS {name}" for one, name in zip(theirs, names, strict=True))
        had = ", ".join(f"{one} AS {name}" for one, name in zip(ours, names, strict=True))
        mine = self._mine()
        self._bench.execute(
            f"CREATE OR REPLACE TABLE {_ODD} AS SELECT DISTINCT * FROM ("
            f"(SELECT {given} FROM {_THEIRS} EXCEPT ALL SELECT {had} FROM {self._expected} AS one WHERE {mine})"
            f" UNION ALL (SELECT {had} FROM {self._expected} AS one WHERE {mine}"
            f" EXCEPT ALL SELECT {given} FROM {_THEIRS}))"
        )
        if not engine.scalar(self._bench, f"SELECT count(*) FROM {_ODD}"):
            return
        produced = engine.names(output.column.name for output in self._outputs)

        def is_odd(values: list[str]) -> str:
            same = " AND ".join(
                f"{value} IS NOT DISTINCT FROM odd.{name}" for value, name in zip(values, names, strict=True)
            )
            return f"EXISTS (SELECT 1 FROM {_ODD} AS odd WHERE {same})"

        self._bench.execute(f"DELETE FROM {self._expected} AS one WHERE {mine} AND {is_odd(ours)}")
        self._bench.execute(
            f"INSERT INTO {self._expected} BY NAME SELECT {produced} FROM {_THEIRS} WHERE {is_odd(theirs)}"
        )

    def _mine(self) -> str:
        """The SQL condition of the expected rows that the text can give."""
        good = f"one.{engine.name(PROBLEM)} IS NULL"
        if not self._divisible:
            return good
        same = " AND ".join(
            f"other.{engine.name(hidden)} IS NOT DISTINCT FROM one.{engine.name(hidden)}"
            for hidden in self._query.base.key
        )
        return f"{good} AND NOT EXISTS (SELECT 1 FROM {_EXCLUDED} AS other WHERE {same})"


class _Parts:
    """A queue of ranges of row numbers, in which a failed range is replaced by its halves."""

    def __init__(self, low: int, high: int) -> None:
        self._waiting = [(low, high)] if low <= high else []

    def __iter__(self) -> Iterator[tuple[int, int]]:
        while self._waiting:
            yield self._waiting.pop()

    def halve(self, low: int, high: int) -> None:
        """Adds both halves of a range."""
        middle = (low + high) // 2
        self._waiting += [(low, middle), (middle + 1, high)]
