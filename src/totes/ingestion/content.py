"""Digests of the captured rows of a table, from the lake, to compare them with the table's present rows.

They are needed where marks do not show what is new. All packets of the table are read; the engine spills to disk if needed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from totes import engine
from totes.ingestion import lines
from totes.ingestion.capture import key_column, position_column, written_as
from totes.ingestion.catalog import SourceTable
from totes.lake.journal import Journal
from totes.lake.manifest import IngestionManifest, SourceColumn, TableChanges
from totes.lake.packets import SEQ, TURN_OF_LSN, PacketReader
from totes.lake.workspace import Workspace

DIGEST = "digest"


class Packets(NamedTuple):
    """A batch's packets of a table."""

    batch: int
    compression: str
    table: TableChanges


class CapturedContent:
    """The newest captured content of each row, by its key, up to a batch."""

    def __init__(self, journal: Journal[IngestionManifest], workspace: Workspace, batch: int) -> None:
        self._journal = journal
        self._workspace = workspace
        self._batch = batch
        self._packets: dict[str, list[Packets]] | None = None

    def digests(self, table: SourceTable, target: str) -> bool:
        """Creates a table with the keys of captured rows, as `k0`, `k1`, …, and a `digest` of each row's newest captured content.

        The digest of a deleted row is NULL. Columns are matched by their present names; a column that a row was captured without
        counts as NULL.

        Args:
            table: the table, whose key was the same in all batches.
            target: the name of the table to create.

        Returns:
            False, without creating the table, if names of columns differ only in case: then the engine cannot distinguish them.

        Raises:
            LakeDamaged: an object of the lake is missing or wrong.
        """
        if len({column.name.lower() for column in table.columns}) < len(table.columns):
            return False
        keys = [key_column(number) for number in range(len(table.key))]
        columns = [table.columns[position].entry for position in table.key_positions]
        types = [f"{key} {column.raw_type}" for key, column in zip(keys, columns, strict=True)]
        connection, versions = self._workspace.connect(), self._workspace.new_table()
        try:
            connection.execute(
                f"CREATE TABLE {versions} ({', '.join(types)}, {DIGEST} UHUGEINT, batch BIGINT, lsn BIGINT, seq BIGINT)"
            )
            for packets in self._packets_of(table.name):
                present = {column.name: column for column in packets.table.columns}
                raw = (
                    f"CAST({engine.name(column.name)} AS {column.raw_type}) AS {key}"
                    for key, column in zip(keys, columns, strict=True)
                )
                digest = _digest(
                    (entry, engine.name(entry.name)) if (entry := present.get(column.name)) else None
                    for column in table.columns
                )
                selected = f"{', '.join(raw)}, CASE WHEN _op <> 'delete' THEN {digest} END, {packets.batch}, {in_order()}"
                with self._journal.store.local(list(packets.table.objects)) as files:
                    PacketReader(connection).read(
                        packets.table,
                        files,
                        packets.compression,
                        lambda rows, selected=selected: connection.execute(  # type: ignore[misc]
                            f"INSERT INTO {versions} SELECT {selected} FROM ({rows})"
                        ),
                    )
            connection.execute(
                f"CREATE TABLE {target} AS SELECT {engine.names(keys)}, arg_max_null({DIGEST}, (batch, lsn, seq)) AS {DIGEST}"
                f" FROM {versions} GROUP BY ALL"
            )
        finally:
            connection.close()
            self._workspace.drop([versions])
        return True

    def _packets_of(self, table: str) -> list[Packets]:
        if self._packets is None:
            found = defaultdict(list)
            for manifest in self._journal.manifests(1, self._batch):
                for name, changes in manifest.tables.items():
                    if changes.objects:
                        found[name].append(Packets(manifest.batch, manifest.compression, changes))
            self._packets = found
        return self._packets.get(table, [])


def captured_packets(journal: Journal[IngestionManifest], table: str, batch: int) -> Iterator[Packets]:
    """The packets of a table up to a batch, the newest first."""
    for manifest in journal.newest_first(batch, [table]):
        changes = manifest.tables[table]
        if changes.objects:
            yield Packets(manifest.batch, manifest.compression, changes)


def in_order() -> str:
    """SQL for two numbers of a line, by which the lines of a batch are in order."""
    return f"coalesce({TURN_OF_LSN}, 0), coalesce({SEQ}, 0)"


def digest_of(table: SourceTable) -> str:
    """SQL for the digest of a row that was read in its raw form, equal to that of `CapturedContent` for the same content."""
    values = ((column.entry, position_column(number)) for number, column in enumerate(table.columns))
    return _digest(
        (entry, lines.on_one_line(value) if entry.kind == "json" else value) for entry, value in values
    )


def _digest(columns: Iterable[tuple[SourceColumn, str] | None]) -> str:
    """SQL for the digest of a row's values; None stands for a missing column.

    The type is part of the digest: what a model makes of a value depends on it, so a column whose type has changed has to be
    captured again.
    """
    parts = (_form(*column) if column else "''" for column in columns)
    return f"md5_number(concat_ws(chr(0), {', '.join(parts)}))"


def _form(column: SourceColumn, value: str) -> str:
    return f"coalesce({engine.text(written_as(column.type))} || to_json({value})::VARCHAR, '')"
