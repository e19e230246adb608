"""The source at one instant: a read-only snapshot shared by a control connection and bulk ones.

Everything that a batch reads, it reads through one Snapshot; nothing here decides what is new.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from threading import Lock
from typing import Any, NamedTuple

import adbc_driver_manager
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from totes import engine
from totes.config import SourceSettings
from totes.errors import SourceError
from totes.ingestion.capture import changed_since
from totes.ingestion.catalog import Selection, SourceTable, select_tables
from totes.lake.manifest import Position, TableChanges
from totes.libpq import connect_arrow, with_limits
from totes.redaction import redact

# What could cut a long read short, where a role or database has it set; which names and texts of ours mean what; what
# decides PostgreSQL's text forms.
_SESSION = {
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "search_path": "",
    "standard_conforming_strings": "on",
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "quote_all_identifiers": "off",
    "lc_monetary": "C",
    "client_encoding": "UTF8",
    "row_security": "off",
}
_TRANSACTION_TIMEOUT_SINCE = 170000
_BLOCK_RANGES_SINCE = _HASHED_LISTS_SINCE = 140000
_SIZE_SQL = """
    SELECT coalesce(pg_relation_size(%(table)s::oid), 0) / current_setting('block_size')::int8,
           coalesce(pg_table_size(%(table)s::oid), 0),
           coalesce(pg_relation_filenode(%(table)s::oid), 0)::int8
"""
_REFERENCES_SQL = """
    SELECT conrelid::int8, confrelid::int8 FROM pg_constraint WHERE contype = 'f' AND conrelid = ANY (%s::oid[])
"""
_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
_POSITION_SQL = """
    SELECT pg_export_snapshot(),
           pg_snapshot_xmin(pg_current_snapshot())::text::int8,
           pg_snapshot_xmax(pg_current_snapshot())::text::int8,
           transaction_timestamp() AT TIME ZONE 'UTC',
           (SELECT system_identifier::text FROM pg_control_system()),
           (SELECT timeline_id FROM pg_control_checkpoint()),
           current_database()
"""


class Piece(NamedTuple):
    """A part of a table: the block that it begins at, and the condition that its rows meet; None where all do."""

    first: int
    condition: str | None


class Survey(NamedTuple):
    """How many rows a table has, how many meet a condition, if these were counted, and where the first stands (its ctid)."""

    rows: int
    met: int
    first: str | None


class Snapshot:
    """One instant of the source. All reads see it, and the tables cannot be changed or truncated while it is open."""

    def __init__(
        self,
        control: psycopg.Connection,
        open_bulk: Callable[[], Any],
        selection: Selection,
        row: tuple[Any, ...],
    ) -> None:
        self._control = control
        self._open_bulk = open_bulk
        self._idle: list[Any] = []
        self._checking_out = Lock()
        self.tables = selection.tables
        self.selection = selection
        _, horizon, next_transaction, read_at, system_identifier, timeline, database = row
        self.position = Position(
            database=database,
            system_identifier=system_identifier,
            timeline=timeline,
            horizon=horizon,
            next_transaction=next_transaction,
            read_at=read_at,
        )

    @contextmanager
    def stream(self, sql: str, what: str = "the source") -> Iterator[Any]:
        """The rows of a query as an Arrow stream that DuckDB reads by name; it can be read once, while the context lasts.

        Several threads may read at once, each on a connection of its own.
        """
        with _source_errors(f"reading {what}"):
            with self._checking_out:
                bulk = self._idle.pop() if self._idle else None
            bulk = bulk or self._open_bulk()  # an idle batch never needs one
            bulk.execute(sql)
            rows = bulk.fetch_arrow()
        yield rows
        self._idle.append(bulk)

    def pieces(
        self, table: SourceTable, piece_bytes: int, first: int = 0, condition: str | None = None
    ) -> list[Piece]:
        """Parts a table's rows from block `first` on into pieces of about so many bytes, one where it cannot be parted.

        They are ranges of the table's blocks, which PostgreSQL 14 and later reads by itself.
        """
        if not self.has_block_ranges(table):
            return [Piece(0, condition)]
        blocks, size, _ = self._measure(table)
        step = max(1, blocks * piece_bytes // max(size, 1))
        starts = list(range(first, blocks, step)) or [first]
        meets = f"({condition}) AND " if condition else ""
        ends = [f" AND ctid < '({end},0)'" for end in starts[1:]]
        # The last has no end: blocks that have come since have no row that the snapshot sees.
        parts = zip(starts, [*ends, ""], strict=True)
        if not first and not ends:
            return [Piece(0, condition)]
        return [Piece(start, f"{meets}ctid >= '({start},0)'{end}") for start, end in parts]

    def file(self, table: SourceTable) -> int:
        """PostgreSQL's number of the file that a table's rows are in; 0 where it has none."""
        return self._measure(table)[2]

    def _measure(self, table: SourceTable) -> tuple[int, int, int]:
        with _source_errors(f"measuring {table.name}"):
            row = self._control.execute(_SIZE_SQL, {"table": table.relation}).fetchone()
        assert row is not None
        return int(row[0]), int(row[1]), int(row[2])

    def survey(self, table: SourceTable, condition: str = "true", *, counted: bool = False) -> Survey:
        """Counts a table's rows and finds the first that meets a condition, in one pass over the table, in PostgreSQL.

        `counted` says that all that meet it are counted too: for PostgreSQL, that is to look at each row twice.
        """
        met = f"count(*) FILTER (WHERE {condition})" if counted else "0"
        sql = f"SELECT count(*), {met}, min(CASE WHEN {condition} THEN ctid END)::text FROM {table.reference}"
        with _source_errors(f"counting {table.name}"):
            row = self._control.execute(sql.encode()).fetchone()
        assert row is not None
        return Survey(int(row[0]), int(row[1]), row[2])

    def longest_first(self) -> list[SourceTable]:
        """The tables so that those come first that take long to read: those that cannot be parted, then the larger ones."""
        return sorted(self.tables, key=lambda table: (self.has_block_ranges(table), -self._measure(table)[1]))

    def in_turn(self, tables: Iterable[SourceTable]) -> list[SourceTable]:
        """The tables so that those which others refer to come before these, and otherwise the smaller ones first."""
        by_number = {table.relation: table for table in tables}
        with _source_errors("reading foreign keys"):
            found = self._control.execute(_REFERENCES_SQL, [list(by_number)]).fetchall()
        referred = defaultdict(set)
        for table, other in found:
            referred[table].add(other)
        sizes = {number: self._measure(table)[1] for number, table in by_number.items()}
        ordered: list[SourceTable] = []
        seen: set[int] = set()

        def place(number: int) -> None:
            if number in seen or number not in by_number:
                return
            seen.add(number)  # tables that refer to one another in a circle have no order
            for other in sorted(referred[number], key=lambda known: sizes.get(known, 0)):
                place(other)
            ordered.append(by_number[number])

        for number in sorted(by_number, key=sizes.__getitem__):
            place(number)
        return ordered

    def changed_since(self, previous: Position) -> str | None:
        """The condition that all rows written since another position meet; None where no transaction has begun since."""
        return changed_since(
            previous, self.position, listed=self._control.info.server_version >= _HASHED_LISTS_SINCE
        )

    def has_block_ranges(self, table: SourceTable) -> bool:
        """Whether a range of places in the table is read without reading the rest."""
        one_heap = table.has_transaction_ids and not table.partitions
        return one_heap and self._control.info.server_version >= _BLOCK_RANGES_SINCE


@contextmanager
def open_snapshot(url: str, source: SourceSettings, needed: frozenset[str]) -> Iterator[Snapshot]:
    """Opens the source at the present instant.

    Locks (ACCESS SHARE, as any SELECT takes) come before the snapshot: a TRUNCATE or a rewriting ALTER TABLE that
    came between the two would otherwise show tables empty that the snapshot should show full.

    Args:
        url: the PostgreSQL URL.
        source: which schema, tables and keys.
        needed: the tables that models read.

    Raises:
        SourceError: the source cannot be reached or read; the same call may succeed later.
        SourceRefused: no table can be captured.
    """
    with _source_errors("connecting to the source"), _connect(url) as control:
        bulk_url = _bulk_url(url, control)
        prepare_session(control, source)
        expected = select_tables(control, source, needed)
        control.execute(_BEGIN)
        for table in (table for table in expected.tables if table.lockable):
            with _source_errors(f"locking {table.name}"):
                control.execute(f"LOCK TABLE {table.reference} IN ACCESS SHARE MODE".encode())
        row = control.execute(_POSITION_SQL).fetchone()
        assert row is not None
        selection = select_tables(control, source, needed)
        if {table.name for table in selection.tables} != {table.name for table in expected.tables}:
            raise SourceError("tables came or went while the source was being opened", hint="Run it again")
        with ExitStack() as opened:

            def open_bulk() -> Any:
                return opened.enter_context(_bulk_cursor(bulk_url, str(row[0]), control.info.server_version))

            yield Snapshot(control, open_bulk, selection, row)


def describe_source(url: str, source: SourceSettings, needed: frozenset[str]) -> dict[str, TableChanges]:
    """The tables that a batch would capture, by name, without reading any row of them."""
    with _source_errors("connecting to the source"), _connect(url) as connection:
        prepare_session(connection, source)
        selection = select_tables(connection, source, needed)
        for failure in selection.failures():
            raise failure
        return {table.name: table.description() for table in selection.tables}


def prepare_session(connection: psycopg.Connection, source: SourceSettings) -> None:
    """Sets what decides PostgreSQL's text forms, and what could cut a long read short."""
    settings = _session_of(connection.info.server_version)
    settings |= {"lock_timeout": f"{int(source.lock_timeout.total_seconds() * 1000)}ms"}
    each = ", ".join(["pg_catalog.set_config(%s, %s, false)"] * len(settings))
    connection.execute(f"SELECT {each}".encode(), [part for pair in settings.items() for part in pair])


def _connect(url: str) -> closing[psycopg.Connection]:
    # Closed without a rollback, which a lost connection would complain of, past all that masks and shapes messages.
    return closing(psycopg.connect(with_limits(url), autocommit=True))


def _session_of(server_version: int) -> dict[str, str]:
    if server_version < _TRANSACTION_TIMEOUT_SINCE:
        return _SESSION
    return {"transaction_timeout": "0"} | _SESSION


def _bulk_url(url: str, control: psycopg.Connection) -> str:
    """Where the bulk connection goes to, and how.

    ADBC knows types by the names of their functions, and would know none where a setting of the role or the database
    has these quoted.
    """
    limited, row = with_limits(url), control.execute("SHOW quote_all_identifiers").fetchone()
    if row == ("off",):
        return limited
    options = conninfo_to_dict(limited).get("options") or ""
    return make_conninfo(limited, options=f"{options} -c quote_all_identifiers=off")


@contextmanager
def _bulk_cursor(url: str, snapshot: str, server_version: int) -> Iterator[Any]:
    connection = connect_arrow(url, autocommit=True)
    try:
        with connection.cursor() as cursor:
            for setting, value in _session_of(server_version).items():
                cursor.execute(f"SET {setting} = {engine.text(value)}")
            cursor.execute(_BEGIN)
            cursor.execute(f"SET TRANSACTION SNAPSHOT {engine.text(snapshot)}")
            yield cursor
    finally:
        connection.close()


@contextmanager
def _source_errors(doing: str) -> Iterator[None]:
    try:
        yield
    except (psycopg.Error, adbc_driver_manager.Error) as error:
        message = redact(" ".join(str(error).split()))
        hint = (
            "Check source.url and that the server is up"
            if isinstance(error, psycopg.OperationalError)
            else None
        )
        if isinstance(error, psycopg.errors.LockNotAvailable):
            hint = "A schema change holds the table; run again when it is over, or raise source.lock_timeout"
        raise SourceError(f"{doing} failed: {message}", hint=hint) from error
