"""What the rounds of a batch change in one table, taken together: every version, but of anything else only the newest."""

from __future__ import annotations

from totes import engine
from totes.processing.bound.query import BoundQuery
from totes.processing.quarantine import QuarantineChanges
from totes.processing.state import DELETED
from totes.processing.transform import Count, Transformation
from totes.processing.versions import CHANGED, NEWEST, end_of_version
from totes.star.model import Model


class SummedRows:
    """Merged rows of several rounds, as if they were one transformation's."""

    def __init__(self, connection: engine.Engine, part: Transformation) -> None:
        self.query: BoundQuery = part.query
        self.model: Model = part.model
        self.count = Count(0, 0, 0, 0)
        self.written = part.written
        self.merged = self._newest = ""
        self._engine = connection

    def add(self, part: Transformation) -> None:
        """Adds a later round."""
        key = self.query.key
        if not self.merged:
            self._newest = self._create("summed_newest", f"FROM {part.merged} WHERE {NEWEST}")
            self.merged = (
                self._create("summed", f"FROM {part.merged} WHERE {CHANGED}")
                if self.model.versioned
                else self._newest
            )
        else:
            same = engine.same("earlier", "later", key)
            if not self.model.versioned:  # a row that was changed before is changed, be the last change none
                self._engine.execute(
                    f"UPDATE {part.merged} AS later SET {CHANGED} = true FROM {self._newest} AS earlier"
                    f" WHERE earlier.{CHANGED} AND {same}"
                )
            self._engine.execute(
                f"DELETE FROM {self._newest} AS earlier USING {part.merged} AS later WHERE {same}"
            )
            self._engine.execute(f"INSERT INTO {self._newest} BY NAME FROM {part.merged} WHERE {NEWEST}")
            if self.model.versioned:
                self._engine.execute(f"INSERT INTO {self.merged} BY NAME FROM {part.merged} WHERE {CHANGED}")
        [counted] = self._engine.execute(
            f"SELECT (SELECT count(*) FROM {self._newest}), count(*) FILTER ({self.written}), count(*) FILTER ({DELETED}),"
            f" {self.count.bad + part.count.bad} FROM {self.merged}"
        ).fetchall()
        self.count = Count(*counted)

    @property
    def ends(self) -> str:
        """The SQL of when a merged version ends: where the next one begins."""
        return end_of_version(self.query)

    @property
    def merged_rows(self) -> str:
        """The newest merged rows, in the shape of the newest versions."""
        return f"(SELECT * EXCLUDE ({CHANGED}, {NEWEST}) FROM {self._newest})"

    def _create(self, kind: str, query: str) -> str:
        return engine.create_temporary(self._engine, kind, self.model.name, query)


class SummedQuarantine:
    """What several rounds change in quarantine, as if it were one round's: of each row, the last that became of it."""

    def __init__(self, connection: engine.Engine, model: Model) -> None:
        self.table = ""
        self.rows = self.added = self.released = 0
        self._engine = connection
        self._model = model.name

    def add(self, changes: QuarantineChanges) -> None:
        """Adds a later round."""
        if not changes.rows:
            return
        if not self.table:
            self.table = engine.create_temporary(
                self._engine, "summed_quarantine", self._model, f"FROM {changes.table}"
            )
        else:
            self._engine.execute(
                f"DELETE FROM {self.table} AS earlier USING {changes.table} AS later WHERE earlier.row_key = later.row_key"
            )
            self._engine.execute(f"INSERT INTO {self.table} BY NAME FROM {changes.table}")
        [(self.rows, bad)] = self._engine.execute(
            f"SELECT count(*), count(reason) FROM {self.table}"
        ).fetchall()
        self.added = min(self.added + changes.added, bad)
        self.released = min(self.released + changes.released, self.rows - bad)
