"""Computes one piece of a table's first batch, from packets to Parquet objects: a task that any worker can do.

It takes the steps of a batch for the models over the table, with some of its packets and with nothing known before. What it
leaves are objects under random names; only those in a result that is used get into a manifest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from totes import engine
from totes.lake.document import StoredObject
from totes.lake.journal import ingestion_journal
from totes.lake.manifest import IngestionManifest, ModelChanges
from totes.lake.store import Store
from totes.lake.workspace import Workspace
from totes.processing.bound.query import BoundQuery
from totes.processing.inputs import Inputs, moment
from totes.processing.output import RowWriter
from totes.processing.quarantine import QuarantineChanges
from totes.processing.source_rows import SourceRows
from totes.processing.transform import Transformation
from totes.scratch import temporary_folder


class Part(NamedTuple):
    """What a piece computes for one model.

    `entry` is the table's entry without changes, with the surrogates that are given out before the piece. `missing` has, by
    table, an object with keys that are referred to and that it does not have, as `k`; it has all others.
    """

    query: BoundQuery
    entry: ModelChanges
    missing: dict[str, StoredObject]


class Piece(NamedTuple):
    """Some packets of a table, and models over that table. `manifest` has the table alone, with these packets."""

    manifest: IngestionManifest
    parts: tuple[Part, ...]


class Written(NamedTuple):
    """What a piece has written for a model: the table's entry with these objects and counts alone."""

    manifest: IngestionManifest
    model: str
    entry: ModelChanges


@dataclass(frozen=True)
class Place:
    """Where pieces are computed: the stores that are read and written, and how much memory the engine has (`600MB`)."""

    ingestion: str
    processed: str
    memory: str


class _Task:
    """What runs in the workspace of the batch, and in another process than the one that made it in a workspace of its own."""

    def __init__(self, place: Place, workspace: Workspace | None = None) -> None:
        self._place = place
        self._workspace = workspace

    def __reduce__(self) -> tuple[type[_Task], tuple[Place]]:
        return type(self), (self._place,)

    @contextmanager
    def _opened(self) -> Iterator[tuple[Workspace, Store, Store]]:
        """A workspace, the ingestion lake and the processed lake."""
        place = self._place
        stores = Store.open(place.ingestion, Path()), Store.open(place.processed, Path())
        with (
            nullcontext(self._workspace) if self._workspace else _workspace(place.memory, stores) as workspace
        ):
            yield workspace, *stores


class PieceTask(_Task):
    """Called with a piece, computes and writes it."""

    def __call__(self, piece: Piece) -> list[ModelChanges]:
        """Returns, for each part, the table's entry with the piece's objects and counts alone.

        Raises:
            duckdb.Error: a model fails as a whole, not for some of its rows.
            StoreError: a lake cannot be read or written.
            LakeDamaged: a packet is not the one in the manifest.
        """
        with ExitStack() as opened:
            workspace, ingestion, processed = opened.enter_context(self._opened())
            connection = opened.enter_context(closing(workspace.connect()))
            source_rows = opened.enter_context(closing(SourceRows(workspace, ingestion_journal(ingestion))))
            opened.callback(source_rows.release)
            changes = source_rows.changes(piece.manifest, piece.parts[0].query.base.relation)
            rows = f"(FROM {changes} WHERE _op = 'upsert')"
            computer = _Computer(connection, processed, piece.manifest, rows)
            return [computer.compute(part) for part in piece.parts]


class MoveTask(_Task):
    """Called with what a piece has written, and a number, writes it again with surrogates that are higher by the number."""

    def __call__(self, asked: tuple[Written, int]) -> ModelChanges:
        """Returns the entry.

        Raises:
            StoreError: the lake cannot be read or written.
        """
        written, by = asked
        with self._opened() as (workspace, _, processed), closing(workspace.connect()) as connection:
            return writer_of(written.manifest, connection, processed).move(written.entry, written.model, by)


@contextmanager
def _workspace(memory: str, stores: Iterable[Store]) -> Iterator[Workspace]:
    reads = [folder for store in stores for folder in store.folders]
    with temporary_folder() as folder, Workspace.open(folder, memory, reads=reads) as workspace:
        yield workspace


class _Computer:
    """Computes models over the relation with a piece's rows."""

    def __init__(
        self, connection: engine.Engine, store: Store, manifest: IngestionManifest, rows: str
    ) -> None:
        self._engine = connection
        self._store = store
        self._manifest = manifest
        self._rows = rows

    def compute(self, part: Part) -> ModelChanges:
        """Computes and writes a part."""
        query, manifest = part.query, self._manifest
        read_at = moment(manifest.position.read_at)
        inputs = Inputs(query, None, {}, lambda _: self._rows, None, whole=True, read_at=read_at)
        steps = Transformation(self._engine, inputs)
        steps.compute()
        if part.missing:
            with self._store.local(list(part.missing.values())) as files:
                missing = dict(zip(part.missing, files, strict=True))
                targets = query.model.references.values()
                steps.note_orphans({target: _parents(steps, target, missing) for target in targets})
        steps.merge()
        quarantine = QuarantineChanges(self._engine, steps, manifest.batch)
        return writer_of(manifest, self._engine, self._store).write(steps, quarantine, part.entry)


def writer_of(manifest: IngestionManifest, connection: engine.Engine, store: Store) -> RowWriter:
    """Writes objects of a batch."""
    return RowWriter(connection, store, manifest.batch, manifest.position.read_at)


def _parents(steps: Transformation, target: str, missing: Mapping[str, Path]) -> str:
    """A relation with the keys of another table, as far as the piece's rows refer to them."""
    keys = f"SELECT unnest([{engine.names(steps.model.referring_to(target))}]) AS k FROM {steps.new}"
    without = (
        f" ANTI JOIN {engine.parquet([missing[target]])} AS missing USING (k)" if target in missing else ""
    )
    return f"(SELECT k FROM ({keys}){without})"
