"""New tables of a PostgreSQL warehouse: built out of sight, on several connections, before a load's transaction takes them in.

A transaction has one connection, on which rows, keys, and the checks of foreign keys would come one after the other. So
new tables get names of their own until they are complete, and each is worked on in transactions of its own. That a load is
in the warehouse wholly or not at all still is one commit: that of the transaction which gives the tables their names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from secrets import token_hex

from totes.errors import WarehouseError
from totes.failpoint import reach
from totes.star.declaration import LOADING
from totes.warehouse import ddl, postgresql_session
from totes.warehouse.postgresql_session import Session
from totes.warehouse.table import TableLoad, WarehouseTable, report_load

_MANY_ROWS = 100_000  # from here on a second connection is worth its opening
_WORKERS_MAX = 4
_PULSE_SECONDS = 60.0  # well within the time after which the server ends a transaction without a statement
_CANCEL_AGAIN_SECONDS = 0.1
_MADE_HERE = re.compile(LOADING + r"[0-9a-f]{8}_\d+")


def left_over(tables: Iterable[str]) -> list[str]:
    """Those of the tables that a load was building when it was ended; of use to nobody once its lock is free."""
    return sorted(name for name in tables if _MADE_HERE.fullmatch(name))


class Building:
    """Tables in the making.

    `names` are the names that they have until a load takes them in, by those that they are to have.
    """

    def __init__(
        self,
        tables: Sequence[WarehouseTable],
        schema: str,
        connect: Callable[[], Session],
        replacing: frozenset[str] = frozenset(),
    ) -> None:
        """Prepares to build.

        Args:
            tables: the tables.
            schema: their schema.
            connect: opens a session.
            replacing: those in whose place there is another one still: their keys and indexes are called as they are for now.
        """
        attempt = token_hex(4)
        self.names = {table.name: f"{LOADING}{attempt}_{number}" for number, table in enumerate(tables, 1)}
        self._tables = [
            table.called(self.names[table.name]) if table.name in replacing else table for table in tables
        ]
        self._at = self.names | {self.names[name]: self.names[name] for name in replacing & self.names.keys()}
        self._schema = schema
        self._connect = connect
        self._stopped = False
        self._rows = self._rows_done = 0

    def build(self, loads: Mapping[str, TableLoad], pulse: Callable[[], object]) -> None:
        """Creates the tables with their rows, keys, indexes, and the foreign keys between them, largest tables first.

        What is built is there when this returns or fails; to drop it is the caller's.

        Args:
            loads: what the batch brings, by table.
            pulse: is called at least every minute meanwhile, in the caller's thread.

        Raises:
            adbc_driver_manager.Error, duckdb.Error: as the server and the engine say; nothing is under way any more then.
        """
        brought = {self.names[name]: replace(load, table=load.table.called(self.names[name]))
                   for name, load in loads.items() if name in self.names}  # fmt: skip
        loads = {table.name: brought.get(table.name) or loads[table.name] for table in self._tables}
        rows = self._rows = sum(loads[table.name].count for table in self._tables)
        workers = min(os.cpu_count() or 1, _WORKERS_MAX, len(self._tables)) if rows >= _MANY_ROWS else 1
        largest_first = sorted(self._tables, key=lambda table: -loads[table.name].count)
        with ExitStack() as opened:
            sessions = [opened.enter_context(closing(self._connect()))]
            with suppress(WarehouseError):  # as many as the server allows the role
                while len(sessions) < workers:
                    sessions.append(opened.enter_context(closing(self._connect())))
            with _transaction(sessions[0]) as execute:
                for table in self._tables:
                    execute(ddl.create_table(table, self._schema, "postgresql", self._at))
            self._share(
                sessions, largest_first, lambda session, table: self._fill(session, loads[table.name]), pulse
            )
            # Adding locks both tables, and checking only reads them: so all are added before the first is checked.
            with _transaction(sessions[0]) as execute:
                for table, column in self._references(self._tables):
                    execute(f"{ddl.create_foreign_key(table, column, self._schema, self._at)} NOT VALID")
            self._share(sessions, largest_first, self._check, pulse)

    def _fill(self, session: Session, load: TableLoad) -> None:
        with _transaction(session) as execute:
            report_load(load, self._rows_done, self._rows)
            if load.rows:
                target = self._at[load.table.name]
                session.send(target, load.table.model.output, load.relation, db_schema_name=self._schema)
            execute(ddl.create_primary_key(load.table, self._schema, self._at))
            for statement in ddl.create_indexes(load.table, self._schema, "postgresql", self._at).values():
                execute(statement)
        self._rows_done += load.count
        reach("postgresql.built")

    def _check(self, session: Session, table: WarehouseTable) -> None:
        with _transaction(session) as execute:
            for _, column in self._references([table]):
                execute(ddl.validate_foreign_key(table, column, self._schema, self._at))

    def _references(self, tables: Iterable[WarehouseTable]) -> Iterator[tuple[WarehouseTable, str]]:
        """The columns of tables that refer to a table which is built as well."""
        for table in tables:
            for column, target in table.model.references.items():
                if target in self._at:
                    yield table, column

    def _share(
        self,
        sessions: list[Session],
        tables: Iterable[WarehouseTable],
        work: Callable[[Session, WarehouseTable], None],
        pulse: Callable[[], object],
    ) -> None:
        """Does the work on each table in one of the sessions; when one fails, ends what the others do."""
        following = iter(list(tables))  # each table is taken from it by one thread

        def work_on(session: Session) -> None:
            for table in following:
                if self._stopped:
                    return
                work(session, table)

        with ThreadPoolExecutor(len(sessions), thread_name_prefix="totes-load") as pool:
            working = [pool.submit(work_on, session) for session in sessions]
            try:
                while True:
                    done, left = wait(working, _PULSE_SECONDS, FIRST_EXCEPTION)
                    for one in done:
                        one.result()
                    if not left:
                        return
                    pulse()
            except BaseException:
                self._stopped = True
                while wait(working, _CANCEL_AGAIN_SECONDS).not_done:
                    for session in sessions:
                        session.cancel()
                raise


@contextmanager
def _transaction(session: Session) -> Iterator[Callable[[str], object]]:
    session.execute(postgresql_session.SET_TIMEOUTS)
    # The commit that takes the tables in is written to disk after all that came before it, and waits for that.
    session.execute("SET LOCAL synchronous_commit = off")
    yield session.execute
    session.commit()
