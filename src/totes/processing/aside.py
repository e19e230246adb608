"""A first batch's large tables: the models of one table alone are computed outside of the batch's transaction.

In a transaction the engine frees nothing before its end, neither what it dropped nor what it has read and another
connection drops. So a table's rows are read on a connection of their own, and let go once its models' rows are
computed: memory has to hold each in one of both forms, and what it cannot hold is written to disk and read again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, closing

from totes import engine
from totes.lake.journal import Journal
from totes.lake.manifest import IngestionManifest
from totes.lake.packets import PacketReader
from totes.lake.workspace import Handoff, Workspace
from totes.processing.binding import bind_models
from totes.processing.changes import are_many, check_found, limited, rows_at_hand
from totes.processing.problem import PROBLEMS
from totes.processing.query import BoundQuery
from totes.processing.relation import Relation, Relations, source_relation
from totes.star.model import Model


class Aside:
    """What of a first batch is computed before its transaction reads anything of the workspace's own tables.

    `computed` are the tables with models' new rows, by model; `let_go` the names of relations whose rows are not at hand
    any more, since nothing was wrong with any row that came from them.
    """

    def __init__(
        self,
        workspace: Workspace,
        reader: PacketReader,
        journal: Journal[IngestionManifest],
        manifest: IngestionManifest,
    ) -> None:
        self.computed: dict[str, str] = {}
        self.let_go: set[str] = set()
        self._workspace = workspace
        self._reader = reader
        self._journal = journal
        self._manifest = manifest
        self._read: list[str] = []

    def compute(
        self, queries: list[BoundQuery], naming: Callable[[Model], AbstractContextManager[None]]
    ) -> None:
        """Computes the models that can be computed here; errors of each are met in the context that `naming` gives.

        Raises:
            ReadAnotherWay: as `PacketReader.read` does.
            LakeDamaged: there are not as many rows as there should be.
        """
        readers: dict[str, list[BoundQuery]] = {}
        for query in queries:
            for name in {leaf.relation.name for leaf in query.leaves if leaf.relation.is_source}:
                readers.setdefault(name, []).append(query)
        # Those that came last are the most likely to be in memory still.
        for name in reversed(self._manifest.tables):
            own = readers.get(name, [])
            if own and are_many(self._manifest, name) and all(query.rowwise for query in own):
                with closing(self._workspace.connect()) as connection:
                    self._compute(connection, own[0].base.relation, own, naming)

    def end(self) -> None:
        """Drops what was made for the batch."""
        self._workspace.drop(self.computed.values())
        for name in self._read:
            self._workspace.release(self._manifest.sha256(), name)

    def _compute(
        self,
        connection: engine.Engine,
        relation: Relation,
        queries: list[BoundQuery],
        naming: Callable[[Model], AbstractContextManager[None]],
    ) -> None:
        at_hand = self._reader.handoff(self._manifest.sha256(), relation.name)
        at_hand = at_hand or self._fetch(connection, relation)
        held = relation.holding(at_hand.native)
        rows = rows_at_hand(at_hand, self._manifest, held)
        check_found(connection, self._manifest, held, f"({rows})")
        upserts, bad = f"(SELECT * FROM ({rows}) WHERE _op = 'upsert')", 0
        models = tuple(query.model for query in queries)
        for query in bind_models(models, Relations({held.name: held}, {})):
            table = self.computed[query.model.name] = self._workspace.new_table()
            with naming(query.model):
                connection.execute(f"CREATE TABLE {table} AS {query.sql(lambda _: upserts)}")
            bad += engine.scalar(connection, f"SELECT count({engine.name(PROBLEMS)}) FROM {table}")
        if not bad:
            self._workspace.release(self._manifest.sha256(), relation.name)
            self.let_go.add(relation.name)

    def _fetch(self, connection: engine.Engine, relation: Relation) -> Handoff:
        """Reads the rows from the lake, so that they are at hand."""
        then = source_relation(relation.name, self._manifest.tables[relation.name])
        table = self._workspace.new_table()
        with self._journal.store.local(list(self._manifest.tables[relation.name].objects)) as files:
            self._reader.read(
                then,
                files,
                self._manifest.compression,
                lambda rows: connection.execute(
                    f"CREATE TABLE {table} AS {limited(rows, self._manifest, relation.name)}"
                ),
            )
        at_hand = Handoff(f"SELECT * FROM {table}", (table,))
        self._workspace.add_handoff(self._manifest.sha256(), relation.name, at_hand)
        self._read.append(relation.name)
        return at_hand
