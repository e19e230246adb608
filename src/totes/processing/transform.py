"""What a batch changes in one warehouse table: the rows that it touches, recomputed, compared, and put into history.

In this order: the *new* rows with their problems, the *old* ones that they may replace, and the *merged* rows, which
are new or gone, each marked whether it differs from the version of before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from totes import engine
from totes.processing.changes import changes_table
from totes.processing.leaf import AT, Leaf
from totes.processing.problem import PROBLEM, PROBLEMS, problem, reason
from totes.processing.query import BoundQuery
from totes.processing.state import BEGINS, GONE, StarState, star_table
from totes.star.model import Model

CHANGED = "~changed"
_AS_WRITTEN = dict.fromkeys(("INTERVAL", "FLOAT", "DOUBLE"), "::VARCHAR")
_SHORTEST_VERSION = "1 microsecond"


@dataclass(frozen=True)
class Count:
    """How many merged rows there are, how many of them are to be written, how many left, and how many new rows are bad."""

    merged: int
    written: int
    gone: int
    bad: int


class Transformation:
    """One model's part in one batch.

    `incoming` are the relations that have changes in this batch, by name; `rows` gives the relation with all present
    rows of a leaf. With `whole`, every row of the table is recomputed: the model is new, or its query has changed.
    `computed` is a table with the new rows, where they have been computed already, outside of the transaction. `retried` is
    one with the first table's rows that are in quarantine and computed again though they have not changed.
    """

    def __init__(
        self,
        state: StarState,
        query: BoundQuery,
        incoming: frozenset[str],
        rows: Callable[[Leaf], str],
        *,
        whole: bool,
        computed: str | None = None,
        retried: str | None = None,
    ) -> None:
        self.query = query
        self.model: Model = query.model
        self.whole = whole
        self._state = state
        self._engine = state.engine
        self._incoming = incoming
        self._retried = retried
        self._rows = rows
        self._computed = computed
        self.new = self._table("new")
        self.merged = self._table("merged")
        self.count = Count(0, 0, 0, 0)  # known after merge
        self._old = self._table("old")
        self._touched = self._table("touched")

    def look_back(self) -> None:
        """Notes which rows of the first table a changed row is joined with, while the tables still are as they were."""
        self._create(self._touched, self._touched_keys())

    def compute(self) -> None:
        """Computes the new rows; afterwards `new` holds them with their problems."""
        if self._computed:
            self._engine.execute(f"CREATE TEMP VIEW {self.new} AS FROM {self._computed}")
        elif self.whole:
            self._create(self.new, self.query.sql(self._rows))
        elif self._from_changes:
            self._create(self.new, self.query.sql(lambda _leaf: self._upserts))
        else:
            self._engine.execute(f"INSERT INTO {self._touched} {self._touched_keys()}")
            base = self.query.base
            touched = _aliased(base.key, base.relation.key)
            only = self._only(base, f"(SELECT {touched} FROM {self._touched})", base.relation.key)
            self._create(self.new, self.query.sql(only))
        if not self.query.rowwise or self.query.key_is_read_from_text:
            self._note_double_keys()
        if self.query.key_is_read_from_text and not self.whole and self._state.has_star(self.model.name):
            self._note_taken_keys()

    def note_orphans(self, parents: dict[str, Model]) -> None:
        """Notes as a problem where a new row refers to a row that the other table does not have."""
        orphans = []
        for column, target in self.model.references.items():
            [key] = parents[target].primary_key
            present = (
                f"SELECT {engine.name(key)} AS k FROM {star_table(target)}"
                if self._state.has_star(target)
                else "SELECT NULL AS k WHERE false"
            )
            if target == self.model.name:
                own = f"SELECT {engine.name(key)} AS k FROM {self.new} WHERE {engine.name(PROBLEM)} IS NULL"
                present = f"{present} UNION ALL {own}"
            orphans.append((column, target, present))
        if not orphans or not self._count_orphans(orphans):
            return
        for column, target, present in orphans:
            quoted = engine.name(column)
            kind = f"is not in {target}"
            told = f"{engine.text(f'{column}: ')} || {quoted} || {engine.text(f' {kind}')}"
            message = problem(column, kind, value=quoted, told=told)
            missing = f"NOT EXISTS (SELECT 1 FROM ({present}) AS parent WHERE parent.k = row.{quoted})"
            orphan = f"row.{quoted} IS NOT NULL AND {engine.name(PROBLEM)} IS NULL AND {missing}"
            while self._note_problem(orphan, message) and target == self.model.name:
                continue  # a row that refers to one which is now set aside is an orphan itself

    def _count_orphans(self, orphans: list[tuple[str, str, str]]) -> int:
        """How many references lead to no row; in one query, since mostly there are none."""
        counts = [
            f"SELECT count(*) AS n FROM (SELECT {engine.name(column)} AS k FROM {self.new}"
            f" WHERE {engine.name(PROBLEM)} IS NULL AND {engine.name(column)} IS NOT NULL) AS row"
            f" ANTI JOIN ({present}) AS parent ON parent.k = row.k"
            for column, _, present in orphans
        ]
        return int(engine.scalar(self._engine, f"SELECT sum(n) FROM ({' UNION ALL '.join(counts)})"))

    def merge(self, read_at: datetime) -> None:
        """Compares new rows with the versions of before; afterwards `merged` is a relation with the result.

        A version begins at the source's own time when the first table's row has changed, and that time is later than the
        version before it began; otherwise when the batch read the source, or a microsecond after the version before it
        if that is later still.
        """
        read = f"TIMESTAMP {engine.text(read_at.isoformat(sep=' ', timespec='microseconds'))}"
        if self._state.has_star(self.model.name):
            self._compare(read)
        else:
            at = f"coalesce({engine.name(AT)}, {read})" if self.model.versioned else "NULL::TIMESTAMP"
            self.merged = (
                f'(SELECT {engine.names(self._columns)}, {at} AS {BEGINS}, false AS {GONE}, true AS "{CHANGED}"'
                f" FROM {self.new} WHERE {engine.name(PROBLEM)} IS NULL)"
            )
        [counted] = self._engine.execute(
            f"SELECT count(*), count(*) FILTER ({self.written}), count(*) FILTER ({GONE}),"
            f" (SELECT count({engine.name(PROBLEM)}) FROM {self.new}) FROM {self.merged}"
        ).fetchall()
        self.count = Count(*counted)

    @property
    def _columns(self) -> list[str]:
        lineage = self.query.lineage if self.query.keeps_lineage else ()
        return [*(column.name for column in self.model.produced), *lineage]

    def _compare(self, read: str) -> None:
        star, keys, base = star_table(self.model.name), self.query.key, self.query.base
        old = star
        if not self.whole:
            affected = f"({self._affected_keys()})"
            self._create(
                self._old,
                f"SELECT star.* FROM {star} AS star SEMI JOIN {affected} AS affected"
                f" ON {self._same_key('star', 'affected')}",
            )
            old = self._old
        new = f"(SELECT * FROM {self.new} WHERE {engine.name(PROBLEM)} IS NULL)"
        differs = " OR ".join(
            # Of intervals, 30 days and a month would be equal; of floats, 0 and -0.
            f"new.{engine.name(c.name)}{_AS_WRITTEN.get(c.type, '')} IS DISTINCT FROM"
            f" old.{engine.name(c.name)}{_AS_WRITTEN.get(c.type, '')}"
            for c in self.model.produced
        )
        first = f"old.{engine.name(keys[0])} IS NULL AND old.{GONE} IS NULL"
        changed = f"({first} OR old.{GONE} OR {differs})"
        begins = self._begins(
            f"CASE WHEN {first} THEN new.{engine.name(AT)} ELSE {self._base_change_time()} END", read
        )
        gone_at = self._base_change_time()
        self._create(
            self.merged,
            f"SELECT {engine.names(self._columns, 'new')},"
            f" CASE WHEN {changed} THEN {begins} ELSE old.{BEGINS} END AS {BEGINS},"
            f' false AS {GONE}, {changed} AS "{CHANGED}"'
            f" FROM {new} AS new LEFT JOIN {old} AS old ON {self._same_key('new', 'old')}"
            f" {self._base_changes_join('new', base.key)}"
            f" UNION ALL SELECT {engine.names(self._columns, 'old')}, {self._begins(gone_at, read)}, true, true"
            f" FROM {old} AS old {self._base_changes_join('old', self.query.key_of(base))}"
            f" WHERE NOT old.{GONE}"
            f" AND NOT EXISTS (SELECT 1 FROM {self.new} AS new WHERE {self._same_key('new', 'old')})"
            f" AND NOT EXISTS (SELECT 1 FROM {self.new} AS new WHERE {self._same_base('new', 'old')})",
        )

    def _same_key(self, left: str, right: str) -> str:
        """The condition that two rows have the same key; a plain one is far cheaper where no key can be NULL."""
        given = {column.name for column in self.model.produced if column.not_null}
        if given.issuperset(self.query.key):
            return engine.equal(left, right, self.query.key)
        return engine.same(left, right, self.query.key)

    def base_rows(self) -> str:
        """A relation with the first table's rows that the new rows were computed from, and maybe others."""
        base = self.query.base
        return self._upserts if self._from_changes else self._rows(base)

    @property
    def base_changes(self) -> str | None:
        """The relation with the first table's changes, and its rows that are computed again like changed ones."""
        name = self.query.base.relation.name
        parts = [changes_table(name)] if name in self._incoming else []
        parts += [self._retried] if self._retried else []
        if len(parts) < 2:
            return parts[0] if parts else None
        return f"(FROM {' UNION ALL BY NAME FROM '.join(parts)})"

    @property
    def _upserts(self) -> str:
        return f"(SELECT * FROM {self.base_changes} WHERE _op = 'upsert')"

    @property
    def _from_changes(self) -> bool:
        return self.query.rowwise and not self.whole

    @property
    def written(self) -> str:
        """The condition of merged rows that are to be written."""
        return f'"{CHANGED}"' if self.model.retains_deleted else f'"{CHANGED}" AND NOT {GONE}'

    @property
    def merged_rows(self) -> str:
        """The merged rows in the shape of the star table."""
        return f'(SELECT * EXCLUDE ("{CHANGED}") FROM {self.merged})'

    def _touched_keys(self) -> str:
        """The first table's keys of rows that a changed row of any table is joined with, as the tables now are."""
        base = self.query.base
        parts = [
            f"SELECT {_aliased(base.relation.key, base.key)} FROM {self.base_changes}"
            if self.base_changes
            else f"SELECT {_no_keys(base)} WHERE false"
        ]
        for leaf in self.query.leaves:
            if leaf.relation.name in self._incoming:
                rows = self._only(leaf, changes_table(leaf.relation.name), leaf.relation.key)
                parts.append(self.query.touching(leaf, rows))
        return " UNION ".join(f"({part})" for part in parts)

    def _affected_keys(self) -> str:
        """The keys of the warehouse table's rows that may have changed: those of the new rows, and of the rows before."""
        computed = f"SELECT {engine.names(self.query.key)} FROM {self.new}"
        base, star = self.query.base, star_table(self.model.name)
        source, columns = self._recomputed_base_keys()
        if self.query.keeps_lineage:
            return (
                f"{computed} UNION SELECT {engine.names(self.query.key, 'star')} FROM {star} AS star"
                f" SEMI JOIN {source} AS touched ON {engine.equal('star', 'touched', self.query.key_of(base), columns)}"
            )
        carried = dict(zip(self.query.key_of(base), columns, strict=True))
        types = {column.name: column.type for column in self.model.produced}
        keys = ", ".join(f"TRY_CAST({engine.name(carried[key])} AS {types[key]})" for key in self.query.key)
        return f"{computed} UNION SELECT {keys} FROM {source}"

    def _recomputed_base_keys(self) -> tuple[str, tuple[str, ...]]:
        """The relation with the keys of the first table's rows that are computed again, and its key columns."""
        base = self.query.base
        if self.query.rowwise:
            return str(self.base_changes), base.relation.key
        return self._touched, base.key

    def _only(self, chosen: Leaf, relation: str, columns: tuple[str, ...]) -> Callable[[Leaf], str]:
        """All rows of each leaf, but of one only those that a relation has."""

        def rows(leaf: Leaf) -> str:
            if leaf is not chosen:
                return self._rows(leaf)
            chosen_only = f"SEMI JOIN {relation} AS o ON {engine.equal('r', 'o', columns)}"
            return f"(SELECT r.* FROM {self._rows(leaf)} AS r {chosen_only})"

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
            f" AND NOT EXISTS (SELECT 1 FROM {source} AS again WHERE {engine.equal('taken', 'again', own, columns)}))",
            problem(None, kind, told=engine.text(kind)),
        )

    def _note_problem(self, condition: str, message: str) -> bool:
        """Notes a problem of the rows that meet a condition, and gives whether there are any."""
        found = engine.scalar(self._engine, f"SELECT count(*) FROM {self.new} AS row WHERE {condition}")
        if found:
            self._take_over()
            text, problems = engine.name(PROBLEM), engine.name(PROBLEMS)
            further = f"list_concat({problems}, [{message}])"
            self._engine.execute(
                f"UPDATE {self.new} AS row SET {problems} = {further}, {text} = {reason(further)} WHERE {condition}"
            )
        return bool(found)

    def _take_over(self) -> None:
        """Copies new rows that were computed outside of the transaction, which changes tables of one database only."""
        if self._computed:
            self._engine.execute(f"CREATE OR REPLACE TEMP TABLE taken_over AS FROM {self.new}")
            self.end()
            self._engine.execute(f"ALTER TABLE taken_over RENAME TO {self.new}")

    def end(self) -> None:
        """Forgets new rows that were computed outside of the transaction."""
        if self._computed:
            self._engine.execute(f"DROP VIEW {self.new}")
            self._computed = None

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
        return self.base_changes is not None and bool(self.query.base.relation.key)

    def _base_changes_join(self, rows: str, columns: tuple[str, ...]) -> str:
        """Joins the first table's changes to rows that have its key in these columns, as `base_change`."""
        if not self._base_changed:
            return ""
        base = self.query.base.relation
        return (
            f"LEFT JOIN {self.base_changes} AS base_change"
            f" ON {engine.equal(rows, 'base_change', columns, base.key)}"
        )

    def _same_base(self, new: str, old: str) -> str:
        base = self.query.base
        if not base.key:
            return "false"
        return f"({new}.{engine.name(PROBLEM)} IS NOT NULL AND {engine.equal(new, old, base.key, self.query.key_of(base))})"

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
