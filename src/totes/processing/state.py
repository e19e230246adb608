"""What processing must know of earlier batches, in its cache.

That is: the rows of tables that models join, the newest version of each row of the star, and which rows are in quarantine.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from totes import engine
from totes.errors import LakeDamaged
from totes.lake.document import StoredObject
from totes.lake.journal import Journal
from totes.lake.manifest import IngestionManifest, ModelChanges, OutputColumn, ProblemKind, ProcessedManifest
from totes.lake.workspace import Workspace
from totes.processing.bound.problem import STORED_TYPE
from totes.processing.bound.relation import Relation, source_relation
from totes.processing.source_rows import SourceRows
from totes.star.model import HISTORY_COLUMNS, IS_DELETED

QUARANTINE = "quarantine_rows"
# Columns of the star tables, quoted; no model can have columns of these names.
BEGINS, DELETED = '"~begins"', '"~gone"'
_QUARANTINE_COLUMNS = "model VARCHAR, row_key VARCHAR, reason VARCHAR, source_row VARCHAR, batch BIGINT"
_QUARANTINE_PROBLEMS = f"ALTER TABLE {QUARANTINE} ADD COLUMN IF NOT EXISTS problems {STORED_TYPE}"


def source_table(relation: str) -> str:
    """The quoted name of the table with the present rows of a source table."""
    return engine.name(engine.case_safe("source", relation))


def star_table(model: str) -> str:
    """The quoted name of the table with the newest version of each row of a warehouse table.

    It has the produced columns, the lineage where the model joins, when the version begins, and whether it is deleted.
    """
    return engine.name(engine.case_safe("star", model))


class StarState:
    """The tables that processing keeps from batch to batch, in the database that a connection uses.

    `relations` are the names of the tables that models join, as the models write them.
    """

    def __init__(
        self,
        connection: engine.Engine,
        workspace: Workspace,
        relations: Iterable[str],
        ingestion: Journal[IngestionManifest],
        processed: Journal[ProcessedManifest],
    ) -> None:
        self.engine = connection
        self.source_rows = SourceRows(workspace, ingestion)
        self._ingestion = ingestion
        self._processed = processed
        self._tables: dict[str, str | None] = {}  # with the comment on each
        self._quarantined: dict[str, int] | None = None
        self._joined = {name.lower() for name in relations}
        self._newest: ProcessedManifest | None = None
        self.engine.execute(f"CREATE TABLE IF NOT EXISTS {QUARANTINE} ({_QUARANTINE_COLUMNS})")
        self.engine.execute(_QUARANTINE_PROBLEMS)

    def close(self) -> None:
        """Closes what it reads the ingestion lake with."""
        self.source_rows.close()

    def refresh(self) -> None:
        """Looks which tables there are; what was known of them no longer holds."""
        rows = self.engine.execute(
            "SELECT table_name, comment FROM duckdb_tables() WHERE database_name = current_database()"
        )
        self._tables, self._quarantined, self._newest = dict(rows.fetchall()), None, None

    def has_star(self, model: str) -> bool:
        """Whether rows of the warehouse table are known."""
        return engine.case_safe("star", model) in self._tables

    def newest(self, model: str) -> str | None:
        """The relation with the newest version of each row of a warehouse table, if any are known."""
        return star_table(model) if self.has_star(model) else None

    def has_source(self, table: str) -> bool:
        """Whether the rows of the source table are known."""
        return engine.case_safe("source", table) in self._tables

    def create_source(self, relation: Relation, rows: str) -> None:
        """Retains the rows of a source table from here on: those that a query gives."""
        self.engine.execute(f"CREATE TABLE {source_table(relation.name)} AS {rows}")
        self._note_shape(relation)

    def forget_source(self, table: str) -> None:
        """Forgets the rows of a source table."""
        if self.has_source(table):
            self.engine.execute(f"DROP TABLE {source_table(table)}")
            del self._tables[engine.case_safe("source", table)]

    def apply_changes(self, relation: Relation, changes: str) -> None:
        """Applies a relation with changes to the rows of a joined table."""
        target = source_table(relation.name)
        columns = engine.names([*(column.name for column in relation.columns), "_at"])
        if not self.has_source(relation.name):
            self.create_source(relation, f"SELECT {columns} FROM {changes} WHERE false")
        self.engine.execute(
            f"DELETE FROM {target} AS old USING {changes} AS new WHERE {engine.same('old', 'new', relation.key)}"
        )
        self.engine.execute(
            f"INSERT INTO {target} BY NAME SELECT {columns} FROM {changes} WHERE _op = 'upsert'"
        )

    def forget_star(self, model: str) -> None:
        """Forgets the rows of a warehouse table, and which of its rows are in quarantine."""
        if self.has_star(model):
            self.engine.execute(f"DROP TABLE {star_table(model)}")
            del self._tables[engine.case_safe("star", model)]
        self.engine.execute(f"DELETE FROM {QUARANTINE} WHERE model = {engine.text(model)}")
        self._quarantined = None

    def apply_rows(self, model: str, key: tuple[str, ...], merged: str, *, retains_deleted: bool) -> None:
        """Applies the recomputed rows of a warehouse table.

        Args:
            model: the table.
            key: the columns that identify a row.
            merged: a relation with the columns of the star table.
            retains_deleted: whether a deleted row stays in the table.
        """
        target = star_table(model)
        retained = merged if retains_deleted else f"(SELECT * FROM {merged} WHERE NOT {DELETED})"
        if not self.has_star(model):
            self.engine.execute(f"CREATE TABLE {target} AS SELECT * FROM {retained}")
            self._tables[engine.case_safe("star", model)] = None
            return
        replaced = f"{target} AS old USING {merged} AS new WHERE {engine.same('old', 'new', key)}"
        self.engine.execute(f"DELETE FROM {replaced}")
        self.engine.execute(f"INSERT INTO {target} BY NAME SELECT * FROM {retained}")

    def begin_star(self, model: str, changes: ModelChanges, shape: str) -> None:
        """Takes in the rows with which a warehouse table begins: one version of each, and its quarantine.

        Args:
            model: the table.
            changes: its entry, with stored objects.
            shape: a relation with the columns of the star table, without rows.
        """
        target = star_table(model)
        self.engine.execute(f"CREATE TABLE {target} AS FROM {shape}")
        self._tables[engine.case_safe("star", model)] = None
        if stored := changes.state or changes.objects:
            own = engine.names(sorted(_own_columns(changes)))
            others = f"* EXCLUDE ({own})" if own else "*"
            select = "*" if changes.state else f"{others}, {_history(changes)}"
            with self._processed.store.local(list(stored)) as files:
                self.engine.execute(
                    f"INSERT INTO {target} BY NAME SELECT {select} FROM {engine.parquet(files)}"
                )
        self._take_in_quarantine(changes)

    def apply_quarantine(self, rows: str) -> None:
        """Applies a relation of quarantine rows; one without a reason means that its row is no longer in quarantine."""
        self._quarantined = None
        self.engine.execute(
            f"DELETE FROM {QUARANTINE} AS old USING {rows} AS new"
            " WHERE old.model = new.model AND old.row_key = new.row_key"
        )
        self.engine.execute(f"INSERT INTO {QUARANTINE} BY NAME SELECT * FROM {rows} WHERE reason IS NOT NULL")

    def quarantined_rows(self, model: str, base: Relation) -> str:
        """A query for the present source rows of what a model has in quarantine, in the shape of the table's changes."""
        chosen = f"FROM {QUARANTINE} WHERE model = {engine.text(model)}"
        columns = engine.names([*(column.name for column in base.columns), "_at"])
        if self.has_source(base.name):
            shape = engine.text(json.dumps({part: base.raw_type(part) for part in base.key}))
            keys = f"SELECT unnest(json_transform(row_key, {shape})) {chosen}"
            on = engine.same("source", "asked", base.key)
            return (
                f"SELECT source.*, 'upsert' AS _op FROM (SELECT {columns} FROM {source_table(base.name)}) AS source"
                f" SEMI JOIN ({keys}) AS asked ON {on}"
            )
        types = {column.name: column.raw_type for column in base.columns}
        shape = engine.text(json.dumps(types | {"_at": "TIMESTAMP"}))
        rows = (
            f"SELECT DISTINCT unnest(json_transform(source_row, {shape})) {chosen} AND source_row IS NOT NULL"
        )
        return f"SELECT {columns}, 'upsert' AS _op FROM ({rows})"

    def quarantine(self, model: str) -> str:
        """A relation with the rows of a warehouse table that are in quarantine; other databases' connections see it too."""
        [(database,)] = self.engine.execute("SELECT current_database()").fetchall()
        table = engine.name(database, "main", QUARANTINE)
        return f"(SELECT * FROM {table} WHERE model = {engine.text(model)})"

    def quarantined(self, model: str) -> int:
        """How many rows of a warehouse table are in quarantine."""
        if self._quarantined is None:
            rows = self.engine.execute(f"SELECT model, count(*) FROM {QUARANTINE} GROUP BY model")
            self._quarantined = dict(rows.fetchall())
        return self._quarantined.get(model, 0)

    def kinds_quarantined(self, model: str) -> tuple[ProblemKind, ...]:
        """What is wrong with the rows of a warehouse table that are in quarantine, each kind once."""
        if not self.quarantined(model):
            return ()
        chosen = f"FROM {QUARANTINE} WHERE model = {engine.text(model)}"
        rows = self.engine.execute(
            'SELECT problem."column", problem.kind, count(DISTINCT row_key) FROM'
            f" (SELECT row_key, unnest(problems) AS problem {chosen}) GROUP BY ALL ORDER BY ALL"
        ).fetchall()
        return tuple(ProblemKind(column=column, kind=kind, rows=count) for column, kind, count in rows)

    def apply_batch(self, batch: int) -> str:
        """Applies a batch that another runner processed, or that the cache has lost; returns its manifest's digest."""
        manifest, ingested = self._processed.confirmed(batch), self._ingestion.confirmed(batch)
        if manifest.ingestion_sha256 != ingested.sha256():
            raise LakeDamaged(
                f"batch {batch} of the processed lake was made from another batch {batch} than the ingestion lake has now",
                hint="One of the two manifests was replaced: restore them from a backup. Nothing of them was used",
            )
        changed: list[tuple[Relation, str]] = []  # all is read before the transaction sees any of it
        relations = {table: source_relation(table, entry) for table, entry in ingested.tables.items()}
        for table, relation in relations.items():
            # A table whose rows are not retained yet is read from all batches when a model next needs it.
            wanted = self.retains_source(relation) or (batch == 1 and table.lower() in self._joined)
            if ingested.tables[table].objects and wanted:
                changed.append((relation, self.source_rows.changes(ingested, relation)))
        for relation in relations.values():
            self.follow_columns(relation)
        for relation, changes in changed:
            self.apply_changes(relation, changes)
        self.source_rows.release()
        self._newest = self._newest or self._processed.newest() or manifest
        for name in self._newest.models.keys() - manifest.models.keys():
            self.forget_star(name)
        for name, rows in manifest.models.items():
            # The newest declaration holds all values of earlier ones, back to where the table was last rebuilt.
            last = self._newest.models.get(name)
            if last and last.since <= batch:
                self.apply_model(name, rows, last.columns, rebuilt=rows.since == batch)
        return manifest.sha256()

    def apply_model(
        self, model: str, changes: ModelChanges, declared: Iterable[OutputColumn], *, rebuilt: bool
    ) -> None:
        """Applies a batch's rows of a table, whether the project still has it or not.

        Args:
            model: the table.
            changes: its entry in the batch's manifest.
            declared: its columns.
            rebuilt: whether these are all rows that it has ever had, so that others are forgotten.
        """
        versioned, own = changes.kind == "versioned", _own_columns(changes)
        casts = ", ".join(
            f"CAST({engine.name(c.name)} AS {c.type}) AS {engine.name(c.name)}"
            for c in declared
            if c.name not in own
        )
        newest = f" QUALIFY row_number() OVER (PARTITION BY {engine.names(changes.key)} ORDER BY {BEGINS} DESC) = 1"
        if rebuilt:
            self.forget_star(model)
        for objects, select, chosen in (
            (changes.state, f"SELECT * REPLACE ({casts})", ""),
            (
                () if changes.state else changes.objects,
                f"SELECT {casts}, {_history(changes)}",
                newest * versioned,
            ),
            (() if changes.state else changes.removed, f"SELECT *, true AS {DELETED}", ""),
        ):
            if objects:
                self._take_in(objects, select, chosen)
                self._add_lineage(model)
                self.apply_rows(
                    model, changes.key, "taken_in", retains_deleted=versioned or changes.soft_deletes
                )
        self._take_in_quarantine(changes)

    def _take_in_quarantine(self, changes: ModelChanges) -> None:
        if changes.quarantine:
            self._take_in(changes.quarantine, "SELECT *")
            self.apply_quarantine("taken_in")

    def _add_lineage(self, model: str) -> None:
        """Gives a known table the columns of tables that its query joined only later, in lakes of earlier releases."""
        if self.has_star(model):
            known = {row[0] for row in self.engine.execute(f"DESCRIBE {star_table(model)}").fetchall()}
            for name, kind, *_ in self.engine.execute("DESCRIBE taken_in").fetchall():
                if name not in known:
                    column = f"{engine.name(name)} {kind}"
                    self.engine.execute(f"ALTER TABLE {star_table(model)} ADD COLUMN {column}")

    def _take_in(self, objects: tuple[StoredObject, ...], select: str, chosen: str = "") -> None:
        with self._processed.store.local(list(objects)) as files:
            self.engine.execute(
                f"CREATE OR REPLACE TEMP TABLE taken_in AS {select} FROM {engine.parquet(files)}{chosen}"
            )

    def retains_source(self, relation: Relation) -> bool:
        """Whether the rows of a source table are known, and the names of their columns still are those of the same columns."""
        if not self.has_source(relation.name):
            return False
        before = self._shape_of(relation.name)
        numbers, names = before["columns"], {number: name for name, number in before["columns"].items()}
        return bool(before["number"] == relation.number) and all(
            numbers.get(column.name, column.number) == column.number
            and names.get(column.number, column.name) == column.name
            for column in relation.columns
        )

    def follow_columns(self, relation: Relation) -> None:
        """Gives the retained rows the columns that the source table has now.

        Where a name is another column's now, or another table's, the rows are forgotten, to be read again from all batches.
        """
        if not self.retains_source(relation):
            self.forget_source(relation.name)
            return
        target = source_table(relation.name)
        if self._shape_of(relation.name) == _shape(relation):
            return
        present = {row[0]: row[1] for row in self.engine.execute(f"DESCRIBE {target}").fetchall()}
        wanted = {column.name: column.raw_type for column in relation.columns} | {"_at": "TIMESTAMP"}
        if present != wanted:
            values = ", ".join(
                f"{f'TRY_CAST({engine.name(name)} AS {kind})' if name in present else f'NULL::{kind}'} AS {engine.name(name)}"
                for name, kind in wanted.items()
            )
            self.engine.execute(f"CREATE OR REPLACE TABLE {target} AS SELECT {values} FROM {target}")
        self._note_shape(relation)

    def _shape_of(self, table: str) -> dict[str, Any]:
        shape: dict[str, Any] = json.loads(
            self._tables[engine.case_safe("source", table)] or '{"number": -1, "columns": {}}'
        )
        return shape

    def _note_shape(self, relation: Relation) -> None:
        shape = json.dumps(_shape(relation))
        self.engine.execute(f"COMMENT ON TABLE {source_table(relation.name)} IS {engine.text(shape)}")
        self._tables[engine.case_safe("source", relation.name)] = shape


def _own_columns(changes: ModelChanges) -> set[str]:
    """The columns of a table's objects that no query produces."""
    history = HISTORY_COLUMNS if changes.kind == "versioned" else ()
    return {
        *history,
        *([changes.surrogate] if changes.surrogate else ()),
        *([IS_DELETED] * changes.soft_deletes),
    }


def _history(changes: ModelChanges) -> str:
    """When a row of a table's objects begins, and whether it is deleted, as in the star table."""
    begins = "valid_from" if changes.kind == "versioned" else "NULL::TIMESTAMP"
    deleted = IS_DELETED if changes.kind == "versioned" or changes.soft_deletes else "false"
    return f"{begins} AS {BEGINS}, {deleted} AS {DELETED}"


def _shape(relation: Relation) -> dict[str, object]:
    """The columns of a table, and PostgreSQL's numbers of them and of the table, which show whether a name means the same."""
    return {
        "number": relation.number,
        "columns": {column.name: column.number for column in relation.columns},
        "types": {column.name: column.raw_type for column in relation.columns},
    }
