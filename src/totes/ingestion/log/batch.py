"""Captures one batch from the log: whole transactions, up to a number of changes, as upserts and deletes of each table."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from totes import engine
from totes.errors import SourceBusy
from totes.ingestion import lines
from totes.ingestion.capture import advance_clock
from totes.ingestion.catalog import SourceTable, TableColumn
from totes.ingestion.identity import lsn_number
from totes.ingestion.known import KnownRows
from totes.ingestion.log import decoding
from totes.ingestion.log.changes import Decoder, TableLog
from totes.ingestion.log.session import LogSession, LogUnusable
from totes.ingestion.log.unsent import NotInLake, Unsent
from totes.ingestion.objects import BatchLabel
from totes.ingestion.packets import PacketWriter, handoff_of_log
from totes.lake.journal import Journal
from totes.lake.manifest import IngestionManifest, Position, SourceColumn, TableChanges
from totes.lake.store import Store
from totes.lake.workspace import Handoff, Workspace
from totes.log import logger

CHANGES_MAX = 1_000_000
_AT = "strftime(committed, '%Y-%m-%dT%H:%M:%S.%f')"
_PLACE = lines.Place(decoding.lsn_text("lsn"), "seq")
_log = logger(stage="ingest")


@dataclass
class Read:
    """Messages that were read: tables of the workspace with them and their transactions, and what part of them is used.

    `end` is the number of the first message that is not used, None if all are. `lsn` is the position up to which the log is
    used, and `more` whether there is more of it. `altered` are tables whose shape changes at `end`.
    """

    messages: str
    transactions: str
    end: int | None = None
    lsn: str = "0/0"
    more: bool = False
    altered: frozenset[str] = frozenset()


class LogBatch:
    """The batch that follows `previous`, from the log."""

    def __init__(
        self,
        session: LogSession,
        workspace: Workspace,
        known: KnownRows,
        previous: IngestionManifest,
        base: str,
        changed_at: str,
        journal: Journal[IngestionManifest],
        described: Mapping[str, tuple[SourceColumn, ...]],
    ) -> None:
        self._described = described
        self._journal = journal
        self._orders: dict[str, list[int]] = {}
        self._truncates: list[tuple[int, tuple[int, ...]]] = []
        self._session, self._workspace, self._known = session, workspace, known
        self._previous, self._base = previous, base
        self._tables = {
            name: _table(previous.schema_name, name, entry, changed_at)
            for name, entry in previous.tables.items()
        }
        self._made: list[str] = []
        self._engine = workspace.connect()
        self._logs: dict[str, TableLog] = {}

    def read(self, until: str, seen: str | None = None) -> Read:
        """Reads messages up to a position of the log, or a number of them, and decides what part of them is used.

        Args:
            until: the position.
            seen: the snapshot whose transactions are wanted; by default the one after the read.
        """
        read = Read(self._new_table(), self._new_table())
        with self._session.messages(until, CHANGES_MAX) as stream:
            self._engine.register("incoming", stream)
            count = engine.scalar(
                self._engine, f"CREATE TABLE {read.messages} AS {decoding.received('incoming')}"
            )
            self._engine.unregister("incoming")
        self._engine.execute(f"CREATE TABLE {read.transactions} AS {decoding.transactions(read.messages)}")
        is_limited = int(count) >= CHANGES_MAX
        ends = [self._first_unseen(read, seen or self._session.snapshot())]
        if seen and ends[0] is not None and self._sees_later(read, ends[0], seen):
            raise SourceBusy("transactions are being committed while the source is read", hint="Run it again")
        ends.append(self._first_altered(read))
        self._survey(read)
        found = [end for end in ends if end is not None]
        read.end = min(found, default=None)
        last = self._last_lsn(read)
        complete = read.end is None and not is_limited
        if complete:
            read.lsn = max(until, last or until, key=lsn_number)
        else:
            read.lsn = max(self._base, last or self._base, key=lsn_number)
        read.more = is_limited
        if read.end is None or read.end != ends[1]:
            read.altered = frozenset()
        return read

    def find(self, read: Read) -> bool:
        """Decodes the changes of all captured tables; returns whether there are any."""
        for name, table in self._tables.items():
            found = self._find(read, name, table)
            if found:
                self._logs[name] = found
        return bool(self._logs)

    def manifest(
        self, read: Read, position: Position, store: Store, compression: str, started: datetime, slot: str
    ) -> IngestionManifest:
        """Writes all objects, and returns the batch's manifest."""
        previous = self._previous
        position = advance_clock(previous.position, position).model_copy(
            update={"lsn": read.lsn, "flushed_lsn": read.lsn, "log_lsn": read.lsn, "log_slot": slot}
        )
        tables: dict[str, TableChanges] = {}
        batch = previous.batch + 1
        label = BatchLabel(batch, position.read_at, compression)
        with PacketWriter(self._workspace, store, label) as writer:
            for name, table in self._tables.items():
                entry = self._entry(previous.tables[name], table, read.lsn)
                tables[name] = self._written(writer, table, entry) if name in self._logs else entry
        return IngestionManifest(
            batch=batch,
            previous_sha256=previous.sha256(),
            started_at=started,
            finished_at=datetime.now(UTC),
            schema_name=previous.schema_name,
            compression=compression,
            position=position,
            tables=tables,
            left_out={
                name: left.model_copy(update={"before": left.before and left.before.without_changes()})
                for name, left in previous.left_out.items()
            },
        )

    def learn(self) -> None:
        """Adds the batch's rows to the known rows, within the cache's transaction."""
        for found in self._logs.values():
            present = [found.present.name] if found.present.count else []
            self._known.learn(found.table, [], found.absent.name if found.absent.count else None, present)

    def handoffs(self) -> dict[str, Handoff]:
        """The rows of the batch's objects, by table, for the next stage, which drops them."""
        found = {
            name: handoff_of_log(one.table, one.upserts, one.deletes) for name, one in self._logs.items()
        }
        handed_off = {table for handoff in found.values() for table in handoff.tables}
        self._made = [table for table in self._made if table not in handed_off]
        return found

    @property
    def changes(self) -> dict[str, tuple[int, int]]:
        """How many upserts and deletes there are of each table."""
        return {name: (found.upserts.count, found.deletes.count) for name, found in self._logs.items()}

    def close(self) -> None:
        """Drops the tables of the workspace."""
        self._engine.close()
        self._workspace.drop(self._made)

    def _new_table(self) -> str:
        self._made.append(self._workspace.new_table())
        return self._made[-1]

    def _first_unseen(self, read: Read, seen: str) -> int | None:
        """The first message of the first transaction that others do not see yet: it is left to a later batch."""
        return self._scalar(
            f"SELECT min(first) FROM {read.transactions} WHERE NOT {decoding.visible('xid', seen)}"
        )

    def _sees_later(self, read: Read, end: int, seen: str) -> bool:
        """Whether a snapshot sees a transaction after the first one that it does not see."""
        visible, base = decoding.visible("xid", seen), lsn_number(self._base)
        later = f"SELECT count(*) FROM {read.transactions} WHERE first > {end} AND lsn > {base} AND {visible}"
        return bool(engine.scalar(self._engine, later))

    def _first_altered(self, read: Read) -> int | None:
        """The first message of the first transaction in which a captured table has another shape than before."""
        rows = self._engine.execute(
            f"SELECT number, data FROM {read.messages} WHERE kind = 'R' ORDER BY number"
        ).fetchall()
        names = {entry.relation: name for name, entry in self._previous.tables.items()}
        relations = [one for one in (decoding.relation(*row) for row in rows) if one.relation in names]
        types = self._session.types({(c.type, c.modifier) for one in relations for c in one.columns})
        for one in relations:
            name = names[one.relation]
            order = _order(one, self._tables[name], types)
            if order is None:
                read.altered = frozenset({name})
                return self._scalar(f"SELECT max(first) FROM {read.transactions} WHERE first < {one.number}")
            self._orders[name] = order
        return None

    def _survey(self, read: Read) -> None:
        """Finds out of which tables there are truncations."""
        rows = self._engine.execute(f"SELECT number, data FROM {read.messages} WHERE kind = 'T'").fetchall()
        self._truncates = [(number, decoding.truncated(data)) for number, data in rows]

    def last_commit(self, read: Read) -> datetime:
        """The time of the last transaction that is used; there has to be one."""
        before = f" WHERE first < {read.end}" if read.end is not None else ""
        last = engine.scalar(self._engine, f"SELECT max(committed) FROM {read.transactions}{before}")
        assert isinstance(last, datetime)
        return last

    def _last_lsn(self, read: Read) -> str | None:
        before = f" WHERE first < {read.end}" if read.end is not None else ""
        number = f"(SELECT max(lsn) AS lsn FROM {read.transactions}{before})"
        last = engine.scalar(self._engine, f"SELECT {decoding.lsn_text('lsn')} FROM {number}")
        return None if last is None else str(last)

    def _scalar(self, sql: str) -> int | None:
        found = engine.scalar(self._engine, sql)
        return None if found is None else int(found)

    def _find(self, read: Read, name: str, table: SourceTable) -> TableLog | None:
        order = self._orders.get(name)
        if order is None:
            return None
        of_table = (
            f"SELECT * FROM {read.messages} WHERE kind IN ('I', 'U', 'D') AND relation = {table.relation}"
        )
        decoder = Decoder(self._engine, table, order, self._new_table)
        changes = decoder.decode(self._placed(read, name, of_table))
        unsent = decoder.unsent(changes)
        if unsent:
            fill = Unsent(self._engine, table, self._journal, self._previous.batch, self._new_table)
            try:
                fill.fill(changes, unsent)
            except NotInLake as error:
                raise LogUnusable(str(error)) from error
        truncates = [str(number) for number, relations in self._truncates if table.relation in relations]
        altered = name not in self._described
        known, truncated = self._known_keys(table) if truncates or altered else None, None
        if truncates:
            of_table = f"SELECT * FROM {read.messages} WHERE number IN ({', '.join(truncates)})"
            truncated = decoder.truncated(changes, self._placed(read, name, of_table), known)
        found = decoder.split(changes, truncated, known if altered else None)
        return found if found.upserts.count or found.deletes.count else None

    def _known_keys(self, table: SourceTable) -> str:
        """A table of the keys of all rows that are captured."""
        known = self._new_table()
        self._known.copy_keys(table, known)
        return known

    def _placed(self, read: Read, name: str, messages: str) -> str:
        """A query for those messages of a table that are used, each with its transaction and its number in it."""
        return (
            f"SELECT m.number, kind, data, lsn, committed, m.number - first AS seq"
            f" FROM {decoding.in_scope(read.transactions, messages)} WHERE {self._used(read, name)}"
        )

    def _used(self, read: Read, name: str) -> str:
        """The condition on a table's messages and their transactions: those that are not captured yet, before the end."""
        parts = [f"lsn > {lsn_number(self._base)}"]
        if read.end is not None:
            parts.append(f"first < {read.end}")
        seam = self._previous.tables[name].seam
        if seam:
            parts.append(f"NOT (lsn <= {lsn_number(seam.lsn)} AND {decoding.visible('xid', seam.snapshot)})")
        return " AND ".join(parts)

    def _entry(self, before: TableChanges, table: SourceTable, lsn: str) -> TableChanges:
        """A table's entry in the manifest, without changes."""
        passed = before.seam is not None and lsn_number(before.seam.lsn) <= lsn_number(lsn)
        passed = passed and before.waits_for is None
        return before.without_changes().model_copy(
            update={
                "columns": self._described.get(table.name, before.columns),
                "changed_at": table.changed_at.name if table.changed_at else None,
                "seam": None if passed else before.seam,
            }
        )

    def _written(self, writer: PacketWriter, table: SourceTable, entry: TableChanges) -> TableChanges:
        began, found = time.perf_counter(), self._logs[table.name]
        objects = [
            *writer.write_changes(table, found.upserts, "upsert", _AT, _PLACE),
            *writer.write_changes(table, found.deletes, "delete", _AT, _PLACE),
        ]
        absent = found.absent if found.absent.count else None
        marks = writer.write_marks(table, [], absent, [found.present] if found.present.count else [])
        stored = tuple(each.result() for each in objects)
        rows = entry.rows + found.growth
        _log.info(
            "captured",
            table=table.name,
            upserts=found.upserts.count,
            deletes=found.deletes.count,
            rows=rows,
            bytes=sum(each.bytes for each in stored),
            seconds=round(time.perf_counter() - began, 3),
        )
        return entry.model_copy(
            update={
                "upserts": found.upserts.count,
                "deletes": found.deletes.count,
                "rows": rows,
                "objects": stored,
                "marks": (marks.result(),),
            }
        )


def _order(
    relation: decoding.Relation, table: SourceTable, types: dict[tuple[int, int], str]
) -> list[int] | None:
    """The position of each column in the order of the log; None if the table has another shape there."""
    positions = {column.name: number for number, column in enumerate(table.columns)}
    order = []
    for column in relation.columns:
        position = positions.get(column.name)
        if (
            position is None
            or types.get((column.type, column.modifier)) != table.columns[position].entry.type
        ):
            return None
        order.append(position)
    identifying = {column.name for column in relation.columns if column.identifies}
    if len(order) < len(positions) or not set(table.key) <= identifying:
        return None
    return order


def _table(schema: str, name: str, entry: TableChanges, changed_at: str) -> SourceTable:
    """A captured table as it was in the previous batch."""
    columns = tuple(TableColumn(column, "") for column in entry.columns)
    timed = (c for c in columns if c.name == changed_at and c.entry.type.startswith("timestamp"))
    return SourceTable(
        schema=schema,
        name=name,
        has_transaction_ids=True,
        lockable=True,
        key=entry.key,
        key_enforced=True,
        columns=columns,
        changed_at=next(timed, None),
        relation=entry.relation,
        partitions=entry.partitions,
    )
