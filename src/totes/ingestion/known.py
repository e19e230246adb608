"""What has been captured already: the key and the mark of every row, in the ingestion stage's cache."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from totes import engine
from totes.deadline import Deadline
from totes.errors import SourceRefused
from totes.ingestion.capture import MARK, key_column, position_column
from totes.ingestion.catalog import SourceTable
from totes.ingestion.content import DIGEST, digest_of
from totes.ingestion.reading import Rows, union
from totes.lake.cache import Cache
from totes.lake.document import StoredObject
from totes.lake.journal import Journal
from totes.lake.manifest import IngestionManifest, Position, TableChanges

_IS_ADDED = "is_added"
_LOOKED_THROUGH = "looked_through"
_BATCHES_AT_ONCE, _MARKS_AT_ONCE = 100, 1_000_000


class KnownRows:
    """The keys and marks of all captured rows, and the comparison of a table's present rows with them."""

    def __init__(self, cache: Cache, journal: Journal[IngestionManifest]) -> None:
        self._engine = cache.engine
        self._cache = cache
        self._journal = journal
        self._tables = cache.tables()
        self._rows: dict[str, int] = {}  # of all tables, once the first of them was asked for

    def catch_up(self, deadline: Deadline) -> bool:
        """Applies the batches that the cache does not have yet; returns False if the time was too short for all of them."""
        return self._cache.advance(self._apply_batches, deadline, at_once=_BATCHES_AT_ONCE)

    def captured(self, table: SourceTable) -> bool:
        """Whether any row of the table was ever captured."""
        return self._exists(table.name)

    def rows(self, table: SourceTable) -> int:
        """How many rows of a table are known."""
        if not self._rows:
            known = [name for name in self._tables if name.startswith("known_")]
            counts = " UNION ALL ".join(
                f"SELECT {engine.text(name)}, count(*) FROM {engine.name(name)}" for name in known
            )
            self._rows = dict(self._engine.execute(counts).fetchall()) if counts else {}
        return self._rows.get(engine.case_safe("known", table.name), 0)

    def unknown(
        self, table: SourceTable, read: list[str], added: tuple[int, ...], target: str
    ) -> tuple[int, int]:
        """Creates a table of those of the rows read that are not known.

        Rows with a value in one of the `added` columns (positions) count as not known: they were captured without it.

        Returns:
            How many there are, and how many of them have an unknown key.
        """
        widened = "".join(f" OR read.{position_column(position)} IS NOT NULL" for position in added)
        self._engine.execute(
            f"CREATE TABLE {target} AS SELECT read.*, known.{MARK} IS NULL AS {_IS_ADDED} FROM {union(read)} AS read"
            f" LEFT JOIN {_known(table.name)} AS known ON {_same_key(table)}"
            f" WHERE known.{MARK} IS DISTINCT FROM read.{MARK}{widened}"
        )
        [(rows, new)] = self._engine.execute(
            f"SELECT count(*), count(*) FILTER ({_IS_ADDED}) FROM {target}"
        ).fetchall()
        return int(rows), int(new)

    def differing(
        self, table: SourceTable, read: list[str], digests: str, new_table: Callable[[SourceTable], str]
    ) -> tuple[Rows, int, Rows]:
        """Compares rows that were read with the captured ones by content.

        Args:
            table: the table.
            read: tables with the rows, in their raw form.
            digests: a table with the captured rows' keys and the digests of their content.
            new_table: makes a name for a new table.

        Returns:
            The rows that differ or have an unknown key, how many have an unknown key, and the keys and marks of rows with the
            same content and another mark.
        """
        status, target, remarked = (new_table(table) for _ in range(3))
        keys = key_names(table)
        self._engine.execute(
            f"CREATE TABLE {status} AS SELECT read.*, known.{MARK} IS NULL AS {_IS_ADDED},"
            f" captured.{DIGEST} IS DISTINCT FROM read.{DIGEST} AS differs"
            f" FROM {union(read, f'{key_list(table)}, {MARK}, {digest_of(table)} AS {DIGEST}')} AS read"
            f" LEFT JOIN {_known(table.name)} AS known ON {engine.same('known', 'read', keys)}"
            f" LEFT JOIN {digests} AS captured ON {engine.same('captured', 'read', keys)}"
            f" WHERE known.{MARK} IS NULL OR differs OR known.{MARK}::VARCHAR <> read.{MARK}::VARCHAR"
        )
        changed = f"{status} AS known WHERE ({_IS_ADDED} OR differs)"
        self._engine.execute(
            f"CREATE TABLE {target} AS SELECT read.* FROM {union(read)} AS read"
            f" WHERE EXISTS (SELECT 1 FROM {changed} AND {_same_key(table)})"
        )
        self._engine.execute(
            f"CREATE TABLE {remarked} AS SELECT {engine.names([*keys, MARK])} FROM {status}"
            f" WHERE NOT ({_IS_ADDED} OR differs)"
        )
        new = self.count(f"{status} WHERE {_IS_ADDED}")
        return Rows(target, self.count(target)), new, Rows(remarked, self.count(remarked))

    def added(self, table: SourceTable, present: str, rows: int) -> int:
        """How many of the rows in a relation have an unknown key; it has their keys, as `k0`, `k1`, …, and this many rows."""
        if not self.captured(table):
            return rows
        same = engine.same("known", "present", key_names(table))
        unknown = f"NOT EXISTS (SELECT 1 FROM {_known(table.name)} AS known WHERE {same})"
        return self.count(f"{present} AS present WHERE {unknown}")

    def find_deleted(self, table: SourceTable, present: str, target: str) -> str:
        """Creates a table of the known keys that are not in the relation `present`."""
        keys = key_names(table)
        self._engine.execute(
            f"CREATE TABLE {target} AS SELECT {engine.names(keys)} FROM {_known(table.name)} AS known"
            f" WHERE NOT EXISTS (SELECT 1 FROM {present} AS present WHERE {engine.same('known', 'present', keys)})"
        )
        return target

    def copy_keys(self, table: SourceTable, target: str) -> None:
        """Creates a table of the known keys, which is empty if no row was captured yet."""
        if self.captured(table):
            keys = engine.names(key_names(table))
            self._engine.execute(f"CREATE TABLE {target} AS SELECT {keys} FROM {_known(table.name)}")
            return
        columns = (table.columns[position].entry for position in table.key_positions)
        keys = ", ".join(f"k{number} {column.raw_type}" for number, column in enumerate(columns))
        self._engine.execute(f"CREATE TABLE {target} ({keys})")

    def check_unique(self, table: SourceTable, read: list[str]) -> None:
        """Makes sure that the key from `source.keys` identifies rows.

        Raises:
            SourceRefused: rows have the same key, or none.
        """
        keys, relation = engine.names(key_names(table)), union(read, key_list(table))
        double = self._engine.execute(
            f"SELECT {keys} FROM {relation} GROUP BY ALL HAVING count(*) > 1 LIMIT 1"
        ).fetchall()
        nothing = " OR ".join(f"{key} IS NULL" for key in key_names(table))
        if self.count(f"{relation} WHERE {nothing}"):
            raise SourceRefused(
                f"{table.schema}.{table.name} has rows without a value in {', '.join(table.key)}",
                hint=f"Name columns that identify a row in [source.keys] for {table.name}",
            )
        if double:  # the key itself is not shown: it may be personal data
            columns = engine.names(table.key)
            raise SourceRefused(
                f"{table.schema}.{table.name} has several rows with the same {', '.join(table.key)}",
                hint=f"Name columns that identify a row in [source.keys] for {table.name}. To see them: SELECT {columns} "
                f"FROM {engine.name(table.schema, table.name)} GROUP BY {columns} HAVING count(*) > 1",
            )

    def learn(self, table: SourceTable, new: list[str], deleted: str | None, remarked: list[str]) -> None:
        """Adds a table's new rows and changed marks to the known ones, and removes deleted keys."""
        relations = [union(new, f"{key_list(table)}, {MARK}")] if new else []
        relations += [union(remarked)] if remarked else []
        self._replace(table.name, key_names(table), union(relations) if relations else None, deleted)

    def added_by(self, table: SourceTable, marks: Sequence[StoredObject]) -> int:
        """How many of the rows with marks in some objects have an unknown key."""
        with self._journal.store.local(marks) as files:
            return self.added(table, engine.parquet(files), sum(entry.rows for entry in marks))

    def learn_written(self, table: str, batch: int, changes: TableChanges) -> None:
        """Adds what a batch has written of a table to the known rows, as if the cache had to catch up with it."""
        self._apply_marks(table, [(batch, changes)])

    def looked_through(self) -> Position | None:
        """A later position than the newest batch's up to which nothing was new, if one is recorded."""
        if _LOOKED_THROUGH not in self._tables:
            return None
        rows = self._engine.execute(
            f"SELECT position FROM {_LOOKED_THROUGH} WHERE batch = ?", [self._cache.batch]
        ).fetchall()
        return Position.model_validate_json(rows[0][0]) if rows else None

    def note_looked_through(self, position: Position) -> None:
        """Records that nothing was new between the newest batch and a position, so that the next run starts from there."""
        self._engine.execute(
            f"CREATE OR REPLACE TABLE {_LOOKED_THROUGH} AS SELECT {self._cache.batch} AS batch,"
            f" {engine.text(position.model_dump_json())} AS position"
        )

    def count(self, relation: str) -> int:
        """How many rows a relation has."""
        return int(engine.scalar(self._engine, f"SELECT count(*) FROM {relation}"))

    def _apply_batches(self, batches: range) -> str:
        """Applies batches, a table's marks of several of them at once where these are of the same form."""
        waiting: defaultdict[str, list[tuple[int, TableChanges]]] = defaultdict(list)
        digest = ""
        for batch in batches:
            manifest = self._journal.confirmed(batch)
            digest = manifest.sha256()
            for table, changes in manifest.tables.items():
                if not changes.marks:
                    continue
                before = waiting[table]
                rows = sum(entry.rows for _, one in before for entry in one.marks)
                if before and (_form(before[-1][1]) != _form(changes) or rows > _MARKS_AT_ONCE):
                    self._apply_marks(table, before)
                    before.clear()
                before.append((batch, changes))
        for table, of_table in waiting.items():
            self._apply_marks(table, of_table)
        return digest

    def _apply_marks(self, table: str, of_batches: list[tuple[int, TableChanges]]) -> None:
        keys = [key_column(number) for number in range(len(of_batches[0][1].key))]
        marks = [(entry, batch) for batch, changes in of_batches for entry in changes.marks]
        with self._journal.store.local([entry for entry, _ in marks]) as files:
            rows = f"SELECT * FROM {engine.parquet(files)}"
            if len(of_batches) > 1:
                file = engine.name(engine.FILE)
                numbers = ", ".join(
                    f"({engine.text(str(one))}, {batch})"
                    for one, (_, batch) in zip(files, marks, strict=True)
                )
                rows = (
                    f"SELECT {engine.names([*keys, MARK])} FROM {engine.parquet(files, named=True)}"
                    f" JOIN (VALUES {numbers}) AS numbered ({file}, batch) USING ({file})"
                    f" QUALIFY row_number() OVER (PARTITION BY {engine.names(keys)} ORDER BY batch DESC, {MARK} IS NULL) = 1"
                )
            self._engine.execute(f"CREATE OR REPLACE TEMP TABLE marks AS {rows}")
        self._replace(table, keys, f"(SELECT * FROM marks WHERE {MARK} IS NOT NULL)", "marks")

    def _replace(self, table: str, keys: list[str], new: str | None, deleted: str | None) -> None:
        known, self._rows = _known(table), {}
        if self._exists(table) and (new is None or self._mark_type(known) == self._mark_type(new)):
            for relation in filter(None, (new, deleted)):
                self._engine.execute(
                    f"DELETE FROM {known} AS known USING {relation} AS other"
                    f" WHERE {engine.same('known', 'other', keys)}"
                )
            if new:
                self._engine.execute(f"INSERT INTO {known} SELECT {engine.names([*keys, MARK])} FROM {new}")
        elif new:
            # A table whose rows have another kind of mark than before is captured as a whole.
            self._engine.execute(
                f"CREATE OR REPLACE TABLE {known} AS SELECT {engine.names([*keys, MARK])} FROM {new}"
            )
            self._tables.add(engine.case_safe("known", table))

    def _mark_type(self, relation: str) -> str:
        [(_, kind, *_)] = self._engine.execute(f"DESCRIBE SELECT {MARK} FROM {relation}").fetchall()
        return str(kind)

    def _exists(self, table: str) -> bool:
        return engine.case_safe("known", table) in self._tables


def _form(changes: TableChanges) -> tuple[object, ...]:
    """What two batches' marks of a table have in common if they can be applied at once."""
    types = {column.name: column.raw_type for column in changes.columns}
    return changes.marked_by, *((part, types[part]) for part in changes.key)


def key_names(table: SourceTable) -> list[str]:
    """The engine's names of a table's key columns."""
    return [key_column(number) for number in range(len(table.key))]


def key_list(table: SourceTable) -> str:
    """SQL for the key columns of rows that were read, under these names."""
    return ", ".join(
        f"{position_column(position)} AS {key_column(number)}"
        for number, position in enumerate(table.key_positions)
    )


def _same_key(table: SourceTable) -> str:
    return " AND ".join(
        f"known.{key_column(number)} IS NOT DISTINCT FROM read.{position_column(position)}"
        for number, position in enumerate(table.key_positions)
    )


def _known(table: str) -> str:
    return engine.name(engine.case_safe("known", table))
