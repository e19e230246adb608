"""Has workers compute the models of large tables in a first batch, in pieces, and collects what they have written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from itertools import accumulate, chain, islice
from typing import TypeVar

from totes import engine
from totes.lake.document import StoredObject
from totes.lake.manifest import IngestionManifest, ModelChanges
from totes.lake.store import Store
from totes.lake.workspace import Workspace
from totes.processing.bound.problem import PROBLEM
from totes.processing.bound.query import BoundQuery
from totes.processing.inputs import none_known
from totes.processing.integrity import orphan_keys
from totes.processing.piece import MoveTask, Part, Piece, PieceTask, Place, Written, writer_of
from totes.processing.state import StarState, star_table
from totes.processing.transform import Count
from totes.processing.versions import CHANGED, NEWEST
from totes.star.model import Model
from totes.workers.protocol import Workers

A = TypeVar("A")
R = TypeVar("R")
PIECE_ROWS_MIN = 500_000  # so that a piece takes far longer than to give it to a worker
_AT_ONCE = 256


class PieceComputer:
    """Computes models in pieces, with workers, in a workspace of a lake's two stores."""

    def __init__(self, workers: Workers, workspace: Workspace, ingestion: Store, processed: Store) -> None:
        self._workers = workers
        self._place = Place(ingestion.url, processed.url, workspace.memory)
        self._workspace = workspace
        self._store = processed

    def compute(self, pieces: Sequence[Piece]) -> list[list[ModelChanges]]:
        """What the task returns for each piece, in their order."""
        return self._map(PieceTask(self._place, self._workspace), pieces)

    def move(self, moved: Sequence[tuple[Written, int]]) -> list[ModelChanges]:
        """The entries of pieces with higher surrogates: see `MoveTask`."""
        return self._map(MoveTask(self._place, self._workspace), moved)

    def _map(self, task: Callable[[A], R], arguments: Sequence[A]) -> list[R]:
        with closing(self._workers.map(task, arguments, min(len(arguments), _AT_ONCE) or 1)) as results:
            return list(results)

    def store_keys(
        self, connection: engine.Engine, keys: str, manifest: IngestionManifest, model: str
    ) -> StoredObject | None:
        """Writes the keys that a query gives, for pieces of a model to read; returns None if there are none."""
        table = engine.create_temporary(connection, "keys", model, keys)
        count = int(engine.scalar(connection, f"SELECT count(*) FROM {table}"))
        writer = writer_of(manifest, connection, self._store)
        return writer.write_keys(f"FROM {table}", count, model) if count else None


class DividedTable:
    """A table of a first batch, with the batch's manifest for each of its pieces; its models are computed together."""

    def __init__(
        self, computer: PieceComputer, queries: Sequence[BoundQuery], manifests: Sequence[IngestionManifest]
    ) -> None:
        self._computer = computer
        self._queries = queries
        self._manifests = manifests
        self._parts: dict[str, list[Part]] = {}  # by model, for each piece
        self._results: dict[str, Sequence[ModelChanges]] = {}

    def rows(
        self, query: BoundQuery, state: StarState, beginning: Callable[[BoundQuery], ModelChanges]
    ) -> PieceRows:
        """The rows of one of the models.

        Args:
            query: the model.
            state: in which nothing is known of its table.
            beginning: gives a table's entry without changes.
        """
        if not self._results:
            names = [one.model.name for one in self._queries]
            parts = [self._parts_of(one, beginning(one)) for one in self._queries]
            self._parts = dict(zip(names, parts, strict=True))
            pieces = map(Piece, self._manifests, zip(*parts, strict=True))
            results = zip(*self._computer.compute(list(pieces)), strict=True)
            self._results = dict(zip(names, results, strict=True))
        name = query.model.name
        return PieceRows(self._computer, state, self._manifests, self._parts[name], self._results[name])

    def _parts_of(self, query: BoundQuery, entry: ModelChanges) -> list[Part]:
        # As if each row gave a version, which is so most of the time.
        rows = (manifest.tables[query.base.relation.name].upserts for manifest in self._manifests)
        numbers = islice(accumulate(rows, initial=entry.surrogates), len(self._manifests))
        return [Part(query, entry.model_copy(update={"surrogates": number}), {}) for number in numbers]


class PieceRows:
    """A model's rows in a first batch, computed in pieces; it stands where a Transformation does.

    The state has the rows already: nothing is known with which they would have to be merged.
    """

    written = "true"

    def __init__(
        self,
        computer: PieceComputer,
        state: StarState,
        manifests: Sequence[IngestionManifest],
        parts: Sequence[Part],
        results: Sequence[ModelChanges],
    ) -> None:
        self.query = parts[0].query
        self.model: Model = self.query.model
        self._computer = computer
        self._state = state
        self._manifests = manifests
        self._parts = parts
        self._begin(results)

    def _begin(self, results: Iterable[ModelChanges]) -> None:
        self._entries = list(results)
        self._state.begin_star(self.model.name, self._sum, none_known(self.query))

    def note_orphans(self, parents: Mapping[str, str]) -> None:
        """Computes the rows again if some of them refer to rows that another table does not have.

        Args:
            parents: by table, a relation with the keys that it has, as `k`.
        """
        found = {
            target: self._computer.store_keys(
                self._state.engine,
                orphan_keys(self.model.referring_to(target), parents[target], self.new),
                self._manifests[0],
                self.model.name,
            )
            for target in dict.fromkeys(self.model.references.values())
        }
        if missing := {target: stored for target, stored in found.items() if stored}:
            self._parts = [part._replace(missing=missing) for part in self._parts]
            pieces = [Piece(one, (part,)) for one, part in zip(self._manifests, self._parts, strict=True)]
            self._state.forget_star(self.model.name)
            self._begin(result for [result] in self._computer.compute(pieces))

    def entry(self) -> ModelChanges:
        """The table's entry, in which versions are numbered without a gap: by now it is known how many each piece has.

        It has what entered quarantine, but not what is in it.
        """
        if self.model.versioned:
            numbers = accumulate((one.written for one in self._entries), initial=self._first.surrogates)
            moved = {
                which: number - part.entry.surrogates
                for which, (part, number) in enumerate(zip(self._parts, numbers, strict=False))
                if number != part.entry.surrogates and self._entries[which].objects
            }
            asked = [
                (Written(self._manifests[which], self.model.name, self._entries[which]), by)
                for which, by in moved.items()
            ]
            for which, entry in zip(moved, self._computer.move(asked), strict=True):
                self._entries[which] = entry
        return self._sum

    @property
    def count(self) -> Count:
        """How many versions there are."""
        found = self._sum
        return Count(found.written, found.written, 0, found.quarantined)

    @property
    def new(self) -> str:
        """The relation with the computed rows that have no problem."""
        return f"(SELECT *, NULL::VARCHAR AS {engine.name(PROBLEM)} FROM {star_table(self.model.name)})"

    @property
    def merged(self) -> str:
        """The relation with the versions."""
        return f"(SELECT *, true AS {CHANGED}, true AS {NEWEST} FROM {star_table(self.model.name)})"

    @property
    def _first(self) -> ModelChanges:
        """The table's entry without changes."""
        return self._parts[0].entry

    @property
    def _sum(self) -> ModelChanges:
        entries = self._entries
        sums = {name: sum(getattr(one, name) for one in entries) for name in ("written", "quarantined")}
        listed = {
            name: tuple(chain.from_iterable(getattr(one, name) for one in entries))
            for name in ("objects", "state", "quarantine")
        }
        given = sums["written"] if self.model.versioned else 0
        return self._first.model_copy(update=sums | listed | {"surrogates": self._first.surrogates + given})


def divided(
    computer: PieceComputer, queries: Sequence[BoundQuery], manifest: IngestionManifest, table: str
) -> DividedTable | None:
    """A table of a batch with the models over it; None if they cannot be computed in pieces, or there is one piece only."""
    manifests = _in_pieces(manifest, table) if all(map(_is_divisible, queries)) else []
    return DividedTable(computer, queries, manifests) if len(manifests) > 1 else None


def _is_divisible(query: BoundQuery) -> bool:
    """Whether a model's rows can be computed in pieces: each comes from one source row, and has a key of its own as that has."""
    own_key = query.rowwise and not query.key_is_read_from_text
    return own_key and query.model.name not in query.model.references.values()


def _in_pieces(manifest: IngestionManifest, table: str) -> list[IngestionManifest]:
    """The manifest of a batch for each piece of a table: with that table alone, and the piece's packets."""
    entry = manifest.tables[table]
    pieces: list[list[StoredObject]] = []
    rows = PIECE_ROWS_MIN
    for stored in entry.objects:
        if rows >= PIECE_ROWS_MIN:
            pieces.append([])
            rows = 0
        pieces[-1].append(stored)
        rows += stored.rows
    entries = [
        entry.model_copy(update={"objects": tuple(piece), "upserts": sum(one.rows for one in piece)})
        for piece in pieces
    ]
    return [manifest.model_copy(update={"tables": {table: one}}) for one in entries]
