"""One instant of the source, for any number of connections, also of other processes: an exported snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import adbc_driver_manager
import duckdb

from totes.errors import SourceBusy, SourceError, TableUnreadable
from totes.ingestion.locks import UNREADABLE
from totes.ingestion.session import BulkConnection, source_errors
from totes.messages import message
from totes.redaction import register_secret
from totes.sqlstate import concerns_all, next_step, sqlstate


@dataclass(frozen=True)
class Instant:
    """What a connection needs to read at an instant, for as long as the transaction that exported it lasts.

    `target` is the connection string, with the password; `snapshot` the exported snapshot's name, `settings` those of a
    transaction, and `lock` the statement that locks the tables.
    """

    target: str = field(repr=False)
    snapshot: str
    settings: dict[str, str]
    lock: str | None

    def connect(self) -> BulkConnection:
        """A connection that reads at the instant.

        Raises:
            SourceBusy: a schema change waits for a table that would have to be locked.
            adbc_driver_manager.Error: the server cannot be reached, or the snapshot is over.
        """
        register_secret(self.target)
        try:
            return BulkConnection(self.target, self.snapshot, self.settings, self.lock)
        except adbc_driver_manager.Error as error:
            if sqlstate(error) == "55P03":
                raise SourceBusy(
                    "a schema change came between the connections of a batch", hint="Run it again"
                ) from error
            raise


class InstantReader:
    """Reads rows at an instant, on connections that are opened when they are needed, each for one thread at a time.

    `is_readable` is asked after an error on a connection that still answers: whether the instant itself can still be read.
    """

    def __init__(self, instant: Instant, is_readable: Callable[[], bool]) -> None:
        self._instant = instant
        self._is_readable = is_readable
        self._idle: list[BulkConnection] = []
        self._opened: list[BulkConnection] = []
        self._checking_out = Lock()

    @contextmanager
    def stream(self, sql: str, what: str = "the source") -> Iterator[Any]:
        """The rows of a query as an Arrow stream that DuckDB reads as `incoming`: once, while the context lasts.

        Several threads may read at once, each on a connection of its own.

        Raises:
            TableUnreadable: the query failed, and others would not.
            SourceError: the source cannot be read.
        """
        with source_errors(f"reading {what}"), self._checking_out:
            bulk = self._idle.pop() if self._idle else self._open()  # a batch without changes never needs one
        try:
            yield bulk.rows(sql)
        except (adbc_driver_manager.Error, duckdb.Error) as error:
            if isinstance(error, duckdb.Error):
                if "'incoming' failed: " not in str(error):
                    raise
                alive = bulk.is_alive()
            else:
                alive = not concerns_all(error) and bulk.is_alive()
            raise failure(f"reading {what}", error, of_table=alive and self._is_readable()) from error
        self._idle.append(bulk)

    def open_connections(self, number: int) -> None:
        """Opens connections in advance, up to a number in all, so that none meets a schema change that comes later."""
        with source_errors("connecting to the source"), self._checking_out:
            self._idle += [self._open() for _ in range(number - len(self._opened))]

    def close(self) -> None:
        """Closes the connections."""
        while self._opened:
            with suppress(adbc_driver_manager.Error):
                self._opened.pop().close()
        self._idle.clear()

    def _open(self) -> BulkConnection:
        self._opened.append(self._instant.connect())
        return self._opened[-1]


def failure(doing: str, error: Exception, *, of_table: bool) -> SourceError | TableUnreadable:
    """The exception for an error: of one table, or of the source."""
    what = f"{doing} failed: {message(error)}"
    if of_table:
        known = sqlstate(error) is not None
        return TableUnreadable(what, hint=next_step(error, otherwise=UNREADABLE) if known else UNREADABLE)
    return SourceError(what, hint=next_step(error))
