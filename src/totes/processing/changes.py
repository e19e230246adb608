"""The ingestion lake as the engine reads it: a batch's changes of one table, or the rows that a table had at a batch."""

from __future__ import annotations

from totes import engine
from totes.errors import LakeDamaged
from totes.lake.journal import Journal
from totes.lake.manifest import IngestionManifest
from totes.lake.packets import PacketReader
from totes.lake.workspace import Handoff
from totes.processing.relation import Relation, RelationColumn, source_relation

_COPIED_ROWS_MAX = 50_000


def changes_table(relation: str) -> str:
    """The quoted name of the temporary table with a batch's changes of a relation."""
    return engine.name(engine.case_safe("changes", relation))


def load_changes(
    reader: PacketReader,
    journal: Journal[IngestionManifest],
    manifest: IngestionManifest,
    relation: Relation,
) -> None:
    """Makes a batch's changes of a table its temporary table: raw columns, `_op` and `_at`.

    Many rows that are at hand are not copied: a view of that name is made.
    """
    target = changes_table(relation.name)
    many = are_many(manifest, relation.name)
    at_hand = reader.handoff(manifest.sha256(), relation.name) if many else None
    _drop_view(reader, relation)
    if at_hand:
        reader.engine.execute(f"DROP TABLE IF EXISTS {target}")
        rows = rows_at_hand(at_hand, manifest, relation)
        reader.engine.execute(f"CREATE TEMP VIEW {target} AS {rows}")
        reader.has_views = True
    else:
        reader.engine.execute(f"CREATE OR REPLACE TEMP TABLE {target} AS {_empty_rows(relation)}")
        _append(reader, journal, manifest, relation, target)
    check_found(reader.engine, manifest, relation, target)


def are_many(manifest: IngestionManifest, table: str) -> bool:
    """Whether a batch has so many changes of a table that a copy of them is to be spared."""
    return _rows(manifest, table) > _COPIED_ROWS_MAX


def _rows(manifest: IngestionManifest, table: str) -> int:
    return sum(entry.rows for entry in manifest.tables[table].objects)


def check_found(
    connection: engine.Engine, manifest: IngestionManifest, relation: Relation, rows: str
) -> None:
    """Makes sure that there are as many changes of a table as its batch has.

    Raises:
        LakeDamaged: there are not.
    """
    expected = _rows(manifest, relation.name)
    found = engine.scalar(connection, f"SELECT count(_op) FROM {rows}")
    if found != expected:
        raise LakeDamaged(
            f"batch {manifest.batch} has {expected} changes of {relation.name}, but {found} were read"
        )


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
    at_hand = reader.handoff(manifest.sha256(), relation.name)
    if at_hand:
        reader.engine.execute(f"INSERT INTO {target} {rows_at_hand(at_hand, manifest, relation)}")
        return
    then = source_relation(relation.name, manifest.tables[relation.name])
    insert = f"INSERT INTO {target} SELECT {_columns(relation, then)}, {manifest.batch} FROM"
    with journal.store.local(list(objects)) as files:
        reader.read(
            then,
            files,
            manifest.compression,
            lambda rows: reader.engine.execute(f"{insert} ({limited(rows, manifest, relation.name)})"),
        )


def limited(rows: str, manifest: IngestionManifest, table: str) -> str:
    """A query for the rows of packets that ends soon after there are more of them than their manifest says."""
    return f"FROM ({rows}) LIMIT {_rows(manifest, table) + 1}"


def rows_at_hand(at_hand: Handoff, manifest: IngestionManifest, relation: Relation) -> str:
    """A query for a batch's changes of a table out of what is at hand of them."""
    then = source_relation(relation.name, manifest.tables[relation.name]).holding(at_hand.native)
    return f'SELECT {_columns(relation, then)}, {manifest.batch} AS "~batch" FROM ({at_hand.query})'


def _is_view(reader: PacketReader, relation: Relation) -> bool:
    name = engine.text(engine.case_safe("changes", relation.name))
    views = f"SELECT count(*) FROM duckdb_views() WHERE temporary AND view_name = {name}"
    return reader.has_views and bool(engine.scalar(reader.engine, views))


def _drop_view(reader: PacketReader, relation: Relation) -> None:
    if _is_view(reader, relation):
        reader.engine.execute(f"DROP VIEW {changes_table(relation.name)}")


def _columns(relation: Relation, then: Relation) -> str:
    """The columns of a relation out of what it was then, with `_op` and `_at`.

    Packets have the columns that the table had then, under the names that they had, and values are kept as far as they fit
    today's. Of another table that had this name, columns can be told by their names only.
    """
    numbered = then.number == relation.number
    former = {column.number if numbered else column.name: column for column in then.columns}
    values = [
        f"{_fitted(column, former.get(column.number if numbered else column.name))} AS {engine.name(column.name)}"
        for column in relation.columns
    ]
    return ", ".join([*values, "_op", "_at"])


def _fitted(column: RelationColumn, former: RelationColumn | None) -> str:
    if former is None:
        return f"NULL::{column.held_type}"
    value = engine.name(former.name)
    return value if former.held_type == column.held_type else f"TRY_CAST({value} AS {column.held_type})"


def _empty_rows(relation: Relation) -> str:
    columns = ", ".join(
        f"NULL::{column.raw_type} AS {engine.name(column.name)}" for column in relation.columns
    )
    return f'SELECT {columns}, NULL::VARCHAR AS _op, NULL::TIMESTAMP AS _at, 0 AS "~batch" WHERE false'
