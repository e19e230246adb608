"""One batch of the star: all models over one ingestion batch, in the order in which they depend on one another."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from totes import engine
from totes.errors import ModelFailed
from totes.failpoint import reach
from totes.lake.journal import Journal
from totes.lake.manifest import IngestionManifest, ModelChanges, ProcessedManifest
from totes.lake.store import Store
from totes.processing.aside import Aside
from totes.processing.binding import bind_or_defer
from totes.processing.calendar import calendar_rows, covered_years
from totes.processing.changes import add_changes, changes_table, load_changes, load_rows
from totes.processing.output import RowWriter
from totes.processing.quarantine import QuarantineChanges
from totes.processing.query import PROBLEM, BoundQuery
from totes.processing.relation import Relation
from totes.processing.scope import Leaf
from totes.processing.state import StarState, source_table
from totes.processing.transform import Transformation
from totes.star.model import Model
from totes.star.project import CALENDAR, Project, Reference
from totes.star.relaxation import relaxes, retyped


def load_reference(connection: engine.Engine, reference: Reference, table: str) -> None:
    """Makes a temporary table of a reference file's rows, as the file was when the project was loaded."""
    columns = ", ".join(f"{engine.text(column)}: 'VARCHAR'" for column in reference.columns)
    with tempfile.NamedTemporaryFile(prefix="totes-", suffix=".csv") as file:
        file.write(reference.content.removeprefix(b"\xef\xbb\xbf"))
        file.flush()
        try:
            connection.execute(
                f"CREATE OR REPLACE TEMP TABLE {table} AS SELECT * FROM read_csv({engine.text(file.name)}, header = true,"
                f" auto_detect = false, columns = {{{columns}}}, delim = ',', quote = '\"', escape = '\"')"
            )
        except duckdb.Error as error:
            message = str(error).partition("\n")[0].replace(file.name, reference.path.name)
            raise ModelFailed(
                f"{reference.path} cannot be read: {message}",
                hint="Every line needs as many fields as the first, separated by commas, quoted by double quotes",
            ) from error


class StarBatch:
    """The computation of one processed batch; `run` leaves its objects in the store and its rows in the state."""

    def __init__(
        self,
        project: Project,
        state: StarState,
        journal: Journal[IngestionManifest],
        store: Store,
        manifest: IngestionManifest,
        previous: ProcessedManifest | None,
    ) -> None:
        self._project = project
        self._state = state
        self._engine = state.engine
        self._journal = journal
        self._manifest = manifest
        self._previous = previous
        self._writer = RowWriter(state.engine, store, manifest.batch, manifest.position.read_at)
        self._incoming: set[str] = set()
        self._kept: set[str] = set()
        self._built: set[str] = set()
        self._made: set[str] = set()
        self._aside = Aside(state.workspace, state.reader, journal, manifest)
        self.years: tuple[int, ...] = previous.calendar_years if previous else ()

    def run(self) -> dict[str, ModelChanges]:
        """Computes all models, and gives what changed in each warehouse table.

        Raises:
            ModelFailed: a model does not fit the tables as they were read, or is not the one of earlier batches.
        """
        queries, deferred = bind_or_defer(self._project, self._manifest, self._journal.newest())
        for query in (*queries, *deferred):
            self._check_declaration(query.model)
        try:
            if self._previous is None:
                self._aside.compute(queries, self._naming)
            return self._run(queries, deferred)
        finally:
            self._aside.end()

    def _run(self, queries: list[BoundQuery], deferred: list[BoundQuery]) -> dict[str, ModelChanges]:
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
        models = {model.name: model for model in self._project.models}
        changes = {
            query.model.name: self._unchanged(query).model_copy(update={"query_sha256": ""})
            for query in deferred
        }
        for query in queries:
            part = parts[query.model.name]
            if part is None:
                changes[query.model.name] = self._unchanged(query)
                continue
            part.note_orphans(models)
            part.merge(self._manifest.position.read_at)
            changes[query.model.name] = self._write(part)
            part.end()
        return changes | self._former()

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
        """Takes rows in quarantine for changed again: what a row refers to, or is joined with, may have come by now."""
        for query in queries:
            base = query.base.relation
            if not base.is_source or not base.key or not self._state.quarantined(query.model.name):
                continue
            if base.name not in self._incoming:
                load_changes(self._state.reader, self._journal, self._manifest, base)
                self._incoming.add(base.name)
            add_changes(self._state.reader, base, self._state.set_aside(query.model.name, base))

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
            message = str(error).partition("\n")[0]
            raise ModelFailed(
                f"{model.path.parent.name}/{model.path.name}: batch {self._manifest.batch} cannot be processed: {message}",
                hint="Mend the query; no batch is passed over meanwhile",
            ) from error

    def _transformation(self, query: BoundQuery, *, whole: bool) -> Transformation:
        computed = self._aside.computed.get(query.model.name)
        return Transformation(
            self._state, query, frozenset(self._incoming), self._rows, whole=whole, computed=computed
        )

    def _is_touched(self, query: BoundQuery) -> bool:
        return any(leaf.relation.name in self._incoming for leaf in query.leaves)

    def _recomputed_wholly(self, query: BoundQuery) -> bool:
        """Whether all rows of a table are computed: it is new, its query is, or its keys do not tell what changed."""
        model = query.model
        before = self._previous.models.get(model.name) if self._previous else None
        if before is None:
            return True
        if retyped(model, before) or before.query_sha256 != model.query_sha256(
            self._project.reference_content()
        ):
            return True
        names = {leaf.relation.name for leaf in query.leaves}
        return (
            not query.rowwise
            and (bool(names & self._built) or not query.key_is_base_key)
            and self._is_touched(query)
        )

    def _check_declaration(self, model: Model) -> None:
        """Makes sure that the model's table holds all rows that it held at the batch before."""
        before = self._previous.models.get(model.name) if self._previous else None
        if before and before.table_sha256 != model.table_sha256() and not relaxes(model, before):
            raise ModelFailed(
                f"{model.path.parent.name}/{model.path.name}: the columns of {model.name} are not those of earlier batches",
                hint="Set lake.processed and warehouse.url to new places: all history is computed again from the "
                "ingestion lake. Or declare the columns as they were, or so that they hold all that they held",
            )

    def _reads_calendar(self, query: BoundQuery) -> bool:
        return any(leaf.relation.name == CALENDAR for leaf in query.leaves)

    def _extend_calendar(self, parts: list[Transformation | None], on_calendar: set[str]) -> None:
        years = set(self.years)
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

    def _write(self, part: Transformation) -> ModelChanges:
        model, before = part.model, self._unchanged(part.query)
        base = part.query.base.relation
        if part.count.bad and base.name in self._aside.let_go:
            # A row refers to one that is not there: its source row is to be shown.
            load_changes(self._state.reader, self._journal, self._manifest, base)
            self._aside.let_go.discard(base.name)
        set_aside = QuarantineChanges(self._state, part, self._manifest.batch)
        objects, removed = self._writer.write_rows(part, before.surrogates), self._writer.write_removed(part)
        state, quarantine = (
            self._writer.write_state(part),
            self._writer.write_quarantine(model.name, set_aside),
        )
        self._state.apply_rows(model.name, part.query.key, part.merged_rows, versioned=model.versioned)
        if set_aside.rows:
            self._state.apply_quarantine(set_aside.table)
        reach("process.model")
        written = sum(entry.rows for entry in objects)
        return before.model_copy(
            update={
                "written": written,
                "objects": objects,
                "removed": removed,
                "state": state,
                "deleted": part.count.gone,
                "quarantine": quarantine,
                "quarantined": set_aside.added,
                "surrogates": before.surrogates + (written if model.versioned else 0),
                "quarantine_open": self._state.quarantined(model.name),
                "quarantine_kinds": self._state.kinds_quarantined(model.name),
                "released": set_aside.released,
            }
        )

    def _former(self) -> dict[str, ModelChanges]:
        """What is known of tables whose models are no longer there; if one returns, its table is computed wholly."""
        nothing = {
            "written": 0,
            "deleted": 0,
            "quarantined": 0,
            "quarantine_open": 0,
            "quarantine_kinds": (),
            "released": 0,
            "query_sha256": "",
            "objects": (),
            "removed": (),
            "state": (),
            "quarantine": (),
        }
        before = self._previous.models if self._previous else {}
        gone = before.keys() - {model.name for model in self._project.models}
        return {name: before[name].model_copy(update=nothing) for name in sorted(gone)}

    def _unchanged(self, query: BoundQuery) -> ModelChanges:
        model = query.model
        before = self._previous.models.get(model.name) if self._previous else None
        return ModelChanges(
            kind="versioned" if model.versioned else "latest",
            table_sha256=model.table_sha256(),
            query_sha256=model.query_sha256(self._project.reference_content()),
            columns=model.output,
            key=query.key,
            surrogate=model.surrogate,
            surrogates=before.surrogates if before else 0,
            quarantine_open=before.quarantine_open if before else 0,
            quarantine_kinds=before.quarantine_kinds if before else (),
        )
