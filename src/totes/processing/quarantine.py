"""Which rows of a warehouse table a batch quarantines, with their problems, and which it releases."""

from __future__ import annotations

from totes import engine
from totes.processing.bound.problem import PROBLEM, PROBLEMS, stored
from totes.processing.bound.query import BoundQuery
from totes.processing.state import DELETED, QUARANTINE, StarState, star_table
from totes.processing.transform import Transformation


class QuarantineChanges:
    """What a merged transformation changes in quarantine.

    `table` holds it, `rows` of them; one without a reason means that its row is no longer in quarantine. `added` rows are
    quarantined for a new reason, and `released` ones left because they fit now.

    Args:
        connection: the batch's.
        part: the transformation.
        batch: the batch.
        before: how many rows of the table are in quarantine.
    """

    def __init__(self, connection: engine.Engine, part: Transformation, batch: int, before: int = 0) -> None:
        self.table = ""  # once there are any
        self.rows = self.added = self.released = 0
        self._engine = connection
        self._part = part
        self._batch = batch
        if not part.count.bad and not before:
            return
        self._collect()
        if before:
            self._compare()
        self.rows = int(engine.scalar(self._engine, f"SELECT count(*) FROM {self.table}"))
        if not before:
            self.added = self.rows

    def _collect(self) -> None:
        text, model = engine.name(PROBLEM), engine.text(self._part.model.name)
        source_row, join = self._source_row() if self._part.count.bad else ("NULL::VARCHAR", "")
        self.table = engine.create_temporary(
            self._engine,
            "quarantine",
            self._part.model.name,
            f"SELECT DISTINCT {model} AS model, {self._row_key('row')} AS row_key, row.{text} AS reason,"
            f" {source_row} AS source_row, {self._batch}::BIGINT AS batch,"
            f" {stored(engine.name('row', PROBLEMS))} AS problems"
            f" FROM {self._part.last} AS row{join} WHERE row.{text} IS NOT NULL",
        )

    def _compare(self) -> None:
        """Leaves only what differs from what is in quarantine already, and adds what has left it."""
        model = engine.text(self._part.model.name)
        before = f"(SELECT * FROM {QUARANTINE} WHERE model = {model})"
        rechecked = "true" if self._part.inputs.whole else f"row_key IN ({self._changed_base_keys()})"
        self._engine.execute(
            f"INSERT INTO {self.table} SELECT {model}, row_key, NULL, NULL, {self._batch}, NULL FROM"
            f" (SELECT DISTINCT row_key FROM {before} WHERE {rechecked})"
            f" ANTI JOIN (SELECT row_key FROM {self.table}) USING (row_key)"
        )
        computed = f"SELECT {self._row_key('row')} FROM {self._part.last} AS row"
        self.released = int(
            engine.scalar(
                self._engine,
                f"SELECT count(*) FROM {self.table} WHERE reason IS NULL AND row_key IN ({computed})",
            )
        )
        self.added = int(
            engine.scalar(
                self._engine,
                f"SELECT count(*) FROM {self.table} AS new WHERE reason IS NOT NULL AND NOT EXISTS"
                f" (SELECT 1 FROM {before} AS old WHERE old.row_key = new.row_key AND old.reason = new.reason)",
            )
        )
        reasons = "SELECT row_key, list_sort(list(DISTINCT reason)) AS reasons, max(source_row) AS source_row"
        self._engine.execute(
            f"DELETE FROM {self.table} WHERE reason IS NOT NULL AND row_key IN (SELECT new.row_key"
            f" FROM ({reasons} FROM {self.table} WHERE reason IS NOT NULL GROUP BY row_key) AS new"
            f" JOIN ({reasons} FROM {before} GROUP BY row_key) AS old ON new.row_key = old.row_key"
            " AND new.reasons = old.reasons AND new.source_row IS NOT DISTINCT FROM old.source_row)"
        )

    def _source_row(self) -> tuple[str, str]:
        """The SQL for the row of the first table that a row comes from: as JSON, with the join that finds it."""
        base = self._part.query.base
        if not base.relation.is_source:
            return "NULL::VARCHAR", ""
        members = ", ".join(
            f"{engine.text(column.name)}, source.{engine.name(column.name)}"
            for column in base.relation.columns
        )
        join = f" LEFT JOIN {self._part.inputs.base_rows} AS source ON "
        return f"json_object({members}, '_at', source._at)::VARCHAR", join + engine.same(
            "row", "source", base.key, base.relation.key
        )

    def _changed_base_keys(self) -> str:
        base = self._part.query.base.relation
        if not self._part.inputs.base_changes or not base.key:
            return f"SELECT {self._row_key('row')} FROM {self._part.new} AS row"
        members = ", ".join(f"{engine.text(part)}, {engine.name(part)}" for part in base.key)
        return f"SELECT json_object({members})::VARCHAR FROM {self._part.inputs.base_changes}"

    def _row_key(self, alias: str) -> str:
        return _row_key(self._part.query, alias, self._part.query.base.key)


def compare(query: BoundQuery, before: StarState, after: StarState) -> tuple[int, int]:
    """Of a rebuilt table: how many rows are in quarantine for a new reason, and how many left it because they fit.

    Args:
        query: the table's model, bound.
        before: what was known of the table; its database is seen from that of `after`.
        after: the table as it is.
    """
    model, connection = query.model.name, after.engine
    if not before.quarantined(model) and not after.quarantined(model):
        return 0, 0
    was, now = before.quarantine(model), after.quarantine(model)
    same = f"SELECT 1 FROM {was} AS old WHERE old.row_key = new.row_key AND old.reason = new.reason"
    new = f"SELECT count(DISTINCT row_key) FROM {now} AS new WHERE NOT EXISTS ({same})"
    added = int(engine.scalar(connection, new))
    if not after.has_star(model):
        return added, 0
    fits = f"SELECT {_row_key(query, 'row', query.key_of(query.base))} FROM {star_table(model)} AS row WHERE NOT {DELETED}"
    left = f"SELECT DISTINCT row_key FROM {was} ANTI JOIN {now} AS now USING (row_key)"
    released = engine.scalar(connection, f"SELECT count(*) FROM ({left}) WHERE row_key IN ({fits})")
    return added, int(released)


def _row_key(query: BoundQuery, alias: str, base_key: tuple[str, ...]) -> str:
    """The SQL for what stands for a row in quarantine: the key of the row of the first table that it comes from.

    Args:
        query: the model.
        alias: of the relation with the row.
        base_key: its columns with that key.
    """
    shown, columns = (query.base.relation.key, base_key) if base_key else (query.key, query.key)
    members = ", ".join(
        f"{engine.text(name)}, {alias}.{engine.name(column)}"
        for name, column in zip(shown, columns, strict=True)
    )
    return f"json_object({members})::VARCHAR"
