"""How the star goes from one batch to the next while its models may change.

A model that has not changed goes on. One that has changed is rebuilt from the ingestion lake, if it is chosen; until
then the table goes on as it was defined, or is left as it is where that is not known.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from totes.errors import ModelFailed
from totes.lake.journal import Journal, table_entries
from totes.lake.manifest import Failure, IngestionManifest, ModelChanges, ProcessedManifest
from totes.lake.workspace import Workspace
from totes.log import logger
from totes.processing.batch import StarBatch
from totes.processing.bound.binding import bind_or_defer
from totes.processing.bound.query import BoundQuery
from totes.processing.choice import Choice, closed
from totes.processing.definitions import pending_changes, previous_models
from totes.processing.failures import failures_of
from totes.processing.output import RowWriter
from totes.processing.pieces import PieceComputer, PieceRows
from totes.processing.rebuild import Rebuild
from totes.processing.rebuilt_output import HistoryWriter
from totes.processing.state import StarState
from totes.star.change import ModelChange, changes_of, referrers_of
from totes.star.field_ids import numbered, with_field_ids
from totes.star.model import Model
from totes.star.project import Project

_log = logger(stage="process")


class Evolution:
    """The models of a star over the batches of one call; a rebuild goes on from batch to batch until it is committed.

    `failed` are models that could not be computed, whose tables stay as they are.
    """

    def __init__(
        self,
        project: Project,
        state: StarState,
        ingestion: Journal[IngestionManifest],
        processed: Journal[ProcessedManifest],
        workspace: Workspace,
        choose: Choice,
        computer: PieceComputer,
        opened: ExitStack,
    ) -> None:
        self._project = project
        self._state = state
        self._ingestion = ingestion
        self._processed = processed
        self._workspace = workspace
        self._choose = choose
        self._computer = computer
        self._opened = opened
        self._rebuild: Rebuild | None = None
        self._changes: dict[str, ModelChange] = {}
        self._chosen: frozenset[str] = frozenset()
        self._deferred: dict[str, BoundQuery] = {}
        self.failed: dict[str, ModelFailed] = {}

    def leave_out(self, error: ModelFailed) -> None:
        """Leaves the table of a model that failed as it is, in this and the call's other batches.

        Raises:
            ModelFailed: no one model is to blame, or it is left out already.
        """
        if error.model is None or error.model in self.failed:
            raise error
        self.failed[error.model] = error
        _log.warning(f"the table stays as it is: {error}", model=error.model)

    def is_wanted(self) -> bool:
        """Whether there are changes to be made, by what is known of the newest batch; another runner may have made them."""
        pending = pending_changes(self._project, self._processed, self._processed.newest())
        return bool(closed(self._project, pending, self._choose(pending) - self.failed.keys()))

    def prepare(self, manifest: IngestionManifest, previous: ProcessedManifest | None) -> StarBatch:
        """Rebuilds what has changed and is chosen, and reads what the other models need; before the batch's transaction.

        Raises:
            ModelFailed: a model cannot be computed.
        """
        before = previous.models if previous else {}
        known = previous_models(self._project, self._processed, before)
        self._changes = changes_of(self._project, before, known) if previous else {}
        chosen = self._choose(self._changes) - self.failed.keys()
        self._chosen = closed(self._project, self._changes, chosen)
        self._rebuild_chosen(manifest, previous)
        batch = self._star_batch(manifest, previous)
        with failures_of(manifest):
            batch.read()
        return batch

    def _rebuild_chosen(self, manifest: IngestionManifest, previous: ProcessedManifest | None) -> None:
        wanted = self._rebuildable(manifest)
        while wanted:
            rebuild = self._opened_rebuild(wanted, previous)
            rebuild.advance(manifest.batch)
            referrers = self._referrers_after_quarantine(rebuild, previous.models if previous else {})
            missing = referrers - wanted - self.failed.keys()
            if not missing:
                return
            wanted |= missing
        self._close_rebuild()

    def _star_batch(self, manifest: IngestionManifest, previous: ProcessedManifest | None) -> StarBatch:
        """The batch of the models that are not rebuilt, each by its definition that is in force."""
        before = previous.models if previous else {}
        waiting = {name for name in self._changes if name not in self._chosen or name in self._deferred}
        models = {
            model.name: self._previous_definition(model.name, before) if model.name in waiting else model
            for model in self._project.models
            if model.name not in (*self._rebuilt, *self.failed)
        }
        return StarBatch(
            replace(self._project, models=tuple(model for model in models.values() if model)),
            self._state,
            self._ingestion,
            manifest,
            before.keys() - (self._chosen - self._rebuilt),
            previous.calendar_years if previous else (),
            self._computer,
            lambda query: self._unchanged(query, _with_field_ids(before), manifest.batch),
            {model.name: model for model in self._project.models if model.name in self._rebuilt},
            self._rebuild.years if self._rebuild else (),
        )

    @property
    def _rebuilt(self) -> frozenset[str]:
        return self._rebuild.models if self._rebuild else frozenset()

    def compute(
        self, batch: StarBatch, manifest: IngestionManifest, previous: ProcessedManifest | None
    ) -> dict[str, ModelChanges]:
        """The entries of all tables for the batch's manifest; the objects are stored.

        Raises:
            ModelFailed: a model cannot be computed.
        """
        with failures_of(manifest):
            return self._compute(batch, manifest, _with_field_ids(previous.models if previous else {}))

    def _compute(
        self, batch: StarBatch, manifest: IngestionManifest, before: dict[str, ModelChanges]
    ) -> dict[str, ModelChanges]:
        models = {model.name: model for model in self._project.models}
        entries = {}
        for name in (name for name in models if name in self._rebuilt):
            entries[name] = self._write_rebuilt(manifest, before, name)
            self._state.apply_model(name, entries[name], entries[name].columns, rebuilt=True)
        for name in self._chosen - self._rebuilt:
            if name in before and self._changes[name].kind not in ("query", "new"):
                self._state.forget_star(name)
        writer = RowWriter(
            self._state.engine, self._processed.store, manifest.batch, manifest.position.read_at
        )
        for query in batch.queries:
            entries[query.model.name] = self._unchanged(query, before, manifest.batch)
        for query in batch.deferred:
            entry = self._unchanged(query, before, manifest.batch)
            entries[query.model.name] = entry.without_changes(query_sha256="")
        for part, quarantine in batch.parts():
            name = part.model.name
            if isinstance(part, PieceRows):
                entry = part.entry()
            else:
                assert quarantine is not None
                entry = writer.write(part, quarantine, entries[name])
            in_quarantine = {
                "quarantine_open": self._state.quarantined(name),
                "quarantine_kinds": self._state.kinds_quarantined(name),
            }
            entries[name] = entry.model_copy(update=in_quarantine)
        for name in before.keys() - entries.keys() - self._chosen:
            stays = before[name].without_changes(query_sha256="")
            entries[name] = stays if name in models else _removed(stays)
        order = [
            *(name for name in models if name in entries),
            *(name for name in entries if name not in models),
        ]
        return {name: entries[name] for name in order}

    def failures(self) -> dict[str, Failure]:
        """The models that could not be computed, for the batch's manifest."""
        content = self._project.reference_content()
        return {
            model.name: Failure(reason=str(self.failed[model.name]), sha256=model.sha256(content))
            for model in self._project.models
            if model.name in self.failed
        }

    def _unchanged(self, query: BoundQuery, before: Mapping[str, ModelChanges], batch: int) -> ModelChanges:
        """A table's entry, without changes: that of the batch before, unless it begins here."""
        name = query.model.name
        change = self._changes.get(name)
        if name in before and (change is None or name not in self._chosen or change.kind == "query"):
            updates = {}
            if change and name in self._chosen:
                updates = {"query_sha256": query.model.query_sha256(self._project.reference_content())}
            return before[name].without_changes(**updates)
        return self._beginning(query, before.get(name), batch)

    def _beginning(self, query: BoundQuery, before: ModelChanges | None, batch: int) -> ModelChanges:
        """The entry of a table that begins, or is rebuilt, without its rows."""
        model, change = query.model, self._changes.get(query.model.name)
        renamed = change.renamed if change and before else {}
        entry = ModelChanges(
            kind="versioned" if model.versioned else "latest",
            table_sha256=model.table_sha256(),
            query_sha256=model.query_sha256(self._project.reference_content()),
            columns=model.output,
            key=query.key,
            surrogate=model.surrogate,
            soft_deletes=model.soft_deletes,
            since=batch,
            renamed=renamed,
            definition=model.definition,
            surrogates=before.surrogates if before else 0,
            quarantine_open=before.quarantine_open if before else 0,
            quarantine_kinds=before.quarantine_kinds if before else (),
        )
        return numbered(entry, before, renamed)

    def _write_rebuilt(
        self, manifest: IngestionManifest, before: Mapping[str, ModelChanges], name: str
    ) -> ModelChanges:
        assert self._rebuild is not None
        writer = HistoryWriter(
            self._rebuild.engine, self._processed.store, manifest.batch, manifest.position.read_at
        )
        entry = self._beginning(self._rebuild.query(name), before.get(name), manifest.batch)
        return writer.write_history(self._rebuild, name, entry, self._earlier(name, before), self._state)

    def _earlier(self, name: str, before: Mapping[str, ModelChanges]) -> list[ModelChanges]:
        """A table's entries since it last began, oldest first."""
        if name not in before:
            return []
        return [entry for _, entry in table_entries(self._processed, name, self._processed.last())]

    def _previous_definition(self, name: str, before: Mapping[str, ModelChanges]) -> Model | None:
        """A table's model as it was, if it is known and the table's rows are by that model."""
        model = previous_models(self._project, self._processed, before)(name)
        if model is None:
            return None
        same = model.query_sha256(self._project.reference_content()) == before[name].query_sha256
        return model if same and model.table_sha256() == before[name].table_sha256 else None

    def _rebuildable(self, manifest: IngestionManifest) -> frozenset[str]:
        """The chosen models whose rows come from source tables; a calendar or a list has no history that could be read."""
        chosen = tuple(model for model in self._project.models if model.name in self._chosen)
        if not chosen:
            return frozenset()
        bound, deferred = bind_or_defer(
            replace(self._project, models=chosen), manifest, self._ingestion.newest()
        )
        self._deferred = {query.model.name: query for query in deferred}
        found = {query.model.name for query in bound if query.base.relation.is_source}
        for name in {query.model.name for query in bound}:
            found.update(self._changes[name].referrers)
        return frozenset(found - self.failed.keys())

    def _opened_rebuild(self, wanted: frozenset[str], previous: ProcessedManifest | None) -> Rebuild:
        if self._rebuild is None or self._rebuild.models != wanted:
            self._close_rebuild()
            years = previous.calendar_years if previous else ()
            # No manifest will name the objects of these entries.
            beginning = partial(self._beginning, before=None, batch=0)
            self._rebuild = self._opened.enter_context(
                Rebuild.open(
                    self._project, wanted, self._ingestion, self._processed, self._workspace, years,
                    self._computer, beginning,
                )
            )  # fmt: skip
        return self._rebuild

    def _close_rebuild(self) -> None:
        if self._rebuild is not None:
            self._rebuild = None
            self._opened.close()

    def _referrers_after_quarantine(
        self, rebuild: Rebuild, before: Mapping[str, ModelChanges]
    ) -> frozenset[str]:
        """The tables that refer to a rebuilt one of which rows are or were in quarantine: what was an orphan may not be one."""
        changed = {name for name in rebuild.models & before.keys() if before[name].kind == "latest"}
        was_bad = {
            name
            for name in changed
            if before[name].quarantine_open or any(entry.quarantined for entry in self._earlier(name, before))
        }
        found: set[str] = set()
        for name in was_bad | (changed & rebuild.bad):
            found.update(referrers_of(self._project, name))
        return frozenset(found)


def _with_field_ids(entries: Mapping[str, ModelChanges]) -> dict[str, ModelChanges]:
    return {name: with_field_ids(entry) for name, entry in entries.items()}


def _removed(entry: ModelChanges) -> ModelChanges:
    """The entry of a table whose model is not there any more."""
    return entry.model_copy(update={"quarantine_open": 0, "quarantine_kinds": ()})
