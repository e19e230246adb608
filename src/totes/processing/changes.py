"""The ingestion lake as the engine reads it: a batch's changes of one table, or the rows that a table had at a batch."""

from __future__ import annotations

from totes import engine
from totes.errors import LakeDamaged
from totes.lake.journal import Journal
from totes.lake.manifest import IngestionManifest
from totes.processing.packets import PacketReader
from totes.processing.relation import Relation, RelationColumn, source_relation


def changes_table(relation: str) -> str:
    """The quoted name of the temporary table with a batch's changes of a relation."""
    return engine.name(engine.case_safe("changes", relation))


def load_changes(
    reader: PacketReader,
    journal: Journal[IngestionManifest],
    manifest: IngestionManifest,
    relation: Relation,
) -> int:
    """Reads a batch's changes of a table into its temporary table: raw columns, `_op` and `_at`; gives their number."""
    target = changes_table(relation.name)
    reader.engine.execute(f"CREATE OR REPLACE TEMP TABLE {target} AS {_empty_rows(relation)}")
    _append(reader, journal, manifest, relation, target)
    expected = sum(entry.rows for entry in manifest.tables[relation.name].objects)
    found = int(engine.scalar(reader.engine, f"SELECT count(_op) FROM {target}"))
    if found != expected:
        raise LakeDamaged(
            f"batch {manifest.batch} has {expected} changes of {relation.name}, but {found} were read"
        )
    return found


def load_rows(
    reader: PacketReader,
    journal: Journal[IngestionManifest],
    relation: Relation,
    batch: int,
    target: str,
) -> None:
    """Reads the rows that a table had at a batch out of all its changes up to there, into a temporary table.

    Costs as much as all changes of the table ever made: for models that are new or whose query has changed.
    """
    reader.engine.execute(f"CREATE OR REPLACE TEMP TABLE {target} AS {_empty_rows(relation)}")
    for number in range(1, batch + 1):
        manifest = journal.read(number)
        if relation.name in manifest.tables:
            _append(reader, journal, manifest, relation, target)
    reader.engine.execute(
        f"CREATE OR REPLACE TEMP TABLE {target} AS SELECT * FROM {target} QUALIFY row_number() OVER ("
        f"PARTITION BY {engine.names(relation.key)} ORDER BY \"~batch\" DESC, _op = 'upsert' DESC) = 1"
    )
    reader.engine.execute(f"DELETE FROM {target} WHERE _op = 'delete'")


def _append(
    reader: PacketReader,
    journal: Journal[IngestionManifest],
    manifest: IngestionManifest,
    relation: Relation,
    target: str,
) -> None:
    objects = manifest.tables[relation.name].objects
    if not objects:
        return
    # The packets are read with the columns that the table had then, under the names that they had, and the values kept
    # as far as they fit today's. Of another table that had this name, columns can be told by their names only.
    then = source_relation(relation.name, manifest.tables[relation.name])
    numbered = then.number == relation.number
    former = {column.number if numbered else column.name: column for column in then.columns}
    columns = ", ".join(
        [
            f"{_fitted(column, former.get(column.number if numbered else column.name))} AS {engine.name(column.name)}"
            for column in relation.columns
        ]
        + ["_op", "_at"]
    )
    insert = f"INSERT INTO {target} SELECT {columns}, {manifest.batch} FROM"
    at_hand = reader.at_hand(manifest.sha256(), relation.name)
    if at_hand:
        reader.engine.execute(f"{insert} ({at_hand})")
        return
    with journal.store.local(list(objects)) as files:
        reader.read(
            then, files, manifest.compression, lambda rows: reader.engine.execute(f"{insert} ({rows})")
        )


def _fitted(column: RelationColumn, former: RelationColumn | None) -> str:
    if former is None:
        return f"NULL::{column.raw_type}"
    value = engine.name(former.name)
    return value if former.raw_type == column.raw_type else f"TRY_CAST({value} AS {column.raw_type})"


def _empty_rows(relation: Relation) -> str:
    columns = ", ".join(
        f"NULL::{column.raw_type} AS {engine.name(column.name)}" for column in relation.columns
    )
    return f'SELECT {columns}, NULL::VARCHAR AS _op, NULL::TIMESTAMP AS _at, 0 AS "~batch" WHERE false'
