"""What processing must know of older batches, kept in its cache.

That is: the rows of tables that are joined, the newest version of every row of the star, and which rows are in
quarantine.
"""

from __future__ import annotations

import json

from totes import engine
from totes.deadline import Deadline
from totes.lake.cache import Cache
from totes.lake.journal import Journal
from totes.lake.manifest import (
    IngestionManifest,
    ModelChanges,
    ProblemKind,
    ProcessedManifest,
    StoredObject,
)
from totes.lake.workspace import Workspace
from totes.processing.changes import changes_table, load_changes
from totes.processing.packets import PacketReader
from totes.processing.problem import STORED_TYPE
from totes.processing.relation import Relation, source_relation
from totes.star.model import HISTORY_COLUMNS
from totes.star.project import Project

QUARANTINE = "quarantine_rows"
# Columns of the star tables, quoted; no model can have columns of these names.
BEGINS, GONE = '"~begins"', '"~gone"'
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
    """The cache of the processing stage."""

    def __init__(
        self,
        cache: Cache,
        workspace: Workspace,
        project: Project,
        ingestion: Journal[IngestionManifest],
        processed: Journal[ProcessedManifest],
    ) -> None:
        self.engine = cache.engine
        self.reader = PacketReader(cache.engine, workspace)
        self.workspace = workspace
        self._cache = cache
        self._project = project
        self._ingestion = ingestion
        self._processed = processed
        self._tables: dict[str, str | None] = {}  # with what COMMENT says of each
        self._quarantined: dict[str, int] | None = None
        self._joined = {name.lower() for model in project.models if model.joins for name in model.relations}
        self.engine.execute(f"CREATE TABLE IF NOT EXISTS {QUARANTINE} ({_QUARANTINE_COLUMNS})")
        self.engine.execute(_QUARANTINE_PROBLEMS)

    def catch_up(self, deadline: Deadline) -> bool:
        """Takes in batches that others processed, or that were processed before the cache was lost; False if time was short."""
        rows = self.engine.execute(
            "SELECT table_name, comment FROM duckdb_tables() WHERE database_name = current_database()"
        )
        self._tables, self._quarantined = dict(rows.fetchall()), None
        return self._cache.advance(self._apply_batch, deadline)

    def keeps(self, table: str) -> bool:
        """Whether the rows of a source table are kept, because a model joins it."""
        return table.lower() in self._joined

    def has_star(self, model: str) -> bool:
        """Whether rows of the warehouse table are known."""
        return engine.case_safe("star", model) in self._tables

    def has_source(self, table: str) -> bool:
        """Whether the rows of the source table are known."""
        return engine.case_safe("source", table) in self._tables

    def create_source(self, relation: Relation, rows: str) -> None:
        """Begins to keep the rows of a source table with the result of a query."""
        self.engine.execute(f"CREATE TABLE {source_table(relation.name)} AS {rows}")
        self._note_shape(relation)

    def forget_source(self, table: str) -> None:
        """Ceases to keep the rows of a source table, which no model joins any more."""
        if self.has_source(table):
            self.engine.execute(f"DROP TABLE {source_table(table)}")
            del self._tables[engine.case_safe("source", table)]

    def apply_changes(self, relation: Relation) -> None:
        """Brings the rows of a joined table up to the loaded changes."""
        target, changes = source_table(relation.name), changes_table(relation.name)
        columns = engine.names([*(column.name for column in relation.columns), "_at"])
        if not self.has_source(relation.name):
            self.create_source(relation, f"SELECT {columns} FROM {changes} WHERE false")
        self.engine.execute(
            f"DELETE FROM {target} AS old USING {changes} AS new WHERE {engine.same('old', 'new', relation.key)}"
        )
        self.engine.execute(
            f"INSERT INTO {target} BY NAME SELECT {columns} FROM {changes} WHERE _op = 'upsert'"
        )

    def widen_star(self, model: str, like: str, columns: tuple[str, ...]) -> None:
        """Gives a known star table the columns that it lacks: the query of its model joins other tables than before."""
        if not self.has_star(model):
            return
        types = {row[0]: row[1] for row in self.engine.execute(f"DESCRIBE {like}").fetchall()}
        for column in columns:
            self.engine.execute(
                f"ALTER TABLE {star_table(model)} ADD COLUMN IF NOT EXISTS {engine.name(column)} {types[column]}"
            )

    def follow_types(self, model: str, rows: str) -> None:
        """Widens the columns of a known star table that are narrower than those of new rows: its declaration was relaxed."""
        if not self.has_star(model):
            return
        target = star_table(model)
        present = {row[0]: row[1] for row in self.engine.execute(f"DESCRIBE {target}").fetchall()}
        for name, kind, *_ in self.engine.execute(f"DESCRIBE {rows}").fetchall():
            if not name.startswith("~") and present[name] != kind:
                self.engine.execute(f"ALTER TABLE {target} ALTER COLUMN {engine.name(name)} TYPE {kind}")

    def apply_rows(self, model: str, key: tuple[str, ...], merged: str, *, versioned: bool) -> None:
        """Takes in the recomputed rows of a warehouse table.

        Args:
            model: the table.
            key: the columns that identify a row.
            merged: a relation with the columns of the star table.
            versioned: whether every version is kept, so that a deleted row stays known.
        """
        target = star_table(model)
        kept = merged if versioned else f"(SELECT * FROM {merged} WHERE NOT {GONE})"
        if not self.has_star(model):
            self.engine.execute(f"CREATE TABLE {target} AS SELECT * FROM {kept}")
            self._tables[engine.case_safe("star", model)] = None
            return
        self.engine.execute(
            f"DELETE FROM {target} AS old USING {merged} AS new WHERE {engine.same('old', 'new', key)}"
        )
        self.engine.execute(f"INSERT INTO {target} BY NAME SELECT * FROM {kept}")

    def apply_quarantine(self, rows: str) -> None:
        """Takes in a relation of quarantine rows; one without a reason says that its row is in quarantine no more."""
        self._quarantined = None
        self.engine.execute(
            f"DELETE FROM {QUARANTINE} AS old USING {rows} AS new"
            " WHERE old.model = new.model AND old.row_key = new.row_key"
        )
        self.engine.execute(f"INSERT INTO {QUARANTINE} BY NAME SELECT * FROM {rows} WHERE reason IS NOT NULL")

    def set_aside(self, model: str, base: Relation) -> str:
        """A query for the present source rows of what a model has in quarantine, in the shape of the table's changes."""
        chosen = f"FROM {QUARANTINE} WHERE model = {engine.text(model)}"
        columns = engine.names([*(column.name for column in base.columns), "_at"])
        if self.has_source(base.name):
            shape = engine.text(json.dumps({part: base.raw_type(part) for part in base.key}))
            keys = f"SELECT unnest(json_transform(row_key, {shape})) {chosen}"
            on = engine.same("kept", "asked", base.key)
            return (
                f"SELECT kept.*, 'upsert' AS _op FROM (SELECT {columns} FROM {source_table(base.name)}) AS kept"
                f" SEMI JOIN ({keys}) AS asked ON {on}"
            )
        types = {column.name: column.raw_type for column in base.columns}
        shape = engine.text(json.dumps(types | {"_at": "TIMESTAMP"}))
        rows = (
            f"SELECT DISTINCT unnest(json_transform(source_row, {shape})) {chosen} AND source_row IS NOT NULL"
        )
        return f"SELECT {columns}, 'upsert' AS _op FROM ({rows})"

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

    def _apply_batch(self, batch: int) -> str:
        manifest, ingested = self._processed.read(batch), self._ingestion.read(batch)
        for table, changes in ingested.tables.items():
            # A table that is not kept yet is made out of all batches when a model next needs it.
            relation = source_relation(table, changes)
            self.follow_columns(relation)
            if changes.objects and (self.has_source(table) or (batch == 1 and self.keeps(table))):
                load_changes(self.reader, self._ingestion, ingested, relation)
                self.apply_changes(relation)
        for name, rows in manifest.models.items():
            self._apply_model(name, rows)
        return manifest.sha256()

    def _apply_model(self, model: str, changes: ModelChanges) -> None:
        """Takes in a batch's rows of a table by what its manifest says, whether the project still has it or not."""
        versioned = changes.kind == "versioned"
        own = {changes.surrogate, *(HISTORY_COLUMNS if versioned else ())}
        produced = [column for column in changes.columns if column.name not in own]
        casts = ", ".join(
            f"CAST({engine.name(c.name)} AS {c.type}) AS {engine.name(c.name)}" for c in produced
        )
        history = f"NULL::TIMESTAMP AS {BEGINS}, false AS {GONE}"
        if versioned:
            history = f"valid_from AS {BEGINS}, is_deleted AS {GONE}"
        for objects, select in (
            (changes.state, f"SELECT * REPLACE ({casts})"),
            (() if changes.state else changes.objects, f"SELECT {casts}, {history}"),
            (() if changes.state else changes.removed, f"SELECT *, true AS {GONE}"),
        ):
            if objects:
                self._take_in(objects, select)
                present = [row[0] for row in self.engine.execute("DESCRIBE taken_in").fetchall()]
                lineage = tuple(column for column in present if column.startswith("~k"))
                self.widen_star(model, "taken_in", lineage)
                self.follow_types(model, "taken_in")
                self.apply_rows(model, changes.key, "taken_in", versioned=versioned)
        if changes.quarantine:
            self._take_in(changes.quarantine, "SELECT *")
            self.apply_quarantine("taken_in")

    def _take_in(self, objects: tuple[StoredObject, ...], select: str) -> None:
        with self._processed.store.local(list(objects)) as files:
            self.engine.execute(
                f"CREATE OR REPLACE TEMP TABLE taken_in AS {select} FROM {engine.parquet(files)}"
            )

    def follow_columns(self, relation: Relation) -> None:
        """Gives a kept table the columns that the source table has now.

        Where a name stands for another column, or another table has taken the name, the rows are forgotten, to be made
        again out of all batches.
        """
        if not self.has_source(relation.name):
            return
        target, shape = source_table(relation.name), _shape(relation)
        comment = self._tables[engine.case_safe("source", relation.name)]
        before = json.loads(comment or '{"number": -1, "columns": {}}')
        if before == shape:
            return
        numbers, names = before["columns"], {number: name for name, number in before["columns"].items()}
        if before["number"] != relation.number or any(
            numbers.get(column.name, column.number) != column.number
            or names.get(column.number, column.name) != column.name
            for column in relation.columns
        ):
            self.forget_source(relation.name)
            return
        present = {row[0]: row[1] for row in self.engine.execute(f"DESCRIBE {target}").fetchall()}
        wanted = {column.name: column.raw_type for column in relation.columns} | {"_at": "TIMESTAMP"}
        if present != wanted:
            kept = ", ".join(
                f"{f'TRY_CAST({engine.name(name)} AS {kind})' if name in present else f'NULL::{kind}'} AS {engine.name(name)}"
                for name, kind in wanted.items()
            )
            self.engine.execute(f"CREATE OR REPLACE TABLE {target} AS SELECT {kept} FROM {target}")
        self._note_shape(relation)

    def _note_shape(self, relation: Relation) -> None:
        shape = json.dumps(_shape(relation))
        self.engine.execute(f"COMMENT ON TABLE {source_table(relation.name)} IS {engine.text(shape)}")
        self._tables[engine.case_safe("source", relation.name)] = shape


def _shape(relation: Relation) -> dict[str, object]:
    """The columns that are kept, and PostgreSQL's numbers of them and of the table: whether the same names mean the same."""
    return {
        "number": relation.number,
        "columns": {column.name: column.number for column in relation.columns},
        "types": {column.name: column.raw_type for column in relation.columns},
    }
