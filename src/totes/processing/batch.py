"""One batch of the star: all models over one ingestion batch, in the order in which they depend on one another."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cached_property
from types import MappingProxyType

from totes import engine
from totes.failpoint import reach
from totes.lake.journal import Journal
from totes.lake.manifest import IngestionManifest, ModelChanges
from totes.lake.packets import TURN
from totes.processing.bound.binding import bind_or_defer
from totes.processing.bound.leaf import Leaf
from totes.processing.bound.query import BoundQuery
from totes.processing.bound.relation import Relation
from totes.processing.calendar import calendar_rows, covered_years, years_of
from totes.processing.failures import failures_of
from totes.processing.inputs import Inputs, moment
from totes.processing.pieces import DividedTable, PieceComputer, PieceRows, divided
from totes.processing.quarantine import QuarantineChanges
from totes.processing.reference import load_reference
from totes.processing.rounds import Round, Touch, parents, related, rounds_of, split, touches
from totes.processing.source_rows import READ
from totes.processing.state import StarState, source_table
from totes.processing.summing import SummedQuarantine, SummedRows
from totes.processing.touched import seen_changes, touched_keys
from totes.processing.transform import Transformation
from totes.progress import report
from totes.star.model import Model
from totes.star.project import CALENDAR, Project

MANY_ROWS = 50_000  # from here on progress is reported table by table
UNKNOWN = f"NULL::TIMESTAMP AS {READ}, NULL::BIGINT AS {TURN}"  # of a change that is no transaction's own
Rows = Transformation | SummedRows | PieceRows
NOTHING_REBUILT: Mapping[str, Model] = MappingProxyType({})


class StarBatch:
    """The computation of all models over one batch: `read` before the transaction in which `parts` change the state.

    Args:
        project: the models.
        state: what is known of the batches before.
        journal: the ingestion lake.
        manifest: the batch.
        known: the tables that batches before this one were computed for.
        years: the calendar's years before the batch; afterwards `years` has those that its dates need.
        computer: has workers compute models of large tables.
        beginning: gives the entry, without rows, of a model's table, if that begins with the batch.
        rebuilt: tables that begin again with this batch, whose rows the state has by the time of `parts`, with their models.
        added_years: years of the calendar that the rows of these need.
    """

    def __init__(
        self,
        project: Project,
        state: StarState,
        journal: Journal[IngestionManifest],
        manifest: IngestionManifest,
        known: Collection[str],
        years: tuple[int, ...],
        computer: PieceComputer,
        beginning: Callable[[BoundQuery], ModelChanges],
        rebuilt: Mapping[str, Model] = NOTHING_REBUILT,
        added_years: tuple[int, ...] = (),
    ) -> None:
        self._project = project
        self._state = state
        self._engine = state.engine
        self._manifest = manifest
        self._known = frozenset(known)
        self._computer = computer
        self._beginning = beginning
        self._rebuilt = rebuilt
        self._added_years = added_years
        self.years = years
        self.queries, self.deferred = bind_or_defer(project, manifest, journal.newest())
        self._from_log = manifest.position.log_lsn is not None
        self._all_changes: dict[str, str] = {}  # relations, by the name of what changed
        self._changes: dict[str, str] = {}  # those of a round: the last one of each row
        self._steps: dict[str, str] = {}  # all of them, of tables with rows that have several
        self._present: dict[str, str] = {}  # relations with the rows of tables, read from the lake or made
        self._divided: dict[str, DividedTable] = {}  # tables that are computed in pieces
        self._retained: set[str] = set()  # source tables whose rows the state has to have
        self._missing: set[str] = set()  # those of them whose rows it does not have
        self._seen: dict[tuple[str, frozenset[str]], str | None] = {}  # see _changes_seen
        self._retried: dict[str, str] = {}  # relations with source rows, by model
        self._rows_computed = 0
        self._touched: dict[str, str] = {}  # by model, the keys that were touched before changes were applied

    def read(self) -> None:
        """Reads what the models need of the ingestion lake.

        Raises:
            LakeDamaged: there are not as many rows as there should be.
        """
        sources = [
            (query, leaf.relation)
            for query in self.queries
            for leaf in query.leaves
            if leaf.relation.is_source
        ]
        relations = {relation.name: relation for _, relation in sources}
        self._retained = {relation.name for query, relation in sources if not query.rowwise}
        self._missing = {name for name in self._retained if not self._state.retains_source(relations[name])}
        whole = {relation.name for query, relation in sources if query.model.name not in self._known}
        rows, batch = self._state.source_rows, self._manifest.batch
        for name, relation in relations.items():
            if table := self._in_pieces(name):
                self._divided[name] = table
                continue
            if self._manifest.tables[name].objects:
                self._all_changes[name] = rows.changes(self._manifest, relation)
            if name in self._missing or name in whole - self._retained:
                self._present[name] = rows.present(batch - self._goes_on, relation)

    def _in_pieces(self, table: str) -> DividedTable | None:
        """A table whose models are computed in pieces; there is none but in a first batch."""
        if self._known or self._from_log or table in self._retained:
            return None
        queries = [query for query in self.queries if query.base.relation.name == table]
        if any(self._state.has_star(query.model.name) for query in queries):
            return None
        alone = self._state.source_rows.are_in_packets(self._manifest, table)
        return divided(self._computer, queries, self._manifest, table) if alone else None

    @property
    def _goes_on(self) -> bool:
        """Whether it is a batch from the log in which each model goes on from the batch before."""
        return self._from_log and all(query.model.name in self._known for query in self.queries)

    def parts(self) -> Iterator[tuple[Rows, QuarantineChanges | SummedQuarantine | None]]:
        """What the batch changes in each table that it touches, in load order; by then the state includes it.

        Raises:
            ModelFailed: a model does not fit the tables as they were read.
        """
        self._follow_tables()
        rounds = self._rounds()
        if len(rounds) == 1:
            yield from self._round(rounds[0])
            return
        sums: dict[str, tuple[SummedRows, SummedQuarantine]] = {}
        for each in rounds:
            for part, quarantine in self._round(each):
                assert quarantine is not None
                assert isinstance(part, Transformation)
                new = SummedRows(self._engine, part), SummedQuarantine(self._engine, part.model)
                rows, quarantined = sums.setdefault(part.model.name, new)
                rows.add(part)
                quarantined.add(quarantine)
        yield from (sums[query.model.name] for query in self.queries if query.model.name in sums)

    def _round(
        self, changing: Round
    ) -> Iterator[tuple[Transformation | PieceRows, QuarantineChanges | None]]:
        """What some of the batch's changes change in each table that they touch, in load order."""
        self._changes, self._steps = changing.changes, changing.steps
        self._seen, self._touched, self._retried = {}, {}, {}
        self._apply_changes()
        reach("process.loaded")
        off, on = (
            [query for query in self.queries if _reads_calendar(query) == reads] for reads in (False, True)
        )
        parts = {query.model.name: self._compute(query) for query in off}
        self._extend_calendar([part for part in parts.values() if part], {query.model.name for query in on})
        parts |= {query.model.name: self._compute(query) for query in on}
        rows_written = 0
        for part in (part for query in self.queries if (part := parts[query.model.name])):
            model = part.model
            self._report("writing", model, rows_written)
            rows_written += self._rows_read(part.query)
            part.note_orphans(self._parent_keys(model))
            yield part, None if isinstance(part, PieceRows) else self._merge(part)
            reach("process.model")
        self._known |= {query.model.name for query in self.queries}

    def _merge(self, part: Transformation) -> QuarantineChanges:
        """Merges rows with the known versions, after which the state has them."""
        part.merge()
        model = part.model
        before = self._state.quarantined(model.name)
        quarantine = QuarantineChanges(self._engine, part, self._manifest.batch, before)
        self._state.apply_rows(
            model.name, part.query.key, part.merged_rows, retains_deleted=model.retains_deleted
        )
        if quarantine.rows:
            self._state.apply_quarantine(quarantine.table)
        return quarantine

    def _follow_tables(self) -> None:
        """Brings the retained source rows into the shape that the tables have now."""
        relations = self._relations
        for name in self._manifest.tables:
            if name in self._retained - self._missing:
                self._state.follow_columns(relations[name])
            else:
                self._state.forget_source(name)
        if self._goes_on:
            for name in self._missing:
                self._state.create_source(relations[name], f"FROM {self._present[name]}")
            self._missing = set()

    @property
    def _relations(self) -> dict[str, Relation]:
        return {leaf.relation.name: leaf.relation for query in self.queries for leaf in query.leaves}

    def _rounds(self) -> list[Round]:
        """What changes in each round: of a batch by query, or of one transaction, there is one."""
        if not self._from_log or self._is_one_transaction():
            return [Round(self._all_changes, {})]
        turns = self._rounds_of_turns() if self._goes_on else {}
        keys = {name: self._relations[name].key for name in self._all_changes}
        return split(self._engine, self._all_changes, keys, turns)

    def _is_one_transaction(self) -> bool:
        turns = " UNION ".join(f"SELECT {TURN} FROM {changes}" for changes in self._all_changes.values())
        return not turns or engine.scalar(self._engine, f"SELECT count(*) FROM ({turns})") == 1

    def _rounds_of_turns(self) -> dict[int, int]:
        asked = touches(self.queries, self._all_changes, self._rows, self._parent_keys, self._quarantined)
        rows = self._engine.execute(asked).fetchall() if asked else []
        return rounds_of(map(Touch._make, rows), parents(self.queries))

    def _apply_changes(self) -> None:
        """Brings the retained source rows up to the round, after noting which rows its changes touch until then."""
        relations = self._relations
        for query in self.queries:
            self._retry_quarantine(query)
        for query in self.queries:
            if self._is_touched(query) and not query.rowwise and not self._recomputes_all(query):
                with failures_of(self._manifest, query.model):
                    self._touched[query.model.name] = engine.create_temporary(
                        self._engine, "touched_before", query.model.name, touched_keys(self._inputs(query))
                    )
        for name in sorted(self._retained):
            if name in self._missing:
                self._state.create_source(relations[name], f"FROM {self._present[name]}")
            elif name in self._changes:
                self._state.apply_changes(relations[name], self._changes[name])

    def _retry_quarantine(self, query: BoundQuery) -> None:
        """Notes which of a model's rows in quarantine are computed again.

        What a row refers to, or is joined with, may have come with this batch, or a table that it refers to begun again. A
        batch without any changes is made on purpose: to try all of them again.
        """
        model, base = query.model, query.base.relation
        if not (quarantined := self._quarantined(query)):
            return
        tables, relations = related(self.queries, model)
        on_purpose = not any(table.objects for table in self._manifest.tables.values())
        if on_purpose or relations & self._changes.keys() or tables & self._rebuilt.keys():
            changes, unchanged = self._changes.get(base.name), ""
            if changes:
                same = engine.same("old", "new", base.key)
                unchanged = f" WHERE NOT EXISTS (SELECT 1 FROM {changes} AS new WHERE {same})"
            rows = f"SELECT *{f', {UNKNOWN}' * self._from_log} FROM ({quarantined}) AS old{unchanged}"
            self._retried[model.name] = engine.create_temporary(self._engine, "retried", model.name, rows)

    def _quarantined(self, query: BoundQuery) -> str | None:
        """A query for the rows of a model's first table that are in quarantine, if there are any."""
        base = query.base.relation
        if not base.is_source or not base.key or not self._state.quarantined(query.model.name):
            return None
        return self._state.quarantined_rows(query.model.name, base)

    def _rows(self, leaf: Leaf) -> str:
        """The relation with all present rows of a leaf."""
        name = leaf.relation.name
        if name in self._retained:
            return source_table(name)
        if name not in self._present:
            if name == CALENDAR:
                self._present[name] = engine.create_temporary(
                    self._engine, "whole", name, calendar_rows(self.years)
                )
            else:
                table = self._present[name] = engine.name(engine.case_safe("whole", name))
                load_reference(self._engine, self._project.references[name], table)
        return self._present[name]

    def _inputs(self, query: BoundQuery) -> Inputs:
        name, read_at = query.model.name, self._manifest.position.read_at
        return Inputs(
            query,
            self._changes.get(query.base.relation.name),
            {leaf.index: seen for leaf in query.leaves[1:] if (seen := self._changes_seen(leaf))},
            self._rows,
            self._state.newest(name),
            whole=self._recomputes_all(query),
            read_at=moment(read_at),
            from_log=self._from_log,
            retried=self._retried.get(name),
            steps=self._steps.get(query.base.relation.name),
        )

    def _compute(self, query: BoundQuery) -> Transformation | PieceRows | None:
        """The model's new rows, or None when nothing that it reads has changed."""
        if not self._is_touched(query) and query.model.name in self._known:
            return None
        self._report("computing", query.model, self._rows_computed)
        self._rows_computed += self._rows_read(query)
        with failures_of(self._manifest, query.model):
            if table := self._divided.get(query.base.relation.name):
                return table.rows(query, self._state, self._beginning)
            part = Transformation(self._engine, self._inputs(query))
            part.compute(self._touched.get(query.model.name))
            return part

    def _report(self, doing: str, model: Model, rows: int) -> None:
        """Reports progress, counted in changed rows of the tables that the models read; not of a small batch among many."""
        if self._rows_in_all >= MANY_ROWS:
            report(f"{doing} {model.name}, batch {self._manifest.batch}", rows, self._rows_in_all)

    @cached_property
    def _rows_in_all(self) -> int:
        return sum(map(self._rows_read, self.queries))

    def _rows_read(self, query: BoundQuery) -> int:
        changed = [self._manifest.tables.get(leaf.relation.name) for leaf in query.leaves]
        return sum(table.upserts + table.deletes for table in changed if table)

    def _is_touched(self, query: BoundQuery) -> bool:
        changed = query.base.relation.name in self._changes or any(map(self._changes_seen, query.leaves[1:]))
        return changed or query.model.name in self._retried

    def _changes_seen(self, leaf: Leaf) -> str | None:
        """The relation with the changes of a joined table that the query sees; to be asked first before changes are applied."""
        name = leaf.relation.name
        if name not in self._changes or name not in self._retained - self._missing:
            return self._changes.get(name)
        asked = name, frozenset(leaf.named)
        if asked not in self._seen:
            changes = self._steps.get(name, self._changes[name])
            query = seen_changes(leaf, changes, source_table(name), from_log=self._from_log)
            table = engine.create_temporary(self._engine, f"seen{len(self._seen)}", name, query)
            exists = engine.scalar(self._engine, f"SELECT count(*) FROM {table}")
            self._seen[asked] = table if exists else None
        return self._seen[asked]

    def _recomputes_all(self, query: BoundQuery) -> bool:
        """Whether all rows of a table are computed: none are known, or its keys do not show what changed."""
        if query.model.name not in self._known:
            return True
        rebuilt = any(leaf.relation.name in self._missing for leaf in query.leaves)
        return not query.rowwise and (rebuilt or not query.key_is_base_key)

    def _parent_keys(self, model: Model) -> dict[str, str]:
        """By each table that a model refers to, a relation with the keys that it has, as `k`."""
        models = {one.name: one for one in self._project.models} | dict(self._rebuilt)
        parents = {}
        for target in model.references.values():
            [key] = models[target].primary_key
            rows = self._state.newest(target)
            keys = f"SELECT {engine.name(key)} AS k FROM {rows}" if rows else "SELECT NULL AS k WHERE false"
            parents[target] = f"({keys})"
        return parents

    def _extend_calendar(self, parts: list[Transformation | PieceRows], on_calendar: set[str]) -> None:
        """Adds the years of the dates that the parts' rows refer to."""
        years = {*self.years, *self._added_years}
        for part in parts:
            columns = [column for column, target in part.model.references.items() if target in on_calendar]
            if columns:
                found = self._engine.execute(years_of(columns, part.new)).fetchall()
                years.update(int(year) for (year,) in found)
        covered = covered_years(years)
        added = sorted(set(covered) - set(self.years))
        if added:
            self._changes[CALENDAR] = engine.create_temporary(
                self._engine,
                "changes",
                CALENDAR,
                f"SELECT *, {UNKNOWN} FROM ({calendar_rows(added)})",
            )
            self._present.pop(CALENDAR, None)
            self.years = covered


def _reads_calendar(query: BoundQuery) -> bool:
    return any(leaf.relation.name == CALENDAR for leaf in query.leaves)
