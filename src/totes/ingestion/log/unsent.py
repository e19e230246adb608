"""Fills in values that a change did not touch and the log did not send: large ones, which PostgreSQL stores apart (TOAST).

Such a value is that of the row's previous version: the latest earlier change in the batch that has it, or else the newest
captured one in the lake. Only rows of more than about 2 kB have such values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from totes import engine
from totes.ingestion.capture import key_column, position_column
from totes.ingestion.catalog import SourceTable
from totes.ingestion.content import captured_packets, in_order
from totes.lake.journal import Journal
from totes.lake.manifest import IngestionManifest
from totes.lake.packets import PacketReader


class NotInLake(Exception):
    """A value that was not sent is not in the lake either."""


class Unsent(NamedTuple):
    """Fills in the values of one table's changes, which are in a table of the workspace as `Decoder` makes it."""

    connection: engine.Engine
    table: SourceTable
    journal: Journal[IngestionManifest]
    batch: int
    new_table: Callable[[], str]

    def fill(self, changes: str, positions: Sequence[int]) -> None:
        """Fills in the columns at some positions.

        Raises:
            NotInLake: a value cannot be found.
            LakeDamaged: an object of the lake is missing or wrong.
        """
        sources = {position: self._sources(changes, position) for position in positions}
        captured = self._captured(list(sources.values()), positions)
        for position, source in sources.items():
            column = position_column(position)
            self._run(
                f"UPDATE {changes} AS change SET {column} = other.{column} FROM {source} AS source, {changes} AS other"
                " WHERE change.number = source.number AND other.number = source.origin"
            )
            self._run(
                f"UPDATE {changes} AS change SET {column} = captured.{column} FROM {source} AS source, {captured} AS captured"
                f" WHERE change.number = source.number AND source.origin IS NULL"
                f" AND {engine.same('source', 'captured', self._keys)}"
            )
            missing = f"SELECT count(*) FROM {changes} WHERE {_is_unsent(position)} AND {column} IS NULL"
            if engine.scalar(self.connection, missing):
                raise NotInLake(
                    f"values of {self.table.name}.{self.table.columns[position].name} that the log did not repeat are not"
                    " in the lake"
                )

    @property
    def _keys(self) -> list[str]:
        return [key_column(number) for number in range(len(self.table.key))]

    def _run(self, sql: str) -> None:
        self.connection.execute(sql)

    def _sources(self, changes: str, position: int) -> str:
        """A table with where the value of each change that lacks it is: the change `origin`, or in the lake under a key.

        A change that moves a row to another key is at first its own origin, since earlier changes under that key are of another
        row; then it takes the origin of the latest change under its previous key, until none is left.
        """
        keys, sources, roots = self._keys, self.new_table(), self.new_table()
        previous = [f"p{number}" for number in range(len(keys))]
        moved = f"(has_old AND NOT ({engine.same('change', 'change', keys, previous)}))"
        origin = (
            f"max(CASE WHEN NOT {_is_unsent(position)} OR {moved} THEN number END)"
            f" OVER (PARTITION BY {engine.names(keys)} ORDER BY number)"
        )
        every = (
            f"SELECT number, {engine.names([*keys, *previous])}, {_is_unsent(position)} AS is_unsent,"
            f" is_unsent AND {moved} AS is_root, {origin} AS origin FROM {changes} AS change WHERE kind <> 'D'"
        )
        whole = self.new_table()
        self._run(f"CREATE TABLE {whole} AS {every}")
        old = ", ".join(f"root.{part} AS {key}" for part, key in zip(previous, keys, strict=True))
        self._run(
            f"CREATE TABLE {roots} AS SELECT root.number, before.origin, {old} FROM"
            f" (SELECT * FROM {whole} WHERE is_root) AS root ASOF LEFT JOIN {whole} AS before"
            f" ON {engine.equal('root', 'before', previous, keys)} AND root.number > before.number"
        )
        self._run(
            f"CREATE TABLE {sources} AS SELECT number, origin, {engine.names(keys)} FROM {whole} WHERE is_unsent"
        )
        found = ", ".join(f"{key} = root.{key}" for key in keys)
        to_roots = f"FROM {roots} AS root WHERE source.origin = root.number"
        while engine.scalar(
            self.connection,
            f"SELECT count(*) FROM {sources} AS source JOIN {roots} AS root ON source.origin = root.number",
        ):
            self._run(f"UPDATE {sources} AS source SET origin = root.origin, {found} {to_roots}")
        return sources

    def _captured(self, sources: Sequence[str], positions: Sequence[int]) -> str:
        """A table with the newest captured values of all rows that are looked up in the lake, read from the newest batch on."""
        keys, target, wanted = engine.names(self._keys), self.new_table(), self.new_table()
        listed = " UNION ".join(f"SELECT {keys} FROM {each} WHERE origin IS NULL" for each in sources)
        self._run(f"CREATE TABLE {wanted} AS {listed}")
        columns = [self.table.columns[position].entry for position in (*self.table.key_positions, *positions)]
        names = [*self._keys, *map(position_column, positions)]
        kinds = ", ".join(f"{name} {column.raw_type}" for name, column in zip(names, columns, strict=True))
        self._run(f"CREATE TABLE {target} ({kinds}, is_there BOOLEAN, batch BIGINT, lsn BIGINT, seq BIGINT)")
        for packets in captured_packets(self.journal, self.table.name, self.batch):
            if not engine.scalar(self.connection, f"SELECT count(*) FROM {wanted}"):
                break
            present = {column.name for column in packets.table.columns}
            values = ", ".join(
                f"{engine.name(column.name)}::{column.raw_type} AS {name}"
                if column.name in present
                else f"NULL AS {name}"
                for name, column in zip(names, columns, strict=True)
            )
            selected = f"SELECT {values}, _op = 'upsert', {packets.batch}, {in_order()}"
            with self.journal.store.local(list(packets.table.objects)) as files:
                PacketReader(self.connection).read(
                    packets.table,
                    files,
                    packets.compression,
                    lambda rows, selected=selected: self._run(  # type: ignore[misc]
                        f"INSERT INTO {target} SELECT found.* FROM ({selected} FROM ({rows})) AS found SEMI JOIN {wanted}"
                        f" AS wanted ON {engine.same('found', 'wanted', self._keys)}"
                    ),
                )
            self._run(
                f"DELETE FROM {wanted} AS wanted USING {target} AS found"
                f" WHERE {engine.same('wanted', 'found', self._keys)}"
            )
        self._run(
            f"CREATE OR REPLACE TABLE {target} AS SELECT * FROM {target} QUALIFY row_number()"
            f" OVER (PARTITION BY {keys} ORDER BY batch DESC, lsn DESC, seq DESC) = 1"
        )
        self._run(f"DELETE FROM {target} WHERE NOT is_there")
        return target


def _is_unsent(position: int) -> str:
    return f"list_contains(unsent, {position})"
