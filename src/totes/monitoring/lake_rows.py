"""Reads from the processed lake which rows and versions the warehouse must have, and which rows are in quarantine."""

from __future__ import annotations

from collections.abc import Callable

from totes import engine
from totes.lake.document import StoredObject
from totes.lake.journal import Journal
from totes.lake.manifest import ModelChanges, ProcessedManifest
from totes.warehouse.table import WarehouseTable

BATCH = engine.name("~batch")
_BATCHES_AT_ONCE = 500
Progress = Callable[[str], None]


def lake_rows(table: str) -> str:
    """The quoted name of the table with the lake's rows of a warehouse table.

    For a versioned table these are all versions, with `valid_to` as it must be now; for a latest table the newest state of
    each row, without removed rows.
    """
    return engine.name(engine.case_safe("lake", table))


def lake_quarantine(table: str) -> str:
    """The quoted name of the table with the keys of rows in quarantine, in the lake's form: `row_key`."""
    return engine.name(engine.case_safe("quarantine", table))


def lake_lineage(table: str) -> str:
    """The quoted name of the table with the lineage of a joined table: which source rows its rows came from."""
    return engine.name(engine.case_safe("lineage", table))


class LakeReader:
    """Reads the processed lake's rows of some tables into an engine, batch by batch."""

    def __init__(
        self,
        bench: engine.Engine,
        journal: Journal[ProcessedManifest],
        tables: tuple[WarehouseTable, ...],
        chosen: Callable[[WarehouseTable], str],
        lineage: dict[str, tuple[str, ...]],
    ) -> None:
        """Prepares to read.

        Args:
            bench: the engine.
            journal: the processed lake's manifests.
            tables: the warehouse tables.
            chosen: returns the SQL condition of a table's rows to compare.
            lineage: by table, the columns of the source row's key, if it is not in the table's own key.
        """
        self._bench = bench
        self._journal = journal
        self._tables = tables
        self._chosen = chosen
        self._lineage = lineage

    def read(self, last: int, progress: Progress) -> None:
        """Reads all batches up to `last`.

        Raises:
            StoreError: the lake cannot be read.
            LakeDamaged: a manifest or object is missing or wrong.
        """
        for table in self._tables:
            self._create(table)
        rows = 0
        taken: dict[str, list[tuple[int, ModelChanges]]] = {table.name: [] for table in self._tables}
        newest = self._journal.read(last).models if last else {}
        begins = {name: changes.since for name, changes in newest.items()}
        for manifest in self._journal.manifests(1, last):
            progress(
                f"reading the processed lake: batch {manifest.batch:,} of {last:,}, {rows:,} rows so far"
            )
            for table in self._tables:
                changes = manifest.models.get(table.name)
                if changes and changes.is_changed and manifest.batch >= begins.get(table.name, 0):
                    waiting = taken[table.name]
                    if waiting and (
                        len(waiting) >= _BATCHES_AT_ONCE or waiting[-1][1].columns != changes.columns
                    ):
                        self._take(table, waiting)
                        waiting.clear()
                    waiting.append((manifest.batch, changes))
                    rows += changes.written
        for table in self._tables:
            self._take(table, taken[table.name])
            self._fold(table)

    def _create(self, table: WarehouseTable) -> None:
        columns = ", ".join(f"{engine.name(c.name)} {c.type}" for c in table.model.output)
        keys = ", ".join(f"{engine.name(c.name)} {c.type}" for c in table.model.output if c.name in table.key)
        self._bench.execute(f"CREATE OR REPLACE TABLE {lake_rows(table.name)} ({columns}, {BATCH} BIGINT)")
        self._bench.execute(f"CREATE OR REPLACE TABLE {_removed(table)} ({keys}, {BATCH} BIGINT)")
        self._bench.execute(
            f"CREATE OR REPLACE TABLE {lake_quarantine(table.name)} (row_key VARCHAR, reason VARCHAR, batch BIGINT)"
        )
        base = "".join(f", {engine.name(column)} VARCHAR" for column in self._lineage.get(table.name, ()))
        self._bench.execute(
            f"CREATE OR REPLACE TABLE {lake_lineage(table.name)} ({keys}{base}, {BATCH} BIGINT)"
        )

    def _take(self, table: WarehouseTable, taken: list[tuple[int, ModelChanges]]) -> None:
        """Reads what some batches, with the same columns, changed in a table."""
        types = {column.name: column.type for column in table.model.output}

        def cast(names: tuple[str, ...]) -> str:
            return ", ".join(f"CAST({engine.name(n)} AS {types[n]}) AS {engine.name(n)}" for n in names)

        def of(kind: str) -> list[tuple[StoredObject, int]]:
            return [(entry, batch) for batch, changes in taken for entry in getattr(changes, kind)]

        self._insert(lake_rows(table.name), of("objects"), f"{cast(table.columns)}, {BATCH}", table)
        self._insert(_removed(table), of("removed"), f"{cast(table.key)}, {BATCH}", table)
        self._insert(lake_quarantine(table.name), of("quarantine"), "row_key, reason, batch", None)
        if lineage := self._lineage.get(table.name):
            base = ", ".join(f"{engine.name(column)}::VARCHAR AS {engine.name(column)}" for column in lineage)
            self._insert(lake_lineage(table.name), of("state"), f"{cast(table.key)}, {base}, {BATCH}", table)

    def _insert(
        self,
        target: str,
        objects: list[tuple[StoredObject, int]],
        selected: str,
        table: WarehouseTable | None,
    ) -> None:
        if not objects:
            return
        condition, file = self._chosen(table) if table else "true", engine.name(engine.FILE)
        with self._journal.store.local([entry for entry, _ in objects]) as files:
            numbers = ", ".join(
                f"({engine.text(str(one))}, {batch}::BIGINT)"
                for one, (_, batch) in zip(files, objects, strict=True)
            )
            rows = f"{engine.parquet(files, named=True)} JOIN (VALUES {numbers}) AS numbered ({file}, {BATCH}) USING ({file})"
            self._bench.execute(
                f"INSERT INTO {target} BY NAME SELECT * FROM (SELECT {selected} FROM {rows}) WHERE {condition}"
            )

    def _fold(self, table: WarehouseTable) -> None:
        """Reduces the rows of latest tables, lineage and quarantine to the newest entry for each key."""
        keys, rows = engine.names(table.key), lake_rows(table.name)
        if table.model.versioned:
            self._bench.execute(
                f"CREATE OR REPLACE TABLE {rows} AS SELECT * REPLACE (lead(valid_from) OVER"
                f" (PARTITION BY {keys} ORDER BY valid_from) AS valid_to) FROM {rows}"
            )
        else:
            self._bench.execute(
                f"CREATE OR REPLACE TABLE {rows} AS SELECT * FROM ({_last_of(rows, keys)}) AS written"
                f" WHERE NOT EXISTS (SELECT 1 FROM {_removed(table)} AS removed"
                f" WHERE removed.{BATCH} > written.{BATCH} AND {engine.same('written', 'removed', table.key)})"
            )
        lineage, quarantine = lake_lineage(table.name), lake_quarantine(table.name)
        self._bench.execute(f"CREATE OR REPLACE TABLE {lineage} AS {_last_of(lineage, keys)}")
        self._bench.execute(
            f"CREATE OR REPLACE TABLE {quarantine} AS SELECT row_key FROM {quarantine} GROUP BY row_key"
            " HAVING arg_max(reason IS NOT NULL, batch)"
        )


def _last_of(rows: str, keys: str) -> str:
    return f"SELECT * FROM {rows} QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {BATCH} DESC) = 1"


def _removed(table: WarehouseTable) -> str:
    return engine.name(engine.case_safe("removed", table.name))
