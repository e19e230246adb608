"""New tables of a PostgreSQL warehouse: built out of sight, on several connections, before a load's transaction takes them in.

A transaction has one connection, on which rows, keys, and the checks of foreign keys would come one after the other. So
new tables get names of their own until they are complete, and each is worked on in transactions of its own. That a load is
in the warehouse wholly or not at all still is one commit: that of the transaction which gives the tables their names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from secrets import token_hex

from totes.errors import WarehouseError
from totes.failpoint import reach
from totes.star.declaration import LOADING
from totes.warehouse import ddl, postgresql_session
from totes.warehouse.postgresql_session import Session
from totes.warehouse.steps import Step, carry_out
from totes.warehouse.table import TableLoad, WarehouseTable, report_load

_MANY_ROWS = 100_000  # from here on a second connection is worth its opening
_WORKERS_MAX = 4
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
        self._rows = self._rows_done = 0

    def build(self, loads: Mapping[str, TableLoad], pulse: Callable[[], object]) -> None:
        """Creates the tables with their rows, keys, indexes, and the foreign keys between them.

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
        workers = min(os.cpu_count() or 1, _WORKERS_MAX) if rows >= _MANY_ROWS else 1
        with ExitStack() as opened:
            sessions = [opened.enter_context(closing(self._connect()))]
            with suppress(WarehouseError):  # as many as the server allows the role
                while len(sessions) < workers:
                    sessions.append(opened.enter_context(closing(self._connect())))
            with _transaction(sessions[0]) as execute:
                for table in self._tables:
                    execute(ddl.create_table(table, self._schema, "postgresql", self._at))
            carry_out(self._steps(loads), sessions, pulse)

    def _steps(self, loads: Mapping[str, TableLoad]) -> dict[Step, list[Step]]:
        """What there is to do, and after what: rows, then the primary key, then indexes, then foreign keys.

        Rows of a file and an index are steps of their own, so that a table much larger than all others has several sessions
        work on it. Only keys lock others out.
        """
        steps: dict[Step, list[Step]] = {}
        complete: dict[str, Step] = {}

        def add(load: TableLoad, work: Callable[[Session], None], after: list[Step]) -> Step:
            step = Step(load.count, work)
            steps[step] = after
            return step

        for table in self._tables:  # after those that it refers to
            load = loads[table.name]
            filled = [add(part, partial(self._fill, load=part), []) for part in _parts(load)]
            key = ddl.create_primary_key(table, self._schema, self._at)
            keyed = add(load, partial(_run, statement=key), filled)
            indexed = [
                add(load, partial(_run, statement=statement), [keyed])
                for statement in ddl.create_indexes(table, self._schema, "postgresql", self._at).values()
            ]
            # To add a foreign key locks out whoever writes to the table that it refers to, or adds one there.
            targets = [self._at[target] for target in self._references(table).values()]
            others = [complete[target] for target in targets if target in complete]  # it may refer to itself
            complete[self._at[table.name]] = add(
                load, partial(self._refer, load=load), [keyed, *indexed, *others]
            )
        return steps

    def _fill(self, session: Session, load: TableLoad) -> None:
        with _transaction(session):
            report_load(load, self._rows_done, self._rows)
            target = self._at[load.table.name]
            session.send(target, load.table.model.output, load.relation, db_schema_name=self._schema)
        self._rows_done += load.count

    def _refer(self, session: Session, load: TableLoad) -> None:
        """Adds a table's foreign keys, and checks them: in two transactions each, since only adding locks the other table."""
        for column in self._references(load.table):
            added = ddl.create_foreign_key(load.table, column, self._schema, self._at)
            _run(session, f"{added} NOT VALID")
            _run(session, ddl.validate_foreign_key(load.table, column, self._schema, self._at))
        reach("postgresql.built")

    def _references(self, table: WarehouseTable) -> dict[str, str]:
        """The columns of a table that refer to a table which is built as well, and that table."""
        return {column: target for column, target in table.model.references.items() if target in self._at}


def _parts(load: TableLoad) -> list[TableLoad]:
    """What can be sent at once: files, unless a row depends on those of other files."""
    if load.whole:
        return [load]
    return [replace(load, rows=[file], count=load.count // len(load.rows)) for file in load.rows]


def _run(session: Session, statement: str) -> None:
    with _transaction(session) as execute:
        execute(statement)


@contextmanager
def _transaction(session: Session) -> Iterator[Callable[[str], object]]:
    session.execute(postgresql_session.SET_TIMEOUTS)
    # The commit that takes the tables in is written to disk after all that came before it, and waits for that.
    session.execute("SET LOCAL synchronous_commit = off")
    yield session.execute
    session.commit()
