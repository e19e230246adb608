"""What a batch changes in one warehouse table: the rows that it touches, recomputed, compared, and put into history.

Three temporary tables a model, in this order: the *affected* keys, the *new* rows of these keys with their problems,
and the *merged* rows, which are new or gone, each marked whether it differs from the version of before.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from totes import engine
from totes.processing.changes import changes_table
from totes.processing.problem import PROBLEMS, problem, reason, stored
from totes.processing.query import PROBLEM, BoundQuery
from totes.processing.scope import AT, Leaf
from totes.processing.state import BEGINS, GONE, QUARANTINE, StarState, star_table
from totes.star.model import Model

CHANGED = "~changed"
_AS_WRITTEN = dict.fromkeys(("INTERVAL", "FLOAT", "DOUBLE"), "::VARCHAR")
_SHORTEST_VERSION = "1 microsecond"


class Transformation:
    """One model's part in one batch.

    `incoming` are the relations that have changes in this batch, by name; `rows` gives the relation with all present
    rows of a leaf. With `whole`, every row of the table is recomputed: the model is new, or its query has changed.
    """

    def __init__(
        self,
        state: StarState,
        query: BoundQuery,
        incoming: frozenset[str],
        rows: Callable[[Leaf], str],
        *,
        whole: bool,
        source_rows: str | None = None,
    ) -> None:
        self.query = query
        self.model: Model = query.model
        self._state = state
        self._engine = state.engine
        self._incoming = incoming
        self._rows = rows
        self._whole = whole
        self._source_rows = source_rows
        self.new = self._table("new")
        self.merged = self._table("merged")
        self.quarantine = self._table("quarantine")
        self.released = 0  # how many rows left quarantine because they fit now; known after note_quarantine
        self._affected = self._table("affected")
        self._touched = self._table("touched")

    def look_back(self) -> None:
        """Notes which rows of the first table a changed row is joined with, while the tables still are as they were."""
        self._create(self._touched, self._touched_keys())

    def compute(self) -> None:
        """Computes the new rows; afterwards `new` holds them with their problems, and the affected keys are known."""
        if self._whole:
            self._create(self.new, self.query.sql(self._rows))
            self._state.widen_star(
                self.model.name, self.new, self.query.lineage if self.query.keeps_lineage else ()
            )
        elif self.query.rowwise:
            self._create(self.new, self.query.sql(lambda leaf: upserts(leaf.relation.name)))
        else:
            self._engine.execute(f"INSERT INTO {self._touched} {self._touched_keys()}")
            base = self.query.base
            touched = _aliased(base.key, base.relation.key)
            only = self._only(base, f"(SELECT {touched} FROM {self._touched})", base.relation.key)
            self._create(self.new, self.query.sql(only))
        if not self.query.rowwise or self.query.key_is_read_from_text:
            self._note_double_keys()
        if self.query.key_is_read_from_text and not self._whole and self._state.has_star(self.model.name):
            self._note_taken_keys()
        self._create(self._affected, self._affected_keys())

    def note_orphans(self, parents: dict[str, Model]) -> None:
        """Notes as a problem where a new row refers to a row that the other table does not have."""
        for column, target in self.model.references.items():
            [key] = parents[target].primary_key
            present = (
                f"SELECT {engine.name(key)} AS k FROM {star_table(target)}"
                if self._state.has_star(target)
                else ""
            )
            if target == self.model.name:
                own = f"SELECT {engine.name(key)} AS k FROM {self.new} WHERE {engine.name(PROBLEM)} IS NULL"
                present = f"{present} UNION ALL {own}" if present else own
            quoted = engine.name(column)
            missing = (
                f"NOT EXISTS (SELECT 1 FROM ({present}) AS parent WHERE parent.k = row.{quoted})"
                if present
                else "true"
            )
            kind = f"is not in {target}"
            told = f"{engine.text(f'{column}: ')} || {quoted} || {engine.text(f' {kind}')}"
            message = problem(column, kind, value=quoted, told=told)
            orphan = f"row.{quoted} IS NOT NULL AND {engine.name(PROBLEM)} IS NULL AND {missing}"
            while self._note_problem(orphan, message) and target == self.model.name:
                continue  # a row that refers to one which is now set aside is an orphan itself

    def merge(self, read_at: datetime) -> None:
        """Compares new rows with the versions of before; afterwards `merged` holds the result.

        A version begins at the source's own time when the first table's row has changed, and that time is later than the
        version before it began; otherwise when the batch read the source, or a microsecond after the version before it
        if that is later still.
        """
        produced = [column.name for column in self.model.produced]
        lineage = list(self.query.lineage) if self.query.keeps_lineage else []
        columns = [*produced, *lineage]
        new = f"(SELECT * FROM {self.new} WHERE {engine.name(PROBLEM)} IS NULL)"
        read = f"TIMESTAMP {engine.text(read_at.isoformat(sep=' ', timespec='microseconds'))}"
        keys = self.query.key
        if not self._state.has_star(self.model.name):
            at = f"coalesce(new.{engine.name(AT)}, {read})" if self.model.versioned else "NULL::TIMESTAMP"
            self._create(
                self.merged,
                f'SELECT {engine.names(columns, "new")}, {at} AS {BEGINS}, false AS {GONE}, true AS "{CHANGED}"'
                f" FROM {new} AS new",
            )
            return
        self._state.follow_types(self.model.name, self.new)
        old = (
            f"(SELECT star.* FROM {star_table(self.model.name)} AS star SEMI JOIN {self._affected} AS affected"
            f" ON {engine.same('star', 'affected', keys)})"
        )
        differs = " OR ".join(
            # Of intervals, 30 days and a month would be equal; of floats, 0 and -0.
            f"new.{engine.name(c.name)}{_AS_WRITTEN.get(c.type, '')} IS DISTINCT FROM"
            f" old.{engine.name(c.name)}{_AS_WRITTEN.get(c.type, '')}"
            for c in self.model.produced
        )
        first = f"old.{engine.name(keys[0])} IS NULL AND old.{GONE} IS NULL"
        changed = f"({first} OR old.{GONE} OR {differs})"
        base = self.query.base
        begins = self._begins(
            f"CASE WHEN {first} THEN new.{engine.name(AT)} ELSE {self._base_change_time()} END", read
        )
        self._create(
            self.merged,
            f"SELECT {engine.names(columns, 'new')}, CASE WHEN {changed} THEN {begins} ELSE old.{BEGINS} END AS {BEGINS},"
            f' false AS {GONE}, {changed} AS "{CHANGED}"'
            f" FROM {new} AS new LEFT JOIN {old} AS old ON {engine.same('new', 'old', keys)}"
            f" {self._base_changes_join('new', base.key)}",
        )
        gone_at = self._base_change_time()
        self._engine.execute(
            f"INSERT INTO {self.merged} SELECT {engine.names(columns, 'old')}, {self._begins(gone_at, read)}, true, true"
            f" FROM {old} AS old {self._base_changes_join('old', self.query.key_of(base))}"
            f" WHERE NOT old.{GONE}"
            f" AND NOT EXISTS (SELECT 1 FROM {self.new} AS new WHERE {engine.same('new', 'old', keys)})"
            f" AND NOT EXISTS (SELECT 1 FROM {self.new} AS new WHERE {self._same_base('new', 'old')})"
        )

    def note_quarantine(self, batch: int) -> int:
        """Collects what goes into quarantine and what leaves it; gives how many rows were set aside for a new reason."""
        text, model = engine.name(PROBLEM), engine.text(self.model.name)
        bad = engine.scalar(self._engine, f"SELECT count({text}) FROM {self.new}")
        source_row, join = (
            self._source_row() if bad else ("NULL::VARCHAR", "")
        )  # mostly there is nothing to look up
        self._create(
            self.quarantine,
            f"SELECT DISTINCT {model} AS model, {self._row_key('row')} AS row_key, row.{text} AS reason,"
            f" {source_row} AS source_row, {batch}::BIGINT AS batch, {stored(engine.name('row', PROBLEMS))} AS problems"
            f" FROM {self.new} AS row{join} WHERE row.{text} IS NOT NULL",
        )
        if not self._state.quarantined(self.model.name):
            return int(engine.scalar(self._engine, f"SELECT count(*) FROM {self.quarantine}"))
        return self._compare_quarantine(model, batch)

    def _compare_quarantine(self, model: str, batch: int) -> int:
        """Leaves only what differs from what is in quarantine already, and adds what has left it."""
        before = f"(SELECT * FROM {QUARANTINE} WHERE model = {model})"
        rechecked = "true" if self._whole else f"row_key IN ({self._changed_base_keys()})"
        self._engine.execute(
            f"INSERT INTO {self.quarantine} SELECT {model}, row_key, NULL, NULL, {batch}, NULL FROM"
            f" (SELECT DISTINCT row_key FROM {before} WHERE {rechecked})"
            f" ANTI JOIN (SELECT row_key FROM {self.quarantine}) USING (row_key)"
        )
        computed = f"SELECT {self._row_key('row')} FROM {self.new} AS row"
        self.released = int(
            engine.scalar(
                self._engine,
                f"SELECT count(*) FROM {self.quarantine} WHERE reason IS NULL AND row_key IN ({computed})",
            )
        )
        new = int(
            engine.scalar(
                self._engine,
                f"SELECT count(*) FROM {self.quarantine} AS new WHERE reason IS NOT NULL AND NOT EXISTS"
                f" (SELECT 1 FROM {before} AS old WHERE old.row_key = new.row_key AND old.reason = new.reason)",
            )
        )
        told = "SELECT row_key, list_sort(list(DISTINCT reason)) AS reasons, max(source_row) AS source_row"
        self._engine.execute(
            f"DELETE FROM {self.quarantine} WHERE reason IS NOT NULL AND row_key IN (SELECT new.row_key"
            f" FROM ({told} FROM {self.quarantine} WHERE reason IS NOT NULL GROUP BY row_key) AS new"
            f" JOIN ({told} FROM {before} GROUP BY row_key) AS old ON new.row_key = old.row_key"
            " AND new.reasons = old.reasons AND new.source_row IS NOT DISTINCT FROM old.source_row)"
        )
        return new

    def _source_row(self) -> tuple[str, str]:
        """The SQL for the row of the first table that a row comes from: as JSON, with the join that finds it."""
        base = self.query.base
        if not base.relation.is_source:
            return "NULL::VARCHAR", ""
        rows = self._source_rows or self._rows(base)
        members = ", ".join(
            f"{engine.text(column.name)}, source.{engine.name(column.name)}"
            for column in base.relation.columns
        )
        join = f" LEFT JOIN {rows} AS source ON "
        return f"json_object({members}, '_at', source._at)::VARCHAR", join + engine.same(
            "row", "source", base.key, base.relation.key
        )

    def _changed_base_keys(self) -> str:
        base = self.query.base.relation
        if base.name not in self._incoming or not base.key:
            return f"SELECT {self._row_key('row')} FROM {self.new} AS row"
        members = ", ".join(f"{engine.text(part)}, {engine.name(part)}" for part in base.key)
        return f"SELECT json_object({members})::VARCHAR FROM {changes_table(base.name)}"

    @property
    def merged_rows(self) -> str:
        """The merged rows in the shape of the star table."""
        return f'(SELECT * EXCLUDE ("{CHANGED}") FROM {self.merged})'

    def count_deleted(self) -> int:
        """How many rows left the table, or ended in a deleted version."""
        return int(engine.scalar(self._engine, f"SELECT count(*) FROM {self.merged} WHERE {GONE}"))

    def _touched_keys(self) -> str:
        """The first table's keys of rows that a changed row of any table is joined with, as the tables now are."""
        base = self.query.base
        parts = [
            f"SELECT {_aliased(base.relation.key, base.key)} FROM {changes_table(base.relation.name)}"
            if base.relation.name in self._incoming
            else f"SELECT {_no_keys(base)} WHERE false"
        ]
        for leaf in self.query.leaves:
            if leaf.relation.name in self._incoming:
                rows = self._only(leaf, changes_table(leaf.relation.name), leaf.relation.key)
                parts.append(self.query.touching(leaf, rows))
        return " UNION ".join(f"({part})" for part in parts)

    def _affected_keys(self) -> str:
        """The keys of the warehouse table's rows that may have changed: those of the new rows, and of the rows before."""
        keys = engine.names(self.query.key)
        computed = f"SELECT {keys} FROM {self.new}"
        if not self._state.has_star(self.model.name):
            return f"{computed} LIMIT 0"
        star = star_table(self.model.name)
        if self._whole:
            return f"{computed} UNION SELECT {keys} FROM {star}"
        base = self.query.base
        source, columns = self._recomputed_base_keys()
        return (
            f"{computed} UNION SELECT {engine.names(self.query.key, 'star')} FROM {star} AS star"
            f" SEMI JOIN {source} AS touched ON {_equal('star', 'touched', self.query.key_of(base), columns)}"
        )

    def _recomputed_base_keys(self) -> tuple[str, tuple[str, ...]]:
        """The relation with the keys of the first table's rows that are computed again, and its key columns."""
        base = self.query.base
        if self.query.rowwise:
            return changes_table(base.relation.name), base.relation.key
        return self._touched, base.key

    def _only(self, chosen: Leaf, relation: str, columns: tuple[str, ...]) -> Callable[[Leaf], str]:
        """All rows of each leaf, but of one only those that a relation has."""

        def rows(leaf: Leaf) -> str:
            if leaf is not chosen:
                return self._rows(leaf)
            return f"(SELECT r.* FROM {self._rows(leaf)} AS r SEMI JOIN {relation} AS o ON {_equal('r', 'o', columns, columns)})"

        return rows

    def _note_double_keys(self) -> None:
        keys = engine.names(self.query.key)
        given = " AND ".join(f"{engine.name(key)} IS NOT NULL" for key in self.query.key)
        several = f"(SELECT {keys} FROM {self.new} WHERE {given} GROUP BY {keys} HAVING count(*) > 1)"
        if engine.scalar(self._engine, f"SELECT count(*) FROM {several}"):
            cause = "it is read from text" if self.query.rowwise else "a join gives more than one row"
            kind = f"several rows have this {', '.join(self.query.key)}: {cause}"
            self._note_problem(
                f"EXISTS (SELECT 1 FROM {several} AS several WHERE {engine.same('row', 'several', self.query.key)})",
                problem(None, kind, told=engine.text(kind)),
            )

    def _note_taken_keys(self) -> None:
        """Notes where a key, read from text, is that of another source row: '1' and '01' are the same INTEGER."""
        base = self.query.base
        source, columns = self._recomputed_base_keys()
        own = self.query.key_of(base)
        kind = f"another row has this {', '.join(self.query.key)} already: it is read from text"
        self._note_problem(
            f"EXISTS (SELECT 1 FROM {star_table(self.model.name)} AS taken"
            f" WHERE {engine.same('row', 'taken', self.query.key)} AND NOT taken.{GONE}"
            f" AND NOT ({engine.same('row', 'taken', own)})"
            f" AND NOT EXISTS (SELECT 1 FROM {source} AS again WHERE {_equal('taken', 'again', own, columns)}))",
            problem(None, kind, told=engine.text(kind)),
        )

    def _note_problem(self, condition: str, message: str) -> bool:
        """Notes a problem of the rows that meet a condition, and gives whether there are any."""
        found = engine.scalar(self._engine, f"SELECT count(*) FROM {self.new} AS row WHERE {condition}")
        if found:
            text, problems = engine.name(PROBLEM), engine.name(PROBLEMS)
            further = f"list_concat({problems}, [{message}])"
            self._engine.execute(
                f"UPDATE {self.new} AS row SET {problems} = {further}, {text} = {reason(further)} WHERE {condition}"
            )
        return bool(found)

    def _begins(self, source_time: str, read: str) -> str:
        if not self.model.versioned:
            return "NULL::TIMESTAMP"
        advanced = f"{source_time} IS NOT NULL AND (old.{BEGINS} IS NULL OR {source_time} > old.{BEGINS})"
        return (
            f"CASE WHEN {advanced} THEN {source_time} ELSE"
            f" greatest({read}, coalesce(old.{BEGINS} + INTERVAL '{_SHORTEST_VERSION}', {read})) END"
        )

    def _base_change_time(self) -> str:
        return "base_change._at" if self._base_changed else "NULL::TIMESTAMP"

    @property
    def _base_changed(self) -> bool:
        base = self.query.base.relation
        return base.name in self._incoming and bool(base.key)

    def _base_changes_join(self, rows: str, columns: tuple[str, ...]) -> str:
        """Joins the first table's changes to rows that have its key in these columns, as `base_change`."""
        if not self._base_changed:
            return ""
        base = self.query.base.relation
        return (
            f"LEFT JOIN {changes_table(base.name)} AS base_change"
            f" ON {_equal(rows, 'base_change', columns, base.key)}"
        )

    def _same_base(self, new: str, old: str) -> str:
        base = self.query.base
        if not base.key:
            return "false"
        return f"({new}.{engine.name(PROBLEM)} IS NOT NULL AND {_equal(new, old, base.key, self.query.key_of(base))})"

    def _row_key(self, alias: str) -> str:
        base = self.query.base
        shown, columns = (base.relation.key, base.key) if base.key else (self.query.key, self.query.key)
        members = ", ".join(
            f"{engine.text(name)}, {alias}.{engine.name(column)}"
            for name, column in zip(shown, columns, strict=True)
        )
        return f"json_object({members})::VARCHAR"

    def _table(self, kind: str) -> str:
        return engine.name(engine.case_safe(kind, self.model.name))

    def _create(self, table: str, query: str) -> None:
        self._engine.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS {query}")


def _aliased(columns: tuple[str, ...], names: tuple[str, ...]) -> str:
    return ", ".join(
        f"{engine.name(column)} AS {engine.name(name)}" for column, name in zip(columns, names, strict=True)
    )


def _no_keys(base: Leaf) -> str:
    return ", ".join(
        f"NULL::{base.relation.raw_type(part)} AS {engine.name(hidden)}"
        for hidden, part in zip(base.key, base.relation.key, strict=True)
    )


def upserts(relation: str) -> str:
    """The present rows among a relation's changes."""
    return f"(SELECT * FROM {changes_table(relation)} WHERE _op = 'upsert')"


def _equal(left: str, right: str, columns: tuple[str, ...], others: tuple[str, ...]) -> str:
    return " AND ".join(
        f"{engine.name(left, one)} = {engine.name(right, other)}"
        for one, other in zip(columns, others, strict=True)
    )
