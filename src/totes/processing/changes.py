"""The ingestion lake as the engine reads it: a batch's changes of one table, or the rows that a table had at a batch."""

from __future__ import annotations

import duckdb

from totes import engine
from totes.errors import LakeDamaged
from totes.lake.journal import Journal
from totes.lake.manifest import IngestionManifest
from totes.processing.relation import Relation, RelationColumn, lake_rows, source_relation

# The engine's buffers are of this size each, so that the larger ones are used only where a line needs them.
_LINE_BYTES_MAX = (16 << 20, 256 << 20, 2 << 30)


def changes_table(relation: str) -> str:
    """The quoted name of the temporary table with a batch's changes of a relation."""
    return engine.name(engine.case_safe("changes", relation))


def load_changes(
    connection: engine.Engine,
    journal: Journal[IngestionManifest],
    manifest: IngestionManifest,
    relation: Relation,
) -> int:
    """Reads a batch's changes of a table into its temporary table: raw columns, `_op` and `_at`; gives their number."""
    target = changes_table(relation.name)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {target} AS {_empty_rows(relation)}")
    _append(connection, journal, manifest, relation, target)
    expected = sum(entry.rows for entry in manifest.tables[relation.name].objects)
    found = int(engine.scalar(connection, f"SELECT count(_op) FROM {target}"))
    if found != expected:
        raise LakeDamaged(
            f"batch {manifest.batch} has {expected} changes of {relation.name}, but {found} were read"
        )
    return found


def load_rows(
    connection: engine.Engine,
    journal: Journal[IngestionManifest],
    relation: Relation,
    batch: int,
    target: str,
) -> None:
    """Reads the rows that a table had at a batch out of all its changes up to there, into a temporary table.

    Costs as much as all changes of the table ever made: for models that are new or whose query has changed.
    """
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {target} AS {_empty_rows(relation)}")
    for number in range(1, batch + 1):
        manifest = journal.read(number)
        if relation.name in manifest.tables:
            _append(connection, journal, manifest, relation, target)
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {target} AS SELECT * FROM {target} QUALIFY row_number() OVER ("
        f"PARTITION BY {engine.names(relation.key)} ORDER BY \"~batch\" DESC, _op = 'upsert' DESC) = 1"
    )
    connection.execute(f"DELETE FROM {target} WHERE _op = 'delete'")


def _append(
    connection: engine.Engine,
    journal: Journal[IngestionManifest],
    manifest: IngestionManifest,
    relation: Relation,
    target: str,
) -> None:
    objects = manifest.tables[relation.name].objects
    if not objects:
        return
    # The packets are read with the columns that the table had then, and the values kept as far as they fit today's.
    then = source_relation(relation.name, manifest.tables[relation.name])
    former = {column.name: column.raw_type for column in then.columns}
    columns = ", ".join(
        [
            f"{_fitted(column, former.get(column.name))} AS {engine.name(column.name)}"
            for column in relation.columns
        ]
        + ["_op", "_at"]
    )
    with journal.store.local(list(objects)) as files:
        for limit in _LINE_BYTES_MAX:
            rows = lake_rows(then, files, manifest.compression, line_bytes_max=limit)
            try:
                connection.execute(f"INSERT INTO {target} SELECT {columns}, {manifest.batch} FROM ({rows})")
                return
            except duckdb.InvalidInputException as error:
                if "maximum_object_size" not in str(error) or limit == _LINE_BYTES_MAX[-1]:
                    raise


def _fitted(column: RelationColumn, former: str | None) -> str:
    if former == column.raw_type:
        return engine.name(column.name)
    return (
        f"TRY_CAST({engine.name(column.name)} AS {column.raw_type})" if former else f"NULL::{column.raw_type}"
    )


def _empty_rows(relation: Relation) -> str:
    columns = ", ".join(
        f"NULL::{column.raw_type} AS {engine.name(column.name)}" for column in relation.columns
    )
    return f'SELECT {columns}, NULL::VARCHAR AS _op, NULL::TIMESTAMP AS _at, 0 AS "~batch" WHERE false'
