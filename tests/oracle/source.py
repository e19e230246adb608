"""The source, in PostgreSQL and in dicts side by side: sessions with open transactions, and what is committed."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import psycopg

from tests.oracle.model import Row, State
from tests.oracle.shop import COLUMNS, KEYS, SCHEMA, TABLES, Key, Values

Place = tuple[str, Key]


class Session:
    """A connection with one transaction. A change is made to the database and noted, to be committed or forgotten."""

    def __init__(self, source: Source, opened_at: int) -> None:
        self._source = source
        self._connection = psycopg.connect(source.url, options="-c lock_timeout=10s")
        self._writer = next(source.writers)
        self.opened_at = opened_at
        self._changes: dict[Place, Row | None] = {}
        self._savepoints: list[dict[Place, Row | None]] = []
        self.held: set[Place] = set()

    def row(self, table: str, key: Key) -> Row | None:
        """The row as this session sees it."""
        return self._changes.get((table, key), self._source.committed[table].get(key))

    def write(self, table: str, values: Values) -> None:
        """Inserts a row, or updates all of it where its key is there."""
        columns, key = COLUMNS[table], values[: KEYS[table]]
        if self.row(table, key) is None:
            places = ", ".join(["%s"] * len(columns))
            self._execute(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})", values)
        else:
            self._update(table, key, values)
        self._note(table, key, Row(values, self._writer))

    def delete(self, table: str, key: Key) -> None:
        """Deletes a row that is there."""
        self._execute(f"DELETE FROM {table} WHERE {_has_key(table)}", key)
        self._note(table, key, None)

    def change_key(self, table: str, key: Key, other: Key) -> None:
        """Gives a row that is there a key that is not."""
        row = self.row(table, key)
        assert row is not None
        values = (*other, *row.values[KEYS[table] :])
        self._update(table, key, values)
        self._note(table, key, None)
        self._note(table, other, Row(values, self._writer))

    def truncate(self, table: str, keys: Iterable[Key]) -> None:
        """Empties a table of which these are the rows."""
        self._execute(f"TRUNCATE {table}", ())
        for key in keys:
            self._note(table, key, None)

    def savepoint(self) -> None:
        """Sets a savepoint within the last one."""
        self._savepoints.append(dict(self._changes))
        self._execute(f"SAVEPOINT s{len(self._savepoints)}", ())

    def roll_back_to_savepoint(self) -> None:
        """Undoes what came after the last savepoint, and forgets it."""
        name = f"s{len(self._savepoints)}"
        self._execute(f"ROLLBACK TO SAVEPOINT {name}", ())
        self._execute(f"RELEASE SAVEPOINT {name}", ())
        self._changes = self._savepoints.pop()

    @property
    def savepoints(self) -> int:
        """How many savepoints are open."""
        return len(self._savepoints)

    def commit(self) -> None:
        """Ends the transaction: the others see what it did."""
        self._connection.commit()
        self._connection.close()
        for (table, key), row in self._changes.items():
            if row is None:
                self._source.committed[table].pop(key, None)
            else:
                self._source.committed[table][key] = row

    def roll_back(self) -> None:
        """Ends the transaction: nothing was done."""
        self._connection.rollback()
        self._connection.close()

    def _update(self, table: str, key: Key, values: Values) -> None:
        assigned = ", ".join(f"{column} = %s" for column in COLUMNS[table])
        self._execute(f"UPDATE {table} SET {assigned} WHERE {_has_key(table)}", (*values, *key))

    def _execute(self, statement: str, values: tuple[Any, ...]) -> None:
        found = self._connection.execute(statement.encode(), values)
        assert found.rowcount in (1, -1), f"{statement} met {found.rowcount} rows: the oracle is wrong"

    def _note(self, table: str, key: Key, row: Row | None) -> None:
        self._changes[table, key] = row
        self.held.add((table, key))


class Source:
    """The database, its committed rows, and the sessions that are open."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.committed: State = {table: {} for table in TABLES}
        self.sessions: list[Session] = []
        self.writers = itertools.count(1)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(SCHEMA.encode())

    def open(self, opened_at: int = 0) -> Session:
        """Opens a session, which stays in `sessions` until it is closed by `close`; `opened_at` is for whoever asks."""
        session = Session(self, opened_at)
        self.sessions.append(session)
        return session

    def close(self, session: Session, *, commit: bool) -> None:
        """Ends a session's transaction and the session."""
        self.sessions.remove(session)
        if commit:
            session.commit()
        else:
            session.roll_back()

    def is_free(self, table: str, key: Key, asking: Session) -> bool:
        """Whether no other session has to be waited for by one that changes this row."""
        return all((table, key) not in other.held for other in self.sessions if other is not asking)

    def is_untouched(self, table: str) -> bool:
        """Whether no session would have to be waited for by a TRUNCATE."""
        return all(table != held for session in self.sessions for held, _ in session.held)

    def is_being_captured(self) -> bool:
        """Whether a runner has its turn at the source, as the server sees it."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            held = connection.execute(
                "SELECT FROM pg_locks JOIN pg_database ON pg_database.oid = database"
                " WHERE locktype = 'advisory' AND granted AND datname = current_database()"
            ).fetchall()
        return bool(held)


def _has_key(table: str) -> str:
    return " AND ".join(f"{column} = %s" for column in COLUMNS[table][: KEYS[table]])
