"""One batch of the star: all models over one ingestion batch, in the order in which they depend on one another."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

import duckdb

from totes import engine, scratch
from totes.errors import ModelFailed
from totes.failpoint import reach
from totes.lake.journal import Journal
from totes.lake.manifest import IngestionManifest
from totes.messages import message
from totes.processing.aside import Aside
from totes.processing.binding import bind_or_defer
from totes.processing.calendar import calendar_rows, covered_years
from totes.processing.changes import changes_table, load_changes, load_rows
from totes.processing.leaf import Leaf
from totes.processing.problem import PROBLEM
from totes.processing.quarantine import QuarantineChanges
from totes.processing.query import BoundQuery
from totes.processing.relation import Relation
from totes.processing.state import StarState, source_table
from totes.processing.transform import Transformation
from totes.star.model import Model
from totes.star.project import CALENDAR, Project, Reference

NOTHING_REBUILT: Mapping[str, Model] = MappingProxyType({})


def load_reference(connection: engine.Engine, reference: Reference, table: str) -> None:
    """Makes a temporary table of a reference file's rows, as the file was when the project was loaded."""
    columns = ", ".join(f"{engine.text(column)}: 'VARCHAR'" for column in reference.columns)
    with tempfile.NamedTemporaryFile(dir=scratch.root(), suffix=".csv") as file:
        file.write(reference.content.removeprefix(b"\xef\xbb\xbf"))
        file.flush()
        try:
            connection.execute(
                f"CREATE OR REPLACE TEMP TABLE {table} AS SELECT * FROM read_csv({engine.text(file.name)}, header = true,"
                f" auto_detect = false, columns = {{{columns}}}, delim = ',', quote = '\"', escape = '\"')"
            )
        except duckdb.Error as error:
            said = message(error).replace(file.name, reference.path.name)
            raise ModelFailed(
                f"{reference.path} cannot be read: {said}",
                hint="Every line needs as many fields as the first, separated by commas, quoted by double quotes",
            ) from error


class StarBatch:
    """The computation of all models over one batch; the state is left as it is after the batch.

    Args:
        project: the models.
        state: what is known of the batches before.
        journal: the ingestion lake.
        manifest: the batch.
        known: the tables that batches before this one were computed for.
        years: the calendar's years before the batch; afterwards `years` has those that its dates need.
        rebuilt: tables that begin anew with this batch, whose rows the state has already, with their models.
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
        rebuilt: Mapping[str, Model] = NOTHING_REBUILT,
        added_years: tuple[int, ...] = (),
    ) -> None:
        self._project = project
        self._state = state
        self._engine = state.engine
        self._journal = journal
        self._manifest = manifest
        self._known = known
        self._rebuilt = rebuilt
        self._incoming: set[str] = set()
        self._retried: dict[str, str] = {}  # by model, the table with the source rows
        self._kept: set[str] = set()
        self._built: set[str] = set()
        self._made: set[str] = set()
        self._aside = Aside(state.workspace, state.reader, journal, manifest)
        self.years = years
        self._added_years = added_years
        self.queries, self.deferred = bind_or_defer(project, manifest, journal.newest())

    def parts(self) -> Iterator[tuple[Transformation, QuarantineChanges]]:
        """What the batch changes in each table that it touches, in load order; the state has taken it in.

        Raises:
            ModelFailed: a model does not fit the tables as they were read.
        """
        try:
            if self._manifest.batch == 1:
                self._aside.compute(self.queries, self._naming)
            yield from self._parts()
        finally:
            self._aside.end()

    def _parts(self) -> Iterator[tuple[Transformation, QuarantineChanges]]:
        queries = self.queries
        self._load(queries)
        reach("process.loaded")
        on_calendar = {query.model.name for query in queries if self._reads_calendar(query)}
        parts = {
            query.model.name: self._compute(query) for query in queries if query.model.name not in on_calendar
        }
        self._extend_calendar(list(parts.values()), on_calendar)
        parts |= {
            query.model.name: self._compute(query) for query in queries if query.model.name in on_calendar
        }
        models = {model.name: model for model in self._project.models} | dict(self._rebuilt)
        for part in (part for query in queries if (part := parts[query.model.name])):
            part.note_orphans(models)
            part.merge(self._manifest.position.read_at)
            base = part.query.base.relation
            if part.count.bad and base.name in self._aside.let_go:
                # A row refers to one that is not there: its source row is to be shown.
                load_changes(self._state.reader, self._journal, self._manifest, base)
                self._aside.let_go.discard(base.name)
            quarantine = QuarantineChanges(self._state, part, self._manifest.batch)
            model = part.model
            self._state.apply_rows(
                model.name, part.query.key, part.merged_rows, retains_deleted=model.retains_deleted
            )
            if quarantine.rows:
                self._state.apply_quarantine(quarantine.table)
            yield part, quarantine
            part.end()
            reach("process.model")

    def _load(self, queries: list[BoundQuery]) -> None:
        """Reads the batch's changes, notes what they touched, and brings the kept rows up to them."""
        leaves = [(query, leaf) for query in queries for leaf in query.leaves if leaf.relation.is_source]
        used = {leaf.relation.name: leaf.relation for _, leaf in leaves}
        self._kept = {leaf.relation.name for query, leaf in leaves if not query.rowwise}
        for name in self._manifest.tables:
            if name not in self._kept:
                self._state.forget_source(name)
        self._read_changes(used)
        self._try_again(queries)
        self._built = {name for name in self._kept if not self._state.has_source(name)}
        for query in queries:
            # The calendar may grow later in the batch.
            touched = self._is_touched(query) or self._reads_calendar(query)
            if touched and not query.rowwise and not self._recomputed_wholly(query):
                with self._naming(query.model):
                    self._transformation(query, whole=False).look_back()
        for name in sorted(self._kept):
            if name in self._built:
                self._build_source(used[name])
            elif name in self._incoming:
                self._state.apply_changes(used[name])

    def _read_changes(self, used: dict[str, Relation]) -> None:
        for name, relation in used.items():
            if self._manifest.tables[name].objects:
                if name not in self._aside.let_go:
                    load_changes(self._state.reader, self._journal, self._manifest, relation)
                self._incoming.add(name)
            self._state.follow_columns(relation)

    def _try_again(self, queries: list[BoundQuery]) -> None:
        """Notes which rows in quarantine are computed again, each for its own model alone.

        What a row refers to, or is joined with, may have come with this batch, or a table that it refers to begun anew. A
        batch without any changes is made on purpose: to try all of them again.
        """
        on_purpose = not any(self._manifest.tables[name].objects for name in self._manifest.tables)
        for query in queries:
            model, base = query.model, query.base.relation
            if not base.is_source or not base.key or not self._state.quarantined(model.name):
                continue
            tables, relations = self._related(model, queries)
            if (
                on_purpose
                or not self._incoming.isdisjoint(relations)
                or not self._rebuilt.keys().isdisjoint(tables)
            ):
                table = engine.name(engine.case_safe("retried", model.name))
                known = (
                    f" WHERE NOT EXISTS (SELECT 1 FROM {changes_table(base.name)} AS new"
                    f" WHERE {engine.same('old', 'new', base.key)})"
                    if base.name in self._incoming
                    else ""
                )
                self._engine.execute(
                    f"CREATE OR REPLACE TEMP TABLE {table} AS"
                    f" SELECT * FROM ({self._state.set_aside(model.name, base)}) AS old{known}"
                )
                self._retried[model.name] = table

    def _related(self, model: Model, queries: list[BoundQuery]) -> tuple[set[str], set[str]]:
        """What decides what becomes of a model's rows: the tables that it refers to, and the relations that all of these read."""
        named = {query.model.name: query for query in queries}
        reached, following = set[str](), [model.name]
        while following:
            name = following.pop()
            if name not in reached:
                reached.add(name)
                following += named[name].model.references.values() if name in named else []
        read = {leaf.relation.name for name in reached & named.keys() for leaf in named[name].leaves}
        return reached, read

    def _build_source(self, relation: Relation) -> None:
        """Makes the kept rows of a table that is joined for the first time, out of the lake."""
        load_rows(self._state.reader, self._journal, relation, self._manifest.batch, "built_rows")
        columns = engine.names([*(column.name for column in relation.columns), "_at"])
        self._state.create_source(relation, f"SELECT {columns} FROM built_rows")

    def _rows(self, leaf: Leaf) -> str:
        """The relation with all present rows of a leaf; what is not at hand is made, once a batch."""
        name = leaf.relation.name
        if leaf.relation.is_source and name in self._kept:
            return source_table(name)
        table = engine.name(engine.case_safe("whole", name))
        if name in self._made:
            return table
        self._made.add(name)
        if leaf.relation.is_source:
            load_rows(self._state.reader, self._journal, leaf.relation, self._manifest.batch, table)
        elif name == CALENDAR:
            self._engine.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS {calendar_rows(self.years)}")
        else:
            load_reference(self._engine, self._project.references[name], table)
        return table

    def _compute(self, query: BoundQuery) -> Transformation | None:
        """The model's new rows, or None when nothing that it reads has changed."""
        whole = self._recomputed_wholly(query)
        if query.rowwise and self._manifest.batch == 1 and query.base.relation.is_source:
            whole = False  # all rows there are have come with this batch
        if not whole and not self._is_touched(query):
            return None
        part = self._transformation(query, whole=whole)
        with self._naming(query.model):
            part.compute()
        return part

    @contextmanager
    def _naming(self, model: Model) -> Iterator[None]:
        """Names the model whose query failed where it cannot be told for which row."""
        try:
            yield
        except (duckdb.DataError, duckdb.ProgrammingError) as error:
            raise ModelFailed(
                f"{model.path.parent.name}/{model.path.name}: batch {self._manifest.batch} cannot be processed: {message(error)}",
                hint="Fix the query; the other tables go on, and this one's history is computed when it can be",
                model=model.name,
            ) from error

    def _transformation(self, query: BoundQuery, *, whole: bool) -> Transformation:
        computed = self._aside.computed.get(query.model.name)
        return Transformation(
            self._state,
            query,
            frozenset(self._incoming),
            self._rows,
            whole=whole,
            computed=computed,
            retried=self._retried.get(query.model.name),
        )

    def _is_touched(self, query: BoundQuery) -> bool:
        incoming = any(leaf.relation.name in self._incoming for leaf in query.leaves)
        return incoming or query.model.name in self._retried

    def _recomputed_wholly(self, query: BoundQuery) -> bool:
        """Whether all rows of a table are computed: none are known, or its keys do not show what changed."""
        if query.model.name not in self._known:
            return True
        names = {leaf.relation.name for leaf in query.leaves}
        return (
            not query.rowwise
            and (bool(names & self._built) or not query.key_is_base_key)
            and self._is_touched(query)
        )

    def _reads_calendar(self, query: BoundQuery) -> bool:
        return any(leaf.relation.name == CALENDAR for leaf in query.leaves)

    def _extend_calendar(self, parts: list[Transformation | None], on_calendar: set[str]) -> None:
        years = {*self.years, *self._added_years}
        for part in parts:
            columns = (
                [c for c, target in part.model.references.items() if target in on_calendar] if part else []
            )
            if part and columns:
                found = " UNION ".join(
                    f"SELECT DISTINCT year({quoted}) FROM {part.new}"
                    f" WHERE {engine.name(PROBLEM)} IS NULL AND {quoted} IS NOT NULL AND isfinite({quoted})"
                    for quoted in map(engine.name, columns)
                )
                years.update(int(year) for (year,) in self._engine.execute(found).fetchall())
        covered = covered_years(years)
        added = sorted(set(covered) - set(self.years))
        if added:
            self._engine.execute(
                f"CREATE OR REPLACE TEMP TABLE {changes_table(CALENDAR)} AS {calendar_rows(added)}"
            )
            self._incoming.add(CALENDAR)
            self._made.discard(CALENDAR)
            self.years = covered
