"""The rows of source tables, as relations: what a batch changed, or all that a table had at a batch."""

from __future__ import annotations

from totes import engine
from totes.errors import LakeDamaged
from totes.lake.journal import Journal
from totes.lake.manifest import IngestionManifest
from totes.lake.packets import SEQ, TURN, TURN_OF_LSN, PacketReader
from totes.lake.workspace import Workspace
from totes.processing.bound.relation import Relation, RelationColumn, source_relation

_BATCH = engine.name("~batch")
# Of a batch from the log: when a row's transaction was committed; TURN is the transaction's place in the log.
READ = engine.name("~read")


class SourceRows:
    """Rows out of the ingestion lake's packets, or out of what ingestion handed off of them.

    Packets are read on a connection of its own, into tables of the workspace. A transaction that has used the workspace
    does not see tables that are read later, so all that it needs is read before it begins.
    """

    def __init__(self, workspace: Workspace, journal: Journal[IngestionManifest]) -> None:
        self._workspace = workspace
        self._journal = journal
        self._reader = PacketReader(workspace.connect())
        self._tables: list[str] = []
        self._changes: dict[tuple[str, Relation], str] = {}

    def changes(self, manifest: IngestionManifest, relation: Relation) -> str:
        """A relation with a batch's changes of a table: its columns, `_op` and `_at`; until release they are read once.

        Those of a batch from the log have `READ` and `TURN` too, and one change of a row for each transaction that changed it.

        Raises:
            LakeDamaged: there are not as many changes as in the manifest.
        """
        asked = manifest.sha256(), relation
        if asked not in self._changes:
            self._changes[asked] = self._read_changes(manifest, relation)
        return self._changes[asked]

    def present(self, batch: int, relation: Relation) -> str:
        """A relation with the rows that a table had at a batch: its columns and `_at`.

        Costs as much as all changes of the table up to there.
        """
        changing = self._changing(batch, relation.name)
        if len(changing) == 1 and changing[0].position.log_lsn is None:
            rows = self.changes(changing[0], relation)
        else:
            newest = f"ORDER BY {_BATCH} DESC, {TURN} DESC, {SEQ} DESC, _op = 'upsert' DESC"
            only = f"QUALIFY row_number() OVER (PARTITION BY {engine.names(relation.key)} {newest}) = 1"
            rows = f"(FROM {self._read(changing, relation)} {only})"
        columns = engine.names([*(column.name for column in relation.columns), "_at"])
        return f"(SELECT {columns} FROM {rows} WHERE _op = 'upsert')"

    def are_in_packets(self, manifest: IngestionManifest, table: str) -> bool:
        """Whether all rows that a table has had up to a batch are in packets of that batch, and were not handed off."""
        if self._workspace.handoff(manifest.sha256(), table) or not _count(manifest, table):
            return False
        return [one.batch for one in self._changing(manifest.batch, table)] == [manifest.batch]

    def _changing(self, batch: int, table: str) -> list[IngestionManifest]:
        """The batches up to one that changed a table, newest first."""
        found = self._journal.newest_first(batch, [table])
        return [manifest for manifest in found if _count(manifest, table)]

    def release(self) -> None:
        """Drops the tables that were read; relations over them can no longer be used."""
        self._workspace.drop(self._tables)
        self._tables, self._changes = [], {}

    def close(self) -> None:
        """Closes the connection."""
        self._reader.engine.close()

    def _read_changes(self, manifest: IngestionManifest, relation: Relation) -> str:
        from_log = manifest.position.log_lsn is not None
        rows = self._handoff(manifest, relation) or self._read([manifest], relation)
        expected = _count(manifest, relation.name)
        found = engine.scalar(self._reader.engine, f"SELECT count(_op) FROM {rows}")
        if found != expected:
            raise LakeDamaged(
                f"batch {manifest.batch} has {expected} changes of {relation.name}, but {found} were read"
            )
        return self._by_transaction(manifest, relation, rows) if from_log else rows

    def _by_transaction(self, manifest: IngestionManifest, relation: Relation, rows: str) -> str:
        """A table with the last change of each row in each transaction, at the source's own time where that is known."""
        own = manifest.tables[relation.name].changed_at
        at = f"coalesce({own_time(relation, own)}, _at)" if own else "_at"
        columns = engine.names(column.name for column in relation.columns)
        table = self._workspace.new_table()
        last = (
            f"row_number() OVER (PARTITION BY {engine.names(relation.key)}, {TURN} ORDER BY {SEQ} DESC) = 1"
        )
        self._reader.engine.execute(
            f"CREATE TABLE {table} AS SELECT {columns}, _op, {at} AS _at, _at AS {READ}, {TURN} FROM {rows} QUALIFY {last}"
        )
        self._tables.append(table)
        return table

    def _handoff(self, manifest: IngestionManifest, relation: Relation) -> str | None:
        handoff = self._workspace.handoff(manifest.sha256(), relation.name)
        if handoff is None:
            return None
        then = source_relation(relation.name, manifest.tables[relation.name])
        return f"(SELECT {_columns(relation, then, handoff.native)}, {TURN}, {SEQ} FROM ({handoff.query}))"

    def _read(self, manifests: list[IngestionManifest], relation: Relation) -> str:
        """A table with the changes of several batches, and the number of each change's batch."""
        table = self._workspace.new_table()
        columns = ", ".join(f"{engine.name(column.name)} {column.raw_type}" for column in relation.columns)
        self._reader.engine.execute(
            f"CREATE TABLE {table} ({columns}, _op VARCHAR, _at TIMESTAMP, {TURN} BIGINT, {SEQ} BIGINT, {_BATCH} BIGINT)"
        )
        self._tables.append(table)
        for manifest in manifests:
            rows = self._handoff(manifest, relation)
            if rows:
                self._reader.engine.execute(f"INSERT INTO {table} SELECT *, {manifest.batch} FROM {rows}")
            else:
                self._read_packets(manifest, relation, table)
        return table

    def _read_packets(self, manifest: IngestionManifest, relation: Relation, table: str) -> None:
        entry = manifest.tables[relation.name]
        then = source_relation(relation.name, entry)
        # More rows than the manifest has are not read to the end.
        insert = (
            f"INSERT INTO {table} SELECT {_columns(relation, then)}, {TURN_OF_LSN}, {SEQ}, {manifest.batch}"
        )
        limit = f"LIMIT {_count(manifest, relation.name) + 1}"
        with self._journal.store.local(list(entry.objects)) as files:
            self._reader.read(
                then,
                files,
                manifest.compression,
                lambda rows: self._reader.engine.execute(f"{insert} FROM (FROM ({rows}) {limit})"),
            )


def own_time(relation: Relation, column: str) -> str:
    """The SQL of a row's own time of its change; NULL where there is none, or one that is no moment."""
    if column not in {one.name for one in relation.columns}:
        return "NULL"
    value, found = engine.name(column), f"TRY_CAST({engine.name(column)} AS TIMESTAMP)"
    plain = f"substr({value}, 5, 1) = '-' AND NOT contains({value}, 'B')"
    return f"CASE WHEN {plain} THEN {found} END"


def _count(manifest: IngestionManifest, table: str) -> int:
    entry = manifest.tables.get(table)
    return sum(stored.rows for stored in entry.objects) if entry else 0


def _columns(relation: Relation, then: Relation, native: frozenset[str] = frozenset()) -> str:
    """The columns of a relation, in raw form, out of what it was in a batch, with `_op` and `_at`.

    Packets have the columns that the table had then, under the names that they had; a value that does not fit the column's
    present type is NULL. Where the name was another table's, its columns are matched by name. Columns of the names `native`
    are typed.
    """
    numbered = then.number == relation.number
    previous = {column.number if numbered else column.name: column for column in then.columns}
    values = [
        f"{_cast(column, previous.get(column.number if numbered else column.name), native)} AS {engine.name(column.name)}"
        for column in relation.columns
    ]
    return ", ".join([*values, "_op", "_at"])


def _cast(column: RelationColumn, previous: RelationColumn | None, native: frozenset[str]) -> str:
    if previous is None:
        return f"NULL::{column.raw_type}"
    value = engine.name(previous.name)
    type_then = previous.typed if previous.name in native else previous.raw_type
    return value if type_then == column.raw_type else f"TRY_CAST({value} AS {column.raw_type})"
