"""What has been captured already: the key and the mark of every row, kept in the ingestion stage's cache."""

from __future__ import annotations

import duckdb

from totes import engine
from totes.errors import SourceError, SourceRefused
from totes.ingestion.capture import (
    MARK,
    key_column,
    mark_expression,
    position_column,
    select_keys,
    select_rows,
)
from totes.ingestion.catalog import SourceTable
from totes.ingestion.source import Snapshot
from totes.lake.cache import Cache
from totes.lake.journal import Journal
from totes.lake.manifest import IngestionManifest, TableChanges
from totes.redaction import redact

# Temporary tables of one table's capture: what was read, what of it is new, and the keys that are gone.
READ, NEW, GONE = "read_rows", "new_rows", "gone_keys"


class KnownRows:
    """The captured rows of all tables, and the comparison of a table's present rows with them."""

    def __init__(self, cache: Cache, journal: Journal[IngestionManifest]) -> None:
        self.engine = cache.engine
        self._cache = cache
        self._journal = journal
        rows = self.engine.execute("SELECT table_name FROM duckdb_tables() WHERE NOT temporary").fetchall()
        self._tables = {name for (name,) in rows}

    def catch_up(self) -> None:
        """Learns what batches of other runners, or before the cache was lost, have captured."""
        self._cache.advance(self._apply_batch)

    def captured(self, table: SourceTable) -> bool:
        """Whether rows of the table were ever captured."""
        return self._exists(table.name)

    def rows(self, table: SourceTable) -> int:
        """How many rows of a table are known."""
        return self._count(_known(table.name)) if self.captured(table) else 0

    def read(
        self,
        snapshot: Snapshot,
        table: SourceTable,
        condition: str | None,
        added: tuple[int, ...] = (),
        *,
        everything: bool = False,
    ) -> int:
        """Reads a table's rows into the engine and keeps those that are not known; gives how many these are.

        Rows with a value in one of the `added` columns, by position, are not known: they were captured without it. With
        `everything`, no row is.
        """
        self._receive(READ, snapshot.stream(select_rows(table, condition), table.name), table.name)
        columns = ", ".join(position_column(number) for number in range(len(table.columns)))
        marked = f"SELECT {columns}, {_key_list(table)}, {mark_expression(table)} AS {MARK} FROM {READ}"
        if self.captured(table) and not everything:
            marked = (
                f"SELECT * FROM ({marked}) AS marked WHERE NOT EXISTS (SELECT 1 FROM {_known(table.name)} AS known"
                f" WHERE {engine.same('known', 'marked', [*_keys(table), MARK])})"
                + "".join(f" OR {position_column(position)} IS NOT NULL" for position in added)
            )
        self.engine.execute(f"CREATE OR REPLACE TEMP TABLE {NEW} AS {marked}")
        if not table.key_enforced:
            self._check_unique(table)
        return self._count(NEW)

    def count_read(self) -> int:
        """How many rows the last `read` got from the source, known or not."""
        return self._count(READ)

    def added(self, table: SourceTable) -> int:
        """How many of the new rows have a key that is not known."""
        if not self.captured(table):
            return self._count(NEW)
        return self._count(
            f"{NEW} AS new WHERE NOT EXISTS (SELECT 1 FROM {_known(table.name)} AS known"
            f" WHERE {engine.same('known', 'new', _keys(table))})"
        )

    def keys_read(self, table: SourceTable) -> str:
        """The keys of the rows that the last `read` got, as a relation; of all rows if it had no condition."""
        return f"(SELECT {_key_list(table)} FROM {READ})"

    def read_keys(self, snapshot: Snapshot, table: SourceTable) -> str:
        """Reads the keys of all present rows into the engine, and gives the relation's name."""
        self._receive("present_keys", snapshot.stream(select_keys(table), table.name), table.name)
        return "present_keys"

    def find_gone(self, table: SourceTable, present: str) -> int:
        """Keeps the known keys that are not in the relation `present`, and gives how many these are."""
        self.engine.execute(
            f"CREATE OR REPLACE TEMP TABLE {GONE} AS"
            f" SELECT {engine.names(_keys(table))} FROM {_known(table.name)} AS known"
            f" WHERE NOT EXISTS (SELECT 1 FROM {present} AS present WHERE {engine.same('known', 'present', _keys(table))})"
        )
        return self._count(GONE)

    def none_gone(self, table: SourceTable) -> int:
        """Keeps an empty table of gone keys, for a table from which nothing was deleted."""
        self.engine.execute(
            f"CREATE OR REPLACE TEMP TABLE {GONE} AS SELECT {engine.names(_keys(table))} FROM {NEW} LIMIT 0"
        )
        return 0

    def learn(self, table: str, keys: list[str]) -> None:
        """Takes the new rows and the gone keys of the table into what is known."""
        self._replace(table, keys, f"SELECT {engine.names([*keys, MARK])} FROM {NEW}", GONE)

    def _apply_batch(self, batch: int) -> str:
        manifest = self._journal.read(batch)
        for table, changes in manifest.tables.items():
            if changes.marks:
                self._apply_marks(table, changes)
        return manifest.sha256()

    def _apply_marks(self, table: str, changes: TableChanges) -> None:
        keys = [key_column(number) for number in range(len(changes.key))]
        with self._journal.store.local(list(changes.marks)) as files:
            self.engine.execute(
                f"CREATE OR REPLACE TEMP TABLE marks AS SELECT * FROM {engine.parquet(files)}"
            )
        self._replace(
            table, keys, f"SELECT {engine.names([*keys, MARK])} FROM marks WHERE {MARK} IS NOT NULL", "marks"
        )

    def _replace(self, table: str, keys: list[str], new: str, gone: str) -> None:
        known = _known(table)
        if self._exists(table) and self._mark_type(known) == self._mark_type(f"({new})"):
            for relation in (f"({new})", gone):
                self.engine.execute(
                    f"DELETE FROM {known} AS known USING {relation} AS other"
                    f" WHERE {engine.same('known', 'other', keys)}"
                )
            self.engine.execute(f"INSERT INTO {known} {new}")
        else:
            # A table whose rows are marked in another way than before is captured wholly.
            self.engine.execute(f"CREATE OR REPLACE TABLE {known} AS {new}")
            self._tables.add(engine.case_safe("known", table))

    def _mark_type(self, relation: str) -> str:
        [(_, kind, *_)] = self.engine.execute(f"DESCRIBE SELECT {MARK} FROM {relation}").fetchall()
        return str(kind)

    def _receive(self, table: str, stream: object, of: str) -> None:
        self.engine.register("incoming", stream)
        try:
            self.engine.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS SELECT * FROM incoming")
        except duckdb.Error as error:
            if "incoming" not in str(error):
                raise
            message = redact(" ".join(str(error).split()))
            raise SourceError(f"reading {of} failed: {message}", hint="Run it again") from error
        self.engine.unregister("incoming")

    def _count(self, relation: str) -> int:
        return int(engine.scalar(self.engine, f"SELECT count(*) FROM {relation}"))

    def _exists(self, table: str) -> bool:
        return engine.case_safe("known", table) in self._tables

    def _check_unique(self, table: SourceTable) -> None:
        keys = engine.names(_keys(table))
        double = self.engine.execute(
            f"SELECT {keys} FROM (SELECT {_key_list(table)} FROM {READ}) GROUP BY ALL HAVING count(*) > 1 LIMIT 1"
        ).fetchall()
        nothing = " OR ".join(f"{key_column(number)} IS NULL" for number in range(len(table.key)))
        if self._count(f"(SELECT {_key_list(table)} FROM {READ}) WHERE {nothing}"):
            raise SourceRefused(
                f"{table.schema}.{table.name} has rows without a value in {', '.join(table.key)}",
                hint=f"Name columns that identify a row in [source.keys] for {table.name}",
            )
        for row in double:
            raise SourceRefused(
                f"{table.schema}.{table.name} has several rows with {', '.join(table.key)} = "
                f"{', '.join(map(str, row))}",
                hint=f"Name columns that identify a row in [source.keys] for {table.name}",
            )


def _keys(table: SourceTable) -> list[str]:
    return [key_column(number) for number in range(len(table.key))]


def _key_list(table: SourceTable) -> str:
    return ", ".join(
        f"{position_column(position)} AS {key_column(number)}"
        for number, position in enumerate(table.key_positions)
    )


def _known(table: str) -> str:
    return engine.name(engine.case_safe("known", table))
