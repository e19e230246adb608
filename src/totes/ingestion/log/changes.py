"""A table's changes from the log: decoded messages become upserts and deletes, in tables of the workspace.

Values that were not sent, since the change did not touch them, are filled in; a change of a key becomes a delete and an
upsert; a TRUNCATE becomes the deletes of the rows that were there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from totes import engine
from totes.ingestion.capture import MARK, key_column, position_column
from totes.ingestion.catalog import SourceTable
from totes.ingestion.log import decoding
from totes.ingestion.reading import Rows

# No transaction has this id: the mark of a row whose transaction is not known.
UNKNOWN_MARK = 0


class TableLog(NamedTuple):
    """A table's changes: `upserts` and `deletes` are all of them, in the order of `lsn` and `seq`.

    `present` has the keys and marks of rows that are there afterwards, `absent` the keys of those that are not. `growth` is by
    how many rows the table has grown.
    """

    table: SourceTable
    upserts: Rows
    deletes: Rows
    present: Rows
    absent: Rows
    growth: int


class Decoder:
    """Decodes the changes of one table into tables of the workspace.

    Args:
        connection: a connection of the workspace, in no transaction.
        table: the table, with its columns as the log has them.
        order: the position of each column in the order of the log.
        new_table: makes a name for a new table.
    """

    def __init__(
        self,
        connection: engine.Engine,
        table: SourceTable,
        order: Sequence[int],
        new_table: Callable[[], str],
    ) -> None:
        self._engine = connection
        self._table = table
        self._order = order
        self._new_table = new_table
        self._columns = [position_column(number) for number in range(len(table.columns))]
        self._keys = [key_column(number) for number in range(len(table.key))]

    def decode(self, messages: str) -> str:
        """Decodes messages with their transactions into a new table of changes; returns its name.

        Beside the columns of `decoding.changes`, it has the new key `k0`, ….
        """
        target, key = self._new_table(), self._table.key_positions
        entries = [column.entry for column in self._table.columns]
        query = decoding.changes(messages, entries, self._order, key)
        new = ", ".join(f"c{position} AS k{number}" for number, position in enumerate(key))
        self._engine.execute(f"CREATE TABLE {target} AS SELECT *, {new} FROM ({query})")
        return target

    def unsent(self, changes: str) -> list[int]:
        """The positions of columns with values that were not sent."""
        found = f"SELECT DISTINCT unnest(unsent) AS position FROM {changes} ORDER BY ALL"
        return [position for (position,) in self._engine.execute(found).fetchall()]

    def truncated(self, changes: str, truncates: str, known: str | None) -> Rows:
        """Finds the rows that TRUNCATEs deleted: a new table of their keys, each with the truncation's place in the log.

        Args:
            changes: the table of changes.
            truncates: a query for the truncations, with `number`, `lsn`, `committed` and `seq`.
            known: a table of the keys that were captured before.
        """
        target, keys = self._new_table(), engine.names(self._keys)
        old_keys = ", ".join(f"p{number} AS k{number}" for number in range(len(self._keys)))
        events = [
            f"SELECT {old_keys}, number, 0 AS part, false AS is_there FROM {changes} WHERE kind = 'D' OR has_old",
            f"SELECT {keys}, number, 1, true FROM {changes} WHERE kind <> 'D'",
            f"SELECT {keys}, -1, 1, true FROM {known}",
        ]
        last = (
            f"SELECT {keys}, t.lsn, t.committed, t.seq, arg_max(is_there, (e.number, part)) AS is_there"
            f" FROM ({' UNION ALL '.join(events)}) AS e ASOF JOIN ({truncates}) AS t ON e.number < t.number GROUP BY ALL"
        )
        self._engine.execute(
            f"CREATE TABLE {target} AS SELECT * EXCLUDE (is_there) FROM ({last}) WHERE is_there"
        )
        return self._counted(target)

    def split(self, changes: str, truncated: Rows | None = None, known: str | None = None) -> TableLog:
        """Splits decoded changes into upserts and deletes.

        Args:
            changes: the table of changes.
            truncated: keys of rows that a TRUNCATE deleted, with their place in the log.
            known: a table of the keys that were captured before, if the log may have deletes of other rows: those of a
                partition that was attached since.
        """
        upserts, deletes, present, absent = (self._new_table() for _ in range(4))
        keys = engine.names(self._keys)
        moved = " OR ".join(f"p{number} IS DISTINCT FROM k{number}" for number in range(len(self._keys)))
        old_keys = ", ".join(f"p{number} AS k{number}" for number in range(len(self._keys)))
        self._engine.execute(
            f"CREATE TABLE {upserts} AS SELECT {engine.names(self._columns)}, {keys}, lsn, committed, 2 * seq + 1 AS seq"
            f" FROM {changes} WHERE kind <> 'D'"
        )
        more = f" UNION ALL SELECT {keys}, lsn, committed, 2 * seq FROM {truncated.name}" if truncated else ""
        self._engine.execute(
            f"CREATE TABLE {deletes} AS SELECT {old_keys}, lsn, committed, 2 * seq AS seq"
            f" FROM {changes} WHERE kind = 'D' OR (has_old AND ({moved})){more}"
        )
        if known:
            deletes = self._of_captured(upserts, deletes, known)
        last = (
            f"SELECT {keys}, arg_max(is_there, (lsn, seq)) AS is_there FROM (SELECT {keys}, lsn, seq, true AS is_there"
            f" FROM {upserts} UNION ALL SELECT {keys}, lsn, seq, false FROM {deletes}) GROUP BY ALL"
        )
        state = self._new_table()
        self._engine.execute(f"CREATE TABLE {state} AS {last}")
        self._engine.execute(
            f"CREATE TABLE {present} AS SELECT {keys}, {UNKNOWN_MARK}::BIGINT AS {MARK} FROM {state} WHERE is_there"
        )
        self._engine.execute(f"CREATE TABLE {absent} AS SELECT {keys} FROM {state} WHERE NOT is_there")
        if known:
            growth = f"(SELECT count(*) FROM {present} ANTI JOIN {known} USING ({keys})) - (SELECT count(*)"
            growth = f"SELECT {growth} FROM {absent} SEMI JOIN {known} USING ({keys}))"
        else:
            growth = f"SELECT count(*) FILTER (kind = 'I') - count(*) FILTER (kind = 'D') FROM {changes}"
        removed = truncated.count if truncated and not known else 0
        tables = upserts, deletes, present, absent
        counts = ", ".join(f"(SELECT count(*) FROM {name})" for name in tables)
        *counted, grown = self._engine.execute(f"SELECT {counts}, ({growth})").fetchall()[0]
        rows = [Rows(name, number) for name, number in zip(tables, counted, strict=True)]
        return TableLog(self._table, rows[0], rows[1], rows[2], rows[3], grown - removed)

    def _of_captured(self, upserts: str, deletes: str, known: str) -> str:
        """A table of the deletes of rows that were there, by an earlier change or by what was captured before."""
        target, keys = self._new_table(), engine.names(self._keys)
        place = f"lsn::HUGEINT * {1 << 40} + seq AS place"
        events = (
            f"SELECT {keys}, true AS is_there, {place} FROM {upserts}"
            f" UNION ALL SELECT {keys}, false, {place} FROM {deletes}"
        )
        self._engine.execute(
            f"CREATE TABLE {target} AS SELECT d.* EXCLUDE (place) FROM (SELECT *, {place} FROM {deletes}) AS d"
            f" ASOF LEFT JOIN ({events}) AS e ON {engine.equal('d', 'e', self._keys)} AND d.place > e.place"
            f" WHERE coalesce(e.is_there, EXISTS (FROM {known} AS k WHERE {engine.equal('d', 'k', self._keys)}))"
        )
        return target

    def _counted(self, table: str) -> Rows:
        return Rows(table, int(engine.scalar(self._engine, f"SELECT count(*) FROM {table}")))
