"""A processed lake made by hand: each batch says what its tables are and which rows it brings."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from totes import engine, scratch
from totes.lake.document import StoredObject
from totes.lake.journal import processed_journal
from totes.lake.layout import new_object_path
from totes.lake.manifest import ModelChanges, OutputColumn, ProcessedManifest
from totes.lake.store import Store
from totes.star.recorded import recorded_model

BEGAN = datetime(2024, 11, 25, 9, tzinfo=UTC)


@dataclass(frozen=True)
class Table:
    """A table in a batch: its columns as `name: "TYPE NOT NULL REFERENCES other"`, what identifies a row, and its rows.

    `surrogate` makes it one that keeps versions, whose rows end in valid_from, is_deleted and batch_id; `soft` one whose rows
    end in is_deleted. With `anew` the rows are all of its history. Very many rows are given as a query.
    """

    columns: dict[str, str]
    key: tuple[str, ...]
    rows: Sequence[tuple[Any, ...]] | str = ()
    removed: Sequence[tuple[Any, ...]] = ()
    surrogate: str | None = None
    soft: bool = False
    anew: bool = False
    renamed: dict[str, str] = field(default_factory=dict)

    def having(self, *rows: tuple[Any, ...], removed: Sequence[tuple[Any, ...]] = ()) -> Table:
        """The same table, with other rows."""
        return replace(self, rows=rows, removed=removed, anew=False, renamed={})

    def made_anew(self, *rows: tuple[Any, ...], **changed: Any) -> Table:
        """The table made anew, of which something is changed."""
        return replace(self, **({"rows": rows, "removed": (), "anew": True, "renamed": {}} | changed))

    @property
    def output(self) -> tuple[OutputColumn, ...]:
        """The columns with what totes adds."""
        return (*self.declared, *(OutputColumn(name=name, type=kind) for name, kind in self.added.items()))

    @property
    def declared(self) -> list[OutputColumn]:
        """The columns without that."""
        found = []
        for name, text in self.columns.items():
            kind, _, target = text.partition(" REFERENCES ")
            type_ = kind.replace(" NOT NULL", "")
            unbounded, length = type_ == "NUMERIC", None
            if type_.startswith("VARCHAR("):
                type_, length = "VARCHAR", int(type_[8:-1])
            found.append(
                OutputColumn(
                    name=name, type="DECIMAL(38, 10)" if unbounded else type_, not_null=" NOT NULL" in kind or name == self.surrogate or (name in self.key and not self.surrogate),
                    unbounded=unbounded, length_max=length, references=target or None,
                )
            )  # fmt: skip
        return found

    @property
    def added(self) -> dict[str, str]:
        """The types of the columns that totes adds."""
        if self.surrogate:
            return {
                "valid_from": "TIMESTAMP",
                "valid_to": "TIMESTAMP",
                "is_deleted": "BOOLEAN",
                "batch_id": "BIGINT",
            }
        return {"is_deleted": "BOOLEAN"} if self.soft else {}


@functools.cache
def _engine() -> engine.Engine:
    return engine.connect(None, memory="1GB")


class Lake:
    """A processed lake to which batches are added."""

    def __init__(self, folder: Path) -> None:
        self.store = Store.open(str(folder / "processed"), folder)
        self.journal = processed_journal(self.store)
        self._since: dict[str, int] = {}
        self._surrogates: dict[str, int] = {}

    def add(self, tables: dict[str, Table]) -> ProcessedManifest:
        """Adds a batch. A table of the batch before that is not named here was dropped."""
        batch = self.journal.last() + 1
        before = self.journal.newest()
        models = {name: self._changes(name, table, batch) for name, table in tables.items()}
        manifest = ProcessedManifest(
            batch=batch, previous_sha256=before.sha256() if before else None, started_at=BEGAN, finished_at=BEGAN,
            ingestion_sha256="", read_at=BEGAN + timedelta(days=batch), calendar_years=(), models=models,
        )  # fmt: skip
        self.journal.commit(manifest)
        return manifest

    def _changes(self, name: str, table: Table, batch: int) -> ModelChanges:
        if table.anew or name not in self._since:
            self._since[name] = batch
        rows = table.rows
        if table.surrogate and not isinstance(rows, str):
            rows = [(*row[:-2], None, *row[-2:]) for row in rows]
            self._surrogates[name] = max([self._surrogates.get(name, 0), *(row[0] for row in rows)])
        changes = ModelChanges(
            kind="versioned" if table.surrogate else "latest", table_sha256="", query_sha256="query",
            columns=table.output, key=table.key, surrogate=table.surrogate, soft_deletes=table.soft,
            since=self._since[name], renamed=table.renamed, surrogates=self._surrogates.get(name, 0),
            objects=self._write(name, batch, [(c.name, c.type) for c in table.output], rows),
            removed=self._write(f"removed/{name}", batch,
                                [(c.name, c.type) for c in table.output if c.name in table.key], list(table.removed)),
        )  # fmt: skip
        model = recorded_model(name, changes)
        return changes.model_copy(update={"table_sha256": model.table_sha256()})

    def _write(
        self, place: str, batch: int, columns: list[tuple[str, str]], rows: Sequence[tuple[Any, ...]] | str
    ) -> tuple[StoredObject, ...]:
        if not rows:
            return ()
        connection = _engine()
        with scratch.temporary_folder() as folder:
            typed = ", ".join(f"{engine.name(name)} {kind}" for name, kind in columns)
            connection.execute(f"CREATE OR REPLACE TABLE rows ({typed})")
            if isinstance(rows, str):
                connection.execute(f"INSERT INTO rows {rows}")
            else:
                places = ", ".join("?" * len(columns))
                connection.executemany(f"INSERT INTO rows VALUES ({places})", [list(row) for row in rows])
            count = engine.scalar(connection, "SELECT count(*) FROM rows")
            connection.execute(f"COPY rows TO {engine.text(f'{folder}/rows.parquet')} (FORMAT parquet)")
            path = new_object_path(place, batch=batch, part=1, read_at=BEGAN, ending="parquet")
            return (self.store.put_file(path, folder / "rows.parquet", int(count)),)
